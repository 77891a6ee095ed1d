"""What the host does about steps that went wrong: reads verdicts, reacts, keeps a record."""

import json
import math
import pathlib
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from codet5p_jax.training.loss_guard import Anomaly, Decision, Kind, LossGuard, Verdict
from codet5p_jax.typing import Batch

EVENTS_FILE = "events.jsonl"


class AnomalyError(FloatingPointError):
    """A step that went wrong has stopped the run."""


class NonFiniteLossError(AnomalyError):
    """A loss, a gradient or parameters that are no numbers; no checkpoint holds them."""


class LossSpikeError(AnomalyError):
    """A loss far above those before it."""


class AnomalyWatch:
    """Reads the verdicts on steps, each when a later step runs already, and reacts to the bad."""

    def __init__(
        self,
        model_dir: str | pathlib.Path,
        guard: LossGuard,
        *,
        newest_checkpoint: Callable[[], int | None],
    ) -> None:
        """Opens the record of MODEL_DIR.

        Args:
            model_dir: MODEL_DIR, where events.jsonl and batches to look at are written.
            guard: What to do.
            newest_checkpoint: Returns the step a roll back goes to; None when there is none.
        """
        self._dir = pathlib.Path(model_dir)
        self._guard = guard
        self._newest_checkpoint = newest_checkpoint
        self._unread: list[tuple[int, Verdict, Mapping[str, Batch]]] = []
        self._in_row = 0
        self._last_step = 0  # of an anomaly
        self.events: list[dict[str, Any]] = _read_events(self._dir / EVENTS_FILE)

    def add(self, step: int, verdict: Verdict, batches: Mapping[str, Batch]) -> None:
        """Adds a step that the devices may still be at; its batches are kept until it is read."""
        verdict.kind.copy_to_host_async()
        self._unread.append((step, verdict, batches))

    def must_roll_back(self, *, unread: int) -> bool:
        """Reads all verdicts but the newest `unread`; returns whether to roll back.

        Raises:
            NonFiniteLossError: A loss or gradient norm was not finite, and the run shall stop.
            LossSpikeError: A loss was far above the last ones, and the run shall stop.
        """
        while len(self._unread) > unread:
            step, verdict, batches = self._unread.pop(0)
            kind = Kind(int(verdict.kind))
            if kind == Kind.HEALTHY:
                # Behind a roll back, only steps beyond the anomaly are progress.
                self._in_row = 0 if step > self._last_step else self._in_row
            elif self._decide(self._anomaly(step, kind, verdict), batches) == Decision.ROLL_BACK:
                self._unread.clear()
                return True
        return False

    def _anomaly(self, step: int, kind: Kind, verdict: Verdict) -> Anomaly:
        self._in_row, self._last_step = self._in_row + 1, max(step, self._last_step)
        return Anomaly(
            step=step,
            kind=kind,
            loss=float(verdict.loss),
            limit=float(verdict.limit),
            gradient_norm=float(verdict.gradient_norm),
            losses={name: float(loss) for name, loss in verdict.losses.items()},
            in_row=self._in_row,
        )

    def _decide(self, anomaly: Anomaly, batches: Mapping[str, Batch]) -> Decision:
        decision, target = self._guard.react(anomaly), None
        if decision == Decision.ROLL_BACK:
            target = self._newest_checkpoint()
            decision = Decision.SKIP if target is None else decision
        self._record(anomaly, decision, target)
        if decision == Decision.STOP:
            raise self._error(anomaly, _save_batches(self._dir, anomaly.step, batches))
        going_on = "rolling back to" if decision == Decision.ROLL_BACK else "skipped; going on from"
        step = anomaly.step if target is None else target
        if jax.process_index() == 0:
            print(f"{_sentence(anomaly)}: {going_on} step {step}")
        return decision

    def _record(self, anomaly: Anomaly, decision: Decision, target: int | None) -> None:
        event = {
            "step": anomaly.step,
            "time": time.time(),
            "kind": anomaly.kind.name.lower(),
            "reaction": decision.value,
            "rolled_back_to": target,
            "loss": _json_number(anomaly.loss),
            "limit": _json_number(anomaly.limit),
            "gradient_norm": _json_number(anomaly.gradient_norm),
            "losses": {name: _json_number(loss) for name, loss in anomaly.losses.items()},
            "in_row": anomaly.in_row,
        }
        self.events.append(event)
        if jax.process_index() != 0:
            return
        with (self._dir / EVENTS_FILE).open("a", encoding="utf-8") as file:
            file.write(json.dumps(event) + "\n")

    def _error(self, anomaly: Anomaly, path: pathlib.Path) -> AnomalyError:
        kind = NonFiniteLossError if anomaly.kind == Kind.NON_FINITE else LossSpikeError
        many = ""
        if anomaly.in_row > self._guard.max_in_row:
            many = f" It is number {anomaly.in_row} in a row; MAX_ANOMALIES_IN_ROW is "
            many += f"{self._guard.max_in_row}."
        macro = "ON_NON_FINITE" if anomaly.kind == Kind.NON_FINITE else "ON_SPIKE"
        return kind(
            f"{_sentence(anomaly)} of {self._dir}.{many} The step changed nothing; its batches are "
            f"in {path}. Lower LEARNING_RATE or clip more, or let the run go on with "
            f"{macro}=@loss_guard.skip or @loss_guard.roll_back, and run again."
        )


def _sentence(anomaly: Anomaly) -> str:
    if anomaly.kind == Kind.SPIKE:
        return f"The loss {anomaly.loss:.4g} is above {anomaly.limit:.4g} at step {anomaly.step}"
    values = {**anomaly.losses, "gradient_norm": anomaly.gradient_norm, "loss": anomaly.loss}
    bad = [f"{name} ({value})" for name, value in values.items() if not math.isfinite(value)]
    return f"{', '.join(bad)} is not finite at step {anomaly.step}"


def _save_batches(model_dir: pathlib.Path, step: int, batches: Mapping[str, Batch]) -> pathlib.Path:
    """Writes this process's rows of the batches as stream/feature; returns the file."""
    process = f"_process_{jax.process_index()}" if jax.process_count() > 1 else ""
    path = model_dir / f"batches_of_step_{step}{process}.npz"
    rows: dict[str, Any] = {
        f"{stream}/{feature}": _local_rows(array)
        for stream, batch in batches.items()
        for feature, array in batch.items()
    }
    np.savez_compressed(path, **rows)
    return path


def _local_rows(array: Any) -> np.ndarray:
    if not isinstance(array, jax.Array) or array.is_fully_addressable:
        return np.asarray(array)
    shards = {shard.index[0].start or 0: shard.data for shard in array.addressable_shards}
    return np.concatenate([np.asarray(shards[start]) for start in sorted(shards)])


def _json_number(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)


def _read_events(path: pathlib.Path) -> list[dict[str, Any]]:
    """Returns the events so far; drops the half line that a killed run may have ended in."""
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    whole, end, half = text.rpartition("\n")
    if half and jax.process_index() == 0:
        path.write_text(whole + end, encoding="utf-8")
    return [json.loads(line) for line in whole.splitlines()]
