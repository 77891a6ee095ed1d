"""The corpus manifest as a part of a page."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from codet5p_jax.evaluation.charts import bar
from codet5p_jax.evaluation.markup import (
    Markup,
    definitions,
    folded,
    join,
    shown_number,
    table,
    tag,
)

SOURCE_WORDS = ("name", "ecosystem", "version", "license", "split", "status", "reason")
SOURCE_NUMBERS = ("files", "bytes")
SPLITS = ("train", "validation", "test")
TOLD = ("splits", "languages", "licenses", "rejections")  # in tables of their own


def corpus_section(
    manifest: Mapping[str, Any] | None, *, instruction_files: Mapping[str, str] | None = None
) -> Markup:
    """Returns the manifest's tables, or what there is in their place.

    Args:
        manifest: None if it is not at hand.
        instruction_files: Name -> file of the instructions of a run that had no corpus.
    """
    heading = tag("h2", "Corpus")
    if not manifest:
        text = "The corpus manifest was not found; give it with --corpus=DIR."
        if instruction_files:
            named = ", ".join(f"{name} ({file})" for name, file in instruction_files.items())
            text = f"None: this run was trained on files of instructions, {named}."
        return tag("section", heading, tag("p", text, class_="note"))
    facts = [(key, manifest.get(key)) for key in ("recipe", "fingerprint", "created")]
    return tag(
        "section",
        heading,
        definitions(facts),
        *(tag("p", note, class_="note") for note in manifest.get("notes") or []),
        corpus_counts(manifest),
    )


def corpus_counts(manifest: Mapping[str, Any]) -> Markup:
    """Returns tables of all that a manifest counts, those it lacks left out."""
    rejections = manifest.get("rejections")
    caption = None
    if isinstance(rejections, Mapping):
        left_out = sum(count for count in rejections.values() if isinstance(count, int))
        caption = f"{left_out:,} in all. A function whose documentation is left out is kept."
    sources = manifest.get("sources") or []
    return join(
        [
            _counts(_over_splits(manifest.get("languages")), "Language", bars="code_functions"),
            _by_split(manifest.get("languages")),
            _counts(manifest.get("splits"), "Split", bars="code_functions"),
            _counts(manifest.get("licenses"), "Licence", bars="code_functions"),
            _counts(rejections, "Left out because of", bars="count", caption=caption),
            *(_counts(counts, title) for title, counts in further_counts(manifest)),
            _missing(sources),
            _sources(sources),
        ]
    )


def further_counts(
    manifest: Mapping[str, Any],
) -> Iterator[tuple[str, Mapping[str, Mapping[str, int]]]]:
    """Yields (title, numbers by name) of what else a build counted, such as secrets scrubbed."""
    for section, counts in manifest.items():
        if section not in TOLD and isinstance(counts, Mapping) and counts:
            yield section.replace("_", " ").capitalize(), _rows(counts)


def _rows(counts: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {k: v if isinstance(v, Mapping) else {"count": v} for k, v in counts.items()}


def _counts(
    counts: Any, name: str, *, bars: str | None = None, caption: str | None = None
) -> Markup | None:
    """A table of {name: count} or {name: {column: count}}; None if there is nothing.

    Rows are ordered by the column `bars`, which is drawn too, except for splits. None means the
    sum of a row.
    """
    if not isinstance(counts, Mapping) or not counts:
        return None
    rows = _rows(counts)
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    sizes = {key: _size(row, bars) for key, row in rows.items()}
    ordered = list(rows) if name == "Split" else sorted(rows, key=lambda key: -sizes[key])
    largest = max(sizes.values())
    header = [name, "", *(column.removeprefix("code_") for column in columns)]
    body = [[key, _bar(sizes[key], largest), *_numbers(rows[key], columns)] for key in ordered]
    return table(header, body, caption=caption, text_columns=2)


def _numbers(row: Mapping[str, Any], columns: Sequence[str]) -> list[str]:
    return [shown_number(row.get(column)) for column in columns]


def _size(row: Mapping[str, Any], column: str | None) -> int:
    values = row.values() if column is None else [row.get(column, 0)]
    return sum(value for value in values if isinstance(value, int))


def _bar(value: int, largest: int) -> Markup:
    if not value:
        return tag("div", class_="barcell")
    return tag("div", bar(value, maximum=largest, low=None, high=None), class_="barcell")


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


def _by_split(languages: Any) -> Markup | None:
    """Functions and pairs of each language in each split; None if they are not told."""
    if not isinstance(languages, Mapping):
        return None
    columns = [(kind, split) for kind in ("code_functions", "pairs") for split in SPLITS]
    rows = [
        [language, *(shown_number(splits.get(split, {}).get(kind)) for kind, split in columns)]
        for language, splits in languages.items()
        if isinstance(splits, Mapping)
    ]
    header = ["Language", *(f"{kind.removeprefix('code_')}, {split}" for kind, split in columns)]
    return folded("Languages by split", table(header, rows))


def _missing(sources: Sequence[Mapping[str, Any]]) -> Markup | None:
    rows = [
        [shown_number(source.get(column)) for column in ("name", "status", "reason")]
        for source in sources
        if source.get("reason")
    ]
    return (
        table(["Source that gave nothing", "", "because"], rows, text_columns=3) if rows else None
    )


def _sources(sources: Sequence[Mapping[str, Any]]) -> Markup | None:
    if not sources:
        return None
    words = [column for column in SOURCE_WORDS if any(source.get(column) for source in sources)]
    columns = [*words, *SOURCE_NUMBERS]
    rows = [[shown_number(source.get(column)) for column in columns] for source in sources]
    content = table(columns, rows, text_columns=len(words))
    return folded(f"All {len(sources)} sources with version and licence", content)
