"""What must fit together before anything is compiled: data of a stream, its objective, the mesh.

Each of these would fail while the step is traced, or at the first step of a later phase. Found out
here, it costs a second, and the message names what to set in gin.
"""

from collections.abc import Callable, Mapping
from typing import Any

from codet5p_jax.objectives.bimodal import BimodalObjective
from codet5p_jax.objectives.objective import Objective
from codet5p_jax.training.curriculum import Curriculum
from codet5p_jax.training.partitioning import Partitioner

Shapes = Mapping[str, tuple[int, ...]]  # feature -> shape in the global batch
BatchShapes = Callable[[Any], Shapes]  # dataset of a Stream -> shapes of its batches


def check_streams(
    curriculum: Curriculum, *, batch_shapes: BatchShapes, partitioner: Partitioner
) -> None:
    """Checks the batches of every stream, held-out ones too, against its objective and the mesh.

    Args:
        curriculum: All phases, also those that begin much later.
        batch_shapes: Returns the shapes of a dataset's batches without reading it, and raises
            ValueError where it could not be read.
        partitioner: Whose devices the batches are laid out on.

    Raises:
        ValueError: For the first that does not fit; names stream and gin parameter.
    """
    for name, stream in curriculum.streams.items():
        datasets = {"": stream.dataset, ", held-out data": stream.eval_dataset}
        for which, dataset in datasets.items():
            if dataset is None:
                continue
            try:
                check_batches(stream.objective, batch_shapes(dataset), partitioner=partitioner)
            except ValueError as error:
                raise ValueError(f"Stream {name!r}{which}: {error}") from error


def check_batches(objective: Objective, shapes: Shapes, *, partitioner: Partitioner) -> None:
    """Checks that `objective` can compute a loss of batches of these shapes on the mesh.

    Raises:
        ValueError: A feature is missing, the batch cannot be divided among devices or
            microbatches, or does not fit the queue.
    """
    _check_features(objective, shapes)
    [batch_size] = {shape[0] for shape in shapes.values()}
    _check_mesh(batch_size, partitioner)
    _check_microbatches(getattr(objective, "microbatches", 1), batch_size, partitioner)
    if isinstance(objective, BimodalObjective):
        _check_queue(objective, batch_size, shapes)


def _check_features(objective: Objective, shapes: Shapes) -> None:
    missing = [name for name in objective.required_features if name not in shapes]
    if missing:
        raise ValueError(
            f"{type(objective).__name__} reads {', '.join(missing)}, and the batches hold "
            f"{', '.join(shapes)}. Set DatasetConfig.feature_converter to the one made for this "
            "objective."
        )


def _check_mesh(batch_size: int, partitioner: Partitioner) -> None:
    try:
        partitioner.get_data_layout(batch_size)
    except ValueError as error:
        raise ValueError(
            f"{error} Set DatasetConfig.batch_size, a BATCH_SIZE of the recipe, or NUM_PARTITIONS."
        ) from error


def _check_microbatches(count: int, batch_size: int, partitioner: Partitioner) -> None:
    devices = partitioner.mesh.shape["data"]
    fitting = [n for n in range(1, batch_size + 1) if batch_size % (n * devices) == 0]
    if count not in fitting:
        raise ValueError(
            f"MICROBATCHES is {count}, and a batch of {batch_size} rows on {devices} devices of "
            f"the mesh's `data` axis can be computed in {', '.join(map(str, fitting))} parts of "
            "like size; use one of these, or another DatasetConfig.batch_size."
        )


def _check_queue(objective: BimodalObjective, batch_size: int, shapes: Shapes) -> None:
    size = objective.queue_size
    if size % batch_size:
        below = size // batch_size * batch_size
        raise ValueError(
            f"BimodalObjective.queue_size is {size}, no multiple of the batch of {batch_size} "
            f"pairs. Set QUEUE_SIZE to {below} or {below + batch_size}, or BATCH_SIZE to a divisor "
            "of it."
        )
    for name, length in (("text", objective.text_length), ("code", objective.code_length)):
        got = shapes[f"{name}_tokens"][1]
        if size and got != length:
            raise ValueError(
                f"BimodalObjective.{name}_length is {length}, and the batches have {got} tokens "
                f"per {name}. Set {name.upper()}_LENGTH, which gives both."
            )
