"""A CodeT5+ made of two language models."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from flax import linen as nn
from flax import traverse_util

from codet5p_jax.interop.halves import read_half
from codet5p_jax.interop.huggingface import export_model, import_model
from codet5p_jax.interop.joining import join
from codet5p_jax.interop.transformers_model import TransformersModel
from codet5p_jax.models.codet5p import CodeT5p, abstract_params
from codet5p_jax.models.config import T5Config
from tests.codegen_folder import write_codegen_folder
from tests.interop.conftest import ROWS, TEXTS
from tests.models.language_models import codegen_config, codegen_oracle, llama_config, llama_oracle

same = functools.partial(jax.tree.map, np.testing.assert_array_equal)


@pytest.fixture(scope="module")
def folders(tmp_path_factory, codegen_tokenizer, random_params):
    """Language models with CodeGen's tokenizer: of 512 rows, and of as few as it has ids itself."""
    pytest.importorskip("transformers")
    root = tmp_path_factory.mktemp("models")
    few = codegen_tokenizer.base_size
    oracles = {
        "small": codegen_oracle(
            codegen_config(heads=4, head_dim=8, rotary_dim=4, layers=2, vocab_size=ROWS)
        ),
        "large": codegen_oracle(
            codegen_config(heads=8, head_dim=8, rotary_dim=6, layers=3, vocab_size=ROWS)
        ),
        "llama": llama_oracle(dataclasses.replace(llama_config(tied=True), vocab_size=few)),
    }
    for name, oracle in oracles.items():
        oracle.torch_model.save_pretrained(root / name)
        write_codegen_folder(root / name, TEXTS, vocab_size=300)
    return root


@pytest.fixture(scope="module")
def t5(tmp_path_factory, tokenizer, random_params):
    config = T5Config(
        vocab_size=tokenizer.vocab_size,
        embed_dim=24,
        num_encoder_layers=2,
        num_decoder_layers=2,
        num_heads=3,
        head_dim=8,
        mlp_dim=20,
        dropout_rate=0.0,
    )
    folder = tmp_path_factory.mktemp("t5") / "t5"
    export_model(random_params(config), config, tokenizer=tokenizer, out_dir=folder)
    return folder


def test_two_codegens_become_a_codet5p(folders, codegen_tokenizer):
    joined = join(folders / "small", folders / "large", cross_attention_layers=2)
    params, config = joined.params(), joined.config
    assert joined.tokenizer.fingerprint == codegen_tokenizer.fingerprint
    assert (config.vocab_size, config.cross_attention_layers) == (ROWS, 2)
    for name in ("pad_id", "start_id", "eos_id", "clm_id", "match_id"):
        assert getattr(config, name) == getattr(codegen_tokenizer, name)
    shapes = jax.tree.map(lambda leaf: leaf.shape, nn.unbox(abstract_params(config)))
    assert jax.tree.map(lambda leaf: leaf.shape, params) == shapes
    assert joined.new_rows == {"encoder": 0, "decoder": 0}

    encoder = read_half(folders / "small", "encoder").params()
    same(params["encoder"], encoder)
    decoder = read_half(folders / "large", "decoder").params(
        dtype=ml_dtypes.bfloat16, cross_attention_layers=2
    )
    made = dict(params["decoder"])
    cross = made["cross_layers"]
    made["cross_layers"] = {k: v for k, v in cross.items() if k != "cross_attention"}
    same(made, decoder)


def test_the_language_model_is_bfloat16_and_all_else_float32(folders):
    flat = traverse_util.flatten_dict(join(folders / "small", folders / "large").params(), sep="/")
    for path, leaf in flat.items():
        frozen = path.startswith("decoder/") and "/cross_attention/" not in path
        assert leaf.dtype == (ml_dtypes.bfloat16 if frozen else np.float32), path


def test_new_parameters_are_normal_with_a_deviation_of_a_fiftieth(folders):
    joined = join(folders / "small", folders / "large", cross_attention_layers=3)
    params = joined.params()
    for part in ("query", "key", "value", "out"):
        kernel = params["decoder"]["cross_layers"]["cross_attention"][part]["kernel"]
        assert abs(kernel.std() - 0.02) < 0.001 and abs(kernel.mean()) < 0.001
    between = params["encoder_to_decoder"]
    assert abs(between["kernel"].std() - 0.02) < 0.002
    assert not between["bias"].any()
    same(joined.params(), params)
    other = join(folders / "small", folders / "large", cross_attention_layers=3, seed=1).params()
    assert not np.array_equal(other["encoder_to_decoder"]["kernel"], between["kernel"])


def test_a_vocabulary_without_room_gets_rows_for_sentinels_and_task_tokens(
    folders, codegen_tokenizer
):
    joined = join(folders / "llama", folders / "llama")
    base, ids = codegen_tokenizer.base_size, codegen_tokenizer.vocab_size
    assert joined.new_rows == {"encoder": ids - base, "decoder": ids - base} and ids - base == 105
    assert joined.config.vocab_size == ids
    table = joined.params()["encoder"]["token_embedder"]["embedding"]
    np.testing.assert_allclose(
        table[base:ids], np.tile(table[:base].mean(0), (105, 1)), rtol=1e-4, atol=1e-6
    )


def test_halves_of_different_vocabularies_get_the_rows_of_the_larger(folders, codegen_tokenizer):
    joined = join(folders / "small", folders / "llama")
    assert joined.config.vocab_size == ROWS
    assert joined.new_rows == {"encoder": 0, "decoder": ROWS - codegen_tokenizer.base_size}
    _runs(joined)


