import pytest

SHORT = ("--max_length=4",)


def test_a_model_dir_and_its_export_generate_the_same(model_dir, tmp_path, codet5p):
    codet5p("export", f"--model_dir={model_dir}", f"--out={tmp_path / 'out'}")
    first = codet5p("infer", f"--model_dir={model_dir}", "--text=def mean(", *SHORT)
    second = codet5p("infer", f"--export={tmp_path / 'out'}", "--text=def mean(", *SHORT)
    assert first[:2] == second[:2]
    assert first[0] == 0 and first[1].strip()


def test_a_file_is_read_and_several_samples_have_headings(model_dir, tmp_path, codet5p):
    (tmp_path / "code.py").write_text("def mean(values):\n")
    code, out, _ = codet5p(
        "infer",
        f"--model_dir={model_dir}",
        f"--file={tmp_path / 'code.py'}",
        "--task=code_to_text",
        "--samples=2",
        "--temperature=0.8",
        "--top_p=0.9",
        *SHORT,
    )
    assert code == 0
    assert "--- def mean(values): [1]" in out and "--- def mean(values): [2]" in out


@pytest.mark.parametrize("flag", ["--samples=2", "--top_k=5", "--top_p=0.5"])
def test_drawing_without_a_temperature_is_an_error(model_dir, codet5p, flag):
    code, _, error = codet5p("infer", f"--model_dir={model_dir}", "--text=x", flag)
    assert code == 2
    assert "--temperature is 0, which takes the likeliest" in error


@pytest.mark.parametrize("flag", ["--max_length=0", "--samples=-1"])
def test_counts_are_one_or_more(model_dir, codet5p, flag):
    code, _, error = codet5p("infer", f"--model_dir={model_dir}", "--text=x", flag)
    assert code == 2 and "must be 1 or more" in error


def test_a_text_that_is_no_utf8_is_an_error(model_dir, codet5p):
    code, _, error = codet5p("infer", f"--model_dir={model_dir}", "--text=h\udcff")
    assert code == 2 and "can't encode character '\\udcff' in position 1" in error
