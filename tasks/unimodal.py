"""Stage 1: span denoising and the two causal language modeling tasks, on files of code."""

import functools
from collections.abc import Sequence

import seqio
import tensorflow as tf

from codet5p_jax.data.blocks import BlockMap
from codet5p_jax.data.causal_lm import PredictAll, SplitAtPivot
from codet5p_jax.data.sources import CorpusSource
from codet5p_jax.data.span_denoising import SpanDenoising
from codet5p_jax.data.tokenization import tokenize_files
from codet5p_jax.data.vocabulary import CodeVocabulary
from codet5p_jax.tokenizer import CodeTokenizer
from tasks.languages import add_mixture

OBJECTIVES = {
    "unimodal_span_denoising": SpanDenoising,
    "unimodal_seq2seq_clm": SplitAtPivot,
    "unimodal_decoder_clm": PredictAll,
}
MIXTURES = tuple(OBJECTIVES)


def register(
    corpus_dir: str, *, tokenizer: CodeTokenizer, languages: Sequence[str], temperature: float
) -> None:
    """Registers a task per objective and language, and a mixture per objective."""
    feature = seqio.Feature(CodeVocabulary(tokenizer), add_eos=False, dtype=tf.int32)
    tokenize = BlockMap(functools.partial(tokenize_files, tokenizer=tokenizer))
    objectives = {name: BlockMap(make(tokenizer=tokenizer)) for name, make in OBJECTIVES.items()}
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
        add_mixture(name, languages=languages, temperature=temperature)
