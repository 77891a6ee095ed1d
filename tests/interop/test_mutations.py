"""Every way of writing a tensor wrongly that verify has to find, in every format."""

import dataclasses
import shutil
from functools import partial

import numpy as np
import pytest

from codet5p_jax.cli.verify import OurModel
from codet5p_jax.interop.folders import read_tensors, write_tensors
from codet5p_jax.interop.huggingface import FORMATS, export_model
from codet5p_jax.interop.tensors import LazyTensor
from codet5p_jax.interop.transformers_model import TransformersModel
from codet5p_jax.interop.verification import verify
from tests.interop.conftest import T5_FORMATS

CODEGEN_FORMATS = ("codet5p", "codegen")
SHORT_TEXTS = ("def mean(values):\n    return", "x", "class Ünique:\n\tpass  # 漢字")  # quick
ENCODER = "encoder.block.1.layer.0.SelfAttention"
DECODER = "decoder.block.1.layer.0.SelfAttention"
CROSS = "decoder.block.0.layer.1.EncDecAttention"
TABLE = "block.0.layer.0.SelfAttention.relative_attention_bias.weight"


def transposed(name):
    return lambda tensors: {name: tensors[name].T}


def exchanged(*names):
    return lambda tensors: dict(zip(names, [tensors[name] for name in names[::-1]], strict=True))


def zeroed(name):
    return lambda tensors: {name: np.zeros_like(tensors[name])}


def missing(name):
    return lambda tensors: {name: None}


def rows_exchanged(name, first, second):
    def change(tensors):
        table = tensors[name].copy()
        table[[first, second]] = table[[second, first]]
        return {name: table}

    return change


def scaled(name, factor):
    return lambda tensors: {name: tensors[name] * np.float32(factor)}


def mutations_of(stack, attention):
    return {
        f"{stack} query transposed": transposed(f"{attention}.q.weight"),
        f"{stack} out transposed": transposed(f"{attention}.o.weight"),
        f"{stack} query and key exchanged": exchanged(
            f"{attention}.q.weight", f"{attention}.k.weight"
        ),
        f"{stack} key and value exchanged": exchanged(
            f"{attention}.k.weight", f"{attention}.v.weight"
        ),
        f"{stack} query and value exchanged": exchanged(
            f"{attention}.q.weight", f"{attention}.v.weight"
        ),
        f"{stack} layers exchanged": exchanged(
            f"{stack}.block.0.layer.0.SelfAttention.q.weight",
            f"{stack}.block.1.layer.0.SelfAttention.q.weight",
        ),
        f"{stack} far positions exchanged": rows_exchanged(f"{stack}.{TABLE}", 2, 3),
        f"{stack} a percent off": scaled(f"{attention}.v.weight", 1.01),
        f"{stack} a norm left out": lambda tensors: {
            f"{stack}.final_layer_norm.weight": np.ones(24, np.float32)
        },
    }


VOCABULARY = {
    "rows of the vocabulary exchanged": rows_exchanged("shared.weight", 280, 290),
    "a row of the vocabulary zeroed": lambda tensors: {
        "shared.weight": tensors["shared.weight"] * (np.arange(393) != 391)[:, None].astype("f")
    },
}
PROJECTION = {
    "projection's bias zeroed": zeroed("proj.bias"),
    "projection's bias missing": missing("proj.bias"),
    "projection's kernel missing": missing("proj.weight"),
    "projection's outputs exchanged": rows_exchanged("proj.weight", 0, 1),
}
MATCHING = {
    "matching head's bias zeroed": zeroed("itm_head.bias"),
    "matching head's bias missing": missing("itm_head.bias"),
    "matching head's classes exchanged": rows_exchanged("itm_head.weight", 0, 1),
}
DECODERS = {
    **mutations_of("decoder", DECODER),
    "cross-attention's query transposed": transposed(f"{CROSS}.q.weight"),
    "cross-attention's key and value exchanged": exchanged(
        f"{CROSS}.k.weight", f"{CROSS}.v.weight"
    ),
    "self- and cross-attention exchanged": exchanged(f"{CROSS}.k.weight", f"{DECODER}.k.weight"),
}
SELF = "decoder.transformer.h.1.attn"
CROSSING = "decoder.transformer.h.2.crossattention"


