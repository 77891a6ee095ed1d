"""What must fit together before anything is compiled: data of a stream, its objective, the mesh.

Each of these would fail while the step is traced, or at the first step of a later phase. Found out
here, it costs a second, and the message names what to set in gin.
"""

from collections.abc import Callable
from typing import Any

from codet5p_jax.objectives.objective import BatchShapes, Objective
from codet5p_jax.training.curriculum import Curriculum
from codet5p_jax.training.partitioning import DataLayout, Partitioner

ShapesOf = Callable[[Any], BatchShapes]  # dataset of a Stream -> shapes of its batches


def check_streams(
    curriculum: Curriculum, *, batch_shapes: ShapesOf, partitioner: Partitioner
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


def check_batches(objective: Objective, shapes: BatchShapes, *, partitioner: Partitioner) -> None:
    """Checks that `objective` can compute a loss of batches of these shapes on the mesh.

    Raises:
        ValueError: A feature is missing, the batch cannot be divided among devices or
            microbatches, or does not fit the queue.
    """
    objective.check_shapes(shapes)
    [batch_size] = {shape[0] for shape in shapes.values()}
    layout = _layout(batch_size, partitioner)
    _check_microbatches(getattr(objective, "microbatches", 1), layout)


def _layout(batch_size: int, partitioner: Partitioner) -> DataLayout:
    try:
        return partitioner.get_data_layout(batch_size)
    except ValueError as error:
        raise ValueError(
            f"{error} Set DatasetConfig.batch_size, a BATCH_SIZE of the recipe, or NUM_PARTITIONS."
        ) from error


def _check_microbatches(count: int, layout: DataLayout) -> None:
    batch_size, devices = layout.batch_size, layout.num_parts
    fitting = [n for n in range(1, batch_size + 1) if batch_size % (n * devices) == 0]
    if count not in fitting:
        raise ValueError(
            f"MICROBATCHES is {count}, and a batch of {batch_size} rows on {devices} devices "
            f"of the mesh can be computed in {', '.join(map(str, fitting))} parts of "
            "like size; use one of these, or another DatasetConfig.batch_size."
        )
