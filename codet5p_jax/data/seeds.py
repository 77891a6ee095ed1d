"""Randomness as a pure function of what it is for, so that no generator has to be saved.

A key is a tuple of non-negative integers and strings, for instance (run seed, task, shard, epoch).
"""

import zlib

import numpy as np

Key = tuple[int | str, ...]


def random_words(count: int, *, key: Key) -> np.ndarray:
    """Returns uint32 [count]; equal keys give equal words, in every version of NumPy."""
    entropy = [zlib.crc32(part.encode()) if isinstance(part, str) else part for part in key]
    return np.random.SeedSequence(entropy).generate_state(count)


def random_order(count: int, *, key: Key) -> np.ndarray:
    """Returns a permutation of range(count)."""
    return np.argsort(random_words(count, key=key), kind="stable")


def random_fractions(count: int, *, key: Key) -> np.ndarray:
    """Returns float64 [count], uniform in [0, 1)."""
    return random_words(count, key=key) / 2.0**32


def tensorflow_seed(key: Key) -> np.ndarray:
    """Returns int32 [2], a seed for TensorFlow's stateless operations."""
    return random_words(2, key=key).view(np.int32)
