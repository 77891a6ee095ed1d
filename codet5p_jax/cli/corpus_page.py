"""What a corpus holds as one self-contained HTML page, in the style of `codet5p report`."""

import importlib.resources
import pathlib
import string
from collections.abc import Mapping
from typing import Any

from codet5p_jax.cli.corpus_tables import totals
from codet5p_jax.evaluation.corpus_section import corpus_counts
from codet5p_jax.evaluation.markup import Markup, folded, join, shown_number, table, tag

LONGEST_CODE = 60  # lines of an example that are shown

Record = Mapping[str, str]


def write_page(
    path: pathlib.Path, manifest: Mapping[str, Any], pairs: Mapping[str, Record]
) -> None:
    """Writes the page; it refers to nothing outside itself.

    Args:
        path: Of the file; its folder is made.
        manifest: Of `codet5p_jax.corpus.manifest`.
        pairs: Language -> record of a documented function.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(manifest, pairs), encoding="utf-8")


def page(manifest: Mapping[str, Any], pairs: Mapping[str, Record]) -> str:
    """Returns the page as text; see `write_page`."""
    template = importlib.resources.files("codet5p_jax.evaluation") / "report_page.html"
    created = manifest["created"].replace("T", " ").replace("+00:00", " UTC")
    built = f"Built {created}, fingerprint {manifest['fingerprint']}. Bars and order: functions."
    body = [
        tag("h1", f"Corpus {manifest['recipe']}"),
        tag("p", built, class_="note"),
        *(tag("p", note, class_="warn") for note in manifest["notes"]),
        _tiles(manifest),
        corpus_counts(manifest),
        tag("h2", "A pair of each language") if pairs else None,
        *(_card(record) for record in pairs.values()),
        _files(manifest),
    ]
    return string.Template(template.read_text(encoding="utf-8")).substitute(
        title=join([f"{manifest['recipe']}: corpus"]), body=join(body)
    )


def _tiles(manifest: Mapping[str, Any]) -> Markup:
    counts = totals(manifest)
    used = sum(source["status"] == "used" for source in manifest["sources"])
    facts = {
        "functions": shown_number(counts["code_functions"]),
        "pairs of text and code": shown_number(counts["pairs"]),
        "files": shown_number(counts["code_files"]),
        "languages": len(manifest["languages"]),
        "sources": f"{used} of {len(manifest['sources'])}",
        "left out": shown_number(sum(manifest["rejections"].values())),
    }
    shown = (
        tag("div", tag("span", v, class_="value"), tag("span", n, class_="name"), class_="tile")
        for n, v in facts.items()
    )
    return tag("div", *shown, class_="tiles")


def _card(record: Record) -> Markup:
    lines = record["code"].splitlines()
    code = "\n".join(lines[:LONGEST_CODE])
    more = f"… and {len(lines) - LONGEST_CODE} more lines" if len(lines) > LONGEST_CODE else None
    where = f"{record['repository']}, {record['path']}, {record['license']}"
    return tag(
        "div",
        tag("h3", f"{record['language']}: {record['name']}"),
        tag("p", where, class_="note", style="overflow-wrap: anywhere"),
        tag("p", record["docstring"], style="overflow-wrap: anywhere"),
        tag("pre", code),
        tag("p", more, class_="note") if more else None,
        class_="card",
    )


def _files(manifest: Mapping[str, Any]) -> Markup:
    rows = [
        [file["path"], shown_number(file["records"]), shown_number(file["bytes"]), file["digest"]]
        for file in manifest["files"]
    ]
    header = ["file", "records", "bytes", "SHA-256 of its records"]
    return join([tag("h2", "Files"), folded(f"All {len(rows)} files", table(header, rows))])
