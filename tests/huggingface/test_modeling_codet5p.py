"""The encoder-decoder of CodeGen's blocks against CodeGen itself and a plain reimplementation."""

import copy

import numpy as np
import pytest

from tests.huggingface.model_folders import CODET5P, SIDE, randomize, write_weights

pytestmark = pytest.mark.slow  # `make test-hf` runs them, in two environments

INPUTS = [[11, 12, 13, 14, 15, 16], [21, 22, 23, 91, 91, 91], [31, 32, 91, 91, 91, 91]]
TARGETS = [[90, 41, 42, 43, 44], [90, 51, 52, 53, 54], [90, 61, 62, 63, 64]]
TOLERANCE = {"rtol": 1e-4, "atol": 1e-4}  # of float32 logits that reach some tens


def changed(**of_decoder):
    contents = copy.deepcopy(CODET5P)
    contents["decoder"].update(of_decoder)
    return contents


@pytest.fixture
def batch(torch):
    inputs = torch.tensor(INPUTS)
    return {
        "input_ids": inputs,
        "attention_mask": (inputs != 91).long(),
        "decoder_input_ids": torch.tensor(TARGETS),
    }


@pytest.fixture
def model(random_model):
    return random_model(CODET5P)


def logits_of(torch, model, **arguments):
    with torch.no_grad():
        return model(**arguments).logits


def cache_of(output):
    return output["cache"] if "cache" in output else output["past_key_values"]


# Against CodeGen


@pytest.mark.parametrize(
    ("heads", "width", "rotary"), [(4, 32, 4), (8, 48, 2), (4, 64, 16)], ids=str
)
@pytest.mark.parametrize(
    "mask",
    [
        None,
        [[1, 1, 1, 1, 1, 0], [1, 1, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1]],
        [[0, 1, 1, 1, 1, 1], [0, 0, 0, 0, 1, 1], [1, 1, 1, 1, 1, 1]],
    ],
    ids=["whole", "padded right", "padded left"],
)
def test_a_decoder_without_cross_attention_is_codegen(
    torch, transformers, random_model, heads, width, rotary, mask
):
    shape = {"n_embd": width, "n_head": heads, "rotary_dim": rotary}
    ours = random_model(changed(**shape, add_cross_attention=False)).decoder
    values = {k: v for k, v in {**SIDE, **shape, "n_layer": 3}.items() if k != "model_type"}
    theirs = transformers.CodeGenForCausalLM(
        transformers.CodeGenConfig(**values, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0)
    ).eval()
    theirs.load_state_dict(ours.state_dict())  # strict: the names are equal
    tokens = torch.tensor(INPUTS)
    mask = None if mask is None else torch.tensor(mask)

    our_logits, their_logits = ours(tokens, mask), theirs(tokens, attention_mask=mask).logits
    kept = torch.ones_like(tokens).bool() if mask is None else mask.bool()
    torch.testing.assert_close(our_logits[kept], their_logits[kept], **TOLERANCE)

    for logits in (our_logits, their_logits):
        logits[kept].logsumexp(-1).sum().backward()
    gradients = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], **TOLERANCE, msg=name)


# Against a plain reimplementation: head by head, token by token, in float64


