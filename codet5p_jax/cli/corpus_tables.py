"""What a corpus holds, as tables for the terminal."""

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from codet5p_jax.cli.printable import printable
from codet5p_jax.corpus.records import SPLITS
from codet5p_jax.evaluation.corpus_section import further_counts

WIDE = 96  # characters, from which tables show all their columns
MOST_LICENSES = 12
KINDS = ("code_files", "code_functions", "pairs")
STATES = ("used", "empty", "missing", "dropped")

Manifest = Mapping[str, Any]
Record = Mapping[str, str]


def corpus_tables(manifest: Manifest, pairs: Mapping[str, Record], *, width: int) -> Group:
    """Returns the manifest and a pair of each language.

    Args:
        manifest: Of `codet5p_jax.corpus.manifest`.
        pairs: Language -> record of a documented function.
        width: Characters of a line.
    """
    parts: list[RenderableType | None] = [
        _heading(manifest),
        _languages(manifest, wide=width >= WIDE),
        _licenses(manifest["licenses"]),
        _rejections(manifest["rejections"]),
        *(_counts(title, counts) for title, counts in further_counts(manifest)),
        _sources(manifest["sources"]),
        _missing(manifest["sources"]),
        _pairs(pairs, wide=width >= WIDE) if pairs else None,
    ]
    apart = [(part, Text()) for part in parts if part is not None]
    return Group(*itertools.chain.from_iterable(apart))


def source_table(manifest: Manifest) -> Table:
    """Returns a table of every source."""
    table = _table("Sources", "source", "from", "version", "split")
    _add_numbers(table, "files", "KB")
    table.add_column("licence", overflow="fold")
    table.add_column("what became of it", overflow="fold")
    for source in manifest["sources"]:
        table.add_row(
            *(_text(source[name]) for name in ("name", "ecosystem", "version", "split")),
            f"{source['files']:,}",
            f"{source['bytes'] // 1000:,}",
            _text(source["license"]),
            _text(source["status"] + (f": {source['reason']}" if source["reason"] else "")),
        )
    return table


def totals(manifest: Manifest) -> dict[str, int]:
    """Returns files, functions and pairs of all splits together."""
    return {kind: sum(split[kind] for split in manifest["splits"].values()) for kind in KINDS}


def rejection_rows(rejections: Mapping[str, int]) -> Iterator[tuple[str, str, int]]:
    """Yields (file, function, documentation or licence; reason; count), kind after kind."""
    kinds = Counter[str]()
    for name, count in rejections.items():
        kinds[name.partition(": ")[0]] += count
    for kind, _ in kinds.most_common():
        own = {n: c for n, c in rejections.items() if n.partition(": ")[0] == kind}
        for name, count in Counter(own).most_common():
            yield kind, name.partition(": ")[2], count


def one_line(text: str) -> str:
    """Returns the words of `text` on one line."""
    return " ".join(printable(text).split())


def _heading(manifest: Manifest) -> Text:
    text = Text()
    text.append(f"Corpus {manifest['recipe']}", style="bold")
    text.append(f"  fingerprint {manifest['fingerprint']}, built {manifest['created']}")
    for note in manifest["notes"]:
        text.append(f"\n{printable(note)}", style="yellow")
    return text


def _languages(manifest: Manifest, *, wide: bool) -> Table:
    table = _table("Languages", "language")
    _add_numbers(table, "files", "functions", "pairs")
    if wide:
        _add_numbers(table, *(f"functions, {split}" for split in SPLITS))
    for language, splits in manifest["languages"].items():
        numbers = [sum(splits[split][kind] for split in SPLITS) for kind in KINDS]
        numbers += [splits[split]["code_functions"] for split in SPLITS] if wide else []
        table.add_row(language, *(f"{number:,}" for number in numbers))
    table.add_section()
    numbers = [*totals(manifest).values()]
    numbers += [manifest["splits"][s]["code_functions"] for s in SPLITS] if wide else []
    table.add_row("all", *(f"{number:,}" for number in numbers), style="bold")
    return table


def _licenses(licenses: Mapping[str, Mapping[str, int]]) -> Table:
    table = _table("Licences", "licence")
    _add_numbers(table, "files", "functions", "pairs")
    rows = sorted(licenses.items(), key=lambda item: -item[1]["code_functions"])
    shown, rest = rows[:MOST_LICENSES], rows[MOST_LICENSES:]
    if rest:
        shown.append((f"{len(rest)} more", {k: sum(row[k] for _, row in rest) for k in KINDS}))
    for name, counts in shown:
        table.add_row(_text(name), *(f"{counts[kind]:,}" for kind in KINDS))
    return table


def _rejections(rejections: Mapping[str, int]) -> Table:
    table = _table("Left out", "what", "because")
    _add_numbers(table, "count")
    last = ""
    for kind, reason, count in rejection_rows(rejections):
        table.add_row("" if kind == last else kind, _text(reason), f"{count:,}")
        last = kind
    return table


def _counts(title: str, rows: Mapping[str, Mapping[str, int]]) -> Table:
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    table = _table(title, "what")
    _add_numbers(table, *columns)
    for name, row in sorted(rows.items(), key=lambda item: -sum(item[1].values())):
        table.add_row(_text(name), *(f"{row.get(column, 0):,}" for column in columns))
    return table


def _sources(sources: list[Mapping[str, Any]]) -> Table:
    table = _table("Sources", "from")
    _add_numbers(table, *STATES, "files", "MB")
    for ecosystem in dict.fromkeys(source["ecosystem"] for source in sources):
        own = [source for source in sources if source["ecosystem"] == ecosystem]
        states = Counter(source["status"] for source in own)
        table.add_row(
            _text(ecosystem),
            *(f"{states[status]:,}" for status in STATES),
            f"{sum(source['files'] for source in own):,}",
            f"{sum(source['bytes'] for source in own) / 1e6:,.1f}",
        )
    table.caption = "--sources lists each of them"
    return table


def _missing(sources: list[Mapping[str, Any]]) -> Table | None:
    absent = [source for source in sources if source["status"] != "used"]
    if not absent:
        return None
    table = _table("Sources that gave nothing", "source", "state")
    table.add_column("because", overflow="fold")
    for source in absent:
        table.add_row(_text(source["name"]), source["status"], _text(source["reason"]))
    return table


def _pairs(pairs: Mapping[str, Record], *, wide: bool) -> Table:
    table = _table("A pair of each language")
    table.expand = True
    table.add_column("language", no_wrap=True)
    table.add_column("function", overflow="ellipsis", no_wrap=True, max_width=28 if wide else 20)
    table.add_column("documentation", overflow="ellipsis", no_wrap=True, ratio=1)
    if wide:
        table.add_column("from", overflow="ellipsis", no_wrap=True, max_width=24)
    for language, record in pairs.items():
        cells = [record["name"], record["docstring"], *([record["repository"]] if wide else [])]
        table.add_row(language, *(Text(one_line(cell)) for cell in cells))
    table.caption = "codet5p corpus inspect prints whole records"
    return table


def _text(text: str) -> Text:
    return Text(printable(text))  # a plain string would be read as rich's markup


def _table(title: str, *columns: str) -> Table:
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
    )
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _add_numbers(table: Table, *columns: str) -> None:
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
