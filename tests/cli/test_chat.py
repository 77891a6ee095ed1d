"""`codet5p chat`: messages in, answers out."""

import io
import os
import pty
import subprocess
import sys

import pytest

from codet5p_jax.cli.main import main
from codet5p_jax.loaded_model import load_model
from tests.tiny_checkpoint import model_dir  # noqa: F401


def _chat(monkeypatch, capsys, text, *flags):
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    with pytest.raises(SystemExit) as stopped:
        main(["chat", *flags])
    captured = capsys.readouterr()
    return stopped.value.code, captured.out, captured.err


def test_each_line_is_answered_with_what_generate_gives(model_dir, monkeypatch, capsys):  # noqa: F811
    flags = (f"--model={model_dir}", "--max_length=6")
    code, out, _ = _chat(monkeypatch, capsys, "reverse a list\n\nadd two numbers\n", *flags)
    loaded = load_model(model_dir)
    expected = [
        loaded.generate([text], task="instruct", max_length=6)[0]
        for text in ("reverse a list", "add two numbers")
    ]
    assert code == 0
    assert out == "".join(f"{answer}\n" for answer in expected)


def test_lines_that_end_with_a_backslash_are_one_message(model_dir, monkeypatch, capsys):  # noqa: F811
    flags = (f"--model={model_dir}", "--max_length=4", "--task=continue")
    lines = ("def f():\\\n    return\n", "def f():\\\r\n    return\r\n")
    joined = [_chat(monkeypatch, capsys, text, *flags)[1] for text in lines]
    loaded = load_model(model_dir)
    answer = loaded.generate(["def f():\n    return"], task="continue", max_length=4)[0]
    assert joined == [f"{answer}\n"] * 2


def test_quit_ends_and_what_follows_is_not_asked(model_dir, monkeypatch, capsys):  # noqa: F811
    flags = (f"--model={model_dir}", "--max_length=4")
    assert _chat(monkeypatch, capsys, "/quit\nreverse\n", *flags)[:2] == (0, "")


def test_an_answer_is_whole_characters(model_dir):  # noqa: F811
    """Bytes of one character come in several tokens; it appears when the last is there."""
    loaded = load_model(model_dir)
    pieces = list(loaded.stream("Grüße 你好", max_length=30))
    assert "".join(pieces) == loaded.generate(["Grüße 你好"], task="instruct", max_length=30)[0]


def test_flags_of_drawing_without_drawing_are_an_error(model_dir, monkeypatch, capsys):  # noqa: F811
    flags = (f"--model={model_dir}", "--top_p=0.9")
    code, _, err = _chat(monkeypatch, capsys, "x\n", *flags)
    assert code == 2 and "Add for example --temperature=0.8" in err


def test_a_folder_without_a_model_is_an_error(tmp_path, monkeypatch, capsys):
    code, _, err = _chat(monkeypatch, capsys, "x\n", f"--model={tmp_path}")
    assert code == 2 and str(tmp_path) in err


@pytest.mark.parametrize("flag", ["--max_length=0", "--max_length=-4", "--max_message=0"])
def test_lengths_are_one_or_more(model_dir, monkeypatch, capsys, flag):  # noqa: F811
    code, out, err = _chat(monkeypatch, capsys, "x\n", f"--model={model_dir}", flag)
    assert (code, out) == (2, "") and "must be 1 or more" in err


def test_a_message_that_cannot_be_asked_is_an_error(model_dir, monkeypatch, capsys):  # noqa: F811
    flags = (f"--model={model_dir}", "--max_length=2", "--max_message=9")
    code, out, err = _chat(monkeypatch, capsys, "x\n" + "long " * 50 + "\nx\n", *flags)
    assert code == 2 and out.count("\n") == 1
    assert "Message 2 has " in err and " tokens; --max_message is 9." in err
    # What Python makes of bytes that are no UTF-8.
    code, _, err = _chat(monkeypatch, capsys, "h\udcff\n", *flags)
    assert code == 2 and "Message 1 is no text in UTF-8." in err


def test_bytes_that_are_no_text_are_told(model_dir, monkeypatch, capsys):  # noqa: F811
    stdin = io.TextIOWrapper(io.BytesIO(b"h\xff\n"), encoding="ascii")
    monkeypatch.setattr("sys.stdin", stdin)
    with pytest.raises(SystemExit):
        main(["chat", f"--model={model_dir}"])
    assert "Message 1 is no text in UTF-8." in capsys.readouterr().err


def test_a_model_without_a_decoder_cannot_chat(model_dir, tmp_path, monkeypatch, capsys):  # noqa: F811
    main_ = ["export", f"--model_dir={model_dir}", f"--out={tmp_path / 'x'}", "--format=embedding"]
    with pytest.raises(SystemExit):
        main(main_)
    code, _, err = _chat(monkeypatch, capsys, "", f"--model={tmp_path / 'x'}")
    assert code == 2 and "holds an encoder alone, which embeds and answers nothing" in err


def test_without_standard_input_there_is_nothing_to_answer(model_dir, monkeypatch, capsys):  # noqa: F811
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(SystemExit):
        main(["chat", f"--model={model_dir}"])
    assert "standard input, which is closed" in capsys.readouterr().err


@pytest.mark.slow
def test_a_terminal_shows_a_prompt_and_ends_with_the_input(model_dir):  # noqa: F811
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "codet5p_jax.cli.main", "chat", f"--model={model_dir}"]
    process = subprocess.Popen(
        [*command, "--max_length=3"], stdin=follower, stdout=follower, stderr=subprocess.STDOUT
    )
    os.close(follower)
    os.write(leader, b"reverse\n/help\n\xff\n/quit\n")
    shown = b""
    while chunk := _read(leader):
        shown += chunk
    assert process.wait(timeout=120) == 0
    assert (
        b"parameters. Each message is" in shown
        and b">>> Each message is" in shown
        and shown.count(b">>> ") == 4
    )
    assert b"(not asked: the message is no text in UTF-8.)" in shown


def _read(leader):
    try:
        return os.read(leader, 4096)
    except OSError:  # the other end has closed
        return b""
