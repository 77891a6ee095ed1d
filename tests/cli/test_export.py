import json

import pytest

from codet5p_jax.checkpoint import load_checkpoint
from codet5p_jax.cli.export import provenance


def test_export_writes_the_folder_and_tells_what_is_left_out(model_dir, tmp_path, codet5p):
    code, out, _ = codet5p("export", f"--model_dir={model_dir}", f"--out={tmp_path / 'out'}")
    assert code == 0
    assert f"Exported step 7 of {model_dir} to {tmp_path / 'out'}" in out
    assert "Left out" in out and "matching_head/kernel" in out and "projection/kernel" in out
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {
        "README.md",
        "config.json",
        "generation_config.json",
        "merges.txt",
        "model.safetensors",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.json",
    }


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("embedding", {"configuration_codet5p_embedding.py", "modeling_codet5p_embedding.py"}),
        (
            "bimodal",
            {
                "configuration_codet5p_bimodal.py",
                "generation_config.json",
                "modeling_codet5p_bimodal.py",
            },
        ),
    ],
)
def test_other_formats_are_written_with_their_code(model_dir, tmp_path, codet5p, name, files):
    words = ("export", f"--model_dir={model_dir}", f"--out={tmp_path / 'out'}", f"--format={name}")
    assert codet5p(*words)[0] == 0
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == files | {
        "README.md",
        "config.json",
        "merges.txt",
        "model.safetensors",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.json",
    }
    code, out, _ = codet5p(*words)  # an export of any format is replaced
    assert code == 0
    assert ("Left out" in out) == (name == "embedding")


def test_a_step_that_does_not_exist_is_an_error_that_names_those_that_do(
    model_dir, tmp_path, codet5p
):
    code, _, error = codet5p(
        "export", f"--model_dir={model_dir}", "--step=9", f"--out={tmp_path / 'out'}"
    )
    assert code == 2
    assert "checkpoint_9" in error and "checkpoint_7" in error
    assert not (tmp_path / "out").exists()


def test_the_tokenizer_of_another_model_is_an_error(model_dir, tmp_path, codet5p):
    vocab = json.loads((model_dir.parent / "its_tokenizer" / "vocab.json").read_text())
    other = tmp_path / "other"
    other.mkdir()
    (other / "vocab.json").write_text(json.dumps({e: i for e, i in vocab.items() if i < 269}))
    merges = (model_dir.parent / "its_tokenizer" / "merges.txt").read_text().splitlines()
    (other / "merges.txt").write_text("\n".join(merges[:-1]) + "\n")
    code, _, error = codet5p(
        "export",
        f"--model_dir={model_dir}",
        f"--tokenizer_dir={other}",
        f"--out={tmp_path / 'out'}",
    )
    assert code == 2
    assert "was trained with tokenizer" in error and "--tokenizer_dir=DIR" in error


def test_a_tokenizer_that_has_moved_is_an_error_that_tells_the_flag(
    model_dir, tmp_path, monkeypatch
):
    monkeypatch.setattr("codet5p_jax.checkpoint.recorded_path", lambda entry: tmp_path / "gone")
    with pytest.raises(FileNotFoundError, match=r"gone.*Say where it lies .*--tokenizer_dir"):
        load_checkpoint(model_dir)


def test_the_model_card_quotes_corpus_and_evaluation(model_dir, tmp_path):
    corpus, run = tmp_path / "corpus", tmp_path / "run"
    corpus.mkdir()
    run.mkdir()
    manifest = {
        "recipe": "quickstart",
        "languages": {"go": {"train": {"code_files": 3, "pairs": 9}, "test": {"code_files": 1}}},
        "licenses": {"mit": {"code_files": 8, "pairs": 9}},
    }
    (corpus / "manifest.json").write_text(json.dumps(manifest))
    (run / "evaluation.json").write_text(json.dumps({"retrieval": {"mrr": 0.5}}))
    checkpoint = load_checkpoint(model_dir)
    checkpoint.metadata["corpus"] = {"path": str(corpus), "fingerprint": "f00d"}

    facts = provenance(str(run), checkpoint)
    assert facts.steps == 7
    assert facts.corpus == {"recipe": "quickstart", "fingerprint": "f00d"}
    assert facts.languages == {"go": 3}
    assert facts.licenses == {"mit": 8}
    assert facts.evaluation == {"retrieval": {"mrr": 0.5}}


def test_a_damaged_evaluation_is_an_error_that_names_the_file(model_dir, tmp_path):
    (tmp_path / "evaluation.json").write_text("{")
    with pytest.raises(ValueError, match=r"evaluation\.json' is no JSON file"):
        provenance(str(tmp_path), load_checkpoint(model_dir))


def test_without_a_recorded_corpus_no_manifest_is_quoted(model_dir, tmp_path, monkeypatch):
    (tmp_path / "manifest.json").write_text(json.dumps({"recipe": "of something else"}))
    monkeypatch.chdir(tmp_path)
    assert provenance(str(model_dir), load_checkpoint(model_dir)).corpus == {}


def test_the_model_card_quotes_the_last_losses_before_the_checkpoint(model_dir, tmp_path):
    checkpoint = load_checkpoint(model_dir)
    assert provenance(str(tmp_path), checkpoint).losses == {}
    records = [
        {"step": 4, "split": "eval", "text/loss": 5.0},
        {"step": 6, "split": "train", "loss": 4.5, "text/loss": 4.5, "accuracy": 0.1},
        {"step": 7, "split": "train", "loss": 4.0, "text/loss": float("nan")},
        {"step": 8, "split": "eval", "text/loss": 3.0},  # behind the checkpoint, of step 7
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(f"{json.dumps(r)}\n" for r in records))
    assert provenance(str(tmp_path), checkpoint).losses == {
        "text/loss": (4.5, 5.0),
        "loss": (4.0, None),
    }


def test_the_model_card_names_instructions_and_where_the_training_began(model_dir, tmp_path):
    checkpoint = load_checkpoint(model_dir)
    halves = {"encoder": {"name": "small"}, "decoder": {"name": "large"}}
    checkpoint.metadata["instruction_files"] = {"made": {"path": "/made.json", "fingerprint": "af"}}
    checkpoint.metadata["initial_checkpoint"] = {
        "path": "/runs/stage1",
        "initialized_from": {**halves, "seed": 3},
    }
    facts = provenance(str(tmp_path), checkpoint)
    assert facts.instructions == {"made": "af"}
    assert facts.began_from == "stage1"
    assert facts.halves == halves
