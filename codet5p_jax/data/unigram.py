"""The unigram model: what a model that ignores all context would lose on each token."""

from collections.abc import Iterable, Mapping

import numpy as np


def unigram_log_probs(batches: Iterable[Mapping[str, np.ndarray]], vocab_size: int) -> np.ndarray:
    """Returns the log probability of each token as a decoder target: float64 [vocab].

    Counts of `decoder_target_tokens` where `decoder_loss_weights` is above 0, plus one each, so
    that unseen tokens keep a probability. Give batches of the training split; the loss of a model
    that knows nothing else is the mean of `-log_probs[targets]` over held-out targets, in nats.

    Raises:
        ValueError: If a target is no id of the vocabulary.
    """
    counts = np.ones(vocab_size, np.int64)
    for batch in batches:
        targets = batch["decoder_target_tokens"][batch["decoder_loss_weights"] > 0]
        if targets.size and targets.max() >= vocab_size:
            raise ValueError(
                f"Target {targets.max()} is no id of a vocabulary of {vocab_size}. Pass the "
                "vocab_size of the tokenizer, sentinels included."
            )
        counts += np.bincount(targets, minlength=vocab_size)
    return np.log(counts) - np.log(counts.sum())