def parts_exchanged(name, parts, first, second):
    """In each of the 4 groups of a fused projection."""

    def change(tensors):
        grouped = tensors[name].reshape(4, parts, -1, tensors[name].shape[1]).copy()
        grouped[:, [first, second]] = grouped[:, [second, first]]
        return {name: grouped.reshape(tensors[name].shape)}

    return change


def regrouped(name, parts):
    """As if the parts were whole, one behind the other."""

    def change(tensors):
        grouped = tensors[name].reshape(4, parts, -1, tensors[name].shape[1])
        return {name: np.ascontiguousarray(grouped.swapaxes(0, 1)).reshape(tensors[name].shape)}

    return change


def pairs_apart(name, parts):
    """As if the numbers that turn together were half a head apart: 8 heads of 8, 6 of them turn."""

    def change(tensors):
        heads = tensors[name].reshape(4, parts, 2, 8, -1)
        return {name: heads[:, :, :, [0, 2, 4, 1, 3, 5, 6, 7]].reshape(tensors[name].shape)}

    return change


CODEGENS = {
    "query and value exchanged": parts_exchanged(f"{SELF}.qkv_proj.weight", 3, 0, 1),
    "value and key exchanged": parts_exchanged(f"{SELF}.qkv_proj.weight", 3, 1, 2),
    "query and key exchanged": parts_exchanged(f"{SELF}.qkv_proj.weight", 3, 0, 2),
    "no groups of heads": regrouped(f"{SELF}.qkv_proj.weight", 3),
    "pairs apart": pairs_apart(f"{SELF}.qkv_proj.weight", 3),
    "out transposed": transposed(f"{SELF}.out_proj.weight"),
    "cross-attention's query transposed": transposed(f"{CROSSING}.q_attn.weight"),
    "cross-attention's pairs apart": pairs_apart(f"{CROSSING}.q_attn.weight", 1),
    "cross-attention's value and key exchanged": parts_exchanged(
        f"{CROSSING}.qkv_proj.weight", 2, 0, 1
    ),
    "cross-attention's missing": missing(f"{CROSSING}.qkv_proj.weight"),
    "a bias missing": missing("decoder.transformer.h.0.mlp.fc_in.bias"),
    "a bias zeroed": zeroed("decoder.transformer.h.0.mlp.fc_out.bias"),
    "bias of the head zeroed": zeroed("decoder.lm_head.bias"),
    "bias between the halves zeroed": zeroed("enc_to_dec_proj.bias"),
    "layers exchanged": exchanged(
        "decoder.transformer.h.0.mlp.fc_in.weight", "decoder.transformer.h.1.mlp.fc_in.weight"
    ),
    "encoder a percent off": scaled("encoder.h.1.mlp.fc_out.weight", 1.01),
    "scale and bias of a norm exchanged": exchanged(
        "encoder.h.0.ln_1.weight", "encoder.h.0.ln_1.bias"
    ),
    "rows of the encoder's vocabulary exchanged": rows_exchanged("encoder.wte.weight", 380, 390),
    "rows of the decoder's vocabulary exchanged": rows_exchanged(
        "decoder.transformer.wte.weight", 380, 390
    ),
}
ALONE = SELF.removeprefix("decoder.")
LANGUAGE_MODELS = {
    "query and value exchanged": parts_exchanged(f"{ALONE}.qkv_proj.weight", 3, 0, 1),
    "value and key exchanged": parts_exchanged(f"{ALONE}.qkv_proj.weight", 3, 1, 2),
    "no groups of heads": regrouped(f"{ALONE}.qkv_proj.weight", 3),
    "pairs apart": pairs_apart(f"{ALONE}.qkv_proj.weight", 3),
    "out transposed": transposed(f"{ALONE}.out_proj.weight"),
    "a bias missing": missing("transformer.h.0.mlp.fc_in.bias"),
    "bias of the head zeroed": zeroed("lm_head.bias"),
    "the last layer another": exchanged(
        "transformer.h.1.mlp.fc_in.weight", "transformer.h.2.mlp.fc_in.weight"
    ),
    "rows of the vocabulary exchanged": rows_exchanged("transformer.wte.weight", 380, 390),
}
MUTATIONS = {
    "codet5p": CODEGENS,
    "codegen": LANGUAGE_MODELS,
    "t5": mutations_of("encoder", ENCODER) | VOCABULARY | DECODERS,
    "embedding": mutations_of("encoder", ENCODER) | VOCABULARY | PROJECTION,
    "bimodal": mutations_of("encoder", ENCODER) | VOCABULARY | DECODERS | PROJECTION | MATCHING,
}
CASES = [
    pytest.param(name, change, id=f"{name}: {what}")
    for name, changes in MUTATIONS.items()
    for what, change in changes.items()
]


