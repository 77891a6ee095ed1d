"""SeqIO registrations of the tasks and mixtures, one task per language and objective.

Instructions are registered where a file of them is given.
"""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import seqio

from codet5p_jax.data.blocks import BlockMap
from codet5p_jax.data.offline_cache import check_origin
from codet5p_jax.data.span_denoising import SpanDenoising
from codet5p_jax.data.vocabulary import CodeVocabulary
from codet5p_jax.tokenizer import Tokenizer, load_tokenizer
from tasks import bimodal, instruction, unimodal
from tasks.languages import LANGUAGES, SAMPLING_TEMPERATURE

MIXTURES = (*unimodal.MIXTURES, *bimodal.MIXTURES)
OBJECTIVE_RATES = unimodal.OBJECTIVE_RATES


def register(
    corpus_dir: str | pathlib.Path | None,
    tokenizer_dir: str | pathlib.Path,
    *,
    languages: Sequence[str] = LANGUAGES,
    temperature: float = SAMPLING_TEMPERATURE,
    cache_dir: str | pathlib.Path | None = None,
    objective_rates: Mapping[str, int | float] = OBJECTIVE_RATES,
    mask_whole_words: bool = True,
    instruction_files: Mapping[str, str] | None = None,
) -> None:
    """Registers all tasks and mixtures over a corpus. A second time, it only checks.

    Args:
        corpus_dir: Directory of the corpus: code_files and code_functions. None registers
            instructions alone.
        tokenizer_dir: Directory of the tokenizer.
        languages: Languages to read; the corpus may lack some.
        temperature: Languages are drawn in proportion to size ** (1 / temperature).
        cache_dir: Where `codet5p cache` wrote the tasks, for DatasetConfig.use_cached.
        objective_rates: Examples of each objective in the mixture `unimodal`, in proportion.
        mask_whole_words: Whether span denoising masks runs of words, or of tokens.
        instruction_files: Name -> file in Alpaca's format, for the tasks instruction_NAME.

    Raises:
        FileNotFoundError: If the corpus, the tokenizer or a file is not there.
        ValueError: If the tasks are registered with other arguments already, or the cache was
            written with another corpus or tokenizer; or there is neither a corpus nor a file, or
            `instruction_files` is no dict.
    """
    if corpus_dir is None and not instruction_files:
        raise ValueError(
            "There is nothing to register: neither a corpus nor a file of instructions is given. "
            "Give corpus_dir (gin: CORPUS_DIR), or instruction_files (gin: INSTRUCTION_FILES)."
        )
    if instruction_files:
        instruction.check_files(instruction_files)
    tokenizer = load_tokenizer(tokenizer_dir)
    wanted = {
        "corpus_dir": str(corpus_dir),
        "tokenizer": tokenizer.fingerprint,
        "languages": tuple(sorted(languages)),
        "temperature": temperature,
        "objective_rates": {name: float(rate) for name, rate in objective_rates.items()},
        "mask_whole_words": mask_whole_words,
    }
    if cache_dir is not None:
        check_origin(cache_dir, origin(corpus_dir, tokenizer, instruction_files))
        seqio.add_global_cache_dirs([str(cache_dir)])
    if instruction_files:
        instruction.register(instruction_files, tokenizer=tokenizer, temperature=temperature)
    if corpus_dir is None:
        return
    if MIXTURES[0] in seqio.MixtureRegistry.names():
        _check_registered(wanted)
        return
    unimodal.register(
        str(corpus_dir),
        tokenizer=tokenizer,
        languages=languages,
        temperature=temperature,
        objective_rates=objective_rates,
        mask_whole_words=mask_whole_words,
    )
    bimodal.register(
        str(corpus_dir), tokenizer=tokenizer, languages=languages, temperature=temperature
    )


def registered_vocabulary(
    corpus_dir: str | pathlib.Path, tokenizer_dir: str | pathlib.Path, **options: Any
) -> CodeVocabulary:
    """Registers as `register` does, and returns the vocabulary of all tasks.

    T5X takes a vocabulary and a task's name: bound in gin, this gives both.

    Args:
        corpus_dir: Directory of the corpus.
        tokenizer_dir: Directory of the tokenizer.
        **options: See `register`.
    """
    register(corpus_dir, tokenizer_dir, **options)
    return CodeVocabulary(load_tokenizer(tokenizer_dir))


def origin(
    corpus_dir: str | pathlib.Path | None,
    tokenizer: Tokenizer,
    instruction_files: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Returns the fingerprints that a cache of the tasks depends on."""
    corpus = {} if corpus_dir is None else {"corpus": _corpus_fingerprint(corpus_dir)}
    instructions = instruction.fingerprints(instruction_files or {})
    return {**corpus, "tokenizer": tokenizer.fingerprint, **instructions}


def _corpus_fingerprint(corpus_dir: str | pathlib.Path) -> str:
    manifest = pathlib.Path(corpus_dir) / "manifest.json"
    return json.loads(manifest.read_text())["fingerprint"] if manifest.exists() else "unknown"


def _check_registered(wanted: dict[str, object]) -> None:
    mixture = seqio.MixtureRegistry.get(MIXTURES[0])
    sources = [task.source for task in mixture.tasks]
    vocabulary = mixture.output_features["inputs"].vocabulary
    assert isinstance(vocabulary, CodeVocabulary)
    [rate, *_] = mixture.rate_per_task_name.values()
    registered = {
        "corpus_dir": sources[0].corpus_dir,
        "tokenizer": vocabulary.tokenizer.fingerprint,
        "languages": tuple(sorted(source.language for source in sources)),
        "temperature": rate.keywords["temperature"],
        "objective_rates": _registered_rates(),
        "mask_whole_words": _registered_masking(mixture.tasks[0]),
    }
    differing = [name for name in wanted if wanted[name] != registered[name]]
    if differing:
        listed = "; ".join(f"{n} {registered[n]!r}, now {wanted[n]!r}" for n in differing)
        raise ValueError(
            f"The tasks are registered already in this process with {listed}. "
            "One process reads one corpus with one tokenizer: use another process."
        )


def _registered_rates() -> dict[str, float]:
    rates = seqio.MixtureRegistry.get(unimodal.MIXTURE_OF_ALL).rate_per_task_name
    return {
        objective: rate.keywords["share"]
        for task, rate in rates.items()
        for objective in unimodal.OBJECTIVES
        if task.startswith(f"{objective}_")
    }


def _registered_masking(task: seqio.Task) -> bool:
    *_, denoising = task.preprocessors
    assert isinstance(denoising, BlockMap) and isinstance(denoising.function, SpanDenoising)
    return denoising.function.whole_words
