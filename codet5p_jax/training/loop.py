"""The training loop: phases of steps, metrics, evaluation, checkpoints, and a clean stop."""

import dataclasses
import functools
import io
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax

from codet5p_jax.models.encoder_decoder import config_from_dict
from codet5p_jax.objectives.ranges import Range, check_ranges
from codet5p_jax.progress import Progress, progress
from codet5p_jax.training.anomalies import AnomalyError, AnomalyWatch, NonFiniteLossError
from codet5p_jax.training.batch_streams import BatchStreams, OpenBatches
from codet5p_jax.training.checkpoints import Checkpoints, load_metadata, newest_step, stored_params
from codet5p_jax.training.curriculum import Curriculum, Phase, Stream
from codet5p_jax.training.flops import StepCost, step_cost
from codet5p_jax.training.identity import claim_model_dir
from codet5p_jax.training.initialization import (
    forget_origin,
    read_origin,
    transfer_params,
    write_origin,
)
from codet5p_jax.training.metric_window import MetricWindow, WindowMeans, means, sum_metrics
from codet5p_jax.training.metric_writer import MetricWriter
from codet5p_jax.training.multihost import ALONE, Processes
from codet5p_jax.training.preemption import Stop, stop_on_signals
from codet5p_jax.training.program import Program
from codet5p_jax.training.state import TrainState
from codet5p_jax.typing import Batch, Metrics, PyTree

