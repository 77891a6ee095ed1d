"""The evaluation as one table for the terminal, good numbers and bad ones."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.table import Table

from codet5p_jax.evaluation.results_section import OBJECTIVES

NONE = "–"


def evaluation_table(evaluation: Mapping[str, Any]) -> Table:
    """Returns a rich table of losses, retrieval and matching."""
    table = Table(title="Evaluation on held-out packages")
    table.add_column("measure")
    for name in ("baseline", "before stage 2", "after stage 2", "95% interval", "over"):
        table.add_column(name, justify="right")
    for row in _losses(evaluation):
        table.add_row(*row)
    table.add_section()
    for row in _retrieval(evaluation):
        table.add_row(*row)
    table.add_section()
    for row in _matching(evaluation):
        table.add_row(*row)
    return table


def _losses(evaluation: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for row in evaluation["losses"]:
        before = f"{row['before']:.3f}" if "before" in row else NONE
        yield (
            f"{OBJECTIVES.get(row['objective'], row['objective'])}, nats per token",
            f"{row['unigram']:.3f} (unigram)",
            before,
            _marked(row["after"], worse=row["after"] >= row["unigram"]),
            NONE,
            f"{row['tokens']:,} tokens",
        )


def _retrieval(evaluation: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    rows = {row["ranking"]: row for row in reversed(evaluation["retrieval"])}  # the first wins
    after, before = rows["after"], rows.get("before")
    over = f"{after['queries']:,} texts, {after['codes']:,} codes"
    mrr = _mean(after)
    random, bm25 = _mean(rows["random"]), _mean(rows["bm25"])
    shown = f"{_mean(before):.4f}" if before else NONE
    marked = _marked(mrr, worse=mrr <= random, digits=4)
    yield "text-to-code MRR", f"{random:.4f} (random)", shown, marked, _interval(after), over
    marked = _marked(mrr, worse=mrr <= bm25, digits=4)
    yield "", f"{bm25:.4f} (BM25)", shown, marked, "", ""
    if "reranked" not in rows:
        return
    same = [row for row in evaluation["retrieval"] if row["ranking"] == "after"][-1]
    reranked = rows["reranked"]
    yield (
        "… re-ranked by the matching head",
        f"{_mean(same):.4f} (cosine)",
        NONE,
        _marked(_mean(reranked), worse=_mean(reranked) <= _mean(same), digits=4),
        _interval(reranked),
        f"{reranked['queries']:,} texts",
    )


def _matching(evaluation: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for row in evaluation["matching"]:
        accuracy = row["accuracy"]
        yield (
            f"matching accuracy, {row['negatives']} negatives",
            "50.0% (chance)",
            NONE,
            _marked(accuracy["mean"], worse=accuracy["mean"] <= 0.5, percent=True),
            f"{accuracy['low']:.1%} to {accuracy['high']:.1%}",
            f"{accuracy['count']:,} texts",
        )


def _mean(row: Mapping[str, Any]) -> float:
    return row["mrr"]["all"]["mean"]


def _interval(row: Mapping[str, Any]) -> str:
    return f"{row['mrr']['all']['low']:.4f} to {row['mrr']['all']['high']:.4f}"


def _marked(value: float, *, worse: bool, digits: int = 3, percent: bool = False) -> str:
    """A number that does not beat its baseline says so."""
    text = f"{value:.1%}" if percent else f"{value:.{digits}f}"
    return f"[bold red]{text} (no better)[/]" if worse else text
