"""Batches of a SeqIO mixture whose order depends on no host count and can resume anywhere.

A stream is read as V virtual shards. Row r of a global batch of B comes from virtual shard
r * V // B, whatever host reads it, so one host and four hosts give the same global batches, packed
ones included; and a few integers per virtual shard say where to go on. Devices hold neighbouring
rows, so that a host reads few shards: V / hosts, where the devices of a host lie side by side.

    config = DatasetConfig(mixture_or_task_name="unimodal_span_denoising", ...)
    with contextlib.closing(batches(config)) as iterator:
        batch = next(iterator)
        state = iterator.get_state()
"""

import collections
import concurrent.futures
import dataclasses
from collections.abc import Mapping
from typing import NamedTuple, final

import numpy as np
import seqio

from codet5p_jax.data.block_reader import BlockReader
from codet5p_jax.data.feature_converters import Arrays, FeatureConverter, seq2seq_features
from codet5p_jax.data.mixtures import (
    check_example_lengths,
    get_mixture_or_task,
    rated_tasks,
    tasks_of,
    without_empty_tasks,
)
from codet5p_jax.data.packing import empty_batch, place, place_packed, segment_positions
from codet5p_jax.data.record_files import RecordFiles, record_files
from codet5p_jax.data.sequences import (
    CODET5_IDS,
    SequenceIds,
    sequence_features,
    sequence_ids,
    with_lengths_beside,
)
from codet5p_jax.data.task_stream import TaskStream, shard_files
from codet5p_jax.data.virtual_shard import VirtualShard

READER_THREADS = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class DatasetConfig:
    """What to read, and in which shape.

    Attributes:
        mixture_or_task_name: Name in SeqIO's registry (gin: MIXTURE_OR_TASK_NAME).
        task_feature_lengths: Tokens per sequence feature.
        batch_size: Rows of the global batch (gin: BATCH_SIZE).
        split: Name of the split.
        shuffle: Whether files, records and rows are shuffled.
        seed: Root of the randomness of shuffling, mixing and preprocessing.
        use_cached: Whether to read SeqIO's offline cache; else records are tokenized on the way.
        pack: Whether to put several examples into a row, each a segment of its own.
        example_lengths: Where packed rows hold examples of several tasks: beginning of a task's
            name -> tokens per feature of one of its examples. None: as long as a row.
        num_virtual_shards: V; divides batch_size. A multiple of the number of hosts lets each of
            them read shards of its own.
        num_epochs: Passes over the split; None for no end.
        drop_remainder: Whether a last batch with rows of padding is left out.
        feature_converter: Task features, and the ids of the mixture's tokenizer -> model features.
        block_size: Records read at once; shuffling is within a block and between files.
    """

    mixture_or_task_name: str
    task_feature_lengths: Mapping[str, int]
    batch_size: int
    split: str = "train"
    shuffle: bool = True
    seed: int = 0
    use_cached: bool = False
    pack: bool = False
    example_lengths: Mapping[str, Mapping[str, int]] | None = None
    num_virtual_shards: int = 8
    num_epochs: int | None = None
    drop_remainder: bool = False
    feature_converter: FeatureConverter = seq2seq_features
    block_size: int = 64

    def __post_init__(self):
        for name in ("batch_size", "num_virtual_shards"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"DatasetConfig.{name} of {self.mixture_or_task_name!r} is "
                    f"{getattr(self, name)}; it must be 1 or more."
                )
        if self.batch_size % self.num_virtual_shards:
            raise ValueError(
                f"DatasetConfig.batch_size of {self.mixture_or_task_name!r} is {self.batch_size}, "
                f"no multiple of the {self.num_virtual_shards} virtual shards. Change it or "
                "DatasetConfig.num_virtual_shards in gin; the latter must stay the same for "
                "the whole run."
            )
        if self.example_lengths is not None and not self.pack:
            raise ValueError(
                "DatasetConfig.example_lengths is for packed rows, but DatasetConfig.pack is "
                "False. Set pack = True, or give the lengths as task_feature_lengths."
            )

    @property
    def lengths_field(self) -> str:
        """Name of the field that tells how long an example is."""
        return "task_feature_lengths" if self.example_lengths is None else "example_lengths"

    def lengths_of(self, task: str) -> Mapping[str, int]:
        """Returns the tokens per feature of an example of `task`.

        Raises:
            ValueError: If example_lengths says nothing of the task.
        """
        if self.example_lengths is None:
            return self.task_feature_lengths
        for beginning, lengths in self.example_lengths.items():
            if task == beginning or task.startswith(f"{beginning}_"):
                return lengths
        raise ValueError(
            f"DatasetConfig.example_lengths gives lengths for {', '.join(self.example_lengths)}, "
            f"and none for the task {task!r} of {self.mixture_or_task_name!r}; add them."
        )


