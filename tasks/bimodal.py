"""Stage 2: pairs of documentation and code."""

import functools
from collections.abc import Sequence

import seqio
import tensorflow as tf

from codet5p_jax.data.bimodal import EnclosePairs
from codet5p_jax.data.blocks import BlockMap
from codet5p_jax.data.sources import CorpusSource
from codet5p_jax.data.tokenization import tokenize_pairs
from codet5p_jax.data.vocabulary import CodeVocabulary
from codet5p_jax.tokenizer import Tokenizer
from tasks.languages import add_mixture

MIXTURES = ("bimodal_pairs",)


def register(
    corpus_dir: str, *, tokenizer: Tokenizer, languages: Sequence[str], temperature: float
) -> None:
    """Registers a task of pairs per language, and their mixture."""
    feature = seqio.Feature(CodeVocabulary(tokenizer), add_eos=False, dtype=tf.int32)
    pair_id = seqio.Feature(
        seqio.PassThroughVocabulary(2**31), add_eos=False, dtype=tf.int32, rank=0
    )
    tokenize = BlockMap(functools.partial(tokenize_pairs, tokenizer=tokenizer))
    enclose = BlockMap(EnclosePairs(tokenizer=tokenizer))
    for language in languages:
        seqio.TaskRegistry.add(
            f"bimodal_pairs_{language}",
            source=CorpusSource("code_functions", corpus_dir=corpus_dir, language=language),
            preprocessors=[tokenize, seqio.CacheDatasetPlaceholder(), enclose],
            output_features={"text": feature, "code": feature, "pair_id": pair_id},
        )
    add_mixture(
        {"bimodal_pairs": 1.0}, name="bimodal_pairs", languages=languages, temperature=temperature
    )
