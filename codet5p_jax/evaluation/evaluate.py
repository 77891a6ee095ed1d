"""The evaluation of a two-stage model on held-out packages: losses, retrieval, matching, samples.

Nothing is picked by hand. Pairs come in the order of a hash, streams in that of a shuffle with a
fixed seed; of both the first ones are taken, and their numbers are written beside the results.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from codet5p_jax.evaluation.heldout import HeldOutPairs
from codet5p_jax.evaluation.losses import HostBatch, TrainedModel, stream_losses
from codet5p_jax.evaluation.retrieval_quality import (
    Embedded,
    TokenizedPairs,
    bm25_row,
    embed_pairs,
    embedding_row,
    matching_rows,
    random_row,
    reranked_row,
)
from codet5p_jax.evaluation.samples import (
    SampleLengths,
    completion_samples,
    docstring_samples,
    first_long_enough,
)
from codet5p_jax.evaluation.translation import translation_rows
from codet5p_jax.progress import Progress, progress
from codet5p_jax.retrieval.embed import token_rows
from codet5p_jax.tokenizer import Tokenizer

BEFORE_NOTE = "The projection was not trained in stage 1."
Rows = list[dict[str, Any]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
    """How much is evaluated. More is more exact and slower.

    Attributes:
        text_length: Longest text, in tokens, `<s>` and `</s>` counted, as in training.
        code_length: Longest code, likewise.
        rerank_queries: Texts whose candidates the matching head re-orders.
        rerank_candidates: Nearest codes that it re-orders per text.
        matching_texts: Texts for the accuracy of matching.
        samples: Generated docstrings, and as many completions.
        sample_least_tokens: Shorter functions are passed over in samples: nothing to describe.
        seed: Seed of random negatives and of the bootstrap.
    """

    text_length: int
    code_length: int
    rerank_queries: int = 100
    rerank_candidates: int = 32
    matching_texts: int = 500
    samples: int = 3
    sample_least_tokens: int = 48
    seed: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeldOutStream:
    """Held-out batches of one objective and its baseline.

    Attributes:
        objective: Name of the mixture, such as "unimodal_span_denoising".
        batches: Held-out batches, see `losses.stream_losses`.
        unigram: Log probability of every id, estimated on training targets.
    """

    objective: str
    batches: Sequence[HostBatch]
    unigram: np.ndarray


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeldOutData:
    """What models are evaluated on."""

    streams: Sequence[HeldOutStream]
    pairs: HeldOutPairs


def evaluate(
    after: TrainedModel,
    tokenizer: Tokenizer,
    *,
    before: TrainedModel | None,
    data: HeldOutData,
    config: Evaluation,
) -> dict[str, Any]:
    """Returns "setting", "losses", "translation", "retrieval", "matching", "samples": JSON values.

    Args:
        after: The model after stage 2.
        tokenizer: Its tokenizer.
        before: The model before stage 2, None to leave it out.
        data: Streams and pairs that no training step saw.
        config: How much is evaluated.
    """
    models = {"after": after} if before is None else {"before": before, "after": after}
    pairs = _tokenize(data.pairs, tokenizer, config)
    with progress("evaluating", len(data.streams) + len(models) + 4, unit="parts") as shown:
        losses = _losses(data.streams, models, shown)
        translation = _translation(after, pairs, tokenizer)
        shown.advance(1, note="translated")
        embedded = _embeddings(models, pairs, shown)
        retrieval = _baselines(data.pairs) + _by_embedding(embedded, pairs)
        retrieval += _reranked(after, embedded["after"], pairs, tokenizer, config)
        shown.advance(1, note="re-ranked")
        matching = _matching(after, embedded["after"], pairs, tokenizer, config)
        shown.advance(1, note="matched")
        samples = _samples(models, tokenizer, data.pairs, config)
        shown.advance(1, note="samples written")
    return {
        "setting": _setting(data, config),
        "losses": losses,
        "translation": translation,
        "retrieval": retrieval,
        "matching": matching,
        "samples": samples,
    }


def _tokenize(pairs: HeldOutPairs, tokenizer: Tokenizer, config: Evaluation) -> TokenizedPairs:
    texts, codes = ([getattr(pair, side) for pair in pairs.pairs] for side in ("text", "code"))
    return TokenizedPairs(
        text_tokens=token_rows(texts, tokenizer, length=config.text_length),
        code_tokens=token_rows(codes, tokenizer, length=config.code_length),
        languages=[pair.language for pair in pairs.pairs],
    )


def _losses(
    streams: Sequence[HeldOutStream], models: Mapping[str, TrainedModel], shown: Progress
) -> Rows:
    rows = []
    for stream in streams:
        rows.append(
            stream_losses(stream.objective, stream.batches, models=models, unigram=stream.unigram)
        )
        shown.advance(1, note=f"{stream.objective} {rows[-1]['after']:.3f}")
    return rows


def _translation(trained: TrainedModel, pairs: TokenizedPairs, tokenizer: Tokenizer) -> Rows:
    """None for a model without task tokens: it was never asked to translate."""
    if trained.model.config.vocab_size <= tokenizer.cdec_id:
        return []
    return translation_rows(trained, pairs, text_id=tokenizer.tdec_id, code_id=tokenizer.cdec_id)


def _embeddings(
    models: Mapping[str, TrainedModel], pairs: TokenizedPairs, shown: Progress
) -> dict[str, Embedded]:
    embedded = {}
    for name, trained in models.items():
        embedded[name] = embed_pairs(trained, pairs)
        shown.advance(1, note=f"embedded {name} stage 2")
    return embedded


def _baselines(held_out: HeldOutPairs) -> Rows:
    texts, codes, languages = (
        [getattr(pair, name) for pair in held_out.pairs] for name in ("text", "code", "language")
    )
    return [random_row(languages), bm25_row(texts, codes, languages)]


def _by_embedding(embedded: Mapping[str, Embedded], pairs: TokenizedPairs) -> Rows:
    notes = {"before": BEFORE_NOTE, "after": None}
    return [
        embedding_row(name, vectors, pairs.languages, note=notes[name])
        for name, vectors in embedded.items()
    ]


def _reranked(
    trained: TrainedModel,
    embedded: Embedded,
    pairs: TokenizedPairs,
    tokenizer: Tokenizer,
    config: Evaluation,
) -> Rows:
    """The re-ranked row, and above it the cosine's for the same texts; none without a head."""
    if not trained.model.config.matching_head:
        return []
    queries = min(config.rerank_queries, len(pairs))
    note = "The same texts as re-ranked below."
    compared = [embedding_row("after", embedded, pairs.languages[:queries], note=note)]
    row = reranked_row(
        trained,
        embedded,
        pairs,
        queries=queries,
        candidates=config.rerank_candidates,
        match_id=tokenizer.match_id,
    )
    return [*(compared if queries < len(pairs) else []), row]