def batches(config: DatasetConfig, *, rows: np.ndarray | None = None) -> "BatchIterator":
    """Returns the batches of a host: its rows of the global batches.

    Args:
        config: What to read.
        rows: Rows of the global batch that the host holds, ascending; None means all.

    Raises:
        ValueError: If the mixture is unknown, lacks the split or a feature, or is not cached.
    """
    provider = get_mixture_or_task(config.mixture_or_task_name)
    _check_lengths(provider, config)
    return BatchIterator(config, provider, np.arange(config.batch_size) if rows is None else rows)


def batch_shapes(config: DatasetConfig) -> dict[str, tuple[int, ...]]:
    """Returns the shape of each feature of the global batches, of which none is read.

    Raises:
        ValueError: If the mixture is unknown, its tasks have other features, examples of a task
            do not fit into the lengths, the feature converter is made for other features, or the
            split is empty.
    """
    provider = get_mixture_or_task(config.mixture_or_task_name)
    _check_lengths(provider, config)
    _rated_tasks(config, provider)
    layout = _layout(config, provider)
    try:
        features = layout.converted(layout.empty_rows(1))
    except KeyError as error:
        converter = getattr(config.feature_converter, "__name__", config.feature_converter)
        raise ValueError(
            f"DatasetConfig.feature_converter is {converter}, which reads {error}; "
            f"{config.mixture_or_task_name!r} gives {', '.join(provider.output_features)}. Use "
            "seq2seq_features for inputs and targets, pair_features for text and code."
        ) from error
    return {name: (config.batch_size, *value.shape[1:]) for name, value in features.items()}


def empty_features(config: DatasetConfig) -> Arrays:
    """Returns one row of padding of each feature of the batches; no task need be registered.

    Only shapes and dtypes mean anything. Numbers that a task gives beside its sequences, such as
    pair ids, are there when the feature converter asks for them.
    """
    layout = _RowLayout(config, config.task_feature_lengths, (), CODET5_IDS)
    rows = layout.with_positions(layout.empty_rows(1))
    asked = collections.defaultdict(lambda: np.zeros([1], np.int32), rows)
    return config.feature_converter(asked, layout.ids)


