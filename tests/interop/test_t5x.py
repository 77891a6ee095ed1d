"""Tests of codet5p_jax.interop.t5x; those that need T5X are skipped where it is absent."""

import dataclasses
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import core
from flax import linen as nn
from flax.linen import partitioning as flax_partitioning
from jax.sharding import PartitionSpec

from codet5p_jax.interop import t5x as bridge
from codet5p_jax.models.codet5p import CodeT5p, fresh_params
from codet5p_jax.objectives.seq2seq import Seq2SeqObjective
from codet5p_jax.training.partitioning import Partitioner


@pytest.fixture
def models():
    """T5X's models; it broadcasts silently, so that it is called under JAX's usual rules."""
    module = pytest.importorskip("t5x.models", reason="T5X has no release; see docs/t5x.md")
    with jax.numpy_rank_promotion("allow"):
        yield module


class _Vocabulary:
    """What T5X's model asks of a vocabulary."""

    eos_id = 2


def _bridged(module, **options):
    return bridge.encoder_decoder_model(
        module=module,
        input_vocabulary=_Vocabulary(),
        output_vocabulary=_Vocabulary(),
        optimizer_def=None,
        **options,
    )


def _packed_batch(vocab_size):
    draw = np.random.default_rng(0)
    segments = np.array([[1, 1, 1, 2, 2, 2, 2, 0], [1, 1, 1, 1, 1, 1, 0, 0]], np.int32)
    targets = draw.integers(4, vocab_size, segments.shape).astype(np.int32) * (segments > 0)
    batch = {
        "encoder_input_tokens": draw.integers(4, vocab_size, segments.shape).astype(np.int32)
        * (segments > 0),
        "decoder_input_tokens": np.roll(targets, 1, axis=1) * (segments > 0),
        "decoder_target_tokens": targets,
        "decoder_loss_weights": (targets > 0).astype(np.int32),
        "encoder_segment_ids": segments,
        "decoder_segment_ids": segments,
    }
    return jax.tree.map(jnp.asarray, batch)


def test_parameters_and_axes_are_ours_under_the_names_that_t5x_reads(tiny_model, rng):
    variables = bridge.variables_with_axes(tiny_model, rng)
    boxed = fresh_params(tiny_model, rng)
    jax.tree.map(np.testing.assert_array_equal, core.unfreeze(variables["params"]), nn.unbox(boxed))
    axes = flax_partitioning.get_axis_names(variables["params_axes"])
    assert core.unfreeze(axes) == nn.get_partition_spec(boxed)
    kernel = axes["encoder"]["layers"]["mlp"]["wo"]["kernel"]
    assert kernel == PartitionSpec("layers", "mlp", "embed")


def test_a_cache_as_a_dictionary_is_the_cache(tiny_model, tiny_params):
    encoded = jnp.ones((2, 3, tiny_model.config.embed_dim))
    cache = tiny_model.apply({"params": tiny_params}, 2, 5, encoded, method="init_cache")
    as_dict = bridge.cache_as_dict(cache)
    assert as_dict["cache_index"].shape == ()
    assert as_dict["layers"]["past"]["keys"].shape[:3] == (1, 2, 5)
    back = bridge.cache_from_dict(as_dict)
    assert jax.tree.structure(back) == jax.tree.structure(cache)
    for returned, given in zip(jax.tree.leaves(back), jax.tree.leaves(cache), strict=True):
        np.testing.assert_array_equal(returned, given)


def test_without_t5x_the_error_says_where_to_read_on(tiny_model, monkeypatch):
    monkeypatch.setitem(sys.modules, "t5x", None)
    bridge._model_class.cache_clear()
    with pytest.raises(ImportError, match=r"T5X cannot be imported .*docs/t5x\.md"):
        _bridged(tiny_model)


def test_an_encoder_alone_is_refused(tiny_model):
    alone = CodeT5p(
        dataclasses.replace(tiny_model.config, num_decoder_layers=0, matching_head=False)
    )
    with pytest.raises(ValueError, match=r"num_decoder_layers is 0; include a model file"):
        _bridged(alone)


def test_the_loss_of_packed_rows_is_that_of_our_objective(models, tiny_model, tiny_params, rng):
    batch = _packed_batch(tiny_model.config.vocab_size)
    objective = Seq2SeqObjective(model=tiny_model, z_loss=1e-3)
    ours, _, _ = objective.loss(tiny_params, {}, batch, rng, train=False)
    model = _bridged(tiny_model, z_loss=1e-3)
    loss, _ = jax.jit(model.loss_fn)(tiny_params, batch, None)
    np.testing.assert_allclose(loss, ours.total / ours.weight, rtol=1e-5)  # other summation order


