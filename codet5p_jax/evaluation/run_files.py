"""Reads what a training run left in its MODEL_DIR, a run that was killed included."""

import dataclasses
import json
import math
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

Record = Mapping[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunFiles:
    """One MODEL_DIR as read from disk.

    Attributes:
        directory: The MODEL_DIR.
        records: Objects of metrics.jsonl in order of time; see `read_metrics`.
        skipped_lines: Line numbers of metrics.jsonl that held no whole object.
        config: Text of config.gin, empty if there is none.
        metadata: Contents of run_metadata.json (model, tokenizer, corpus, versions, git
            revision), empty if there is none.
        evaluation: Contents of evaluation.json, None if there is none.
        answers: Objects of answers.jsonl, which instruction tuning writes, in order of steps.
    """

    directory: pathlib.Path
    records: tuple[Record, ...]
    skipped_lines: tuple[int, ...] = ()
    config: str = ""
    metadata: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    evaluation: Mapping[str, Any] | None = None
    answers: tuple[Record, ...] = ()

    @classmethod
    def read(cls, directory: str | pathlib.Path) -> "RunFiles":
        """Reads the MODEL_DIR `directory`.

        Raises:
            FileNotFoundError: If the directory or its metrics.jsonl is missing.
            ValueError: If metrics.jsonl holds no record, or a JSON file is damaged.
        """
        directory = pathlib.Path(directory)
        records, skipped = read_metrics(directory / "metrics.jsonl")
        config = directory / "config.gin"
        return cls(
            directory=directory,
            records=records,
            skipped_lines=skipped,
            config=config.read_text(encoding="utf-8") if config.exists() else "",
            metadata=_read_json_if_there(directory / "run_metadata.json") or {},
            evaluation=_read_json_if_there(directory / "evaluation.json"),
            answers=_read_lines_if_there(directory / "answers.jsonl"),
        )

    @property
    def instruction_files(self) -> Mapping[str, str]:
        """Name -> file of the instructions of a run that had no corpus; else empty."""
        files = self.metadata.get("instruction_files") or {}
        if self.metadata.get("corpus"):
            return {}
        return {name: file["path"] for name, file in files.items()}


def read_metrics(path: pathlib.Path) -> tuple[tuple[Record, ...], tuple[int, ...]]:
    """Returns the records of metrics.jsonl and the numbers of its unreadable lines.

    A record has "step", "time" (unix seconds), "split" and metrics by name. A killed run leaves
    its last line unfinished; that line, and any other that is no object with a step, is counted
    and left out. Where a resumed run wrote a step again, the later values replace the earlier.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it holds no record at all.
    """
    if not path.exists():
        raise FileNotFoundError(
            f"No metrics.jsonl in {str(path.parent)!r}: expected the MODEL_DIR of a training run, "
            "which holds metrics.jsonl, config.gin and checkpoint_<step>/. "
            "Train one with `codet5p train --gin_file=... --gin.MODEL_DIR=...`."
        )
    lines = path.read_bytes().split(b"\n")
    parsed = [(number, _parse(line)) for number, line in enumerate(lines, 1) if line.strip()]
    skipped = tuple(number for number, record in parsed if record is None)
    records = _latest_by_step([record for _, record in parsed if record is not None])
    if not records:
        raise ValueError(
            f"{str(path)!r} holds no metrics: expected one JSON object a line with a 'step', got "
            f"{len(parsed)} line(s) of something else. Was the run stopped before its first step?"
        )
    return records, skipped


def series(run: RunFiles, name: str, *, split: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns steps and values of metric `name` in `split`; non-finite values are left out."""
    points = [
        (float(record["step"]), float(record[name]))
        for record in run.records
        if record.get("split", "train") == split and _is_number(record.get(name))
    ]
    return tuple(step for step, _ in points), tuple(value for _, value in points)


def non_finite_steps(run: RunFiles, name: str) -> tuple[int, ...]:
    """Returns the steps at which metric `name` was NaN or infinite."""
    return tuple(
        int(record["step"])
        for record in run.records
        if isinstance(record.get(name), float) and not math.isfinite(record[name])
    )


def loss_names(run: RunFiles) -> tuple[str, ...]:
    """Returns the names of all losses, in order of first appearance; sums of others come last."""
    names = dict.fromkeys(
        key
        for record in run.records
        for key in record
        if key == "loss" or key.endswith(("/loss", "_loss"))
    )
    return tuple(sorted(names, key=lambda name: is_sum_of_losses(name, names)))


def is_sum_of_losses(name: str, names: Iterable[str]) -> bool:
    """Whether loss `name` is the sum of others: "pairs/loss" is that of "pairs/matching_loss"."""
    stream = name.removesuffix("loss")
    return any(
        other != name and other.startswith(stream) and other.endswith("loss") for other in names
    )


def metric_names(run: RunFiles) -> tuple[str, ...]:
    """Returns the names of all metrics that are finite numbers somewhere, sorted."""
    return tuple(
        sorted(
            {
                key
                for record in run.records
                for key, value in record.items()
                if key not in ("step", "time") and _is_number(value)
            }
        )
    )


def splits(run: RunFiles) -> tuple[str, ...]:
    """Returns the names of all splits, "train" first."""
    names = dict.fromkeys(str(record.get("split", "train")) for record in run.records)
    return tuple(sorted(names, key=lambda name: name != "train"))


def phase_starts(run: RunFiles) -> tuple[tuple[float, str], ...]:
    """Returns (last logged step before it, name) of every training phase, the first at 0."""
    ends: dict[str, float] = {}
    for record in run.records:
        if record.get("split", "train") == "train" and record.get("phase"):
            ends[str(record["phase"])] = float(record["step"])
    return tuple(zip([0.0, *ends.values()], ends, strict=False))


def read_json(path: pathlib.Path) -> dict[str, Any]:
    """Returns the object in a JSON file; raises ValueError with its path if it is damaged."""
    try:
        contents = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{str(path)!r} is no JSON file: {error}. Write it again.") from error
    if not isinstance(contents, dict):
        raise ValueError(f"{str(path)!r} should hold a JSON object, got {type(contents).__name__}.")
    return contents


def _read_json_if_there(path: pathlib.Path) -> dict[str, Any] | None:
    return read_json(path) if path.exists() else None


def _read_lines_if_there(path: pathlib.Path) -> tuple[Record, ...]:
    if not path.exists():
        return ()
    found = (_parse(line) for line in path.read_bytes().splitlines())
    return tuple(record for record in found if record is not None)


def _parse(line: bytes) -> Record | None:
    try:
        record = json.loads(line)
    except (UnicodeDecodeError, json.JSONDecodeError):
        return None
    whole = isinstance(record, dict) and _is_number(record.get("step"))
    return record if whole else None


def _latest_by_step(records: list[Record]) -> tuple[Record, ...]:
    latest: dict[tuple[float, str], Record] = {}
    for record in records:
        key = float(record["step"]), str(record.get("split", "train"))
        latest[key] = {**latest.get(key, {}), **record}
    return tuple(sorted(latest.values(), key=lambda record: float(record["step"])))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
