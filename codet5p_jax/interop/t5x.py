"""Our model as T5X sees models, so that T5X's own scripts train and evaluate it.

T5X (github.com/google-research/t5x) has no release; docs/t5x.md says how to install it. Nothing
here imports it until a model is made. Parameters have the names they have everywhere, logical axes
those of T5X's rules.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import core, serialization, traverse_util
from flax import linen as nn
from flax.linen import partitioning as flax_partitioning
from jaxtyping import Array, Float

from codet5p_jax.models.attention import KeysAndValues
from codet5p_jax.models.codet5p import CodeT5p, DecodeCache, Inputs, fresh_params
from codet5p_jax.models.t5 import LayerCache
from codet5p_jax.typing import Batch, PyTree

MEAN_PER_TOKEN = "NUM_REAL_TARGET_TOKENS"  # T5X's name for what our objectives minimise


def encoder_decoder_model(
    *,
    module: CodeT5p,
    input_vocabulary: Any,
    output_vocabulary: Any,
    optimizer_def: Any,
    decode_fn: Callable[..., Any] | None = None,
    z_loss: float = 0.0,
    loss_normalizing_factor: float | str | None = MEAN_PER_TOKEN,
) -> Any:
    """Returns a `t5x.models.EncoderDecoderModel` whose network is ours.

    Label smoothing is left out: T5X spreads it over the rows that pad our vocabulary, too.

    Args:
        module: The network.
        input_vocabulary: `seqio.Vocabulary` of the task's inputs.
        output_vocabulary: That of its targets.
        optimizer_def: A T5X optimizer, such as `t5x.optimizers.OptaxWrapper` of one of ours.
        decode_fn: How T5X decodes in inference; None means its beam search.
        z_loss: Weight of the squared log-normalizer.
        loss_normalizing_factor: What the sum of the loss is divided by; our objectives divide it by
            the number of target tokens, T5X's own models by nothing.

    Raises:
        ImportError: T5X, or a package it needs, is not installed.
        ValueError: The module is an encoder alone.
    """
    if not module.config.num_decoder_layers:
        raise ValueError(
            "T5X's EncoderDecoderModel needs a decoder, and T5Config.num_decoder_layers is 0; "
            "include a model file with one, such as models/codet5p_220m.gin."
        )
    options = {} if decode_fn is None else {"decode_fn": decode_fn}
    return _model_class()(
        module=module,
        input_vocabulary=input_vocabulary,
        output_vocabulary=output_vocabulary,
        optimizer_def=optimizer_def,
        z_loss=z_loss,
        loss_normalizing_factor=loss_normalizing_factor,
        **options,
    )


def variables_with_axes(module: CodeT5p, rng: jax.Array) -> core.FrozenDict:
    """Returns fresh parameters and, beside them, their logical axes as T5X keeps them.

    `params/a/kernel` has its axes in `params_axes/a/kernel_axes`.
    """
    boxed = fresh_params(module, rng)
    boxes = traverse_util.flatten_dict(boxed)
    return core.freeze(
        {
            "params": nn.unbox(boxed),
            "params_axes": traverse_util.unflatten_dict(
                {
                    (*path[:-1], f"{path[-1]}_axes"): flax_partitioning.AxisMetadata(box.names)
                    for path, box in boxes.items()
                }
            ),
        }
    )


def cache_as_dict(cache: DecodeCache) -> dict[str, Any]:
    """Returns a cache as T5X's decoders take it: they expand all of it but `cache_index`."""
    return {"layers": serialization.to_state_dict(cache.layers), "cache_index": cache.position}


def cache_from_dict(cache: Mapping[str, Any]) -> DecodeCache:
    """Returns the cache that `cache_as_dict` was made from, which T5X has expanded since."""
    layers = core.unfreeze(cache["layers"])
    return DecodeCache(
        position=cache["cache_index"],
        layers=LayerCache(
            past=KeysAndValues(**layers["past"]), encoded=KeysAndValues(**layers["encoded"])
        ),
    )


