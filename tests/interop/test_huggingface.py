import dataclasses
import functools
import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codet5p_jax.interop.huggingface import (
    FORMATS,
    export_model,
    import_model,
)
from codet5p_jax.interop.model_card import Provenance
from codet5p_jax.models.codet5p import CodeT5p
from codet5p_jax.models.sizes import model_config
from codet5p_jax.tokenizer import CodeTokenizer
from tests.interop.conftest import T5_FORMATS

INPUTS = np.array([[1, 40, 41, 42, 43, 2], [1, 50, 2, 0, 0, 0], [1, 60, 61, 2, 0, 0]], np.int32)
TARGETS = np.array([[0, 1, 70, 71, 2], [0, 1, 72, 2, 0], [0, 7, 8, 9, 10]], np.int32)
TEXT = 'def f(x):\n\treturn  "\\t é 漢字 🙂"\r\n\n    # [ENC] ends  '


@pytest.fixture
def transformers():
    pytest.importorskip("torch")
    return pytest.importorskip("transformers")


@pytest.fixture
def exported(tmp_path, config, random_params, tokenizer):
    export_model(random_params(config), config, tokenizer=tokenizer, out_dir=tmp_path / "out")
    return tmp_path / "out"


@functools.partial(jax.jit, static_argnums=0)  # once: equal configs are compiled once
def _logits(model, params):
    return model.apply({"params": params}, jnp.array(INPUTS), jnp.array(TARGETS))


def _our_logits(params, config):
    logits = _logits(CodeT5p(config), params)
    return np.asarray(logits)[..., : config.vocab_size]


def _their_logits(model):
    import torch

    inputs, targets = torch.tensor(INPUTS).long(), torch.tensor(TARGETS).long()
    with torch.no_grad():
        return model(
            input_ids=inputs, attention_mask=inputs != 0, decoder_input_ids=targets
        ).logits.numpy()


def _bits(tree):
    return jax.tree.map(lambda leaf: leaf.view(np.uint32).tolist(), tree)


def test_import_of_an_export_is_the_model_bit_for_bit(
    tmp_path, any_config, random_params, held_by_t5, tokenizer
):
    params = random_params(any_config)
    export_model(params, any_config, tokenizer=tokenizer, out_dir=tmp_path / "out")
    imported, config = import_model(tmp_path / "out")
    assert _bits(imported) == _bits(held_by_t5(params, any_config))
    assert config == dataclasses.replace(any_config, projection_dim=None, matching_head=False)


@pytest.fixture
def held(held_by_t5):
    """Returns what a format holds of parameters and config."""

    def of(name, params, config):
        kept = held_by_t5(params, config)
        if name == "t5":
            return kept, dataclasses.replace(config, projection_dim=None, matching_head=False)
        kept["projection"] = params["projection"]
        if name == "bimodal":
            return {**kept, "matching_head": params["matching_head"]}, config
        encoder_alone = {"num_decoder_layers": 0, "matching_head": False, "tie_embeddings": True}
        for decoders in ("decoder", "lm_head"):
            kept.pop(decoders, None)
        return kept, dataclasses.replace(config, **encoder_alone)

    return of


@pytest.mark.parametrize("name", T5_FORMATS)
def test_import_of_an_export_in_any_format_is_what_it_holds_bit_for_bit(
    tmp_path, any_config, random_params, held, tokenizer, name
):
    params = random_params(any_config)
    result = export_model(
        params, any_config, tokenizer=tokenizer, out_dir=tmp_path / "out", format=name
    )
    imported, config = import_model(tmp_path / "out")
    expected, expected_config = held(name, params, any_config)
    assert config == expected_config
    assert _bits(imported) == _bits(expected)
    assert result.parameters == config.num_parameters()
    files = {path.name for path in (tmp_path / "out").glob("*.py")}
    assert files == {path.name for path in FORMATS[name].model_files}


def test_an_embedding_model_without_a_decoder_is_exported(
    tmp_path, config, random_params, tokenizer
):
    alone = dataclasses.replace(config, num_decoder_layers=0, matching_head=False)
    params = random_params(alone)
    result = export_model(
        params, alone, tokenizer=tokenizer, out_dir=tmp_path / "out", format="embedding"
    )
    assert result.left_out == ()
    assert import_model(tmp_path / "out")[1] == alone


