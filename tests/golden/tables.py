"""Tables of what checkpoints and exports depend on, one array a line.

`python -m tests.golden.tables` writes them anew; git then shows what a change does to the arrays.

parameters  name, shape, logical axes
state       name, shape, then mesh axes on 4 x 2 devices (data, model): one dimension of parameters
            split, | two dimensions split. Adafactor; everything a run keeps between steps.
"""

import dataclasses
import pathlib
from collections.abc import Callable

import jax
from flax import linen as nn
from jax.sharding import PartitionSpec

from codet5p_jax.models.codet5p import CodeT5p, abstract_params
from codet5p_jax.models.config import T5Config
from codet5p_jax.models.sizes import MODELS
from codet5p_jax.objectives.bimodal import BimodalObjective
from codet5p_jax.objectives.objective import Objective
from codet5p_jax.objectives.seq2seq import Seq2SeqObjective
from codet5p_jax.training.curriculum import Curriculum, Phase, Stream
from codet5p_jax.training.optimizer import adafactor
from codet5p_jax.training.partitioning import Partitioner, standard_logical_axis_rules
from codet5p_jax.training.program import Program
from codet5p_jax.training.schedules import constant

FOLDER = pathlib.Path(__file__).parent
BIMODAL_770M = dataclasses.replace(
    MODELS["codet5p_770m"], vocab_size=32_103, projection_dim=256, matching_head=True
)


def parameter_table(config: T5Config) -> str:
    """Returns the parameters of a model."""
    params = abstract_params(config)
    return _lines(_named(nn.unbox(params)), [_leaves(nn.get_partition_spec(params))])


def state_table(objective: Objective) -> str:
    """Returns the state of a run that trains one stream."""
    programs = [_program(objective, parameter_partitioning_dims=dims) for dims in (1, 2)]
    state = programs[0].abstract_state()
    return _lines(_named(state), [_leaves(program.state_axes) for program in programs])


def stage1(config: T5Config) -> Objective:
    """Returns an objective of stage 1; all of them have the same state."""
    return Seq2SeqObjective(model=CodeT5p(config))


def stage2(config: T5Config) -> Objective:
    """Returns the objective of stage 2 with the lengths and the queue of gin/objectives."""
    return BimodalObjective(
        model=CodeT5p(config), text_length=128, code_length=420, queue_size=57_600
    )


TABLES: dict[str, Callable[[], str]] = {
    "codet5p_220m.parameters.txt": lambda: parameter_table(MODELS["codet5p_220m"]),
    "codet5p_220m_bimodal.parameters.txt": lambda: parameter_table(MODELS["codet5p_220m_bimodal"]),
    "codet5p_770m.parameters.txt": lambda: parameter_table(MODELS["codet5p_770m"]),
    "codet5p_220m.stage1_state.txt": lambda: state_table(stage1(MODELS["codet5p_220m"])),
    "codet5p_770m.stage1_state.txt": lambda: state_table(stage1(MODELS["codet5p_770m"])),
    "codet5p_220m.stage2_state.txt": lambda: state_table(stage2(MODELS["codet5p_220m_bimodal"])),
    "codet5p_770m.stage2_state.txt": lambda: state_table(stage2(BIMODAL_770M)),
}


def write() -> None:
    """Writes every table."""
    for name, table in TABLES.items():
        (FOLDER / name).write_text(table(), encoding="utf-8")


def _program(objective: Objective, *, parameter_partitioning_dims: int) -> Program:
    stream = Stream(name="stream", objective=objective, dataset=None)
    rules = standard_logical_axis_rules(parameter_partitioning_dims=parameter_partitioning_dims)
    return Program(
        curriculum=Curriculum(phases=[Phase(name="phase", steps=1, streams=[stream])]),
        learning_rate=constant(peak_learning_rate=1e-2, warmup_steps=1),
        optimizer=adafactor,
        partitioner=Partitioner(
            num_partitions=2, logical_axis_rules=rules, devices=jax.devices()[:8]
        ),
    )


def _named(tree) -> dict[str, tuple[int, ...]]:
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf.shape
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _leaves(axes) -> list[PartitionSpec]:
    return jax.tree.leaves(axes, is_leaf=lambda leaf: isinstance(leaf, PartitionSpec))


def _lines(shapes: dict[str, tuple[int, ...]], axes: list[list[PartitionSpec]]) -> str:
    return "".join(
        f"{name} {shape} {' | '.join(str(tuple(spec)) for spec in specs)}\n"
        for (name, shape), *specs in zip(shapes.items(), *axes, strict=True)
    )


if __name__ == "__main__":
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", 8)
    write()
