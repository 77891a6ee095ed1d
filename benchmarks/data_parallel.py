"""Benchmark: a global batch on eight CPU devices, in three layouts, against one device.

``python -m benchmarks.data_parallel`` compares with one device, each in turns of its own: the batch
over eight devices (data parallel), parameters and optimizer state over them too (FSDP), and a mesh
of 4 data x 2 model. The devices share this machine's cores, so that a ratio of 1 would mean that
splitting costs nothing: what is above it is threads, copies between devices, and what each of them
computes for itself, such as the optimizer where parameters are copied. The loss of the first step
must be that of one device.
"""

import argparse
import dataclasses
import math
import os
import sys

from rich.console import Console
from rich.table import Table

from benchmarks.paired import Comparison, Side, compare
from benchmarks.training_turns import STREAM, features, serve_training
from benchmarks.workload import Workload


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """How the step lies on devices.

    Attributes:
        devices: How many there are.
        num_partitions: How many of them share one copy of the model.
        parameter_dims: 2 splits parameters and optimizer state over `data` too.
    """

    devices: int = 8
    num_partitions: int = 1
    parameter_dims: int = 1


ALONE = "one device"
LAYOUTS = {
    ALONE: Layout(devices=1),
    "8 data": Layout(),
    "8 data, FSDP": Layout(parameter_dims=2),
    "4 data x 2 model": Layout(num_partitions=2),
}
RESULTS = {  # layout -> name of its result file
    "8 data": "data_parallel",
    "8 data, FSDP": "data_parallel_fsdp",
    "4 data x 2 model": "data_parallel_4x2",
}
WORKLOAD = Workload(
    vocab_size=4_096,
    embed_dim=256,
    num_layers=4,
    num_heads=4,
    mlp_dim=1_024,
    batch_size=32,
    input_length=128,
    target_length=64,
)
LOSS_TOLERANCE = 1e-5  # relative; float32 sums in another order


def compare_layout(name: str, *, turns: int, steps: int) -> Comparison:
    """Returns a layout beside one device.

    Raises:
        RuntimeError: Their losses differ.
    """
    command = (sys.executable, "-m", "benchmarks.data_parallel", "--serve")
    sides = (Side(name=layout, command=(*command, layout)) for layout in (name, ALONE))
    comparison = compare(RESULTS[name], *sides, turns=turns, units=steps, limits={})
    losses = [side.facts["first_loss"] for side in (comparison.ours, comparison.peer)]
    if not math.isclose(*losses, rel_tol=LOSS_TOLERANCE):
        raise RuntimeError(f"The first loss is {losses[0]} with {name}, {losses[1]} on one device.")
    return comparison


def table(comparisons: list[Comparison]) -> Table:
    """Returns medians of each layout, and its ratio to one device measured in turns with it."""
    drawn = Table(title=f"one batch of {WORKLOAD.tokens:,} tokens, split")
    for column in ("", "s/step", "one device", "ratio", "CPU ratio", "memory ratio"):
        drawn.add_column(column, justify="right" if column else "left")
    for each in comparisons:
        ratios = (f"{each.ratios[name]:.2f}" for name in ("time", "cpu_time", "memory"))
        seconds = (f"{side.median:.3f}" for side in (each.ours, each.peer))
        drawn.add_row(each.ours.name, *seconds, *ratios)
    return drawn


def serve_steps(layout: Layout) -> None:
    """Serves turns of the training loop's own step."""
    from codet5p_jax.cli.huge_pages import TUNABLES, restart_with_huge_pages

    restart_with_huge_pages()  # as `codet5p train` does

    import jax
    import optax

    from benchmarks.train_step import model_config
    from codet5p_jax.models.codet5p import CodeT5p
    from codet5p_jax.objectives.seq2seq import Seq2SeqObjective
    from codet5p_jax.training.curriculum import Curriculum, Phase, Stream
    from codet5p_jax.training.optimizer import adamw
    from codet5p_jax.training.partitioning import Partitioner, standard_logical_axis_rules
    from codet5p_jax.training.program import Program

    jax.config.update("jax_num_cpu_devices", layout.devices)
    model = CodeT5p(model_config(WORKLOAD, scan_unroll=WORKLOAD.num_layers))
    stream = Stream(name=STREAM, objective=Seq2SeqObjective(model=model), dataset=None)
    program = Program(
        curriculum=Curriculum(phases=[Phase(name="all", steps=1_000, streams=[stream])]),
        learning_rate=optax.constant_schedule(WORKLOAD.learning_rate),
        optimizer=adamw,
        partitioner=Partitioner(
            num_partitions=layout.num_partitions,
            logical_axis_rules=standard_logical_axis_rules(
                parameter_partitioning_dims=layout.parameter_dims
            ),
        ),
    )
    batch = program.partitioner.put_batch(features(*WORKLOAD.batch()))
    step = program.train_steps[0]
    state, metrics, _ = step(program.initial_state(), {STREAM: batch})
    loss = metrics[f"{STREAM}/loss"]

    serve_training(
        step,
        state,
        batch,
        facts={
            "jax": jax.__version__,
            "devices": jax.device_count(),
            "mesh": dict(program.partitioner.mesh.shape),
            "parameter_partitioning_dims": layout.parameter_dims,
            "threads": len(os.sched_getaffinity(0)),
            "glibc_tunables": os.environ.get(TUNABLES, ""),
            "parameters": model.config.num_parameters(),
            "tokens_per_step": WORKLOAD.tokens,
            "first_loss": float(loss.total / loss.weight),
        },
    )


def main() -> None:
    """Runs the benchmark, or with --serve one side of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=5, help="measured turns of each side")
    parser.add_argument("--steps", type=int, default=2, help="steps in a turn")
    parser.add_argument("--layouts", nargs="*", choices=list(RESULTS), default=list(RESULTS))
    parser.add_argument("--serve", choices=list(LAYOUTS), help="be a side (internal)")
    arguments = parser.parse_args()
    if arguments.serve:
        serve_steps(LAYOUTS[arguments.serve])
        return
    comparisons = []
    for name in arguments.layouts:
        comparisons.append(compare_layout(name, turns=arguments.turns, steps=arguments.steps))
        comparisons[-1].write()
    Console().print(table(comparisons))


if __name__ == "__main__":
    main()
