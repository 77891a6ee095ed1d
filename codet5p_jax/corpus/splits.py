"""Splits: whole repositories go to train, validation or test."""

import collections
import dataclasses
import hashlib
from collections.abc import Sequence

from codet5p_jax.corpus.records import SPLITS
from codet5p_jax.corpus.sources import Source

HELD_OUT = 0.05  # share of the repositories in each of validation and test


def hashed_share(name: str) -> float:
    """Returns a number in [0, 1) that depends on `name` alone."""
    return int(hashlib.sha256(name.encode()).hexdigest()[:12], 16) / 16**12


def hashed_split(name: str) -> str:
    """Returns the split of the repository or file called `name`, by its hash alone."""
    share = hashed_share(name)
    if share < HELD_OUT:
        return "test"
    return "validation" if share < 2 * HELD_OUT else "train"


def assign_splits(sources: Sequence[Source]) -> list[Source]:
    """Returns `sources` with a split each; splits that are pinned stay.

    The others go by the hash of their name. If that leaves a split without any source, the source
    with the smallest hash fills it, of those whose own split has another one. With fewer than
    three sources, all unpinned, every file goes by the hash of its own path (`split` stays None):
    held-out files then share a repository with training. Files of rows keep None too: each of
    their rows goes by the hash of its repository.
    """
    whole = [source for source in sources if source.rows is None]
    if len(whole) < len(SPLITS) and all(source.split is None for source in whole):
        return list(sources)
    splits = {s.name: s.split or hashed_split(s.name) for s in whole}
    free = sorted((s.name for s in whole if s.split is None), key=hashed_share)
    for split in ("test", "validation", "train"):
        if split not in splits.values():
            sizes = collections.Counter(splits.values())
            taken = next((name for name in free if sizes[splits[name]] > 1), None)
            splits |= {taken: split} if taken else {}
    return [dataclasses.replace(s, split=splits.get(s.name, s.split)) for s in sources]