RELEASED = {  # what the files of the released models hold; their versions and paths left out
    "codet5p_110m_embedding": {
        "architectures": ["CodeT5pEmbeddingModel"],
        "auto_map": {
            "AutoConfig": "configuration_codet5p_embedding.CodeT5pEmbeddingConfig",
            "AutoModel": "modeling_codet5p_embedding.CodeT5pEmbeddingModel",
        },
        "model_type": "codet5p_embedding",
        "embed_dim": 256,
        "is_encoder_decoder": False,
        "vocab_size": 32103,
    },
    "codet5p_220m_bimodal": {
        "architectures": ["CodeT5pBimodalModel"],
        "model_type": "codet5p_bimodal",
        "bos_token_id": 1,
        "decoder_start_token_id": 0,
        "embed_dim": 256,
        "is_encoder_decoder": True,
        "num_decoder_layers": 12,
        "vocab_size": 32103,
    },
    "codet5p_220m": {
        "architectures": ["T5ForConditionalGeneration"],
        "model_type": "t5",
        "bos_token_id": 1,
        "decoder_start_token_id": 0,
        "is_encoder_decoder": True,
        "num_decoder_layers": 12,
        "vocab_size": 32100,
    },
}
RELEASED_ALIKE = {
    "d_ff": 3072,
    "d_kv": 64,
    "d_model": 768,
    "dense_act_fn": "relu",
    "dropout_rate": 0.1,
    "eos_token_id": 2,
    "feed_forward_proj": "relu",
    "initializer_factor": 1.0,
    "is_gated_act": False,
    "layer_norm_epsilon": 1e-6,
    "n_positions": 512,
    "num_heads": 12,
    "num_layers": 12,
    "pad_token_id": 0,
    "relative_attention_max_distance": 128,
    "relative_attention_num_buckets": 32,
    "use_cache": True,
}


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("embedding", "codet5p_110m_embedding"),
        ("bimodal", "codet5p_220m_bimodal"),
        ("t5", "codet5p_220m"),
    ],
)
def test_configs_are_those_of_the_released_models_both_ways(name, model):
    config, record = model_config(model), FORMATS[name]
    released = {**RELEASED_ALIKE, **RELEASED[model]}
    written = record.config_json(config)
    assert {key: written.get(key) for key in released} == released
    assert record.describes(released)
    assert record.from_huggingface(released, "config.json") == config


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("bimodal", {"matching_head": False}, "no matching head .* Export it as t5"),
        ("bimodal", {"projection_dim": None}, "no projection .* Export it as t5"),
        ("embedding", {"projection_dim": None}, "no projection .* Export it as t5"),
        ("t5", {"num_decoder_layers": 0, "matching_head": False}, "Export it as embedding"),
    ],
)
def test_a_model_that_a_format_cannot_hold_is_an_error_that_names_another(
    tmp_path, config, random_params, tokenizer, name, changes, message
):
    params = random_params(config)
    config = dataclasses.replace(config, **changes)
    with pytest.raises(ValueError, match=message):
        export_model(params, config, tokenizer=tokenizer, out_dir=tmp_path / "out", format=name)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_format_is_an_error_that_names_the_known(
    tmp_path, config, random_params, tokenizer
):
    with pytest.raises(ValueError, match="no format 'gguf'; it is one of t5, embedding, bimodal"):
        export_model(
            random_params(config), config, tokenizer=tokenizer, out_dir=tmp_path, format="gguf"
        )


def test_an_export_loads_in_transformers_without_missing_or_unexpected_keys_and_agrees(
    tmp_path, any_config, random_params, tokenizer, transformers
):
    params = random_params(any_config)
    export_model(params, any_config, tokenizer=tokenizer, out_dir=tmp_path)
    model, info = transformers.AutoModelForSeq2SeqLM.from_pretrained(
        tmp_path, output_loading_info=True
    )
    assert not any(info.values()), info
    assert type(model).__name__ == "T5ForConditionalGeneration"
    # float32 on both sides; logits of unscaled heads reach 100
    ours, theirs = _our_logits(params, any_config), _their_logits(model.eval())
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("feed_forward", ["relu", "gated-gelu", "gated-silu"])
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_a_folder_written_by_transformers_is_imported_and_agrees(
    tmp_path, feed_forward, tied, transformers
):
    theirs = transformers.T5ForConditionalGeneration(
        transformers.T5Config(
            vocab_size=150,
            d_model=16,
            d_kv=8,
            d_ff=20,
            num_layers=2,
            num_decoder_layers=3,
            num_heads=3,
            relative_attention_num_buckets=8,
            relative_attention_max_distance=12,
            feed_forward_proj=feed_forward,
            tie_word_embeddings=tied,
        )
    ).eval()
    theirs.save_pretrained(tmp_path)
    params, config = import_model(tmp_path)
    assert config.tie_embeddings == tied
    np.testing.assert_allclose(
        _our_logits(params, config), _their_logits(theirs), rtol=1e-4, atol=1e-4
    )


