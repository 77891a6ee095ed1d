"""Whether a model fits the tokenizer: rows for all ids, and the same ids with a meaning."""

from collections.abc import Sequence
from typing import Any

from codet5p_jax.interop.model_tokenizer import IDS, differing_ids
from codet5p_jax.models.config import T5Config
from codet5p_jax.tokenizer import Tokenizer


def check_fits(config: Any, tokenizer: Tokenizer, *, asking_streams: Sequence[str]) -> None:
    """Compares the config of a model with the tokenizer that its data is made with.

    Args:
        config: Of the model. A T5 has as many rows as there are ids; one of parts that came from
            elsewhere may have more.
        tokenizer: The tokenizer.
        asking_streams: Streams that ask with the task tokens [ENC], [TDEC] and [CDEC].

    Raises:
        ValueError: They do not fit; the message says what differs.
    """
    if isinstance(config, T5Config):
        _check_rows_of_t5(config.vocab_size, tokenizer, asking_streams)
    else:
        _check_rows(config.vocab_size, tokenizer)
    names = (*IDS, *(["match_id"] if asking_streams else []))
    differing = differing_ids(config, tokenizer, names=names)
    if differing:
        raise ValueError(
            f"The model is made for another tokenizer: it has {', '.join(differing.values())} as "
            f"TOKENIZER_DIR has. Give the model's own tokenizer, or set its {', '.join(differing)} "
            "to those of this one. A model that `codet5p init` or `import` made is described by "
            "its model.gin: --gin_file=INITIAL_CHECKPOINT_PATH/model.gin behind the recipe."
        )


def _check_rows_of_t5(rows: int, tokenizer: Tokenizer, asking_streams: Sequence[str]) -> None:
    sizes = (tokenizer.vocab_size, tokenizer.with_task_tokens().vocab_size)
    if asking_streams and rows != sizes[1]:
        raise ValueError(
            f"T5Config.vocab_size is {rows}, but stream {asking_streams[0]!r} asks with the "
            f"task tokens [ENC], [TDEC] and [CDEC]; set it to {sizes[1]}, which counts them: "
            f"--gin.TWO_STAGE_VOCAB_SIZE={sizes[1]}."
        )
    if rows not in sizes:
        raise ValueError(
            f"T5Config.vocab_size is {rows}, but the tokenizer has {sizes[0]} ids, "
            f"{sizes[1]} with the task tokens of stage 2; set it to one of these: "
            f"--gin.VOCAB_SIZE={sizes[0]}, or --gin.TWO_STAGE_VOCAB_SIZE={sizes[1]} in stage 2."
        )


def _check_rows(rows: int, tokenizer: Tokenizer) -> None:
    if rows < tokenizer.vocab_size:
        raise ValueError(
            f"The model has {rows:,} rows for ids, but the tokenizer has {tokenizer.vocab_size:,} "
            "of them, sentinels and task tokens counted. Set the vocab_size of encoder and decoder "
            "to that or more."
        )
