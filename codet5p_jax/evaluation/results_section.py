"""The evaluation's part of the report: tiles, loss, retrieval and matching tables, samples."""

from collections.abc import Mapping, Sequence
from typing import Any

from codet5p_jax.evaluation.charts import bar
from codet5p_jax.evaluation.markup import Markup, definitions, folded, shown_number, table, tag

RANKINGS = {
    "random": "Random order (exact expectation)",
    "bm25": "BM25 on identifier words",
    "before": "Embedding before stage 2",
    "after": "Embedding after stage 2",
    "reranked": "… re-ranked by the matching head",
}
SHORT = {
    "random": "random",
    "bm25": "BM25",
    "before": "stage 1",
    "after": "stage 2",
    "reranked": "re-ranked",
}
HEADLINES = {
    "bm25": "MRR of BM25",
    "after": "MRR after stage 2",
    "reranked": "MRR re-ranked",
}
OBJECTIVES = {
    "unimodal_span_denoising": "Span denoising",
    "unimodal_seq2seq_clm": "Causal LM, encoder-decoder",
    "unimodal_decoder_clm": "Causal LM, decoder only",
}
SAMPLE_PARTS = {
    "prompt": "prompt",
    "reference": "reference",
    "output_before": "output before stage 2",
    "output": "output",
}
TASKS = {"code_to_text": "Docstring", "completion": "Completion"}


def tiles(evaluation: Mapping[str, Any]) -> Markup | None:
    """Returns the headline numbers, None without an evaluation."""
    facts = [
        *(
            (HEADLINES[row["ranking"]], f"{row['mrr']['all']['mean']:.3f}")
            for row in _headline(evaluation)
        ),
        *(
            (f"Matching, {row['negatives']} negatives", f"{row['accuracy']['mean']:.1%}")
            for row in evaluation.get("matching", [])
        ),
    ]
    shown = [
        tag("div", tag("span", v, class_="value"), tag("span", n, class_="name"), class_="tile")
        for n, v in facts
    ]
    return tag("div", *shown, class_="tiles") if shown else None


def results(evaluation: Mapping[str, Any] | None, *, flags: str) -> Markup:
    """Returns the tables of losses, retrieval and matching.

    Args:
        evaluation: Contents of evaluation.json, None if there is none.
        flags: What `codet5p eval` needs for this run beside its folders.
    """
    heading = tag("h2", "Evaluation on held-out packages")
    if evaluation is None:
        text = (
            "There is no evaluation.json in this MODEL_DIR yet. Write it with codet5p eval "
            f"--model_dir=MODEL_DIR {flags} --corpus=DIR --tokenizer=DIR."
        )
        return tag("section", heading, tag("p", text, class_="note"))
    return tag(
        "section",
        heading,
        tag("p", "On the test split: packages that no training step saw.", class_="note"),
        _setting(evaluation.get("setting", {})),
        _losses(evaluation.get("losses", [])),
        _retrieval(evaluation.get("retrieval", [])),
        _matching(evaluation.get("matching", [])),
    )


def samples(evaluation: Mapping[str, Any]) -> Markup | None:
    """Returns the generated samples, None if there are none."""
    found = evaluation.get("samples", [])
    if not found:
        return None
    note = "The first ones in the order of a hash, greedy decoding; none was picked by hand."
    return tag("section", tag("h2", "Samples"), tag("p", note, class_="note"), *map(_sample, found))