def test_pytorch_files_are_imported_like_safetensors(tmp_path, exported, transformers):
    import torch

    theirs = transformers.AutoModelForSeq2SeqLM.from_pretrained(exported)
    (tmp_path / "bin").mkdir()
    torch.save(theirs.state_dict(), tmp_path / "bin" / "pytorch_model.bin")
    (tmp_path / "bin" / "config.json").write_bytes((exported / "config.json").read_bytes())
    assert _bits(import_model(tmp_path / "bin")[0]) == _bits(import_model(exported)[0])


def test_shards_with_an_index_hold_the_same_model(
    tmp_path, exported, config, random_params, tokenizer, transformers
):
    export_model(
        random_params(config),
        config,
        tokenizer=tokenizer,
        out_dir=tmp_path / "shards",
        max_shard_bytes=5_000,
    )
    shards = sorted(path.name for path in (tmp_path / "shards").glob("*.safetensors"))
    assert len(shards) > 3 and shards[0] == f"model-00001-of-{len(shards):05d}.safetensors"
    assert _bits(import_model(tmp_path / "shards")[0]) == _bits(import_model(exported)[0])
    _, info = transformers.AutoModelForSeq2SeqLM.from_pretrained(
        tmp_path / "shards", output_loading_info=True
    )
    assert not any(info.values()), info


