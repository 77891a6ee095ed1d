"""Text-code pairs of packages that training never saw, in an order nobody chose."""

import collections
import dataclasses
import hashlib
import pathlib
from collections.abc import Iterable, Mapping

from codet5p_jax.data.corpus_records import read_records


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeldOutPair:
    """One record of `code_functions` that has documentation.

    Attributes:
        text: Its documentation.
        code: Its code, without the documentation.
        name: Name of the function.
        language: Programming language.
        source: Repository and path of its file.
        id: Hash of the code without whitespace.
    """

    text: str
    code: str
    name: str
    language: str
    source: str
    id: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeldOutPairs:
    """The pairs of an evaluation, and what was left out to get them.

    Attributes:
        pairs: The first ones in hash order, no code twice.
        available: Pairs in the split, before the limit.
        duplicates: Pairs left out because their code came before.
    """

    pairs: tuple[HeldOutPair, ...]
    available: int
    duplicates: int

    @property
    def repeated_texts(self) -> int:
        """Pairs whose text another pair has too: no ranking can get all of them right."""
        counts = collections.Counter(pair.text for pair in self.pairs)
        return sum(count for count in counts.values() if count > 1)


def read_pairs(
    corpus_dir: str | pathlib.Path, *, split: str = "test", limit: int, seed: int = 0
) -> HeldOutPairs:
    """Reads the text-code pairs of a corpus; the only function here that needs TensorFlow.

    Args:
        corpus_dir: CORPUS_DIR of `codet5p corpus build`.
        split: Split of `code_functions`.
        limit: Pairs to keep.
        seed: Another seed gives another order.

    Raises:
        FileNotFoundError: If the corpus has no `code_functions`.
        ValueError: If the split holds no pair.
    """
    records = read_records("code_functions", corpus_dir=corpus_dir, split=split)
    pairs = [_pair(record) for record in records if record["docstring"].strip()]
    if not pairs:
        raise ValueError(
            f"Split {split!r} of code_functions in {str(corpus_dir)!r} holds no function with "
            "documentation; retrieval and matching need text-code pairs. Build a larger corpus."
        )
    return select_pairs(pairs, limit=limit, seed=seed)


def select_pairs(pairs: Iterable[HeldOutPair], *, limit: int, seed: int = 0) -> HeldOutPairs:
    """Returns the first `limit` pairs in the order of SHA-256(seed, id), no id twice."""
    ordered = sorted(pairs, key=lambda pair: (_hash(pair.id, seed), pair.source, pair.name))
    unique = tuple({pair.id: pair for pair in reversed(ordered)}.values())[::-1]
    return HeldOutPairs(
        pairs=unique[:limit], available=len(ordered), duplicates=len(ordered) - len(unique)
    )


def _hash(identifier: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}:{identifier}".encode()).digest()


def _pair(record: Mapping[str, str]) -> HeldOutPair:
    return HeldOutPair(
        text=record["docstring"],
        code=record["code"],
        name=record["name"],
        language=record["language"],
        source=f"{record['repository']}/{record['path']}",
        id=record["id"],
    )
