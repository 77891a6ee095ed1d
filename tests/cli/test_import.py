import json
import re

import numpy as np
import pytest

from codet5p_jax.checkpoint import load_checkpoint
from codet5p_jax.tokenizer import train_tokenizer


def test_an_import_of_an_export_is_a_model_dir_with_the_same_model(model_dir, tmp_path, codet5p):
    codet5p("export", f"--model_dir={model_dir}", f"--out={tmp_path / 'out'}")
    code, out, _ = codet5p("import", f"--from={tmp_path / 'out'}", f"--out={tmp_path / 'imported'}")
    assert code == 0 and f"INITIAL_CHECKPOINT_PATH={tmp_path / 'imported'}" in out

    before, after = load_checkpoint(model_dir), load_checkpoint(tmp_path / "imported")
    assert after.step == 0
    assert after.config.vocab_size == before.config.vocab_size
    assert after.tokenizer.fingerprint == before.tokenizer.with_task_tokens().fingerprint
    np.testing.assert_array_equal(
        after.params["decoder"]["layers"]["mlp"]["wi"]["kernel"],
        before.params["decoder"]["layers"]["mlp"]["wi"]["kernel"],
    )

    codet5p("export", f"--model_dir={tmp_path / 'imported'}", f"--out={tmp_path / 'again'}")
    first, again = (tmp_path / name / "model.safetensors" for name in ("out", "again"))
    assert again.read_bytes() == first.read_bytes()
    assert "The weights of `out`" in (tmp_path / "again" / "README.md").read_text()


@pytest.mark.parametrize("name", ["embedding", "bimodal"])
def test_an_import_knows_the_format_by_itself(model_dir, tmp_path, codet5p, name):
    codet5p("export", f"--model_dir={model_dir}", f"--out={tmp_path / 'out'}", f"--format={name}")
    code, _, _ = codet5p("import", f"--from={tmp_path / 'out'}", f"--out={tmp_path / 'imported'}")
    assert code == 0
    before, after = load_checkpoint(model_dir), load_checkpoint(tmp_path / "imported")
    heads = {"projection"} if name == "embedding" else {"projection", "matching_head", "decoder"}
    assert set(after.params) == {"token_embedder", "encoder"} | heads
    np.testing.assert_array_equal(
        after.params["projection"]["kernel"], before.params["projection"]["kernel"]
    )


def test_an_import_overwrites_no_checkpoint(model_dir, tmp_path, codet5p):
    codet5p("export", f"--model_dir={model_dir}", f"--out={tmp_path / 'out'}")
    code, _, error = codet5p("import", f"--from={tmp_path / 'out'}", f"--out={model_dir}")
    assert code == 2
    assert "already holds checkpoint_7; nothing was overwritten" in error


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", r"config\.json does not exist; expected a folder in Hugging Face format"),
        ("nope", r"folder \S+nope does not exist; .* downloaded first: `hf download NAME"),
        ("run", r"run is a MODEL_DIR; expected .* `codet5p export --model_dir=\S+run --out=DIR`"),
    ],
)
@pytest.mark.parametrize("command", ["import --from", "init --decoder=nowhere --encoder"])
def test_a_folder_that_is_no_model_is_an_error(tmp_path, codet5p, command, name, message):
    (tmp_path / "run" / "checkpoint_7").mkdir(parents=True)
    words = f"{command}={tmp_path / name}".split()
    code, _, error = codet5p(*words, f"--out={tmp_path / 'imported'}")
    assert code == 2
    assert re.search(message, error)
    assert not (tmp_path / "imported").exists()


def _truncated(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-9])


def _of_another_architecture(folder):
    config = json.loads((folder / "config.json").read_text())
    changes = {"model_type": "bart", "architectures": ["BartForConditionalGeneration"]}
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


def _of_a_codegen(folder):
    contents = {"model_type": "codegen", "architectures": ["CodeGenForCausalLM"]}
    (folder / "config.json").write_text(json.dumps(contents))


def _with_another_tokenizer(folder):
    train_tokenizer(["other text " * 9], 265, min_frequency=2).save(folder)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_truncated, r"model\.safetensors is damaged or cut off: .* announces [\d,]+ bytes"),
        (
            _of_another_architecture,
            r"model_type 'bart', architectures \['BartForConditionalGeneration'\]; supported: "
            r"model_type 't5' \(T5ForConditionalGeneration\), .*codet5p",
        ),
        (
            _of_a_codegen,
            r"supported: (?!.*\(CodeGenFor).* A CodeGen or Llama alone is half .*`codet5p init`",
        ),
        (_with_another_tokenizer, r"The tokenizer has 365 ids \(368 .*\) but .* has 373 rows"),
    ],
)
def test_a_folder_that_is_damaged_is_an_error_and_nothing_is_written(
    model_dir, tmp_path, codet5p, damage, message
):
    codet5p("export", f"--model_dir={model_dir}", f"--out={tmp_path / 'out'}")
    damage(tmp_path / "out")
    code, _, error = codet5p("import", f"--from={tmp_path / 'out'}", f"--out={tmp_path / 'new'}")
    assert code == 2
    assert re.search(message, " ".join(error.split()))
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_import_into_a_folder_of_other_things_is_an_error(model_dir, tmp_path, codet5p):
    codet5p("export", f"--model_dir={model_dir}", f"--out={tmp_path / 'out'}")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").write_text("years of work")
    code, _, error = codet5p("import", f"--from={tmp_path / 'out'}", f"--out={tmp_path / 'home'}")
    assert code == 2
    assert "holds other files than would be written there (thesis.tex)" in " ".join(error.split())
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["thesis.tex"]
