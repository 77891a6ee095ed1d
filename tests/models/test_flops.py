"""Tests of codet5p_jax.models.flops: counts by hand, and XLA's own."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

from codet5p_jax.models.codegen import CodeGenConfig
from codet5p_jax.models.codet5p import CodeT5p, abstract_params, language_model_paths
from codet5p_jax.models.config import T5Config
from codet5p_jax.models.encoder_decoder import EncoderDecoderConfig
from codet5p_jax.models.flops import (
    Trained,
    bimodal_training_flops,
    decoder_flops,
    encoder_flops,
    seq2seq_training_flops,
)
from codet5p_jax.models.sizes import model_config

HAND = T5Config(  # small primes, so that no two terms are alike
    vocab_size=11,
    embed_dim=3,
    num_encoder_layers=2,
    num_decoder_layers=5,
    num_heads=7,
    head_dim=1,
    mlp_dim=13,
    projection_dim=17,
    matching_head=True,
)
# Wide enough that what is not counted, some ten operations per score and per residual, is small
# beside the products (2 x width each). The vocabulary needs no padding.
WIDE = T5Config(
    vocab_size=1024,
    embed_dim=256,
    num_encoder_layers=2,
    num_decoder_layers=2,
    num_heads=4,
    head_dim=64,
    mlp_dim=1024,
    projection_dim=128,
    matching_head=True,
    dropout_rate=0.0,
    scan_unroll=2,  # XLA counts the body of a loop once, however often it runs
)
LOSSES = ("contrastive", "matching", "text_to_code", "code_to_text")
ROWS, INPUTS, TARGETS = 2, 64, 48


def test_parts_equal_the_count_by_hand():
    # per token: 4 projections of 3 x 7, feed-forward 2 of 3 x 13, each 2 operations per weight
    layer = 2 * (4 * 21 + 2 * 39)
    assert encoder_flops(HAND, rows=2, length=19) == 2 * 2 * (19 * layer + 4 * 19 * 19 * 7)
    decoder = decoder_flops(HAND, rows=2, inputs=19, targets=23)
    assert decoder.layers == 2 * 5 * (23 * layer + 4 * 23 * 23 * 7)
    assert decoder.cross_keys_and_values == 2 * 5 * 19 * 4 * 21
    assert decoder.cross_queries == 2 * 5 * 23 * 4 * 21
    assert decoder.cross_scores == 2 * 5 * 4 * 23 * 19 * 7
    assert decoder.logits == 2 * 23 * 2 * 3 * 11
    assert decoder.total == decoder.hidden + 2 * 23 * 2 * 3 * 11


def test_a_gated_block_has_a_third_matrix():
    gated = dataclasses.replace(HAND, gated_mlp=True)
    more = encoder_flops(gated, rows=1, length=4) - encoder_flops(HAND, rows=1, length=4)
    assert more == 2 * 4 * 2 * 39  # layers, tokens, operations, weights


def test_training_costs_three_times_the_forward_pass():
    forward = encoder_flops(HAND, rows=2, length=19)
    forward += decoder_flops(HAND, rows=2, inputs=19, targets=23).total
    assert seq2seq_training_flops(HAND, rows=2, inputs=19, targets=23) == 3 * forward


def test_short_sequences_cost_six_operations_per_weight_and_token():
    """The rule of thumb 6 N: with one token on each side every weight of a layer is used once."""
    config = model_config("codet5p_220m")
    weights = config.num_parameters() - 2 * 12 * 32  # bias tables
    weights -= (5 * 12 + 2) * 768  # norms; the embedding counts once, as the logits
    scores = 4 * (12 + 12 + 12) * 12 * 64
    got = seq2seq_training_flops(config, rows=1, inputs=1, targets=1)
    assert got == 3 * (2 * weights + scores)


def _xla_flops(function, *arguments):
    params = nn.unbox(abstract_params(WIDE))
    compiled = jax.jit(function).lower(params, *arguments).compile()
    return compiled.cost_analysis()["flops"]


def _tokens(length):
    return jax.ShapeDtypeStruct((ROWS, length), jnp.int32)


def _apply(method):
    model = CodeT5p(WIDE)
    return lambda params, *tokens: model.apply({"params": params}, *tokens, method=method)


# XLA counts more: softmax, norms, masks and the bias, which are 0.3% to 0.4% at this width.
TOLERANCE = 0.005


def test_encoder_agrees_with_xla():
    counted = encoder_flops(WIDE, rows=ROWS, length=INPUTS)
    xla = _xla_flops(_apply("encode"), _tokens(INPUTS))
    assert counted == pytest.approx(xla, rel=TOLERANCE)
    assert counted < xla


def test_decoder_agrees_with_xla():
    counted = encoder_flops(WIDE, rows=ROWS, length=INPUTS)
    counted += decoder_flops(WIDE, rows=ROWS, inputs=INPUTS, targets=TARGETS).total
    xla = _xla_flops(_apply("__call__"), _tokens(INPUTS), _tokens(TARGETS))
    assert counted == pytest.approx(xla, rel=TOLERANCE)
    assert counted < xla


def test_stage_2_is_the_sum_of_its_passes():
    text, code, pairs = 6, 9, 4

    def encode(length):
        return encoder_flops(HAND, rows=pairs, length=length)

    def decode(inputs, targets):
        return decoder_flops(HAND, rows=pairs, inputs=inputs, targets=targets)

    project = 2 * pairs * 2 * 51  # text and code, 3 x 17
    match = 3 * decode(text, code).hidden + 3 * pairs * 2 * 6  # 3 rows a pair, 3 x 2
    write = decode(text, code).total + decode(code, text).total
    both = encode(text) + encode(code) + project
    assert _bimodal(pairs, text, code) == 3 * (both + match + write) + both
    without_momentum = _bimodal(pairs, text, code, momentum=False)
    assert without_momentum == 3 * (both + match + write)
    queued = _bimodal(pairs, text, code, encoded_negatives=True) - _bimodal(pairs, text, code)
    assert queued == 3 * encode(text)


@pytest.mark.parametrize(
    "loss, trained_text, trained_code",
    [
        ("contrastive", True, True),
        ("matching", True, False),
        ("text_to_code", True, False),
        ("code_to_text", False, True),
    ],
)
def test_each_loss_of_stage_2_alone_trains_what_it_reads(loss, trained_text, trained_code):
    text, code, pairs = 6, 9, 4
    losses = {name: name == loss for name in LOSSES}
    encoders = (1 + 2 * trained_text) * encoder_flops(HAND, rows=pairs, length=text)
    encoders += (1 + 2 * trained_code) * encoder_flops(HAND, rows=pairs, length=code)
    project = (3 if loss == "contrastive" else 1) * 2 * pairs * 2 * 51

    def decode(inputs, targets, rows=pairs):
        return decoder_flops(HAND, rows=rows, inputs=inputs, targets=targets)

    decoder = {
        "contrastive": 0,
        "matching": decode(text, code, rows=3 * pairs).hidden + 3 * pairs * 2 * 6,
        "text_to_code": decode(text, code).total,
        "code_to_text": decode(code, text).total,
    }[loss]
    got = _bimodal(pairs, text, code, momentum=False, **losses)
    assert got == encoders + project + 3 * decoder


def _bimodal(pairs, text, code, **passes):
    return bimodal_training_flops(HAND, pairs=pairs, text_length=text, code_length=code, **passes)


def test_a_trained_pass_agrees_with_xla():
    """Gradients cost two more forwards; XLA counts the softmax's gradient and the like besides."""

    def loss(params, inputs, targets):
        logits = CodeT5p(WIDE).apply({"params": params}, inputs, targets)
        return jnp.sum(logits.max(axis=-1))  # a loss that costs next to nothing

    counted = seq2seq_training_flops(WIDE, rows=ROWS, inputs=INPUTS, targets=TARGETS)
    xla = _xla_flops(jax.grad(loss), _tokens(INPUTS), _tokens(TARGETS))
    assert counted == pytest.approx(xla, rel=TOLERANCE)


