import json

import pytest


@pytest.fixture
def exported(model_dir, tmp_path, codet5p):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    codet5p("export", f"--model_dir={model_dir}", f"--out={tmp_path / 'out'}")
    return tmp_path / "out"


def test_an_export_is_verified_and_a_damaged_one_is_not(exported, model_dir, codet5p):
    words = ("verify", f"--export={exported}", f"--model_dir={model_dir}", "--max_length=6")
    code, out, _ = codet5p(*words)
    assert code == 0 and "PASSED" in out
    verdict = json.loads((exported / "verification.json").read_text())
    assert verdict["passed"] and verdict["step"] == 7
    assert {"torch", "transformers", "jax"} <= set(verdict["versions"])

    weights = bytearray((exported / "model.safetensors").read_bytes())
    half = len(weights) // 2 // 8 * 8
    weights[half : half + 4096] = bytes(4096)
    (exported / "model.safetensors").write_bytes(weights)
    code, out, _ = codet5p(*words)
    assert code == 1 and "FAILED" in out
    assert not json.loads((exported / "verification.json").read_text())["passed"]


@pytest.mark.parametrize(
    ("name", "compared"),
    [("embedding", {"embedding"}), ("bimodal", {"logits", "embedding", "matching"})],
)
def test_embeddings_and_matching_scores_are_verified_where_the_format_has_them(
    model_dir, tmp_path, codet5p, name, compared
):
    pytest.importorskip("transformers")
    codet5p("export", f"--model_dir={model_dir}", f"--out={tmp_path / 'out'}", f"--format={name}")
    code, out, _ = codet5p(
        "verify", f"--export={tmp_path / 'out'}", f"--model_dir={model_dir}", "--max_length=6"
    )
    assert code == 0 and "PASSED" in out
    assert "…" not in out  # nothing is cut in a log
    verdict = json.loads((tmp_path / "out" / "verification.json").read_text())
    assert verdict["format"] == name and set(verdict["worst"]) == compared
    assert max(verdict["worst"].values()) < 1e-4


def test_a_folder_that_is_no_export_is_an_error(model_dir, tmp_path, codet5p):
    pytest.importorskip("transformers")
    code, _, error = codet5p("verify", f"--export={tmp_path}", f"--model_dir={model_dir}")
    assert code == 2
    assert "holds no config.json; expected an export" in error