def _matching(
    trained: TrainedModel,
    embedded: Embedded,
    pairs: TokenizedPairs,
    tokenizer: Tokenizer,
    config: Evaluation,
) -> Rows:
    if not trained.model.config.matching_head or len(pairs) < 2:
        return []
    return matching_rows(
        trained,
        embedded,
        pairs,
        texts=config.matching_texts,
        match_id=tokenizer.match_id,
        seed=config.seed,
    )


def _samples(
    models: Mapping[str, TrainedModel],
    tokenizer: Tokenizer,
    held_out: HeldOutPairs,
    config: Evaluation,
) -> Rows:
    """Docstrings of the first functions that are long enough, completions of the next ones.

    Completions are also those of the model before stage 2, which trains no completion.
    """
    after = models["after"]
    chosen = first_long_enough(
        held_out.pairs, tokenizer, least=config.sample_least_tokens, count=2 * config.samples
    )
    lengths = SampleLengths(code=config.code_length)
    described, completed = chosen[: config.samples], chosen[config.samples :]
    rows = completion_samples(after, tokenizer, completed, lengths=lengths)
    if "before" in models:
        earlier = completion_samples(models["before"], tokenizer, completed, lengths=lengths)
        pairs = zip(rows, earlier, strict=True)
        rows = [{**row, "output_before": before["output"]} for row, before in pairs]
    if after.model.config.vocab_size > tokenizer.tdec_id:  # else it was never asked to describe
        rows = docstring_samples(after, tokenizer, described, lengths=lengths) + rows
    return rows


def _setting(data: HeldOutData, config: Evaluation) -> dict[str, Any]:
    return {
        "split": "test",
        "order": "SHA-256 of seed and id; the first ones are taken",
        "pairs": len(data.pairs.pairs),
        "pairs_available": data.pairs.available,
        "duplicates_left_out": data.pairs.duplicates,
        "pairs_that_share_their_text": data.pairs.repeated_texts,
        **dataclasses.asdict(config),
    }
