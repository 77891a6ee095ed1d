"""Stage 2: pairs of documentation and code, and writing one from the other."""

import functools
from collections.abc import Sequence

import seqio
import tensorflow as tf

from codet5p_jax.data.bimodal import EnclosePairs, code_to_text, text_to_code
from codet5p_jax.data.blocks import BlockMap
from codet5p_jax.data.sources import CorpusSource
from codet5p_jax.data.tokenization import tokenize_pairs
from codet5p_jax.data.vocabulary import CodeVocabulary
from codet5p_jax.tokenizer import Tokenizer
from tasks.languages import add_mixture

TRANSLATIONS = {"text_to_code": text_to_code, "code_to_text": code_to_text}
MIXTURES = ("bimodal_pairs", *TRANSLATIONS)


def register(
    corpus_dir: str, *, tokenizer: Tokenizer, languages: Sequence[str], temperature: float
) -> None:
    """Registers tasks of pairs, text-to-code and code-to-text per language, and their mixtures."""
    feature = seqio.Feature(CodeVocabulary(tokenizer), add_eos=False, dtype=tf.int32)
    pair_id = seqio.Feature(
        seqio.PassThroughVocabulary(2**31), add_eos=False, dtype=tf.int32, rank=0
    )
    written = seqio.Feature(
        CodeVocabulary(tokenizer.with_task_tokens()), add_eos=False, dtype=tf.int32
    )
    tokenize = BlockMap(functools.partial(tokenize_pairs, tokenizer=tokenizer))
    steps = {
        "bimodal_pairs": BlockMap(EnclosePairs(tokenizer=tokenizer)),
        **{name: BlockMap(make(tokenizer)) for name, make in TRANSLATIONS.items()},
    }
    features = {
        "bimodal_pairs": {"text": feature, "code": feature, "pair_id": pair_id},
        **{name: {"inputs": written, "targets": written} for name in TRANSLATIONS},
    }
    for language in languages:
        # All three share source and tokenization, and so one copy in the cache.
        source = CorpusSource("code_functions", corpus_dir=corpus_dir, language=language)
        for name, step in steps.items():
            seqio.TaskRegistry.add(
                f"{name}_{language}",
                source=source,
                preprocessors=[tokenize, seqio.CacheDatasetPlaceholder(), step],
                output_features=features[name],
            )
    for name in steps:
        add_mixture({name: 1.0}, name=name, languages=languages, temperature=temperature)
