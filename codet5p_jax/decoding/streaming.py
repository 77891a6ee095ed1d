"""Generates one sequence a token at a time, each given to the caller as soon as it is there."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from codet5p_jax.decoding.sampling import Sample, greedy
from codet5p_jax.models.codet5p import CodeT5p, DecodeCache
from codet5p_jax.models.padding import padded, rounded_up
from codet5p_jax.typing import PyTree

LENGTH_MULTIPLE = 64  # prompts are padded to it, so that few shapes are compiled


def stream(
    model: CodeT5p,
    params: PyTree,
    encoder_input_tokens: Sequence[int],
    *,
    prompt: Sequence[int] = (),
    max_new_tokens: int = 256,
    sample: Sample = greedy,
    rng: jax.Array | None = None,
) -> Iterator[int]:
    """Yields the tokens that follow `prompt`, until `</s>`, which is not among them.

    They are those of `generate` with `greedy`; a `Sampler` draws others, since each token has a
    branch of `rng` of its own here as there, but rows there are drawn together.

    Args:
        model: The model.
        params: Its parameters.
        encoder_input_tokens: What the encoder reads, without padding.
        prompt: First tokens of the result, without the decoder start.
        max_new_tokens: Tokens to yield at most.
        sample: Chooses the next token from the logits.
        rng: Randomness for sampling; not needed for `greedy`.
    """
    config = model.config
    rng = jax.random.key(0) if rng is None else rng
    read = [config.start_id, *prompt]
    row = partial(padded, pad_id=config.pad_id, multiple=LENGTH_MULTIPLE)
    inputs, prompted = jnp.asarray(row([encoder_input_tokens])), row([read])
    capacity = prompted.shape[1] + rounded_up(max_new_tokens, LENGTH_MULTIPLE)
    encoded, logits, cache = _begin(model, params, inputs, prompted, len(read), capacity)
    for index in range(max_new_tokens):
        token = sample(logits, jax.random.fold_in(rng, index))
        found = int(token[0])
        if found == config.eos_id:
            return
        yield found
        logits, cache = _go_on(model, params, encoded, inputs, token[:, None], cache)


@partial(jax.jit, static_argnums=(0, 5))
def _begin(
    model: CodeT5p,
    params: PyTree,
    inputs: Int[Array, "1 inputs"],
    read: Int[Array, "1 targets"],
    length: Int[Array, ""] | int,
    capacity: int,
) -> tuple[Array, Array, DecodeCache]:
    """Returns the encoder's output, the logits behind `length` tokens of `read`, and the cache."""
    apply: Any = partial(model.apply, {"params": params})
    encoded = apply(inputs, method=model.encode)
    cache = apply(1, capacity, encoded, method=model.init_cache)
    hidden, cache = apply(encoded, inputs, read, cache, method=model.decode_step)
    last = jax.lax.dynamic_slice_in_dim(hidden, length - 1, 1, axis=1)
    # What stands behind the last token is padding: the next tokens are written over it.
    cache = cache.replace(position=jnp.int32(length))
    return encoded, apply(last, method=model.logits)[:, 0], cache


@partial(jax.jit, static_argnums=0, donate_argnums=5)
def _go_on(
    model: CodeT5p,
    params: PyTree,
    encoded: Array,
    inputs: Int[Array, "1 inputs"],
    token: Int[Array, "1 1"],
    cache: DecodeCache,
) -> tuple[Array, DecodeCache]:
    """Returns the logits behind one more token, and the cache."""
    apply: Any = partial(model.apply, {"params": params})
    hidden, cache = apply(encoded, inputs, token, cache, method=model.decode_step)
    return apply(hidden, method=model.logits)[:, 0], cache