@functools.cache
def _model_class() -> type:
    """Returns the model's class; T5X must be there to derive it."""
    decoding, models = _import_t5x()

    class CodeT5pForT5X(models.EncoderDecoderModel):
        """Calls our network where T5X's model would call its own."""

        def get_initial_variables(
            self,
            rng: jax.Array,
            input_shapes: Mapping[str, Any],
            input_types: Mapping[str, Any] | None = None,
        ) -> core.FrozenDict:
            """Returns parameters and axes; they do not depend on the shapes of batches."""
            return variables_with_axes(self.module, rng)

        def _compute_logits(
            self,
            params: PyTree,
            batch: Batch,
            dropout_rng: jax.Array | None = None,
            mutable: Any = False,
            other_variables: PyTree | None = None,
        ) -> Any:
            return self.module.apply(
                {"params": params, **(other_variables or {})},
                batch["encoder_input_tokens"],
                batch["decoder_input_tokens"],
                batch.get("encoder_segment_ids"),
                batch.get("decoder_segment_ids"),
                train=dropout_rng is not None,
                rngs={} if dropout_rng is None else {"dropout": dropout_rng},
                mutable=mutable,
            )

        def predict_batch_with_aux(
            self,
            params: PyTree,
            batch: Batch,
            rng: jax.Array | None = None,
            decoder_params: Mapping[str, Any] | None = None,
            return_all_decodes: bool | None = None,
            num_decodes: int | None = None,
            prompt_with_targets: bool = False,
        ) -> tuple[jax.Array, Mapping[str, jax.Array]]:
            """Returns decoded ids and {"scores": ...}, best last, as T5X's model does."""
            defaults = self._default_decoder_params
            num_decodes = defaults.num_decodes if num_decodes is None else num_decodes
            if return_all_decodes is None:
                return_all_decodes = defaults.return_all_decodes
            options = {"eos_id": self.output_vocabulary.eos_id, **(decoder_params or {})}
            if rng is not None:
                options["decode_rng"] = rng
            length = batch["decoder_input_tokens"].shape[1]
            encoded, cache = _encode(self.module, params, batch["encoder_input_tokens"], length)
            expanded = functools.partial(decoding.flat_batch_beam_expand, beam_size=num_decodes)
            decodes, scores = self.decode_fn(
                inputs=self._prompts(batch, prompted=prompt_with_targets),
                cache=cache_as_dict(cache),
                tokens_to_logits=functools.partial(
                    _next_logits,
                    module=self.module,
                    params=params,
                    encoded=expanded(encoded),
                    encoder_tokens=expanded(batch["encoder_input_tokens"]),
                ),
                num_decodes=num_decodes,
                cache_offset=1,  # the layers are stacked in front of the batch
                **options,
            )
            if return_all_decodes:
                return decodes, {"scores": scores}
            return decodes[:, -1], {"scores": scores[:, -1]}

        def _prompts(self, batch: Batch, *, prompted: bool) -> jax.Array:
            tokens = batch["decoder_input_tokens"]
            if not prompted:
                return jnp.zeros_like(tokens)
            return jnp.where(tokens == self.output_vocabulary.eos_id, 0, tokens)

    return CodeT5pForT5X


def _import_t5x() -> tuple[Any, Any]:
    try:
        from t5x import decoding, models
    except ImportError as error:
        raise ImportError(
            f"T5X cannot be imported ({error}). It has no release: install it from git as "
            "docs/t5x.md says, or train with `codet5p train`, which does not need it."
        ) from error
    return decoding, models


def _encode(
    module: CodeT5p, params: PyTree, tokens: Inputs, max_length: int
) -> tuple[Float[Array, "batch inputs embed"], DecodeCache]:
    """Returns the encoder's output, and an empty cache that holds its keys and values."""
    variables = {"params": params}
    encoded: Any = module.apply(variables, tokens, method="encode")
    cache: Any = module.apply(variables, tokens.shape[0], max_length, encoded, method="init_cache")
    return encoded, cache


def _next_logits(
    state: Any, *, module: CodeT5p, params: PyTree, encoded: Any, encoder_tokens: Any
) -> tuple[Float[Array, "rows vocab"], dict[str, Any]]:
    """Returns logits of each row's next token and the next cache; `state` is T5X's."""
    variables = {"params": params}
    stepped: Any = module.apply(
        variables,
        encoded,
        encoder_tokens,
        state.cur_token,
        cache_from_dict(state.cache),
        method="decode_step",
    )
    hidden, cache = stepped
    logits: Any = module.apply(variables, hidden, method="logits")
    return logits[:, 0], cache_as_dict(cache)
