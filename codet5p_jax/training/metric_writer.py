"""Metrics of a run: one JSON object a line in metrics.jsonl, and TensorBoard files beside it."""

import json
import pathlib
import time
from collections.abc import Mapping
from types import TracebackType

import tensorboardX


class MetricWriter:
    """Appends metrics to MODEL_DIR/metrics.jsonl and to TensorBoard's files of the split.

    Lines of steps after `resume_step` are dropped first: they belong to updates that a killed run
    made after its last checkpoint and that the resumed run makes again. Of several processes one
    writes; all compute the same metrics.
    """

    def __init__(
        self, model_dir: str | pathlib.Path, *, resume_step: int = 0, writes: bool = True
    ) -> None:
        self._writes = writes
        self._dir = pathlib.Path(model_dir)
        self._path = self._dir / "metrics.jsonl"
        self._open(resume_step)

    def _open(self, resume_step: int) -> None:
        self._resume_step = resume_step
        self._boards: dict[str, tensorboardX.SummaryWriter] = {}
        if not self._writes:
            return
        _drop_later_lines(self._path, resume_step)
        self._file = self._path.open("a", encoding="utf-8")

    def rewind(self, step: int) -> None:
        """Drops what was written of steps after `step`: the run takes them again."""
        self._close()
        self._open(step)

    def write(self, step: int, split: str, phase: str, values: Mapping[str, float]) -> None:
        """Writes `values`, name -> number, as of update `step` (the first update is 1)."""
        if not self._writes:
            return
        line = {"step": step, "time": time.time(), "split": split, "phase": phase, **values}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        board = self._board(split)
        for name, value in values.items():
            board.add_scalar(name, value, step)

    def _board(self, split: str) -> tensorboardX.SummaryWriter:
        if split not in self._boards:
            self._boards[split] = tensorboardX.SummaryWriter(
                str(self._dir / split), purge_step=self._resume_step + 1
            )
        return self._boards[split]

    def __enter__(self) -> "MetricWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Closes the files."""
        self._close()

    def _close(self) -> None:
        if self._writes:
            self._file.close()
        for board in self._boards.values():
            board.close()


def _drop_later_lines(path: pathlib.Path, resume_step: int) -> None:
    """Keeps whole lines of steps up to `resume_step`; a killed run may end in half a line."""
    if not path.exists():
        return
    kept = [
        line for line in path.read_text(encoding="utf-8").splitlines() if _step(line) is not None
    ]
    kept = [line for line in kept if (_step(line) or 0) <= resume_step]
    replacement = path.with_suffix(".jsonl.new")
    replacement.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
    replacement.replace(path)


def _step(line: str) -> int | None:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return None
