"""The embedding and the bimodal model, against the T5 of transformers that they extend."""

import pytest

from tests.huggingface.model_folders import T5, write_weights

pytestmark = pytest.mark.slow  # `make test-hf` runs them, in two environments

EMBEDDING = {**T5, "model_type": "codet5p_embedding", "embed_dim": 12, "is_encoder_decoder": False}
BIMODAL = {**T5, "model_type": "codet5p_bimodal", "embed_dim": 12, "is_encoder_decoder": True}
TEXTS = [[1, 11, 12, 13, 2], [1, 21, 2, 0, 0]]
CODES = [[1, 31, 32, 2, 0, 0], [1, 41, 42, 43, 44, 2]]


@pytest.fixture
def texts(torch):
    return torch.tensor(TEXTS)


@pytest.fixture
def codes(torch):
    return torch.tensor(CODES)


def t5_config(transformers):
    return transformers.T5Config(**T5)


def held_by(model, theirs):
    """The weights of `theirs`, as `model` has them."""
    return {name: model.state_dict()[name] for name in theirs.state_dict()}


def test_an_embedding_is_the_projection_of_the_first_state_with_norm_1(
    torch, transformers, random_model, texts
):
    model = random_model(EMBEDDING)
    encoder = transformers.T5EncoderModel(t5_config(transformers)).eval()
    encoder.load_state_dict(held_by(model, encoder))
    mask = texts != 0
    states = encoder(input_ids=texts, attention_mask=mask).last_hidden_state[:, 0]
    projected = states @ model.proj.weight.T + model.proj.bias
    expected = projected / projected.norm(dim=1, keepdim=True)
    torch.testing.assert_close(model(input_ids=texts, attention_mask=mask), expected)
    assert expected.shape == (2, 12)
    alone = model(input_ids=texts[1:, :3])
    torch.testing.assert_close(alone, expected[1:])


@pytest.mark.parametrize("contents", [EMBEDDING, BIMODAL], ids=["embedding", "bimodal"])
def test_a_folder_loads_and_what_is_saved_loads_again(
    torch, transformers, folder_of, random_model, texts, contents, tmp_path
):
    folder = folder_of(contents)
    model = random_model(contents, folder=folder)
    weights = {n: w for n, w in model.state_dict().items() if not n.endswith("embed_tokens.weight")}
    weights.pop("lm_head.weight", None)
    write_weights(folder, weights)
    for source, saved in ((folder, tmp_path / "once"), (tmp_path / "once", tmp_path / "twice")):
        loaded, info = transformers.AutoModel.from_pretrained(
            source, trust_remote_code=True, output_loading_info=True
        )
        assert not any(info.values()), info
        for name, weight in model.state_dict().items():
            torch.testing.assert_close(loaded.state_dict()[name], weight, msg=name)
        loaded.save_pretrained(saved)
    assert (tmp_path / "twice" / f"modeling_{contents['model_type']}.py").exists()
    assert type(loaded.config).__name__ == type(model.config).__name__
    assert loaded.config.embed_dim == 12 and loaded.config.model_type == contents["model_type"]


def test_the_weights_of_the_embedding_model_are_the_encoders_and_a_projection(random_model):
    names = {n for n in random_model(EMBEDDING).state_dict() if not n.startswith("encoder.")}
    assert names == {"shared.weight", "proj.weight", "proj.bias"}


@pytest.fixture
def bimodal(random_model):
    return random_model(BIMODAL)


@pytest.fixture
def t5(transformers, bimodal):
    """T5 with the weights of the bimodal model."""
    theirs = transformers.T5ForConditionalGeneration(t5_config(transformers)).eval()
    theirs.load_state_dict(held_by(bimodal, theirs))
    return theirs


def test_the_bimodal_model_has_t5s_weights_and_two_heads(bimodal, t5):
    heads = {"proj.weight", "proj.bias", "itm_head.weight", "itm_head.bias"}
    assert set(bimodal.state_dict()) == set(t5.state_dict()) | heads


@pytest.mark.parametrize("strategy", [{"do_sample": False}, {"num_beams": 3}, {"do_sample": True}])
@pytest.mark.parametrize("use_cache", [True, False], ids=["cached", "not cached"])
def test_the_bimodal_model_generates_as_t5_does(torch, bimodal, t5, texts, strategy, use_cache):
    arguments = {
        "input_ids": texts,
        "attention_mask": (texts != 0).long(),
        "max_new_tokens": 6,
        "use_cache": use_cache,
        **strategy,
    }
    results = []
    for model in (bimodal, t5):
        torch.manual_seed(2)
        results.append(model.generate(**arguments).tolist())
    assert results[0] == results[1]


def test_the_bimodal_model_embeds_text_and_code(torch, bimodal, t5, codes):
    mask = codes != 0
    states = t5.encoder(input_ids=codes, attention_mask=mask)[0][:, 0]
    projected = states @ bimodal.proj.weight.T + bimodal.proj.bias
    expected = projected / projected.norm(dim=1, keepdim=True)
    torch.testing.assert_close(bimodal.embed(codes, mask), expected)


def test_matching_reads_the_last_state_at_the_end_of_the_code_behind_its_task_token(
    torch, bimodal, t5, texts, codes
):
    asked = codes.clone()
    asked[:, 0] = 93  # [ENC], [TDEC], [CDEC] are the last of 96
    output = t5(
        input_ids=texts,
        attention_mask=texts != 0,
        decoder_input_ids=asked,
        decoder_attention_mask=codes != 0,
        output_hidden_states=True,
    )
    states = output.decoder_hidden_states[-1][[0, 1], [3, 5]]
    expected = states @ bimodal.itm_head.weight.T + bimodal.itm_head.bias
    got = bimodal.match(texts, codes, texts != 0, codes != 0)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
    assert codes[0, 0] == 1  # the caller's ids are as before
    unmasked = bimodal.match(texts[:1], codes[:1, :4])
    torch.testing.assert_close(unmasked, expected[:1], rtol=1e-5, atol=1e-5)