def _headline(evaluation: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    rows = evaluation.get("retrieval", [])
    first = {row["ranking"]: row for row in reversed(rows)}  # the first of a name: over all texts
    return [first[name] for name in HEADLINES if name in first]


def _setting(setting: Mapping[str, Any]) -> Markup:
    facts = [(key.replace("_", " "), shown_number(value)) for key, value in setting.items()]
    return folded("How it was evaluated", definitions(facts))


def _losses(rows: Sequence[Mapping[str, Any]]) -> Markup | None:
    if not rows:
        return None
    header = [
        "Loss, nats per target token",
        "target tokens",
        "unigram",
        "stage 1",
        "stage 2",
        "stage 2 / unigram",
    ]
    body = [
        [
            OBJECTIVES.get(row["objective"], row["objective"]),
            f"{row['tokens']:,.0f}",
            f"{row['unigram']:.3f}",
            _optional(row.get("before")),
            f"{row['after']:.3f}",
            _verdict(row["after"], row["unigram"]),
        ]
        for row in rows
    ]
    caption = "Unigram: a model that knows the token frequencies of the training targets only."
    return table(header, body, caption=caption)


def _optional(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _verdict(value: float, baseline: float) -> Markup:
    text = f"{value / baseline:.2f}" + ("" if value < baseline else " (no better)")
    return tag("span", text, class_=None if value < baseline else "warn")


def _retrieval(rows: Sequence[Mapping[str, Any]]) -> Markup | None:
    if not rows:
        return None
    highest = max(row["mrr"]["all"]["high"] for row in rows)
    body = [
        [
            _ranking(row),
            tag("div", _bar(row["mrr"]["all"], highest), class_="barcell"),
            f"{row['mrr']['all']['mean']:.3f}",
            f"{row['mrr']['all']['low']:.3f}–{row['mrr']['all']['high']:.3f}",
            f"{row['queries']:,}",
            f"{row['codes']:,}",
        ]
        for row in rows
    ]
    header = ["Text-to-code retrieval", "", "MRR", "95% interval", "queries", "codes"]
    caption = "MRR over the whole code base; ties count in expectation. Line in a bar: interval."
    overall = table(header, body, caption=caption, text_columns=2)
    return tag("div", tag("h3", "Retrieval"), overall, _by_language(rows))


def _ranking(row: Mapping[str, Any]) -> Markup:
    name = RANKINGS.get(row["ranking"], row["ranking"])
    note = tag("div", row["note"], class_="note") if row.get("note") else None
    return tag("div", name, note)


def _bar(estimate: Mapping[str, Any], maximum: float) -> Markup:
    return bar(estimate["mean"], maximum=maximum, low=estimate["low"], high=estimate["high"])


def _by_language(rows: Sequence[Mapping[str, Any]]) -> Markup:
    """Languages down, rankings across; the rows over fewer texts are left to the table above."""
    largest = max(row["queries"] for row in rows)
    full = [row for row in rows if row["queries"] == largest]
    header = ["MRR by language", "texts", *(SHORT.get(r["ranking"], r["ranking"]) for r in full)]
    body = [
        [
            language,
            f"{full[0]['mrr'][language]['count']:,}",
            *(_optional(row["mrr"].get(language, {}).get("mean")) for row in full),
        ]
        for language in sorted(full[0]["mrr"].keys() - {"all"})
    ]
    return table(header, body)


def _matching(rows: Sequence[Mapping[str, Any]]) -> Markup | None:
    if not rows:
        return None
    header = [
        "Matching against",
        "accuracy",
        "95% interval",
        "true accepted",
        "false rejected",
        "told apart",
        "texts",
    ]
    body = [
        [
            f"{row['negatives']} negatives",
            f"{row['accuracy']['mean']:.1%}",
            f"{row['accuracy']['low']:.1%}–{row['accuracy']['high']:.1%}",
            f"{row['positives_accepted']:.1%}",
            f"{row['negatives_rejected']:.1%}",
            f"{row['told_apart']['mean']:.1%}",
            f"{row['accuracy']['count']:,}",
        ]
        for row in rows
    ]
    caption = (
        "As many true as false pairs, so 50% is chance; in training a third was true, so a pair "
        "is taken for true from a probability of 1/3 on. Hard: the wrong code nearest by cosine. "
        "Told apart: the own code got the higher match probability."
    )
    return tag("div", tag("h3", "Matching"), table(header, body, caption=caption))


def _sample(sample: Mapping[str, Any]) -> Markup:
    kind = TASKS.get(sample["task"], sample["task"])
    return tag(
        "div",
        tag("h3", f"{kind} · {sample['language']} · {sample['source']}"),
        *(
            part
            for name, title in SAMPLE_PARTS.items()
            if name in sample
            for part in (tag("h4", title), tag("pre", sample[name] or "(empty)"))
        ),
        class_="card",
    )