def test_export_and_import_work_without_torch_tensorflow_and_transformers(exported, tmp_path):
    program = (
        "import sys\n"
        "for name in ('torch', 'tensorflow', 'transformers'): sys.modules[name] = None\n"
        "from codet5p_jax.interop.huggingface import export_model, import_model\n"
        "from codet5p_jax.tokenizer import CodeTokenizer\n"
        f"params, config = import_model({str(exported)!r})\n"
        f"tokenizer = CodeTokenizer.from_directory({str(exported)!r})\n"
        f"export_model(params, config, tokenizer=tokenizer, out_dir={str(tmp_path / 'again')!r})\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        assert (tmp_path / "again" / name).read_bytes() == (exported / name).read_bytes()


def test_the_exported_tokenizer_gives_equal_ids_in_transformers(exported, transformers):
    theirs = transformers.AutoTokenizer.from_pretrained(exported)
    ours = CodeTokenizer.from_directory(exported)
    plain = TEXT.replace("[ENC]", "")  # transformers parses special tokens in text, we do not
    assert theirs(plain, add_special_tokens=False).input_ids == ours.encode(plain)
    assert theirs(plain).input_ids == [ours.bos_id, *ours.encode(plain), ours.eos_id]
    assert theirs.decode(ours.encode(TEXT)) == ours.decode(ours.encode(TEXT)) == TEXT
    assert len(theirs) == ours.vocab_size
    special = ("pad", "bos", "eos", "unk", "mask")
    assert [getattr(theirs, f"{name}_token_id") for name in special] == [0, 1, 2, 3, 4]
    sentinels = [theirs.convert_tokens_to_ids(f"<extra_id_{k}>") for k in range(100)]
    assert sentinels == [ours.sentinel_id(k) for k in range(100)]


def test_config_json_has_the_ids_and_fields_of_the_released_models(exported, config):
    contents = json.loads((exported / "config.json").read_text())
    assert contents["architectures"] == ["T5ForConditionalGeneration"]
    ids = ("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id")
    assert [contents[name] for name in ids] == [0, 1, 2, 0]
    generation = json.loads((exported / "generation_config.json").read_text())
    assert [generation[name] for name in ids] == [0, 1, 2, 0]
    assert contents["feed_forward_proj"] == "relu"
    assert contents["vocab_size"] == config.vocab_size


def test_the_result_says_what_was_written_and_what_left_out(
    tmp_path, config, random_params, tokenizer
):
    params = random_params(config)
    result = export_model(params, config, tokenizer=tokenizer, out_dir=tmp_path / "out")
    heads = dataclasses.replace(config, projection_dim=None, matching_head=False)
    assert result.parameters == heads.num_parameters()
    assert result.num_bytes == 4 * result.parameters
    assert result.left_out[0] == "matching_head/bias" and len(result.left_out) == 4
    assert "`matching_head/bias`" in (tmp_path / "out" / "README.md").read_text()


def test_the_model_card_tells_how_the_model_was_trained(tmp_path, config, random_params, tokenizer):
    provenance = Provenance(
        name="my model",
        steps=1234,
        corpus={"recipe": "quickstart", "fingerprint": "abc"},
        licenses={"mit": 10, "apache-2.0": 30},
        evaluation={"retrieval": {"mrr": 0.123456}, "note": "text is no number"},
    )
    export_model(
        random_params(config),
        config,
        tokenizer=tokenizer,
        out_dir=tmp_path / "out",
        provenance=provenance,
    )
    card = (tmp_path / "out" / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: transformers\n")
    for line in (
        "# my model",
        "| steps | 1,234 |",
        "| corpus | recipe quickstart, fingerprint abc |",
        "| apache-2.0 | 30 |\n| mit | 10 |",
        "| retrieval / mrr | 0.1235 |",
    ):
        assert line in card


def test_an_export_replaces_an_earlier_one(exported, config, random_params, tokenizer):
    export_model(random_params(config, seed=1), config, tokenizer=tokenizer, out_dir=exported)
    scale = import_model(exported)[0]["encoder"]["final_norm"]["scale"]
    np.testing.assert_array_equal(
        scale, random_params(config, seed=1)["encoder"]["final_norm"]["scale"]
    )


def test_a_failed_export_leaves_the_earlier_one_and_nothing_else(
    exported, config, random_params, tokenizer
):
    before = (exported / "model.safetensors").read_bytes()
    params = random_params(config, seed=1)
    params["decoder"]["final_norm"]["scale"][0] = np.nan
    params["token_embedder"]["embedding"][1, 2] = np.inf
    with pytest.raises(ValueError, match="Tensors hold NaN") as error:
        export_model(params, config, tokenizer=tokenizer, out_dir=exported)
    assert "  shared.weight: 1 NaN or infinite of 6,288 numbers" in str(error.value)
    assert "  decoder.final_layer_norm.weight: 1 NaN or infinite of 16" in str(error.value)
    assert (exported / "model.safetensors").read_bytes() == before
    assert [path.name for path in exported.parent.iterdir()] == ["out"]


def test_a_folder_with_other_files_is_not_replaced(exported, config, random_params, tokenizer):
    (exported / "thesis.tex").write_text("years of work")
    with pytest.raises(
        ValueError, match=r"holds other files than would be written there \(thesis.tex"
    ):
        export_model(random_params(config), config, tokenizer=tokenizer, out_dir=exported)
    assert (exported / "thesis.tex").exists()


def test_an_encoder_alone_is_no_t5_export(tmp_path, config, random_params, tokenizer):
    alone = dataclasses.replace(config, num_decoder_layers=0, matching_head=False)
    with pytest.raises(ValueError, match="The model has no decoder"):
        export_model(random_params(config), alone, tokenizer=tokenizer, out_dir=tmp_path / "out")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"model_type": "bert"},
            r"model_type 'bert'.*supported: model_type 't5' \(T5ForConditionalGeneration\), "
            r"model_type 'codet5p_embedding' \(CodeT5pEmbeddingModel\), model_type 'codet5p_bim",
        ),
        (
            {"architectures": ["T5EncoderModel"]},
            r"model_type 't5', architectures \['T5EncoderModel'\]; supported: ",
        ),
        ({"d_ff": None}, "config.json lacks d_ff"),
        (
            {"feed_forward_proj": "tanh"},
            "feed_forward_proj='tanh'; supported: 'relu', 'gated-gelu'",
        ),
        ({"decoder_start_token_id": 5}, "decoder_start_token_id=5; supported: 0"),
        ({"vocab_size": 400}, r"shared.weight: shape \[393, 16\], expected \[400, 16\]"),
    ],
)
def test_a_config_that_does_not_fit_is_named(exported, changes, message):
    path = exported / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(ValueError, match=message):
        import_model(exported)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_file_is_named(exported, name):
    (exported / name).unlink()
    with pytest.raises(FileNotFoundError, match=name):
        import_model(exported)


def test_a_missing_shard_is_named(exported):
    (exported / "model.safetensors").unlink()
    index = {"weight_map": {"shared.weight": "model-00001-of-00002.safetensors"}}
    (exported / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(FileNotFoundError, match=r"not there: model-00001-of-00002\.safetensors"):
        import_model(exported)


def test_a_damaged_config_is_named(exported):
    (exported / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json is not valid JSON"):
        import_model(exported)


def test_a_pickle_with_code_is_refused(exported, transformers):
    import pickle

    class Malicious:
        def __reduce__(self):
            return print, ("this code must not run",)

    (exported / "model.safetensors").unlink()
    (exported / "pytorch_model.bin").write_bytes(pickle.dumps({"shared.weight": Malicious()}, 2))
    with pytest.raises(ValueError, match="holds Python objects, which could run code"):
        import_model(exported)


def test_without_torch_a_pytorch_file_names_the_extra_to_install(exported, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    (exported / "model.safetensors").rename(exported / "pytorch_model.bin")
    with pytest.raises(ModuleNotFoundError, match=r"-m pip install 'codet5p_jax\[hf\]'\n"):
        import_model(exported)
