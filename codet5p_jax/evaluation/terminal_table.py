"""The evaluation as one table for the terminal, good numbers and bad ones."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich import box
from rich.table import Table

NONE = "–"
MEASURES = {
    "unimodal_span_denoising": "span denoising",
    "unimodal_seq2seq_clm": "causal LM, enc.-dec.",
    "unimodal_decoder_clm": "causal LM, decoder",
    "text_to_code": "text-to-code",
    "code_to_text": "code-to-text",
}
Row = tuple[str, ...]


def evaluation_table(evaluation: Mapping[str, Any]) -> Table:
    """Returns a rich table of losses, retrieval and matching; about 90 characters wide."""
    table = Table(
        title="Evaluation on held-out packages",
        caption=f"Loss in nats per target token; {_codes(evaluation)}"
        "told apart: the own code is the likelier. ! no better than the baseline",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    table.add_column("measure")
    for name in ("over", "baseline", "stage 1", "stage 2", "95% interval"):
        table.add_column(name, justify="right")
    for part in (_losses, _translation, _retrieval, _matching):
        for row in part(evaluation):
            table.add_row(*row)
        table.add_section()
    return table


def _codes(evaluation: Mapping[str, Any]) -> str:
    sizes = {row["codes"] for row in evaluation["retrieval"]}
    return f"MRR among {max(sizes):,} codes; " if sizes else ""


def _losses(evaluation: Mapping[str, Any]) -> Iterator[Row]:
    for row in evaluation["losses"]:
        yield (
            f"{MEASURES.get(row['objective'], row['objective'])}, loss",
            f"{row['tokens']:,} tokens",
            f"unigram {row['unigram']:.3f}",
            f"{row['before']:.3f}" if "before" in row else NONE,
            _marked(f"{row['after']:.3f}", worse=row["after"] >= row["unigram"]),
            "",
        )


def _translation(evaluation: Mapping[str, Any]) -> Iterator[Row]:
    for row in evaluation.get("translation", []):
        yield (
            f"{MEASURES[row['direction']]}, loss",
            f"{row['tokens']:,} tokens",
            NONE,
            NONE,
            f"{row['loss']:.3f}",
            "",
        )


def _retrieval(evaluation: Mapping[str, Any]) -> Iterator[Row]:
    rows = {row["ranking"]: row for row in reversed(evaluation["retrieval"])}  # the first wins
    after, before = rows["after"], rows.get("before")
    for baseline in ("random", "bm25"):
        yield (
            "text-to-code MRR",
            f"{after['queries']:,} texts",
            f"{'BM25' if baseline == 'bm25' else baseline} {_mean(rows[baseline]):.4f}",
            f"{_mean(before):.4f}" if before else NONE,
            _marked(f"{_mean(after):.4f}", worse=_mean(after) <= _mean(rows[baseline])),
            _interval(after["mrr"]["all"]),
        )
    if "reranked" in rows:
        same = [row for row in evaluation["retrieval"] if row["ranking"] == "after"][-1]
        yield _reranked(rows["reranked"], same)


def _reranked(reranked: Mapping[str, Any], cosine: Mapping[str, Any]) -> Row:
    return (
        "… re-ranked by matching",
        f"{reranked['queries']:,} texts",
        f"cosine {_mean(cosine):.4f}",
        NONE,
        _marked(f"{_mean(reranked):.4f}", worse=_mean(reranked) <= _mean(cosine)),
        _interval(reranked["mrr"]["all"]),
    )


def _matching(evaluation: Mapping[str, Any]) -> Iterator[Row]:
    for row in evaluation["matching"]:
        for measure, name in (("accuracy", "matching"), ("told_apart", "told apart")):
            estimate = row[measure]
            yield (
                f"{name}, {row['negatives']} negatives",
                f"{estimate['count']:,} texts",
                "chance 50.0%",
                NONE,
                _marked(f"{estimate['mean']:.1%}", worse=estimate["mean"] <= 0.5),
                f"{estimate['low']:.1%} to {estimate['high']:.1%}",
            )


def _mean(row: Mapping[str, Any]) -> float:
    return row["mrr"]["all"]["mean"]


def _interval(estimate: Mapping[str, Any]) -> str:
    return f"{estimate['low']:.3f} to {estimate['high']:.3f}"


def _marked(text: str, *, worse: bool) -> str:
    return f"[bold red]! {text}[/]" if worse else text
