"""Stage 1: span denoising and the two causal language modeling tasks, on files of code."""

import functools
import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import seqio
import tensorflow as tf

from codet5p_jax.data.blocks import BlockMap
from codet5p_jax.data.causal_lm import PredictAll, SplitAtPivot
from codet5p_jax.data.sources import CorpusSource
from codet5p_jax.data.span_denoising import SpanDenoising
from codet5p_jax.data.tokenization import tokenize_files
from codet5p_jax.data.vocabulary import CodeVocabulary
from codet5p_jax.tokenizer import Tokenizer
from tasks.languages import add_mixture

OBJECTIVES = {
    "unimodal_span_denoising": SpanDenoising,
    "unimodal_seq2seq_clm": SplitAtPivot,
    "unimodal_decoder_clm": PredictAll,
}
MIXTURE_OF_ALL = "unimodal"
MIXTURES = (*OBJECTIVES, MIXTURE_OF_ALL)
# Examples of each objective in the mixture of all: the paper's batches of phase 2 (section 4.2).
OBJECTIVE_RATES: Mapping[str, int | float] = MappingProxyType(
    {"unimodal_span_denoising": 2048, "unimodal_seq2seq_clm": 512, "unimodal_decoder_clm": 512}
)


def register(
    corpus_dir: str,
    *,
    tokenizer: Tokenizer,
    languages: Sequence[str],
    temperature: float,
    objective_rates: Mapping[str, int | float],
    mask_whole_words: bool,
) -> None:
    """Registers a task per objective and language, a mixture per objective, and one of all.

    Raises:
        ValueError: If a rate is negative, missing, or of no objective.
    """
    _check_rates(objective_rates)
    feature = seqio.Feature(CodeVocabulary(tokenizer), add_eos=False, dtype=tf.int32)
    tokenize = BlockMap(functools.partial(tokenize_files, tokenizer=tokenizer))
    options: dict[str, dict[str, bool]] = {
        "unimodal_span_denoising": {"whole_words": mask_whole_words}
    }
    objectives = {
        name: BlockMap(make(tokenizer=tokenizer, **options.get(name, {})))
        for name, make in OBJECTIVES.items()
    }
    for language in languages:
        # The objectives of a language share source and tokenization, and so one copy in the cache.
        source = CorpusSource("code_files", corpus_dir=corpus_dir, language=language)
        for name, objective in objectives.items():
            seqio.TaskRegistry.add(
                f"{name}_{language}",
                source=source,
                preprocessors=[tokenize, seqio.CacheDatasetPlaceholder(), objective],
                output_features={"inputs": feature, "targets": feature},
            )
    for name in objectives:
        add_mixture({name: 1.0}, name=name, languages=languages, temperature=temperature)
    add_mixture(objective_rates, name=MIXTURE_OF_ALL, languages=languages, temperature=temperature)


def _check_rates(rates: Mapping[str, int | float]) -> None:
    valid = all(0 <= rate < math.inf for rate in rates.values()) and any(rates.values())
    if set(rates) != set(OBJECTIVES) or not valid:
        raise ValueError(
            f"OBJECTIVE_RATES is {dict(rates)}; it must give {', '.join(OBJECTIVES)} a number of "
            "0 or more each, and one of them more than 0."
        )