_PERIODS = {
    "log_period": Range(least=1, whole=True),
    "checkpoint_period": Range(least=1, whole=True),
    "checkpoints_kept": Range(
        least=1, whole=True, optional=True, macro="Schedule.checkpoints_kept"
    ),
    "eval_period": Range(least=1, whole=True, optional=True),
    "eval_batches": Range(least=1, whole=True),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Schedule:
    """How often a run does what, in steps.

    Attributes:
        log_period: Metrics are means over so many steps.
        checkpoint_period: Between two checkpoints.
        checkpoints_kept: Newest checkpoints kept; None keeps all.
        eval_period: Between two evaluations of the loss on held-out data; None means never.
        eval_batches: Held-out batches per stream and evaluation.
    """

    log_period: int = 50
    checkpoint_period: int = 1_000
    checkpoints_kept: int | None = 2
    eval_period: int | None = 1_000
    eval_batches: int = 8

    def __post_init__(self) -> None:
        """Raises ValueError for a period below 1, naming the macro."""
        check_ranges(self, _PERIODS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Session:
    """What a run has open while it trains."""

    streams: BatchStreams
    checkpoints: Checkpoints
    writer: MetricWriter
    bar: Progress
    stop: Stop
    watch: AnomalyWatch


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """One training run, from start to end or to the next interruption.

    Attributes:
        model_dir: Where checkpoints and metrics go; a run that finds a checkpoint there resumes.
        program: State and steps.
        open_batches: Dataset of a stream -> its batches.
        identity: What MODEL_DIR must stay the same in (see identity.py).
        metadata: Written into every checkpoint.
        schedule: How often to log, save and evaluate.
        peak_flops_per_device: FLOPs per second of one device, for MFU; None looks them up.
        initial_checkpoint_path: MODEL_DIR to take parameters from when this run starts new.
        on_evaluation: Called with the parameters, on their devices, and the step behind each
            evaluation of the loss, in every process.
        processes: Those that the devices belong to; the first writes what is written once.
    """

    model_dir: str
    program: Program
    open_batches: OpenBatches
    identity: Mapping[str, Any]
    metadata: Mapping[str, Any]
    schedule: Schedule
    peak_flops_per_device: float | None = None
    initial_checkpoint_path: str | None = None
    on_evaluation: Callable[[PyTree, int], None] | None = None
    processes: Processes = ALONE

    @property
    def curriculum(self) -> Curriculum:
        """What is trained when."""
        return self.program.curriculum

    def train(self, on_started: Callable[[], None] = lambda: None) -> int:
        """Trains to the end of the curriculum; returns 0, or 128 + the signal that stopped it.

        Args:
            on_started: Called once MODEL_DIR is known to be this run's and its state is there; in
                the first process alone.
        """
        with stop_on_signals() as request:
            stop = self.processes.shared_stop(request)
            self.program.abstract_state()  # raises what does not fit, before a file is written
            self.processes.on_first(lambda: claim_model_dir(self.model_dir, self.identity))
            self.processes.check_shared(self.model_dir)
            checkpoints = Checkpoints(
                self.model_dir, keep=self.schedule.checkpoints_kept, processes=self.processes
            )
            try:
                state, positions = self._start(checkpoints)
                if self.processes.is_first:
                    on_started()
                self._train_on(state, positions, checkpoints, stop)
            except AnomalyError:
                checkpoints.wait()  # what was saved before shall be whole
                raise
            checkpoints.close()
        return stop.exit_code

    def _train_on(
        self,
        state: TrainState,
        positions: Mapping[str, Any],
        checkpoints: Checkpoints,
        stop: Stop,
    ) -> None:
        """Trains from `state` to the end of the curriculum, or to a stop request, and saves."""
        step = int(state.step)
        streams = BatchStreams(self.open_batches, positions)
        watch = AnomalyWatch(
            self.model_dir,
            self.program.loss_guard,
            newest_checkpoint=functools.partial(self._newest_checkpoint, checkpoints),
        )
        with (
            MetricWriter(
                self.model_dir, resume_step=step, writes=self.processes.is_first
            ) as writer,
            progress(
                "training",
                self.curriculum.steps,
                unit="steps",
                done=step,
                stream=None if self.processes.is_first else io.StringIO(),
            ) as bar,
        ):
            session = _Session(
                streams=streams,
                checkpoints=checkpoints,
                writer=writer,
                bar=bar,
                stop=stop,
                watch=watch,
            )
            while step < self.curriculum.steps and not stop.due():
                state = self._run_phase(state, step, session)
                step = int(state.step)
        self._save(session, state, step)
        checkpoints.wait()
        streams.close()

    # The ways a run can start, in this order:
    # 1. MODEL_DIR's newest readable checkpoint; 2. the initial checkpoint; 3. scratch.
    def _start(self, checkpoints: Checkpoints) -> tuple[TrainState, Mapping[str, Any]]:
        abstract = self.program.abstract_state()
        restored = checkpoints.restore_newest(abstract)
        if restored is not None:
            state, positions, step = restored
            self._say(f"Resuming from step {step} of {self.model_dir}.")
            return state, positions
        if self.processes.is_first:
            forget_origin(self.model_dir)  # of a run that was killed before its first checkpoint
        state = self.program.initial_state(self._initial_params())
        return state, {}

    def _initial_params(self) -> PyTree | None:
        """Returns those of the initial checkpoint's parameters that fit, or None for scratch."""
        if self.initial_checkpoint_path is None:
            return None
        source = stored_params(self.initial_checkpoint_path)
        metadata = load_metadata(self.initial_checkpoint_path)
        transfer = transfer_params(
            self.program.abstract_state().params,
            source,
            vocab_size=self.program.model.config.vocab_size,
            source_vocab_size=config_from_dict(metadata["model"]).vocab_size,
        )
        self._say(
            f"Parameters from {self.initial_checkpoint_path}: {_sentence(transfer.summary())}"
        )
        if self.processes.is_first:
            write_origin(self.model_dir, self.initial_checkpoint_path, transfer, metadata=metadata)
        return transfer.params

    def _say(self, sentence: str) -> None:
        if self.processes.is_first:
            print(sentence)

    def _run_phase(self, state: TrainState, start: int, session: _Session) -> TrainState:
        """Trains from step `start` to the end of its phase, to a stop request or a roll back."""
        phase, end = self.curriculum.phase_at(start)
        for stream in phase.streams:
            session.streams.open(stream.name, stream.dataset)
        step_fn = self.program.train_steps[end - phase.steps]
        batches = self._next_batches(phase, session.streams)
        window = MetricWindow(self.schedule.log_period, cost=self._step_cost(phase, batches))
        for step in range(start + 1, end + 1):
            state, metrics, verdict = step_fn(state, batches)
            session.watch.add(step, verdict, batches)
            self._log(window.add(step, metrics), phase, session)
            session.bar.advance(1)
            if step % self.schedule.checkpoint_period == 0:
                if session.watch.must_roll_back(unread=0):
                    return self._rolled_back(session, state, step)
                self._raise_unless_finite(step, float(metrics["parameter_norm"].total))
                self._save(session, state, step)
            stopping = session.stop.due()  # asked once: a batch that is fetched must be trained on
            last = step == end or stopping
            if not last:
                batches = self._next_batches(phase, session.streams)  # while the devices compute
            if session.watch.must_roll_back(unread=0 if last else 1):
                return self._rolled_back(session, state, step)
            if self._eval_due(step):
                self._evaluate(state, phase, step, session.writer)
            if stopping:
                break
        self._log(window.close(), phase, session)
        return state

    def _newest_checkpoint(self, checkpoints: Checkpoints) -> int | None:
        checkpoints.wait()  # the newest may still be on its way to the disk
        return newest_step(self.model_dir)

    def _rolled_back(self, session: _Session, current: TrainState, step: int) -> TrainState:
        """Returns the newest checkpoint's state; the data go on from where they are."""
        for leaf in jax.tree.leaves(current):
            leaf.delete()  # two states may not fit beside each other
        restored = session.checkpoints.restore_newest(self.program.abstract_state())
        assert restored is not None  # the watch asked for one
        state, _, target = restored
        session.writer.rewind(target)
        session.bar.advance(target - step)
        return state

    def _step_cost(self, phase: Phase, batches: Mapping[str, Batch]) -> StepCost | None:
        """Returns what a step costs; None where that is not counted (Program.model_flops)."""
        flops = self.program.model_flops(phase, batches)
        if flops is None:
            return None
        return step_cost(
            flops,
            devices=list(self.program.partitioner.mesh.devices.flat),
            peak_flops_per_device=self.peak_flops_per_device,
        )

    def _next_batches(self, phase: Phase, streams: BatchStreams) -> Mapping[str, Batch]:
        return {
            stream.name: self.program.partitioner.put_batch(streams.next(stream.name))
            for stream in phase.streams
        }

    def _save(self, session: _Session, state: TrainState, step: int) -> None:
        metadata = {
            **self.metadata,
            "initial_checkpoint": read_origin(self.model_dir),
            "step": step,
            "events": session.watch.events,
        }
        positions = self.processes.union(session.streams.positions())
        session.checkpoints.save(state, positions, metadata, step=step)

    def _log(self, values: WindowMeans | None, phase: Phase, session: _Session) -> None:
        if values is None:
            return
        session.writer.write(values.step, "train", phase.name, values.metrics)
        losses = {k: v for k, v in values.metrics.items() if k.endswith("/loss")}
        session.bar.advance(
            0, note=" ".join(f"{k.removesuffix('/loss')} {v:.3f}" for k, v in losses.items())
        )
        self._raise_unless_finite(values.step, values.metrics.get("parameter_norm", 0.0))

    def _raise_unless_finite(self, step: int, parameter_norm: float) -> None:
        """Raises NonFiniteLossError: an update may be no number though its gradient is one."""
        if not math.isfinite(parameter_norm):
            raise NonFiniteLossError(
                f"parameter_norm is not finite at step {step} of {self.model_dir}. The newest "
                "checkpoint is from before; lower LEARNING_RATE, or mend SCHEDULE, and run again."
            )

    def _eval_due(self, step: int) -> bool:
        period = self.schedule.eval_period
        return period is not None and (step % period == 0 or step == self.curriculum.steps)

    def _evaluate(self, state: TrainState, phase: Phase, step: int, writer: MetricWriter) -> None:
        """Writes the mean loss of each stream on its first held-out batches."""
        values: dict[str, float] = {}
        for stream in phase.streams:
            if stream.eval_dataset is not None:
                values |= self._held_out_means(state, stream)
        if values:
            writer.write(step, "eval", phase.name, values)
        if self.on_evaluation is not None:
            self.on_evaluation(state.params, step)

    def _held_out_means(self, state: TrainState, stream: Stream) -> dict[str, float]:
        iterator = self.open_batches(stream.eval_dataset)
        step_fn = self.program.eval_steps[stream.name]
        total: Metrics = {}
        held_out = list(_first(iterator, self.schedule.eval_batches))
        # Data that end may end in one process sooner; a step needs all of them.
        for batch in held_out[: self.processes.least(len(held_out))]:
            metrics = step_fn(state, self.program.partitioner.put_batch(batch))
            total = metrics if not total else sum_metrics(total, metrics)
        iterator.close()
        return means(total)


def _first(iterator: Any, count: int) -> Iterator[Mapping[str, Any]]:
    for _ in range(count):
        try:
            yield next(iterator)
        except StopIteration:
            return


def _sentence(summary: Mapping[str, Any]) -> str:
    start, end = summary["extended_rows"]
    rows = f"vocabulary rows {start}..{end - 1} set to the mean row" if end > start else ""
    fresh = f"newly initialised: {', '.join(summary['fresh'])}" if summary["fresh"] else ""
    unused = f"not used: {', '.join(summary['unused'])}" if summary["unused"] else ""
    return "; ".join(part for part in (rows, fresh, unused) if part) or "all taken over."
