"""The manifest of a corpus: what is in it, from where, under which licence; what was left out."""

import dataclasses
import datetime
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from codet5p_jax.corpus.datasets import ShardInfo, fingerprint, shard_path
from codet5p_jax.corpus.records import SPLITS, Counts

_KINDS = ("code_files", "code_functions", "pairs")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SourceStatus:
    """What became of one source.

    Attributes:
        name: Name of the repository.
        ecosystem: Where it comes from.
        version: Its version; empty if unknown.
        split: Its split; "by file" or "by repository" if its files or rows are.
        status: "used", "missing", "dropped" or "empty".
        reason: Why it is not used.
    """

    name: str
    ecosystem: str
    version: str
    split: str
    status: str
    reason: str


def make_manifest(
    *,
    recipe: str,
    recipe_digest: str,
    counts: Counts,
    shards: Sequence[ShardInfo],
    sources: Sequence[SourceStatus],
    notes: Sequence[str],
    evaluation_sets: Sequence[str] = (),
) -> dict[str, Any]:
    """Returns the manifest as JSON values.

    Args:
        recipe: Name of the recipe.
        recipe_digest: What the build was asked for; a build of the same is not done again.
        counts: What the pipeline counted.
        shards: The files of records.
        sources: What became of each source.
        notes: Sentences that a reader should see first.
        evaluation_sets: Names of the sets whose text was left out.
    """
    return {
        "recipe": recipe,
        "recipe_digest": recipe_digest,
        "fingerprint": fingerprint(shards),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "notes": list(notes),
        "splits": {split: _kinds(counts, f"splits {split}") for split in SPLITS},
        "languages": _languages(counts),
        "licenses": {
            name.removeprefix("licenses "): _kinds(counts, name)
            for name in _whats(counts, "licenses ")
        },
        "sources": [_source(source, counts) for source in sources],
        "rejections": _by_name(counts, "rejections"),
        "scrubbed": _by_name(counts, "scrubbed"),
        "evaluation_sets": {
            name: {
                kind: counts.get(("rejections", f"{kind}: in evaluation set {name}"), 0)
                for kind in ("file", "function")
            }
            for name in evaluation_sets
        },
        "files": [_file(shard, shards) for shard in shards],
    }


def write_manifest(corpus_dir: str | os.PathLike[str], manifest: Mapping[str, Any]) -> None:
    """Writes manifest.json and manifest.txt."""
    folder = epath.Path(corpus_dir)
    text = json.dumps(manifest, indent=1) + "\n"
    (folder / "manifest.json").write_text(text, encoding="utf-8")
    (folder / "manifest.txt").write_text(manifest_tables(manifest), encoding="utf-8")


def read_manifest(corpus_dir: str | os.PathLike[str]) -> dict[str, Any]:
    """Returns the manifest of a corpus.

    Raises:
        FileNotFoundError: There is no whole corpus in that directory.
    """
    path = epath.Path(corpus_dir, "manifest.json")
    if not path.is_file():
        raise FileNotFoundError(
            f"No corpus in {corpus_dir}: {path.name} is missing. Build one with "
            f"`codet5p corpus build --recipe=quickstart --out={corpus_dir}`."
        )
    return json.loads(path.read_text(encoding="utf-8"))


def manifest_tables(manifest: Mapping[str, Any]) -> str:
    """Returns a manifest as plain text tables."""
    parts = [
        f"Corpus {manifest['recipe']}, fingerprint {manifest['fingerprint']}, "
        f"built {manifest['created']}",
        *manifest["notes"],
        _table(["split", *_KINDS], _rows(manifest["splits"])),
        _table(["language", *SPLITS, "pairs"], _language_rows(manifest["languages"])),
        _table(["licence", *_KINDS], _rows(manifest["licenses"])),
        _table(
            ["source", "from", "version", "split", "files", "KB", "licence", "status"],
            [_source_row(source) for source in manifest["sources"]],
        ),
        _table(["left out because", "count"], _by_count(manifest["rejections"])),
        _table(["replaced by a placeholder", "count"], _by_count(manifest.get("scrubbed", {}))),
    ]
    return "\n\n".join(parts) + "\n"


def _rows(table: Mapping[str, Mapping[str, int]]) -> list[list[Any]]:
    return [[name, *(row[kind] for kind in _KINDS)] for name, row in table.items()]


def _language_rows(languages: Mapping[str, Mapping[str, Any]]) -> list[list[Any]]:
    return [
        [
            language,
            *(splits[split]["code_functions"] for split in SPLITS),
            sum(splits[split]["pairs"] for split in SPLITS),
        ]
        for language, splits in languages.items()
    ]


def _source_row(source: Mapping[str, Any]) -> list[Any]:
    status = source["status"] + (f": {source['reason']}" if source["reason"] else "")
    fields = [source[name] for name in ("name", "ecosystem", "version", "split", "files")]
    return [*fields, source["bytes"] // 1000, source["license"], status]


def _by_count(counts: Mapping[str, int]) -> list[list[Any]]:
    return [[name, count] for name, count in sorted(counts.items(), key=lambda item: -item[1])]


def _table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    cells = [list(header), *([f"{c:,}" if isinstance(c, int) else c for c in r] for r in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    numeric = [all(isinstance(row[i], int) for row in rows) for i in range(len(header))]
    lines = [
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        ).rstrip()
        for row in cells
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def _kinds(counts: Counts, what: str) -> dict[str, int]:
    return {kind: counts.get((what, kind), 0) for kind in _KINDS}


def _whats(counts: Counts, prefix: str) -> list[str]:
    return sorted({what for what, _ in counts if what.startswith(prefix)})


def _by_name(counts: Counts, wanted: str) -> dict[str, int]:
    return {name: n for (what, name), n in sorted(counts.items()) if what == wanted and n}


def _languages(counts: Counts) -> dict[str, dict[str, dict[str, int]]]:
    names = sorted({what.split(" ")[1] for what in _whats(counts, "languages ")})
    return {
        name: {split: _kinds(counts, f"languages {name} {split}") for split in SPLITS}
        for name in names
    }


def _source(source: SourceStatus, counts: Counts) -> dict[str, Any]:
    read = source.status == "used"
    files = counts.get(("source files", source.name), 0) if read else 0
    licenses = _by_name(counts, f"source licence {source.name}") if read else {}
    empty = {"status": "empty", "reason": "no file passed"} if read and not files else {}
    return {
        **dataclasses.asdict(source),
        **empty,
        "license": ", ".join(sorted(licenses, key=lambda name: -licenses[name])),
        "files": files,
        "bytes": counts.get(("source bytes", source.name), 0) if read else 0,
    }


def _file(shard: ShardInfo, shards: Sequence[ShardInfo]) -> dict[str, Any]:
    own = [s for s in shards if (s.dataset, s.split) == (shard.dataset, shard.split)]
    path = shard_path("", shard.dataset, split=shard.split, index=shard.index, num_shards=len(own))
    return {
        "path": path.as_posix(),
        "records": shard.records,
        "bytes": shard.bytes,
        "digest": shard.digest,
    }
