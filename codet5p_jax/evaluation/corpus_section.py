"""The corpus manifest as a part of the report."""

from collections.abc import Mapping, Sequence
from typing import Any

from codet5p_jax.evaluation.markup import Markup, definitions, folded, shown_number, table, tag

SOURCE_WORDS = ("name", "ecosystem", "version", "license", "split", "status", "reason")
SOURCE_NUMBERS = ("files", "bytes")


def corpus_section(manifest: Mapping[str, Any] | None) -> Markup:
    """Returns the manifest's tables; None says that the manifest is not at hand."""
    heading = tag("h2", "Corpus")
    if not manifest:
        text = "The corpus manifest was not found; give it with --corpus=DIR."
        return tag("section", heading, tag("p", text, class_="note"))
    facts = [(key, manifest.get(key)) for key in ("recipe", "fingerprint", "created")]
    return tag(
        "section",
        heading,
        definitions(facts),
        *(tag("p", note, class_="note") for note in manifest.get("notes") or []),
        _counts(manifest.get("splits"), "split"),
        _counts(_over_splits(manifest.get("languages")), "language, all splits"),
        _counts(manifest.get("licenses"), "licence"),
        _counts(manifest.get("rejections"), "left out because of"),
        _sources(manifest.get("sources") or []),
    )


def _counts(counts: Any, name: str) -> Markup | None:
    """A table of {name: count} or {name: {column: count}}; None if there is nothing."""
    if not isinstance(counts, Mapping) or not counts:
        return None
    rows = {k: v if isinstance(v, Mapping) else {"count": v} for k, v in counts.items()}
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    header = [name, *(column.replace("_", " ") for column in columns)]
    body = [[key, *(shown_number(row.get(c)) for c in columns)] for key, row in rows.items()]
    return table(header, body)


def _over_splits(languages: Any) -> Any:
    """{language: {split: {column: count}}} -> {language: {column: sum over splits}}."""
    if not isinstance(languages, Mapping):
        return None
    return {language: _summed(counts) for language, counts in languages.items()}


def _summed(counts: Any) -> Any:
    if not isinstance(counts, Mapping):
        return counts
    splits = [split for split in counts.values() if isinstance(split, Mapping)]
    columns = dict.fromkeys(column for split in splits for column in split)
    sums = {column: sum(split.get(column, 0) for split in splits) for column in columns}
    return sums or counts


def _sources(sources: Sequence[Mapping[str, Any]]) -> Markup | None:
    if not sources:
        return None
    words = [column for column in SOURCE_WORDS if any(source.get(column) for source in sources)]
    columns = [*words, *SOURCE_NUMBERS]
    rows = [[shown_number(source.get(column)) for column in columns] for source in sources]
    content = table(columns, rows, text_columns=len(words))
    return folded(f"All {len(sources)} sources with version and licence", content)
