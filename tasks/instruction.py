"""Instruction tuning: a task for each file of instructions, and their mixture."""

import functools
import pathlib
import re
from collections.abc import Mapping

import seqio
import tensorflow as tf

from codet5p_jax.data.blocks import BlockMap
from codet5p_jax.data.instruction import (
    FollowInstructions,
    InstructionSource,
    fingerprint,
    tokenize_instructions,
)
from codet5p_jax.data.mixtures import temperature_rate
from codet5p_jax.data.sequences import LOSS_WEIGHTS
from codet5p_jax.data.vocabulary import CodeVocabulary
from codet5p_jax.tokenizer import Tokenizer

MIXTURE = "instruction"


def register(files: Mapping[str, str], *, tokenizer: Tokenizer, temperature: float) -> None:
    """Registers a task instruction_NAME for each file, and the mixture `instruction` of them.

    A second time, it only checks.

    Args:
        files: Name of a task -> file in Alpaca's format.
        tokenizer: Its ids are used.
        temperature: Files are drawn in proportion to size ** (1 / temperature).

    Raises:
        FileNotFoundError: If a file is not there.
        ValueError: If a file is not in Alpaca's format, or others are registered already, or with
            another tokenizer.
    """
    if MIXTURE in seqio.MixtureRegistry.names():
        _check_registered({"files": _identities(files), "tokenizer": tokenizer.fingerprint})
        return
    feature = seqio.Feature(CodeVocabulary(tokenizer), add_eos=False, dtype=tf.int32)
    weights = seqio.Feature(seqio.PassThroughVocabulary(2), add_eos=False, dtype=tf.int32)
    tokenize = BlockMap(functools.partial(tokenize_instructions, tokenizer=tokenizer))
    follow = BlockMap(FollowInstructions(tokenizer))
    sources = {name: InstructionSource(path) for name, path in files.items()}
    for name, source in sources.items():
        seqio.TaskRegistry.add(
            f"{MIXTURE}_{name}",
            source=source,
            preprocessors=[tokenize, seqio.CacheDatasetPlaceholder(), follow],
            output_features={"inputs": feature, "targets": feature, LOSS_WEIGHTS: weights},
        )
    rate = functools.partial(temperature_rate, temperature=temperature)
    seqio.MixtureRegistry.add(MIXTURE, [(f"{MIXTURE}_{name}", rate) for name in files])


def check_files(files: object) -> None:
    """Raises unless `files` is a dict of a task's name -> a file that is there.

    Raises:
        FileNotFoundError: If a file is not there.
        ValueError: If it is anything else, as gin may hand over.
    """
    if not isinstance(files, Mapping) or not all(
        isinstance(text, str) for pair in files.items() for text in pair
    ):
        path = files if isinstance(files, str) else "FILE.json"
        name = re.sub(r"\W", "_", pathlib.Path(path).stem) if isinstance(files, str) else "NAME"
        raise ValueError(
            f"INSTRUCTION_FILES is a dict NAME -> path, got {files!r}. Write "
            f'--gin.INSTRUCTION_FILES="{ {name: path} }".'
        )
    for name, path in files.items():
        if not pathlib.Path(path).is_file():
            raise FileNotFoundError(
                f"INSTRUCTION_FILES[{name!r}] (on a command line --instructions={name}=...) is "
                f"{path!r}, which is no file. Give one in Alpaca's format; `codet5p data "
                "instructions` makes one."
            )


def fingerprints(files: Mapping[str, str]) -> dict[str, str]:
    """Returns task -> SHA-256 of its file, in hex digits."""
    return {f"{MIXTURE}_{name}": fingerprint(path) for name, path in files.items()}


def _identities(files: Mapping[str, str]) -> dict[str, str]:
    return {name: _identity(str(path), fingerprint(path)) for name, path in files.items()}


def _identity(path: str, digest: str) -> str:
    return f"{path} (SHA-256 {digest[:16]})"


def _check_registered(wanted: dict[str, object]) -> None:
    mixture = seqio.MixtureRegistry.get(MIXTURE)
    vocabulary = mixture.output_features["inputs"].vocabulary
    assert isinstance(vocabulary, CodeVocabulary)
    registered = {
        "files": {
            task.name.removeprefix(f"{MIXTURE}_"): _identity(
                task.source.path, task.source.fingerprint
            )
            for task in mixture.tasks
        },
        "tokenizer": vocabulary.tokenizer.fingerprint,
    }
    differing = [name for name in wanted if wanted[name] != registered[name]]
    if differing:
        listed = "; ".join(f"{n} {registered[n]}, now {wanted[n]}" for n in differing)
        raise ValueError(
            f"Instructions are registered already in this process with {listed}. Use another "
            "process."
        )
