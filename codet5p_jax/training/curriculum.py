"""What is trained when: streams of batches, phases of streams, the list of phases."""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Any

from codet5p_jax.objectives.objective import Objective


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stream:
    """One objective and the batches it learns from.

    Attributes:
        name: Prefix of its metrics; equal names in several phases are one stream.
        objective: Loss of a batch.
        dataset: What opens its batches; not read by the training layer.
        eval_dataset: The same for the loss on held-out data; None means no evaluation.
        weight: Factor of its mean loss in the sum that is minimised.
    """

    name: str
    objective: Objective
    dataset: Any
    eval_dataset: Any = None
    weight: float = 1.0

    def __post_init__(self) -> None:
        """Raises ValueError for a weight that would maximise a loss, or is no number."""
        if not 0.0 <= self.weight < math.inf:
            raise ValueError(
                f"Stream {self.name!r} has the weight {self.weight}; it must be a number of 0 or "
                "more. Set Stream.weight."
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Phase:
    """Consecutive steps that each consume one batch of every stream.

    Attributes:
        name: As it stands in metrics and logs.
        steps: Number of updates.
        streams: What each step learns from, at least one.
    """

    name: str
    steps: int
    streams: Sequence[Stream]

    def __post_init__(self) -> None:
        """Raises ValueError for a phase that trains nothing."""
        if self.steps < 1 or not self.streams:
            raise ValueError(
                f"Phase {self.name!r} has {self.steps} steps and {len(self.streams)} streams; it "
                "needs at least one of each. Set Phase.steps and Phase.streams."
            )
        if not any(stream.weight for stream in self.streams):
            raise ValueError(
                f"Phase {self.name!r} trains nothing: all its streams weigh 0. Set one "
                "Stream.weight to 1."
            )
        names = [stream.name for stream in self.streams]
        if len(set(names)) != len(names):
            raise ValueError(f"Phase {self.name!r} names a stream twice: {', '.join(names)}.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Curriculum:
    """Phases in order; each compiles a step of its own.

    Attributes:
        phases: At least one, with different names.
    """

    phases: Sequence[Phase]

    def __post_init__(self) -> None:
        """Raises ValueError for an empty curriculum, or a stream that is defined in two ways."""
        if not self.phases:
            raise ValueError("The curriculum has no phase; set Curriculum.phases.")
        for first, second in itertools.combinations(self._all_streams(), 2):
            if first.name == second.name and first != second:
                raise ValueError(
                    f"Stream {first.name!r} is defined in two ways in different phases; give the "
                    "second another name, or bind both to the same values."
                )

    def _all_streams(self) -> list[Stream]:
        return [stream for phase in self.phases for stream in phase.streams]

    @property
    def steps(self) -> int:
        """Number of updates of all phases."""
        return sum(phase.steps for phase in self.phases)

    @property
    def streams(self) -> dict[str, Stream]:
        """Every stream once, by name."""
        return {stream.name: stream for stream in self._all_streams()}

    def phase_at(self, step: int) -> tuple[Phase, int]:
        """Returns the phase that update `step` (from 0) belongs to, and the step it ends at."""
        end = 0
        for phase in self.phases:
            end += phase.steps
            if step < end:
                return phase, end
        raise ValueError(f"Step {step} lies behind the curriculum's {self.steps} steps.")
