"""Decontamination: what occurs in an evaluation set is left out, by name and by content.

By name goes a repository that an evaluation set names (CodeT5+, arXiv:2305.07922, section 4.1); by
content a file or a function that shares a 13-gram of tokens with one (GPT-3, arXiv:2005.14165,
appendix C). Grams that tell nothing do not count: those of under `MIN_NAMES` different names, which
are numbers, brackets and loops, and those that more than `MAX_ITEMS` items of a set have, which are
licences, imports and harnesses.
"""

import os
import pathlib
from collections.abc import Iterable, Sequence

import numpy as np
from etils import epath

from codet5p_jax.corpus.evaluation_sets import REPOSITORIES, name_of, read_items, read_names
from codet5p_jax.corpus.secrets import scrub
from codet5p_jax.corpus.sources import Source
from codet5p_jax.corpus.token_grams import distinct_names, token_grams

MIN_NAMES = 5
MAX_ITEMS = 10
_BITS_PER_GRAM = 32  # of the table that is asked first: it passes one of 32 grams of no set
_MAX_BITS = 32
_ITEMS_AT_ONCE = 1_000


def decontaminate(
    sources: Sequence[Source], names: Iterable[str]
) -> tuple[list[Source], list[Source]]:
    """Returns the sources whose name is not in `names`, and those whose name is; case is ignored.

    "owner/name" meets a source called "owner/name" or "name".
    """
    banned = _banned(names)
    kept = [source for source in sources if source.name.lower() not in banned]
    return kept, [source for source in sources if source.name.lower() in banned]


def _banned(names: Iterable[str]) -> set[str]:
    return {part.lower() for name in names for part in (name, name.rpartition("/")[2])}


class EvaluationGrams:
    """The 13-grams of evaluation sets, in files that processes share."""

    def __init__(self, folder: str | os.PathLike[str]):
        """Opens what `write_evaluation_grams` has written in `folder`."""
        place = epath.Path(folder)
        self.names = (place / "names.txt").read_text(encoding="utf-8").splitlines()
        self._banned = _banned(read_names(place / REPOSITORIES))
        self._grams, self._sets, self._table = (
            _load(place / f"{name}.npy") for name in ("grams", "sets", "table")
        )
        self._shift = np.uint64(64 - (8 * len(self._table) - 1).bit_length())

    def names_repository(self, repository: str) -> bool:
        """Returns whether a set names that repository, as `decontaminate` has it."""
        return repository.lower() in self._banned

    def sets_of(self, texts: Sequence[bytes]) -> list[str | None]:
        """Returns for each text the name of the first set that it shares a gram with, or None."""
        first = np.full(len(texts), len(self.names))
        if not len(self._grams):
            return [None] * len(texts)
        found = token_grams(texts)
        places = (found.grams >> self._shift).view(np.int64)
        bits = self._table[places >> 3] >> (places & 7).astype(np.uint8)
        likely = np.flatnonzero(bits & 1)
        if len(likely):
            grams = found.grams[likely]
            nearest = np.minimum(np.searchsorted(self._grams, grams), len(self._grams) - 1)
            shared = self._grams[nearest] == grams
            owners = found.owners(likely[shared])
            of_one = owners >= 0
            np.minimum.at(first, owners[of_one], self._sets[nearest[shared]][of_one])
        return [*map(dict(enumerate(self.names)).get, first.tolist())]


def write_evaluation_grams(
    paths: Sequence[str | os.PathLike[str]],
    folder: str | os.PathLike[str],
    *,
    repositories: Sequence[str] = (),
) -> list[str]:
    """Writes what `EvaluationGrams` reads; returns all repositories that may not be in a corpus.

    Args:
        paths: A file or a folder for each set; see `evaluation_sets`.
        folder: Made if need be.
        repositories: Further names.

    Raises:
        FileNotFoundError: There is nothing at one of `paths`.
        ValueError: A set has neither a gram nor a repository.
    """
    place = epath.Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    found, named = [], set(repositories)
    for path in paths:
        own, names = _read_set(path)
        found.append(own)
        named |= names
    grams = np.concatenate([np.empty(0, np.uint64), *found])
    sets = np.repeat(np.arange(len(found), dtype=np.uint16), [len(own) for own in found])
    grams, first = np.unique(grams, return_index=True)
    columns = {"grams": grams, "sets": sets[first], "table": _table(grams)}
    for name, column in columns.items():
        with (place / f"{name}.npy").open("wb") as stream:
            np.save(stream, column)
    (place / "names.txt").write_text("\n".join(map(name_of, paths)), encoding="utf-8")
    (place / REPOSITORIES).write_text("\n".join(sorted(named)), encoding="utf-8")
    return sorted(named)


def _load(path: epath.Path) -> np.ndarray:
    """A column; one on this machine is mapped, so that processes share it."""
    if pathlib.Path(path).is_file():
        return np.asarray(np.load(path, mmap_mode="r"))  # np.memmap itself is slow to index
    with path.open("rb") as stream:
        return np.load(stream)


def _read_set(path: str | os.PathLike[str]) -> tuple[np.ndarray, set[str]]:
    """The grams of one set that count, and the repositories that it names."""
    repositories: set[str] = set()
    parts, texts, items = [], [], []
    for number, item in enumerate(read_items(path)):
        repositories.update(item.repositories)
        texts += [scrub(text)[0].encode(errors="replace") for text in item.texts]
        items += [number] * len(item.texts)
        if number % _ITEMS_AT_ONCE == _ITEMS_AT_ONCE - 1:
            parts.append(_telling(texts, items))
            texts, items = [], []
    grams = np.concatenate([*parts, _telling(texts, items)])  # each once in an item
    grams, numbers = np.unique(grams, return_counts=True)
    if not len(grams) and not repositories:
        raise ValueError(
            f"The evaluation set {path} has no text of 13 tokens and names no repository: it is a "
            "folder or a file of code, JSON or JSON lines."
        )
    return grams[numbers <= MAX_ITEMS], repositories


def _telling(texts: Sequence[bytes], items: Sequence[int]) -> np.ndarray:
    """The grams with names enough, each once for each item."""
    found = token_grams(texts)
    telling = np.flatnonzero(distinct_names(texts) >= MIN_NAMES)
    owners = found.owners(telling)
    telling, owners = telling[owners >= 0], owners[owners >= 0]
    item_of = np.array(items, np.uint64)[owners]
    return np.unique(np.stack([item_of, found.grams[telling]]), axis=1)[1]


def _table(grams: np.ndarray) -> np.ndarray:
    """A bit for each value of the first bits of a gram, packed: whether a gram begins so."""
    bits = min(_MAX_BITS, max(3, (_BITS_PER_GRAM * max(1, len(grams)) - 1).bit_length()))
    places = grams >> np.uint64(64 - bits)
    masks = np.uint8(1) << (places & np.uint64(7)).astype(np.uint8)
    table = np.zeros(2 ** (bits - 3), np.uint8)
    np.bitwise_or.at(table, places >> np.uint64(3), masks)
    return table
