"""Records of a corpus to look at, drawn at random; the same seed draws the same ones."""

import difflib
import os
import random
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from codet5p_jax.corpus.datasets import FEATURES, record_paths
from codet5p_jax.corpus.manifest import read_manifest
from codet5p_jax.corpus.records import SPLITS
from codet5p_jax.corpus.tfrecords import decode_example, read_records

Fields = dict[str, str]


class NoSuchRecordsError(ValueError):
    """A dataset, split or language that the corpus has not; the message names those it has."""


def draw_records(
    corpus_dir: str | os.PathLike[str],
    dataset: str = "code_functions",
    *,
    split: str = "train",
    language: str | None = None,
    documented: bool = False,
    count: int = 5,
    seed: int = 0,
) -> list[Fields]:
    """Returns up to `count` records, drawn at random.

    A file of records is drawn, then records of it; the next file is read where one has too few.
    The files of a split are random parts of it, so this is as good as drawing from all, and fast.

    Args:
        corpus_dir: Directory of the corpus.
        dataset: A key of `datasets.FEATURES`.
        split: One of `SPLITS`.
        language: Only records in it; None for all.
        documented: Only functions with documentation.
        count: How many.
        seed: Draws the same records of the same corpus again.

    Raises:
        FileNotFoundError: There is no whole corpus in that directory.
        NoSuchRecordsError: There is no such dataset, split or language, or no such record.
        DamagedRecordsError: A file is cut short or altered; the message names it.
    """
    _check_names(corpus_dir, dataset, split=split, language=language, documented=documented)
    generator = random.Random(seed)
    drawn: list[Fields] = []
    for records in _files(corpus_dir, dataset, split=split, generator=generator):
        fitting = [r for r in records if _fits(r, language=language, documented=documented)]
        drawn += generator.sample(fitting, min(count - len(drawn), len(fitting)))
        if len(drawn) == count:
            return drawn
    if not drawn:
        kind = "pairs" if documented else dataset
        raise NoSuchRecordsError(_none_text(read_manifest(corpus_dir), kind, split, language))
    return drawn


def draw_pairs(corpus_dir: str | os.PathLike[str], *, seed: int = 0) -> dict[str, Fields]:
    """Returns for each language a documented function of the training split, where it has one.

    Args:
        corpus_dir: Directory of the corpus.
        seed: Draws the same functions of the same corpus again.

    Raises:
        FileNotFoundError: There is no whole corpus in that directory.
        DamagedRecordsError: A file is cut short or altered; the message names it.
    """
    counts = read_manifest(corpus_dir)["languages"]
    missing = {name for name, splits in counts.items() if splits["train"]["pairs"]}
    generator = random.Random(seed)
    found: dict[str, Fields] = {}
    for records in _files(corpus_dir, "code_functions", split="train", generator=generator):
        shuffled = generator.sample(records, len(records))
        for record in shuffled:
            if record["docstring"] and record["language"] in missing:
                found[record["language"]] = record
                missing.remove(record["language"])
        if not missing:
            break
    return dict(sorted(found.items()))


def _files(
    corpus_dir: str | os.PathLike[str], dataset: str, *, split: str, generator: random.Random
) -> Iterator[list[Fields]]:
    """Yields the records of one file after the other, files in random order."""
    paths = record_paths(corpus_dir, dataset, split=split)
    for path in generator.sample(paths, len(paths)):
        yield list(map(decode_example, read_records(path)))


def _fits(record: Fields, *, language: str | None, documented: bool) -> bool:
    return language in (None, record["language"]) and (not documented or bool(record["docstring"]))


def _check_names(
    corpus_dir: str | os.PathLike[str],
    dataset: str,
    *,
    split: str,
    language: str | None,
    documented: bool,
) -> None:
    languages = read_manifest(corpus_dir)["languages"]
    _check_known(dataset, FEATURES, what="dataset")
    _check_known(split, SPLITS, what="split")
    if language is not None:
        _check_known(language, languages, what="language", where=f" in {corpus_dir}")
    if documented and "docstring" not in FEATURES[dataset]:
        raise NoSuchRecordsError(
            f"Records of {dataset} have no documentation; those of code_functions have."
        )


def _check_known(name: str, known: Collection[str], *, what: str, where: str = "") -> None:
    if name in known:
        return
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    raise NoSuchRecordsError(
        f"There is no {what} {name!r}{where}. {hint}Known: {', '.join(known) or 'none'}."
    )


def _none_text(manifest: Mapping[str, Any], kind: str, split: str, language: str | None) -> str:
    languages = manifest["languages"]
    tables = [languages[language]] if language else list(languages.values())
    counts = {name: sum(table[name][kind] for table in tables) for name in SPLITS}
    listed = ", ".join(f"{count:,} in {name}" for name, count in counts.items())
    what = kind.removeprefix("code_") + (f" in {language}" if language else "")
    return f"The split {split!r} holds no {what}; there are {listed}."
