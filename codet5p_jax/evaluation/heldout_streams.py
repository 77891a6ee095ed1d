"""Reads held-out batches and their unigram baseline; the functions here need TensorFlow."""

import contextlib
import itertools
from collections.abc import Mapping

from codet5p_jax.evaluation.evaluate import HeldOutStream
from codet5p_jax.evaluation.losses import HostBatch
from codet5p_jax.evaluation.metrics import unigram_log_probabilities

BATCH_SIZE = 32
SEED = 0


def read_stream(
    mixture: str,
    *,
    task_feature_lengths: Mapping[str, int],
    examples: int,
    unigram_examples: int,
    vocab_size: int,
    split: str = "test",
) -> HeldOutStream:
    """Returns held-out examples of a registered mixture, and its unigram model.

    The order is that of a shuffle with a fixed seed, so that examples come from many files.

    Args:
        mixture: Name in SeqIO's registry.
        task_feature_lengths: Tokens of "inputs" and "targets", as in training.
        examples: Held-out examples, rounded up to whole batches of 32.
        unigram_examples: Training examples whose targets the unigram model counts.
        vocab_size: Ids of the unigram model.
        split: Split that training never saw.

    Raises:
        ValueError: If the split has no example.
    """
    held_out = _read(mixture, task_feature_lengths, split=split, examples=examples)
    if not held_out:
        raise ValueError(
            f"Split {split!r} of {mixture!r} holds no example to evaluate on. Build a corpus with "
            "packages in every split, for instance with `codet5p corpus build`."
        )
    training = _read(mixture, task_feature_lengths, split="train", examples=unigram_examples)
    return HeldOutStream(
        objective=mixture,
        batches=held_out,
        unigram=unigram_log_probabilities(training, vocab_size=vocab_size),
    )


def _read(
    mixture: str, lengths: Mapping[str, int], *, split: str, examples: int
) -> list[HostBatch]:
    from codet5p_jax.data.batches import DatasetConfig, batches

    config = DatasetConfig(
        mixture_or_task_name=mixture,
        task_feature_lengths=lengths,
        batch_size=BATCH_SIZE,
        split=split,
        seed=SEED,
        num_virtual_shards=1,  # the fewest blocks of records to read
        num_epochs=1,
    )
    with contextlib.closing(batches(config)) as iterator:
        return list(itertools.islice(iterator, -(-examples // BATCH_SIZE)))