# A shallow encoder and a deep decoder, as the 2B's 20 layers and 32, unrolled for XLA's count.
COMPOSED = EncoderDecoderConfig(
    encoder=CodeGenConfig(
        vocab_size=1024,
        embed_dim=256,
        num_layers=5,
        num_heads=4,
        rotary_dim=32,
        mlp_dim=1024,
        scan_unroll=5,
    ),
    decoder=CodeGenConfig(
        vocab_size=1024,
        embed_dim=640,
        num_layers=8,
        num_heads=8,
        rotary_dim=64,
        mlp_dim=2560,
        scan_unroll=8,
    ),
    pad_id=1023,
    start_id=1022,
    eos_id=1022,
    clm_id=1021,
    match_id=1020,
)


def _xla_flops_of_gradient(config, *, inputs, targets, trained):
    """XLA's count of the gradient of the summed logits by what is trained."""
    params = flatten_dict(nn.unbox(abstract_params(config)), sep="/")
    frozen = language_model_paths(config, unflatten_dict(params, sep="/"))
    frozen = {} if trained is Trained.ALL else {path: params.pop(path) for path in frozen}

    def loss(moving, fixed, *tokens):
        both = unflatten_dict({**moving, **fixed}, sep="/")
        return jnp.mean(jnp.square(CodeT5p(config).apply({"params": both}, *tokens)))

    tokens = (jax.ShapeDtypeStruct((ROWS, n), jnp.int32) for n in (inputs, targets))
    compiled = jax.jit(jax.grad(loss)).lower(params, frozen, *tokens).compile()
    return compiled.cost_analysis()["flops"]


@pytest.mark.parametrize("crossing", [1, 2, 8])
@pytest.mark.parametrize("trained", Trained)
def test_halves_of_different_families_agree_with_xla(crossing, trained):
    """With a frozen language model this shows that no gradient goes through it: none is counted."""
    config = dataclasses.replace(COMPOSED, cross_attention_layers=crossing)
    lengths = {"inputs": INPUTS, "targets": TARGETS}
    counted = seq2seq_training_flops(config, rows=ROWS, **lengths, trained=trained)
    xla = _xla_flops_of_gradient(config, **lengths, trained=trained)
    assert counted == pytest.approx(xla, rel=2 * TOLERANCE)  # norms have biases, twice as many


@pytest.mark.parametrize(
    ("batches", "share"),
    [
        # rows, inputs and targets of a step of both CLMs and denoising, and of instruction tuning
        ([(2048, 512, 128), (512, 768, 600), (512, 1, 1024)], 0.45),
        ([(256, 512, 512)], 0.45),
    ],
)
def test_a_frozen_2b_costs_less_than_half_of_one_that_is_trained_whole(batches, share):
    config = model_config("codet5p_2b")
    whole, frozen = (
        sum(
            seq2seq_training_flops(config, rows=r, inputs=i, targets=t, trained=trained)
            for r, i, t in batches
        )
        for trained in Trained
    )
    assert frozen < share * whole