def test_scores_are_log_probabilities_of_the_targets(models, tiny_model, tiny_params):
    batch = _packed_batch(tiny_model.config.vocab_size)
    scores = jax.jit(_bridged(tiny_model).score_batch)(tiny_params, batch)
    tokens = (batch["encoder_input_tokens"], batch["decoder_input_tokens"])
    segments = (batch["encoder_segment_ids"], batch["decoder_segment_ids"])
    logits = np.asarray(tiny_model.apply({"params": tiny_params}, *tokens, *segments), np.float64)
    log_z = np.log(np.exp(logits).sum(-1))
    targets = np.asarray(batch["decoder_target_tokens"])
    of_targets = np.take_along_axis(logits, targets[..., None], -1)[..., 0] - log_z
    expected = (of_targets * batch["decoder_loss_weights"]).sum(-1)
    np.testing.assert_allclose(scores, expected, rtol=1e-4)  # float32 against float64


def test_one_beam_decodes_the_likeliest_next_token_each_time(models, tiny_model, tiny_params):
    batch = {
        "encoder_input_tokens": jnp.array([[5, 6, 7, 0], [8, 9, 2, 11]]),
        "decoder_input_tokens": jnp.zeros((2, 5), jnp.int32),
    }
    predict = jax.jit(_bridged(tiny_model).predict_batch)
    decoded = np.asarray(predict(tiny_params, batch))
    assert decoded.shape == (2, 5)
    prefix = np.zeros((2, 1), np.int32)
    for _ in range(5):
        logits = tiny_model.apply({"params": tiny_params}, batch["encoder_input_tokens"], prefix)
        prefix = np.concatenate([prefix, np.argmax(logits[:, -1:], -1)], axis=1)
    ended = np.cumsum(prefix[:, 1:] == 2, axis=1) - (prefix[:, 1:] == 2) > 0
    np.testing.assert_array_equal(decoded, np.where(ended, 0, prefix[:, 1:]))


def test_several_beams_give_the_best_last(models, tiny_model, tiny_params):
    batch = {
        "encoder_input_tokens": jnp.array([[5, 6, 7, 0]]),
        "decoder_input_tokens": jnp.zeros((1, 4), jnp.int32),
    }
    model = _bridged(tiny_model)
    best = model.predict_batch_with_aux(tiny_params, batch, num_decodes=3)
    beams = model.predict_batch_with_aux(tiny_params, batch, num_decodes=3, return_all_decodes=True)
    assert beams[0].shape == (1, 3, 4)
    assert np.all(np.diff(beams[1]["scores"]) >= 0)
    np.testing.assert_array_equal(beams[0][:, -1], best[0])


def test_t5x_lays_parameters_where_our_partitioner_does(models, tiny_model):
    partitioning = pytest.importorskip("t5x.partitioning")
    train_state = pytest.importorskip("t5x.train_state")
    model = CodeT5p(dataclasses.replace(tiny_model.config, num_heads=2))
    rules = partitioning.standard_logical_axis_rules(
        additional_rules=[("projection", None), ("matching", None)]
    )
    theirs = partitioning.PjitPartitioner(num_partitions=2, logical_axis_rules=rules)
    state = jax.eval_shape(
        lambda rng: train_state.InferenceState.create(bridge.variables_with_axes(model, rng)),
        jax.random.key(0),
    )
    state = state.replace(
        params_axes=bridge.variables_with_axes(model, jax.random.key(0))["params_axes"]
    )
    axes = core.unfreeze(theirs.get_mesh_axes(state).params)
    ours = Partitioner(num_partitions=2, devices=jax.devices()[:8])
    boxed = jax.eval_shape(lambda rng: fresh_params(model, rng), jax.random.key(0))
    logical = nn.get_partition_spec(boxed)
    is_spec = {"is_leaf": lambda leaf: isinstance(leaf, PartitionSpec)}
    expected = jax.tree.map(
        lambda spec: nn.logical_to_mesh_axes(tuple(spec), ours._rules), logical, **is_spec
    )
    assert jax.tree.map(tuple, axes, **is_spec) == jax.tree.map(tuple, expected, **is_spec)