def _runs(joined):
    config = joined.config
    tokens = jnp.array([[5, 6, config.eos_id]])
    logits = jax.jit(CodeT5p(config).apply)({"params": joined.params()}, tokens, tokens)
    assert logits.shape == (1, 3, config.padded_vocab_size)
    assert np.isfinite(logits).all()


def test_a_t5_gives_an_encoder_or_a_decoder(t5, folders, tokenizer):
    joined = join(t5, t5)
    assert joined.config.vocab_size == tokenizer.with_task_tokens().vocab_size
    params = joined.params()
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype(np.float32)}
    whole, _ = import_model(t5)
    same(params["decoder"]["layers"], whole["decoder"]["layers"])  # with its own cross-attention
    assert "encoder_to_decoder" not in params
    _runs(joined)


@pytest.mark.parametrize(("encoder", "decoder"), [("t5", "large"), ("large", "t5")])
def test_a_t5_and_a_codegen_with_one_tokenizer_are_joined(
    tmp_path, t5, folders, encoder, decoder, codegen_tokenizer
):
    for name, source in (("t5", t5), ("large", folders / "large")):
        (tmp_path / name).mkdir()
        for file in source.iterdir():
            if file.name in ("config.json", "model.safetensors"):
                (tmp_path / name / file.name).symlink_to(file)
    codegen_tokenizer.save(tmp_path / "tokenizer")
    joined = join(tmp_path / encoder, tmp_path / decoder, tokenizer=tmp_path / "tokenizer")
    assert joined.config.projects_encoded
    _runs(joined)


def test_tokenizers_of_different_kinds_are_an_error(t5, folders):
    message = "differ, so their ids mean .*: one is a CodeTokenizer, the other a CodeGenTokenizer"
    with pytest.raises(ValueError, match=message):
        join(t5, folders / "large")


def test_tokenizers_with_other_entries_are_an_error(tmp_path, folders):
    texts = ["while (queue.length) { visit(queue.shift()); }" * 20]
    other = write_codegen_folder(tmp_path / "other", texts, vocab_size=300)
    with pytest.raises(ValueError, match=r"they have \d+ and \d+ entries, of which \d+ are in one"):
        join(folders / "small", folders / "large", tokenizer=other)


def test_tokenizers_with_other_ids_are_an_error(tmp_path, folders):
    other = write_codegen_folder(tmp_path / "other", TEXTS, vocab_size=300)
    contents = json.loads((other / "tokenizer.json").read_text())
    vocab = contents["model"]["vocab"]
    vocab["a"], vocab["b"] = vocab["b"], vocab["a"]
    (other / "tokenizer.json").write_text(json.dumps(contents))
    with pytest.raises(ValueError, match=r"2 of \d+ entries have other ids \('[ab]' is \d+ and"):
        join(folders / "small", folders / "large", tokenizer=other)


def test_tokenizers_with_other_merges_are_an_error(tmp_path, folders):
    other = write_codegen_folder(tmp_path / "other", TEXTS, vocab_size=300)
    contents = json.loads((other / "tokenizer.json").read_text())
    merges = contents["model"]["merges"]
    merges[0], merges[1] = merges[1], merges[0]
    (other / "tokenizer.json").write_text(json.dumps(contents))
    with pytest.raises(ValueError, match="they have the same entries, but other merges"):
        join(folders / "small", folders / "large", tokenizer=other)


def test_no_tokenizer_is_an_error(tmp_path, folders):
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).symlink_to(folders / "small" / name)
    with pytest.raises(FileNotFoundError, match=r"no tokenizer in .* with --tokenizer=DIR"):
        join(tmp_path, tmp_path)


def test_a_tokenizer_that_was_asked_for_must_be_there(tmp_path, folders):
    with pytest.raises(FileNotFoundError, match=r"No tokenizer in '.*nowhere'"):
        join(folders / "small", folders / "large", tokenizer=tmp_path / "nowhere")


def test_a_negative_seed_is_an_error(folders):
    with pytest.raises(ValueError, match=r"The seed is -1; it must be 0 or more\."):
        join(folders / "small", folders / "large", seed=-1)


def test_more_layers_of_cross_attention_than_layers_are_an_error(folders):
    with pytest.raises(ValueError, match="cross_attention_layers is 4; it must be 1 to 3"):
        join(folders / "small", folders / "large", cross_attention_layers=4)


def test_the_origin_names_folders_classes_and_layouts(folders):
    origin = join(folders / "small", folders / "llama").origin
    assert origin["encoder"]["name"] == "small" and origin["decoder"]["name"] == "llama"
    assert origin["decoder"]["architecture"] == "LlamaForCausalLM"
    assert len(origin["encoder"]["layout"]) == 16
    assert origin["encoder"]["layout"] != origin["decoder"]["layout"]
    json.dumps(origin)


def test_an_export_of_it_computes_the_same_in_transformers(tmp_path, folders):
    joined = join(folders / "small", folders / "large")
    params = joined.params()
    export_model(params, joined.config, tokenizer=joined.tokenizer, out_dir=tmp_path / "out")
    theirs = TransformersModel(tmp_path / "out")
    tokens = np.array([[5, 6, 7, 8], [9, 10, 11, 12]], np.int32)
    wide = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), params)
    with jax.default_matmul_precision("highest"):
        ours = np.asarray(jax.jit(CodeT5p(joined.config).apply)({"params": wide}, tokens, tokens))
    difference = np.abs(ours[..., :ROWS] - theirs.logits(tokens, tokens)).max()
    assert difference < 1e-4 * np.abs(ours).max()
    same(import_model(tmp_path / "out")[0], params)