@pytest.fixture(scope="module")
def square(random_params, two_codegens):
    """Models whose attention kernels are square, so that no shape gives a transpose away."""
    pytest.importorskip("transformers")
    from tests.interop.conftest import SMALL

    t5 = dataclasses.replace(SMALL, embed_dim=24, head_dim=8, num_heads=3, num_decoder_layers=2)
    models = dict.fromkeys(T5_FORMATS, (random_params(t5), t5))
    codegens = random_params(two_codegens()), two_codegens()
    return {**models, **dict.fromkeys(CODEGEN_FORMATS, codegens)}


@pytest.fixture(scope="module")
def ours(square):
    t5 = OurModel(*square["t5"])
    codegens = OurModel(*square["codet5p"])
    return {**dict.fromkeys(T5_FORMATS, t5), **dict.fromkeys(CODEGEN_FORMATS, codegens)}


@pytest.fixture(scope="module")
def tokenizers(tokenizer, codegen_tokenizer):
    t5 = tokenizer.with_task_tokens()
    return {**dict.fromkeys(T5_FORMATS, t5), **dict.fromkeys(CODEGEN_FORMATS, codegen_tokenizer)}


@pytest.fixture(scope="module")
def exports(square, tokenizers, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exports")
    for name, (params, config) in square.items():
        export_model(params, config, tokenizer=tokenizers[name], out_dir=folder / name, format=name)
    return folder


@pytest.fixture
def verdict_on(ours, exports, tokenizers, tmp_path):
    """Returns the verdict on an export after a change of its tensors."""

    def run(name, change):
        folder = shutil.copytree(exports / name, tmp_path / name)
        tensors = {tensor.name: tensor.read() for tensor in read_tensors(folder)}
        tensors = {n: t for n, t in {**tensors, **change(tensors)}.items() if t is not None}
        (folder / "model.safetensors").unlink()
        write_tensors(
            folder,
            [
                LazyTensor(name=n, shape=t.shape, dtype=t.dtype, read=partial(np.array, t))
                for n, t in tensors.items()
            ],
        )
        theirs = TransformersModel(folder)
        return verify(
            ours[name],
            theirs,
            tokenizer=tokenizers[name],
            their_tokenizer=theirs,
            problems=theirs.problems,
            texts=SHORT_TEXTS,
            max_length=4,
        )

    return run


@pytest.mark.parametrize("name", FORMATS)
def test_an_export_that_nothing_was_done_to_passes(verdict_on, name):
    verdict = verdict_on(name, lambda tensors: {})
    assert verdict.passed
    named = {
        **{"generate": "logits", "continue": "logits"},
        **{"embed": "embedding", "match": "matching"},
    }
    assert set(verdict.worst) == {named[what] for what in FORMATS[name].does}
    assert max(verdict.worst.values()) < 1e-5


@pytest.mark.parametrize(("name", "change"), CASES)
def test_a_mutated_export_fails(verdict_on, name, change):
    assert not verdict_on(name, change).passed


def test_every_format_is_mutated():
    assert set(MUTATIONS) == set(FORMATS)
