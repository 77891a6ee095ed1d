"""Arrays of a checkpoint on the disk: read when they are indexed, written one after the other.

A model is exported layer by layer, so its checkpoint is laid out so: in chunks of one layer, which
alone can be read without the others. What is written here is not compressed, since the numbers of a
model hardly shrink and that would take ten times as long.
"""

import math
import pathlib
from collections.abc import Sequence
from typing import Any, final

import jax
import numpy as np
import orbax.checkpoint as ocp
import tensorstore

from codet5p_jax.typing import PyTree

CHUNK_BYTES = 64 * 2**20  # larger arrays are cut, along the layers first


def save_args(tree: PyTree) -> PyTree:
    """Returns how each array of `tree` is laid out: larger ones are cut into chunks."""
    return jax.tree.map(_save_args, tree)


def _save_args(array: Any) -> ocp.SaveArgs:
    if math.prod(array.shape) * array.dtype.itemsize <= CHUNK_BYTES:
        return ocp.SaveArgs()
    layers = (0,) if len(array.shape) > 2 else ()  # Orbax cuts such an axis into ones
    return ocp.SaveArgs(chunk_byte_size=CHUNK_BYTES, shard_axes=layers)


@final
class OneByOne(ocp.type_handlers.NumpyHandler):
    """Writes arrays of the host one after the other, without a copy of them.

    Orbax copies all of them first, so that training may go on, and has all in flight at once: twice
    the model beside it.
    """

    def __init__(self) -> None:
        """Leaves the copies out."""
        super().__init__(deepcopy_host_arrays=False)

    async def serialize(
        self, values: Sequence[Any], infos: Sequence[Any], args: Sequence[Any] | None = None
    ) -> list[Any]:
        """Returns when all are written."""
        for value, info, arg in zip(
            values, infos, args or [ocp.SaveArgs()] * len(values), strict=True
        ):
            for written in await super().serialize([value], [info], [arg]):
                written.result()
        return []

    async def _open_and_write(self, value: np.ndarray, tspec: Any, ts_context: Any) -> None:
        # Chunk by chunk, of which TensorStore makes copies. Without this method of Orbax's own the
        # file is the same, and an array as large as a third of a model has a copy.
        store: Any = await tensorstore.open(
            tensorstore.Spec(tspec), create=True, open=True, context=ts_context
        )
        if not value.ndim:
            await store.write(value)
            return
        rows = store.chunk_layout.write_chunk.shape[0]
        for row in range(0, len(value), rows):
            await store[row : row + rows].write(
                value[row : row + rows], can_reference_source_data_indefinitely=True
            )


def params_handler() -> ocp.PyTreeCheckpointHandler:
    """Returns what writes a tree of numpy arrays with little memory beside them."""
    registry = ocp.type_handlers.create_type_handler_registry(
        (np.ndarray, OneByOne()),
        (jax.Array, ocp.type_handlers.ArrayHandler()),  # without it Orbax warns
    )
    return ocp.PyTreeCheckpointHandler(use_compression=False, type_handler_registry=registry)


@final
class StoredArray:
    """An array on the disk: `shape`, `dtype`, a layer or a part by index, all by `np.asarray`.

    Attributes:
        shape: Sizes of the axes.
        dtype: Numpy dtype.
    """

    def __init__(self, described: Any, *, zarr3: bool, ocdbt: bool):
        """Reads nothing.

        Args:
            described: Orbax's metadata of the array.
            zarr3: Whether it is stored in version 3 of Zarr, not 2.
            ocdbt: Whether files hold many arrays.
        """
        self.shape = tuple(described.shape)
        self.dtype = np.dtype(described.dtype)
        storage = described.storage
        self._chunk_shape = tuple(storage.chunk_shape or self.shape) if storage else self.shape
        folder, name = f"{described.directory}/", described.name
        place = {"driver": "file", "path": f"{folder}{name}/"}
        if ocdbt:
            place = {"driver": "ocdbt", "base": f"file://{folder}", "path": name}
        self._spec = {"driver": "zarr3" if zarr3 else "zarr", "kvstore": place}
        self._block: tuple[int, np.ndarray] | None = None

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Reads it all."""
        return np.asarray(self._open().read().result(), dtype)

    def __getitem__(self, index: int | tuple[slice, ...]) -> np.ndarray:
        """Reads one layer, or the part in some slices.

        Where a chunk holds several layers, it is kept until its last was read.
        """
        if isinstance(index, tuple):
            return self._open()[index].read().result()
        return self._layer(index)

    def _layer(self, layer: int) -> np.ndarray:
        rows = self._chunk_shape[0]
        if rows == 1:
            return self._open()[layer].read().result()
        first = layer // rows * rows
        if self._block is None or self._block[0] != first:
            end = min(first + rows, self.shape[0])
            self._block = first, self._open()[first:end].read().result()
        block = self._block[1]
        if layer - first == len(block) - 1:
            self._block = None
        return block[layer - first]

    def _open(self) -> Any:
        return tensorstore.open(self._spec, read=True).result()


def stored_arrays(state_dir: pathlib.Path, *, item: str) -> PyTree:
    """Returns a part of a tree that Orbax wrote, with a StoredArray at each leaf.

    Args:
        state_dir: Folder of the tree.
        item: Name of the part.
    """
    with ocp.PyTreeCheckpointer() as checkpointer:
        metadata = checkpointer.metadata(state_dir).item_metadata
    zarr3, ocdbt = bool(metadata.use_zarr3), (state_dir / "manifest.ocdbt").exists()
    return jax.tree.map(
        lambda described: StoredArray(described, zarr3=zarr3, ocdbt=ocdbt), metadata.tree[item]
    )
