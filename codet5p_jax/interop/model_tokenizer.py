"""Whether a tokenizer is that of a model: as many ids as rows, and the same ids with a meaning."""

from collections.abc import Sequence

from codet5p_jax.interop.formats import Config
from codet5p_jax.models.config import T5Config
from codet5p_jax.tokenizer import Tokenizer

IDS = ("pad_id", "start_id", "eos_id", "clm_id")


def models_tokenizer(tokenizer: Tokenizer, config: Config) -> Tokenizer:
    """Returns `tokenizer` as the model uses it: with task tokens if a T5 has rows for them.

    Raises:
        ValueError: They do not fit together: a T5's vocabulary has other rows than there are ids;
            another model has fewer, or has other ids for padding, start, end or `[CLM]`.
    """
    if isinstance(config, T5Config):
        return fitting_tokenizer(tokenizer, config.vocab_size)
    if tokenizer.vocab_size > config.vocab_size:
        raise ValueError(
            f"The tokenizer has {tokenizer.vocab_size:,} ids, sentinels and task tokens counted, "
            f"but the model's vocabulary has {config.vocab_size:,} rows. Use the tokenizer that "
            "the model was trained with."
        )
    differing = differing_ids(config, tokenizer)
    if differing:
        raise ValueError(
            f"The model is made for another tokenizer: it has {', '.join(differing.values())} as "
            "the tokenizer has. Use the tokenizer that the model was trained with."
        )
    return tokenizer


def differing_ids(
    config: Config, tokenizer: Tokenizer, *, names: Sequence[str] = IDS
) -> dict[str, str]:
    """Returns the ids in which a model and a tokenizer differ: name -> "pad_id 0, not 1042"."""
    pairs = {name: (getattr(config, name), getattr(tokenizer, name)) for name in names}
    return {name: f"{name} {a}, not {b}" for name, (a, b) in pairs.items() if a != b}


def fitting_tokenizer(tokenizer: Tokenizer, vocab_size: int) -> Tokenizer:
    """Returns `tokenizer`, with task tokens if the vocabulary has the rows for them.

    Raises:
        ValueError: Neither has `vocab_size` ids.
    """
    for candidate in (tokenizer, tokenizer.with_task_tokens()):
        if candidate.vocab_size == vocab_size:
            return candidate
    raise ValueError(
        f"The tokenizer has {tokenizer.vocab_size:,} ids "
        f"({tokenizer.with_task_tokens().vocab_size:,} with task tokens) but the model's "
        f"vocabulary has {vocab_size:,} rows. Use the tokenizer that the model was trained with."
    )
