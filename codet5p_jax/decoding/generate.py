"""Generates token by token with a key-value cache, in one compiled loop.

The decoder starts from the config's `start_id`, which is no part of the result. A prompt is forced:
its tokens are fed and returned as they are, and the model continues behind them, each row behind
its own prompt. A row ends with `</s>`; behind it stands padding.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Int

from codet5p_jax.decoding.sampling import Sample, greedy
from codet5p_jax.models.codet5p import CodeT5p
from codet5p_jax.typing import PyTree


class Generations(struct.PyTreeNode):
    """Generated sequences, prompts included.

    Attributes:
        tokens: Ids up to and with `</s>`, then padding. Rows are those of the inputs, or with
            several samples per prompt, all samples of the first input, then of the second, ...
        lengths: Tokens of each row, `</s>` counted; the maximum where a row did not end.
    """

    tokens: Int[Array, "rows targets"]
    lengths: Int[Array, " rows"]


class _Decoding(struct.PyTreeNode):
    """What one step hands to the next."""

    step: Int[Array, ""]
    last: Int[Array, " rows"]  # token to feed
    ended: Bool[Array, " rows"]
    lengths: Int[Array, " rows"]
    tokens: Int[Array, "rows targets"]
    cache: PyTree


def generate(
    model: CodeT5p,
    params: PyTree,
    encoder_input_tokens: Int[Array | np.ndarray, "batch inputs"],
    *,
    max_length: int,
    sample: Sample = greedy,
    prompt: Int[Array | np.ndarray, "prompts prompt_length"] | None = None,
    samples: int = 1,
    eos_id: int | None = None,
    rng: jax.Array | None = None,
) -> Generations:
    """Returns `samples` continuations of every prompt; compiled once per shape and sampler.

    Args:
        model: The model.
        params: Its parameters.
        encoder_input_tokens: What the encoder reads, padded behind with the config's `pad_id`.
        max_length: Tokens to return at most, prompt included.
        sample: Chooses the next token from the logits: `greedy` or a `Sampler`.
        prompt: First tokens of each result, padded behind; without the decoder start.
        samples: Results per row of the inputs. The encoder runs once for all of them.
        eos_id: Token that ends a sequence; None: the config's.
        rng: Randomness for sampling; not needed for `greedy`.

    Raises:
        ValueError: The prompt is longer than `max_length`, has another number of rows than the
            inputs, or `samples` is below 1.
    """
    inputs = jnp.asarray(encoder_input_tokens, jnp.int32)
    forced = jnp.zeros([inputs.shape[0], 0], jnp.int32) if prompt is None else jnp.asarray(prompt)
    _check(inputs, forced, max_length=max_length, samples=samples)
    forced = jnp.pad(
        forced.astype(jnp.int32),
        ((0, 0), (0, max_length - forced.shape[1])),
        constant_values=model.config.pad_id,
    )
    eos_id = model.config.eos_id if eos_id is None else eos_id
    rng = jax.random.key(0) if rng is None else rng
    return _generate(model, sample, samples, eos_id, params, inputs, forced, rng)


def _check(inputs: jax.Array, prompt: jax.Array, *, max_length: int, samples: int) -> None:
    if prompt.shape[0] != inputs.shape[0]:
        raise ValueError(
            f"The prompt has {prompt.shape[0]} rows, the encoder's input {inputs.shape[0]}; "
            "give one prompt per row, padded behind."
        )
    if prompt.shape[1] > max_length:
        raise ValueError(
            f"The prompt takes {prompt.shape[1]} tokens of max_length={max_length}: "
            "nothing could be generated. Raise max_length or shorten the prompt."
        )
    if samples < 1:
        raise ValueError(f"samples is {samples}, expected 1 or more.")


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _generate(
    model: CodeT5p,
    sample: Sample,
    samples: int,
    eos_id: int,
    params: PyTree,
    inputs: Int[Array, "batch inputs"],
    forced: Int[Array, "batch targets"],
    rng: jax.Array,
) -> Generations:
    apply: Callable[..., Any] = partial(model.apply, {"params": params})
    repeat = partial(jnp.repeat, repeats=samples, axis=0)
    encoded = repeat(apply(inputs, method=model.encode))
    inputs, forced = repeat(inputs), repeat(forced)
    rows, max_length = forced.shape
    start_id, pad_id = model.config.start_id, model.config.pad_id

    def go_on(state: _Decoding) -> Bool[Array, ""]:
        return (state.step < max_length) & ~state.ended.all()

    def decode_next(state: _Decoding) -> _Decoding:
        hidden, cache = apply(
            encoded, inputs, state.last[:, None], state.cache, method=model.decode_step
        )
        logits = apply(hidden, method=model.logits)[:, 0]  # [rows, vocab]
        drawn = sample(logits, jax.random.fold_in(rng, state.step))
        moved = _append(state, drawn, forced=forced, eos_id=eos_id, pad_id=pad_id)
        return moved.replace(cache=cache)

    final = jax.lax.while_loop(
        go_on,
        decode_next,
        _Decoding(
            step=jnp.int32(0),
            last=jnp.full([rows], start_id, jnp.int32),
            ended=jnp.zeros([rows], bool),
            lengths=jnp.zeros([rows], jnp.int32),
            tokens=jnp.full([rows, max_length], pad_id, jnp.int32),
            cache=apply(rows, max_length, encoded, method=model.init_cache),
        ),
    )
    return Generations(tokens=final.tokens, lengths=final.lengths)


def _append(
    state: _Decoding,
    drawn: Int[Array, " rows"],
    *,
    forced: Int[Array, "rows targets"],
    eos_id: int,
    pad_id: int,
) -> _Decoding:
    """Writes this step's tokens: the prompt's where it has one, else the drawn ones."""
    prompted = jax.lax.dynamic_index_in_dim(forced, state.step, axis=1, keepdims=False)
    is_prompt = prompted != pad_id
    token = jnp.where(is_prompt, prompted, drawn)
    token = jnp.where(state.ended, pad_id, token)
    return state.replace(
        step=state.step + 1,
        last=token,
        # `</s>` inside a prompt, such as between two sequences, does not end the row
        ended=state.ended | ((token == eos_id) & ~is_prompt),
        lengths=state.lengths + ~state.ended,
        tokens=jax.lax.dynamic_update_index_in_dim(state.tokens, token, state.step, axis=1),
    )