class Plain:
    """CODET5P.md, 1.3, word by word; weights are those of a state dict."""

    def __init__(self, weights, config):
        self.weights = {name: w.numpy().astype(np.float64) for name, w in weights.items()}
        self.config = config

    def linear(self, name, x):
        bias = self.weights.get(f"{name}.bias", 0.0)
        return x @ self.weights[f"{name}.weight"].T + bias

    def norm(self, name, x):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
        return x * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    @staticmethod
    def head_rows(head, heads, width, part, parts):
        """Where the rows of a head lie in a fused projection of 4 groups of `parts`."""
        per_group, group = heads // 4, head // (heads // 4)
        local = width // 4
        begin = group * parts * local + part * local + (head - group * per_group) * (width // heads)
        return slice(begin, begin + width // heads)

    @staticmethod
    def turned(x, rotary):
        """Rotates the pairs of the first `rotary` numbers of each position."""
        x = x.copy()
        for position in range(len(x)):
            for pair in range(rotary // 2):
                angle = position / 10000 ** (2 * pair / rotary)
                a, b = x[position, 2 * pair], x[position, 2 * pair + 1]
                x[position, 2 * pair] = a * np.cos(angle) - b * np.sin(angle)
                x[position, 2 * pair + 1] = b * np.cos(angle) + a * np.sin(angle)
        return x

    def attention(self, query, key, value, visible, side):
        heads, width, rotary = side.n_head, side.n_embd, side.rotary_dim
        results = []
        for head in range(heads):
            q, k, v = (
                fused[:, self.head_rows(head, heads, width, part, parts)]
                for fused, part, parts in (query, key, value)
            )
            q, k = self.turned(q, rotary), self.turned(k, rotary)
            scores = q @ k.T / np.sqrt(width // heads)
            scores[~visible] = -np.inf
            weights = np.exp(scores - scores.max(-1, keepdims=True))
            results.append(weights / weights.sum(-1, keepdims=True) @ v)
        return np.concatenate(results, axis=1)

    def stack(self, prefix, side, tokens, visible, encoded=None, encoded_visible=None):
        x = self.weights[f"{prefix}.wte.weight"][tokens]
        for layer in range(side.n_layer):
            name = f"{prefix}.h.{layer}"
            n = self.norm(f"{name}.ln_1", x)
            fused = self.linear(f"{name}.attn.qkv_proj", n)
            attended = self.attention((fused, 0, 3), (fused, 2, 3), (fused, 1, 3), visible, side)
            h = self.linear(f"{name}.mlp.fc_in", n)
            h = 0.5 * h * (1 + np.tanh(np.sqrt(2 / np.pi) * (h + 0.044715 * h**3)))
            y = x + self.linear(f"{name}.attn.out_proj", attended)
            y = y + self.linear(f"{name}.mlp.fc_out", h)
            if f"{name}.crossattention.q_attn.weight" in self.weights:
                q = self.linear(f"{name}.crossattention.q_attn", n)
                kv = self.linear(f"{name}.crossattention.qkv_proj", encoded)
                crossed = self.attention((q, 0, 1), (kv, 1, 2), (kv, 0, 2), encoded_visible, side)
                y = y + self.linear(f"{name}.crossattention.out_proj", crossed)
            x = y
        return self.norm(f"{prefix}.ln_f", x)

    def logits(self, inputs, mask, targets):
        """Logits of one row."""
        read = np.asarray(mask, bool)
        encoded = self.stack(
            "encoder", self.config.encoder, inputs, np.tile(read, (len(inputs), 1))
        )
        if "enc_to_dec_proj.weight" in self.weights:
            encoded = self.linear("enc_to_dec_proj", encoded)
        decoded = self.stack(
            "decoder.transformer",
            self.config.decoder,
            targets,
            np.tril(np.ones([len(targets)] * 2, bool)),
            encoded,
            np.tile(read, (len(targets), 1)),
        )
        return self.linear("decoder.lm_head", decoded)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_it_is_the_plain_reimplementation_with_any_number_of_layers_that_cross(
    torch, random_model, batch, layers
):
    model = random_model(changed(n_cross_attention_layers=layers))
    crossing = [n for n in model.state_dict() if n.endswith("crossattention.q_attn.weight")]
    assert crossing == [
        f"decoder.transformer.h.{i}.crossattention.q_attn.weight" for i in range(3 - layers, 3)
    ]
    plain = Plain(model.state_dict(), model.config)
    rows = zip(INPUTS, batch["attention_mask"].tolist(), TARGETS, strict=True)
    expected = np.stack([plain.logits(*row) for row in rows])
    got = logits_of(torch, model, **batch).numpy()
    np.testing.assert_allclose(got, expected, **TOLERANCE)


def test_sides_of_equal_width_need_no_projection(torch, random_model, batch):
    contents = changed(n_embd=32, n_head=4)
    model = random_model(contents)
    assert not hasattr(model, "enc_to_dec_proj")
    plain = Plain(model.state_dict(), model.config)
    expected = plain.logits(INPUTS[0], [1] * 6, TARGETS[0])
    np.testing.assert_allclose(logits_of(torch, model, **batch)[0].numpy(), expected, **TOLERANCE)


# Cache and generation


def test_with_a_cache_each_token_has_the_logits_it_has_without(torch, random_model, batch):
    model = random_model(changed(n_cross_attention_layers=2))
    expected = logits_of(torch, model, **batch, use_cache=False)
    targets = batch.pop("decoder_input_ids")
    cache = None
    for i in range(targets.shape[1]):
        with torch.no_grad():
            output = model(
                **batch, decoder_input_ids=targets[:, i : i + 1], past_key_values=cache,
                use_cache=True,
            )  # fmt: skip
        cache = cache_of(output)
        torch.testing.assert_close(output.logits[:, 0], expected[:, i], **TOLERANCE)


def test_keys_and_values_of_the_encoder_are_made_once(torch, model, batch):
    targets = batch.pop("decoder_input_ids")
    projection = model.decoder.transformer.h[-1].crossattention.qkv_proj
    calls = []
    projection.register_forward_hook(lambda *_: calls.append(1))
    model.generate(**batch, decoder_input_ids=targets, max_new_tokens=4, min_new_tokens=4)
    assert len(calls) == 1


@pytest.mark.parametrize(
    "strategy",
    [
        {"do_sample": False},
        {"do_sample": True, "top_p": 0.9, "temperature": 0.8},
        {"do_sample": True, "num_return_sequences": 3},
        {"num_beams": 3},
        {"num_beams": 3, "num_return_sequences": 2, "length_penalty": 0.5},
    ],
    ids=["greedy", "sampled", "several samples", "beams", "several beams"],
)
@pytest.mark.parametrize("prompted", [False, True], ids=["alone", "prompted"])
def test_generation_with_a_cache_equals_generation_without(torch, model, batch, strategy, prompted):
    targets = batch.pop("decoder_input_ids")
    if prompted:
        batch["decoder_input_ids"] = targets
        batch["decoder_attention_mask"] = torch.ones_like(targets)
    results = []
    for use_cache in (True, False):
        torch.manual_seed(5)
        results.append(model.generate(**batch, **strategy, max_new_tokens=8, use_cache=use_cache))
    assert results[0].tolist() == results[1].tolist()
    start = targets.tolist() if prompted else [[90]] * 3
    each = strategy.get("num_return_sequences", 1)
    rows = [row for row in start for _ in range(each)]
    got = [row[: len(start[0])] for row in results[0].tolist()]
    assert got == rows


def test_greedy_takes_the_likeliest_token_of_each_step(torch, model, batch):
    targets = batch.pop("decoder_input_ids")
    got = model.generate(**batch, decoder_input_ids=targets, max_new_tokens=5, do_sample=False)
    tokens = targets
    for _ in range(5):
        logits = logits_of(torch, model, **batch, decoder_input_ids=tokens)
        tokens = torch.cat([tokens, logits[:, -1:].argmax(-1)], dim=1)
    for row, expected in zip(got.tolist(), tokens.tolist(), strict=True):
        end = expected.index(90, 5) + 1 if 90 in expected[5:] else len(expected)
        assert row[:end] == expected[:end]


def test_beams_find_what_is_at_least_as_likely_as_greedy(torch, model, batch):
    del batch["decoder_input_ids"]

    def likelihood(tokens):
        labels = tokens[:, 1:]
        logits = logits_of(torch, model, **batch, decoder_input_ids=tokens[:, :-1])
        return logits.log_softmax(-1).gather(2, labels[..., None]).sum((1, 2))

    fixed = {"min_new_tokens": 6, "max_new_tokens": 6, "do_sample": False}
    greedy, beams = (model.generate(**batch, **fixed, num_beams=n) for n in (1, 96))
    assert (likelihood(beams) >= likelihood(greedy) - 1e-3).all()
    assert greedy.tolist() != beams.tolist()  # the search matters


# Padding and positions


def test_a_decoder_prompt_padded_left_is_the_prompt_where_positions_say_so(torch, model, batch):
    inputs = {k: batch[k][:1] for k in ("input_ids", "attention_mask")}
    prompt = torch.tensor([[90, 41, 42]])
    padded = torch.tensor([[91, 91, 90, 41, 42]])
    mask = torch.tensor([[0, 0, 1, 1, 1]])
    positions = torch.tensor([[0, 0, 0, 1, 2]])
    expected = logits_of(torch, model, **inputs, decoder_input_ids=prompt)
    arguments = {"decoder_attention_mask": mask, "decoder_position_ids": positions}
    got = logits_of(torch, model, **inputs, decoder_input_ids=padded, **arguments)
    torch.testing.assert_close(got[:, 2:], expected, **TOLERANCE)
    by_column = logits_of(
        torch, model, **inputs, decoder_input_ids=padded, decoder_attention_mask=mask
    )
    assert (by_column[:, 2:] - expected).abs().max() > 1e-2  # cross-attention sees the columns


@pytest.mark.parametrize("use_cache", [True, False], ids=["cached", "not cached"])
def test_prompts_padded_left_generate_what_they_generate_alone(torch, model, batch, use_cache):
    alone = [[90, 41, 42], [90, 51, 52, 53, 54]]
    expected = [
        model.generate(
            input_ids=batch["input_ids"][:1], decoder_input_ids=torch.tensor([row]),
            max_new_tokens=5, min_new_tokens=5, do_sample=False,
        )[0, len(row) :].tolist()
        for row in alone
    ]  # fmt: skip
    got = model.generate(
        input_ids=batch["input_ids"][:1].repeat(2, 1),
        decoder_input_ids=torch.tensor([[91, 91, 90, 41, 42], [90, 51, 52, 53, 54]]),
        decoder_attention_mask=torch.tensor([[0, 0, 1, 1, 1], [1] * 5]),
        decoder_position_ids=torch.tensor([[0, 0, 0, 1, 2], [0, 1, 2, 3, 4]]),
        max_new_tokens=5,
        min_new_tokens=5,
        do_sample=False,
        use_cache=use_cache,
    )
    assert got[:, 5:].tolist() == expected


def test_padding_of_the_encoder_changes_nothing(torch, model, batch):
    expected = logits_of(
        torch,
        model,
        input_ids=torch.tensor([[31, 32]]),
        decoder_input_ids=torch.tensor(TARGETS[2:]),
    )
    torch.testing.assert_close(logits_of(torch, model, **batch)[2:], expected, **TOLERANCE)
    left = {
        "input_ids": torch.tensor([[91, 91, 31, 32]]),
        "attention_mask": torch.tensor([[0, 0, 1, 1]]),
        "position_ids": torch.tensor([[0, 0, 0, 1]]),
        "decoder_input_ids": torch.tensor(TARGETS[2:]),
    }
    torch.testing.assert_close(logits_of(torch, model, **left), expected, **TOLERANCE)


def test_a_row_of_padding_alone_gives_no_nan(torch, model, batch):
    batch["attention_mask"][1] = 0
    batch["decoder_attention_mask"] = torch.tensor([[1] * 5, [0] * 5, [0, 0, 1, 1, 1]])
    assert logits_of(torch, model, **batch).isfinite().all()


# Training


def test_labels_give_the_mean_cross_entropy_and_the_decoder_reads_them_one_later(
    torch, model, batch
):
    targets = batch.pop("decoder_input_ids")
    labels = torch.tensor([[41, 42, 43, 90], [51, 52, -100, -100], [61, 90, -100, -100]])
    output = model(**batch, labels=labels)
    shifted = torch.tensor([[90, 41, 42, 43], [90, 51, 52, 91], [90, 61, 90, 91]])
    logits = logits_of(torch, model, **batch, decoder_input_ids=shifted)
    torch.testing.assert_close(output.logits, logits)
    kept = labels != -100
    chosen = logits.log_softmax(-1)[kept].gather(1, labels[kept][:, None])
    torch.testing.assert_close(output.loss, -chosen.mean())
    output.loss.backward()
    without = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []
    assert targets.shape[1] == 5


def test_states_and_weights_of_every_layer_are_returned_when_asked_for(torch, model, batch):
    output = model(**batch, output_hidden_states=True, output_attentions=True)
    assert [len(output[f"{side}_hidden_states"]) for side in ("encoder", "decoder")] == [3, 4]
    assert [len(output[f"{side}_attentions"]) for side in ("encoder", "decoder")] == [2, 3]
    (crossed,) = output.cross_attentions
    assert crossed.shape == (3, 8, 5, 6)
    torch.testing.assert_close(crossed.sum(-1), torch.ones(3, 8, 5))
    head = model.decoder.lm_head
    torch.testing.assert_close(head(output.decoder_hidden_states[-1]), output.logits)
    reused = model(
        attention_mask=batch["attention_mask"],
        encoder_outputs=(output.encoder_last_hidden_state,),
        decoder_input_ids=batch["decoder_input_ids"],
        return_dict=False,
    )
    torch.testing.assert_close(reused[0], output.logits)


def test_half_precision_runs_and_stays_near(torch, model, batch):
    expected = logits_of(torch, model, **batch)
    got = logits_of(torch, model.to(torch.bfloat16), **batch)
    assert got.dtype == torch.bfloat16
    # three digits a number, and some ten sums on the way
    assert (got.float() - expected).abs().max() < 0.1 * expected.abs().max()


# Files


def test_the_weights_are_called_as_in_the_released_checkpoints(random_model):
    model = random_model(CODET5P)
    block = ("attn.qkv_proj.weight", "attn.out_proj.weight", "mlp.fc_in.weight", "mlp.fc_in.bias",
             "mlp.fc_out.weight", "mlp.fc_out.bias", "ln_1.weight", "ln_1.bias")  # fmt: skip
    stacks = {"encoder": 2, "decoder.transformer": 3}
    crossed = "decoder.transformer.h.2.crossattention"
    assert set(model.state_dict()) == {
        *(f"{stack}.h.{i}.{n}" for stack, layers in stacks.items() for i in range(layers)
          for n in block),
        *(f"{s}.{n}" for s in stacks for n in ("wte.weight", "ln_f.weight", "ln_f.bias")),
        *(f"{crossed}.{n}.weight" for n in ("q_attn", "qkv_proj", "out_proj")),
        *("decoder.lm_head.weight", "decoder.lm_head.bias"),
        *("enc_to_dec_proj.weight", "enc_to_dec_proj.bias"),
    }  # fmt: skip


@pytest.mark.parametrize("auto", ["AutoModel", "AutoModelForSeq2SeqLM"])
def test_a_folder_loads_and_what_is_saved_loads_again(
    torch, transformers, folder_of, random_model, batch, tmp_path, auto
):
    folder = folder_of(CODET5P)
    model = random_model(CODET5P, folder=folder)
    expected = logits_of(torch, model, **batch)
    write_weights(folder, model.state_dict())
    for source, saved in ((folder, tmp_path / "once"), (tmp_path / "once", tmp_path / "twice")):
        loaded, info = getattr(transformers, auto).from_pretrained(
            source, trust_remote_code=True, output_loading_info=True
        )
        assert not any(info.values()), info
        torch.testing.assert_close(logits_of(torch, loaded.eval(), **batch), expected)
        loaded.save_pretrained(saved)
    assert (tmp_path / "twice" / "modeling_codet5p.py").exists()


def test_masks_that_old_files_hold_are_ignored(torch, transformers, folder_of, random_model, batch):
    folder = folder_of(CODET5P)
    model = random_model(CODET5P, folder=folder)
    masks = {
        f"{stack}.h.{i}.attn.causal_mask": torch.ones(1, 1, 8, 8, dtype=torch.uint8)
        for stack, layers in (("encoder", 2), ("decoder.transformer", 3))
        for i in range(layers)
    }
    write_weights(folder, {**model.state_dict(), **masks})
    loaded, info = transformers.AutoModelForSeq2SeqLM.from_pretrained(
        folder, trust_remote_code=True, output_loading_info=True
    )
    assert not any(info.values()), info
    torch.testing.assert_close(
        logits_of(torch, loaded.eval(), **batch), logits_of(torch, model, **batch)
    )


def test_a_config_with_every_key_of_the_released_ones_is_read(transformers, folder_of):
    """Configs of 2023 hold each side's settings of generation, and null for what they miss."""
    old = {
        "_name_or_path": "codet5p-350m-encoder",
        "bad_words_ids": None,
        "chunk_size_feed_forward": 0,
        "cross_attention_hidden_size": None,
        "decoder_start_token_id": 90,
        "diversity_penalty": 0.0,
        "do_sample": False,
        "early_stopping": False,
        "finetuning_task": None,
        "forced_bos_token_id": None,
        "gradient_checkpointing": False,
        "id2label": {"0": "LABEL_0", "1": "LABEL_1"},
        "label2id": {"LABEL_0": 0, "LABEL_1": 1},
        "length_penalty": 1.0,
        "max_length": 20,
        "n_inner": None,
        "no_repeat_ngram_size": 0,
        "num_beams": 1,
        "output_attentions": False,
        "pad_token_id": None,
        "pruned_heads": {},
        "repetition_penalty": 1.0,
        "return_dict": True,
        "scale_attn_weights": True,
        "summary_first_dropout": 0.1,
        "temperature": 1.0,
        "tf_legacy_loss": False,
        "tie_encoder_decoder": False,
        "tie_word_embeddings": False,
        "tokenizer_class": "GPT2Tokenizer",
        "top_k": 50,
        "torch_dtype": "float16",
        "transformers_version": "4.21.3",
        "use_bfloat16": False,
        "use_cache": True,
    }
    contents = copy.deepcopy(CODET5P)
    for side in ("encoder", "decoder"):
        contents[side] = {**old, **contents[side]}
    contents |= {"_commit_hash": None, "torch_dtype": "float16", "transformers_version": None}
    config = transformers.AutoConfig.from_pretrained(folder_of(contents), trust_remote_code=True)
    assert type(config).__name__ == "CodeT5pConfig" and config.model_type == "codet5p"
    assert config.is_encoder_decoder and config.decoder_start_token_id == 90
    assert (config.encoder.hidden_size, config.decoder.hidden_size) == (32, 48)
    assert config.decoder.add_cross_attention and config.decoder.n_cross_attention_layers == 1
    assert config.encoder.n_cross_attention_layers == 0


@pytest.mark.parametrize(
    "shape", [{"n_embd": 50, "n_head": 8}, {"n_embd": 48, "n_head": 6}], ids=str
)
def test_heads_that_fill_no_four_groups_are_an_error(transformers, folder_of, shape):
    with pytest.raises(ValueError, match="and n_head of 4: the fused projections are stored in 4"):
        transformers.AutoConfig.from_pretrained(folder_of(changed(**shape)), trust_remote_code=True)


def test_a_decoder_without_inputs_is_an_error(torch, model, batch):
    del batch["decoder_input_ids"]
    with pytest.raises(ValueError, match="Give decoder_input_ids, decoder_inputs_embeds or labels"):
        model(**batch)


def test_a_new_model_is_initialised_small(torch, transformers, folder_of):
    config = transformers.AutoConfig.from_pretrained(folder_of(CODET5P), trust_remote_code=True)
    model = transformers.AutoModel.from_config(config, trust_remote_code=True)
    assert 0.01 < model.decoder.transformer.h[0].mlp.fc_in.weight.std() < 0.03
    assert not model.decoder.lm_head.bias.any()
    assert (model.encoder.ln_f.weight == 1).all()
    randomize(model)
    assert model.decoder.lm_head.bias.any()