@final
class BatchIterator:
    """Iterates over the batches of one host; made by `batches`."""

    def __init__(
        self, config: DatasetConfig, provider: seqio.Task | seqio.Mixture, rows: np.ndarray
    ):
        """Opens the virtual shards that `rows` of the global batch come from."""
        self._config = config
        per_shard = config.batch_size // config.num_virtual_shards
        shards = np.unique(rows // per_shard)
        self._executor = concurrent.futures.ThreadPoolExecutor(
            READER_THREADS, thread_name_prefix="codet5p-data"
        )
        # A shard has all its rows filled, wanted or not: its position is the same on every host.
        read = np.concatenate([np.arange(s * per_shard, (s + 1) * per_shard) for s in shards])
        self._num_rows = len(read)
        self._wanted = None if len(read) == len(rows) else np.searchsorted(read, rows)
        self._rows = {int(s): np.flatnonzero(read // per_shard == s).tolist() for s in shards}
        self._layout = _layout(config, provider)
        self._shards = self._open(provider)

    def __iter__(self) -> "BatchIterator":
        return self

    def __next__(self) -> Arrays:
        """Returns the next batch, [local batch, ...] per feature.

        When the data ends within it, its other rows are padding, with loss weights of zero.
        """
        config = self._config
        batch = self._layout.empty_rows(self._num_rows)
        filled = sum(self._fill(batch, shard) for shard in self._rows)
        if filled == 0 or (config.drop_remainder and filled < self._num_rows):
            raise StopIteration
        converted = self._layout.converted(batch)
        if self._wanted is None:
            return converted
        return {name: values[self._wanted] for name, values in converted.items()}

    def get_state(self) -> dict[str, np.ndarray]:
        """Returns the position of each virtual shard of this host, a few integers each.

        The positions of all hosts together restore a run on any number of hosts.
        """
        return {_state_name(index): shard.state for index, shard in self._shards.items()}

    def set_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Goes to where `get_state` was called; entries of other hosts' shards are ignored.

        Raises:
            ValueError: If the position of a shard is missing, or is that of another mixture.
        """
        missing = [n for n in map(_state_name, self._shards) if n not in state]
        if missing:
            raise ValueError(
                f"The data position lacks {', '.join(missing)}; it holds {', '.join(state)}. Was "
                "it saved with another DatasetConfig.num_virtual_shards?"
            )
        for index, shard in self._shards.items():
            shard.state = np.asarray(state[_state_name(index)])

    def close(self) -> None:
        """Ends the threads that read ahead."""
        self._executor.shutdown(wait=True, cancel_futures=True)

    def _fill(self, batch: Arrays, shard: int) -> int:
        """Fills the rows that come from a virtual shard; returns how many got an example."""
        examples, rows = self._shards[shard], self._rows[shard]
        if self._config.pack:
            return place_packed(batch, rows, shard=examples, lengths=self._layout.lengths)
        return sum(place(batch, row, shard=examples) for row in rows)

    def _open(self, provider: seqio.Task | seqio.Mixture) -> dict[int, VirtualShard]:
        config = self._config
        rates = _rated_tasks(config, provider)
        files = {
            task.name: record_files(task, split=config.split, use_cached=config.use_cached)
            for task in rates
        }
        readers = self._readers(files)
        return {
            shard: VirtualShard(
                [self._stream(f, readers[name], shard=shard) for name, f in files.items()],
                list(rates.values()),
                key=(config.seed, shard),
            )
            for shard in self._rows
        }

    def _readers(self, files: Mapping[str, RecordFiles]) -> dict[str, BlockReader]:
        """Returns the reader of each task; those that can share a compiled function do."""
        beside = self._layout.lengths.keys()
        lengths = {n: with_lengths_beside(self._config.lengths_of(n), beside) for n in files}
        keys = {name: (f.pipeline, tuple(lengths[name].items())) for name, f in files.items()}
        shared = {key: self._reader(files[name], lengths[name]) for name, key in keys.items()}
        return {name: shared[key] for name, key in keys.items()}

    def _reader(self, files: RecordFiles, lengths: Mapping[str, int]) -> BlockReader:
        return BlockReader(
            files,
            sequence_length=lengths,
            features=(*lengths, *self._layout.scalars),
            block_size=self._config.block_size,
            shuffle=self._config.shuffle,
            ids=self._layout.ids,
        )

    def _stream(self, files: RecordFiles, reader: BlockReader, *, shard: int) -> TaskStream:
        config = self._config
        return TaskStream(
            reader,
            shard_files(
                files,
                shard=shard,
                num_shards=config.num_virtual_shards,
                num_epochs=config.num_epochs,
            ),
            key=(config.seed, files.task, shard),
            shuffle=config.shuffle,
            num_epochs=config.num_epochs,
            executor=self._executor,
        )


def _rated_tasks(
    config: DatasetConfig, provider: seqio.Task | seqio.Mixture
) -> dict[seqio.Task, float]:
    rates = rated_tasks(provider, split=config.split)
    if config.num_epochs is None:
        return without_empty_tasks(rates, split=config.split)
    return rates


class _RowLayout(NamedTuple):
    """What the rows of batches hold, before a feature converter has them.

    Attributes:
        config: What is read.
        lengths: Of every sequence, of those beside tokens too.
        scalars: Names of the features of one number a row.
        ids: Of padding and of the decoder's start.
    """

    config: DatasetConfig
    lengths: Mapping[str, int]
    scalars: tuple[str, ...]
    ids: SequenceIds

    def empty_rows(self, count: int) -> Arrays:
        """Returns rows of padding."""
        return empty_batch(
            count, lengths=self.lengths, scalars=self.scalars, pack=self.config.pack, ids=self.ids
        )

    def converted(self, rows: Arrays) -> Arrays:
        """Returns model features of rows of task features."""
        return self.config.feature_converter(self.with_positions(rows), self.ids)

    def with_positions(self, rows: Arrays) -> Arrays:
        """Returns the rows, packed ones with the positions of tokens in their segments."""
        positions = {
            f"{name}_positions": segment_positions(rows[f"{name}_segment_ids"])
            for name in self.config.task_feature_lengths
            if self.config.pack
        }
        return {**rows, **positions}


def _layout(config: DatasetConfig, provider: seqio.Task | seqio.Mixture) -> _RowLayout:
    features = provider.output_features
    lengths = with_lengths_beside(config.task_feature_lengths, features.keys())
    return _RowLayout(config, lengths, _scalars(provider), sequence_ids(features))


def _state_name(shard: int) -> str:
    return f"virtual_shard_{shard:05d}"


def _scalars(provider: seqio.Task | seqio.Mixture) -> tuple[str, ...]:
    return tuple(n for n, f in provider.output_features.items() if f.rank == 0)


def _check_lengths(provider: seqio.Task | seqio.Mixture, config: DatasetConfig) -> None:
    expected = sequence_features(provider.output_features)
    if expected != set(config.task_feature_lengths):
        raise ValueError(
            "DatasetConfig.task_feature_lengths gives lengths of "
            f"{sorted(config.task_feature_lengths)}; "
            f"{config.mixture_or_task_name!r} has the sequence features {sorted(expected)}."
        )
    for task in tasks_of(provider):
        lengths = config.lengths_of(task.name)
        _check_example_fits(task.name, lengths, config)
        try:
            check_example_lengths(task, lengths)
        except ValueError as error:
            raise ValueError(f"{error} In gin: DatasetConfig.{config.lengths_field}.") from error
    if config.pack and _scalars(provider):
        raise ValueError(
            f"{config.mixture_or_task_name!r} has one {', '.join(_scalars(provider))} per row "
            "and cannot be packed. Set DatasetConfig.pack = False."
        )


def _check_example_fits(task: str, lengths: Mapping[str, int], config: DatasetConfig) -> None:
    for name, row in config.task_feature_lengths.items():
        if lengths.get(name, row + 1) > row:
            raise ValueError(
                f"DatasetConfig.example_lengths gives examples of {task!r} {lengths.get(name)} "
                f"{name!r}, and a packed row has {row}; it must give 1 to {row} tokens."
            )
