"""What the documents name exists: files they link to, commands, flags and gin files."""

import argparse
import pathlib
import re

import pytest

from codet5p_jax.cli.main import COMMANDS, flags_module
from tests.tiny_checkpoint import model_dir  # noqa: F401

ROOT = pathlib.Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "launch/README.md"])


def _name(page):
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_links_lead_somewhere(page):
    targets = re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
    missing = [t for t in targets if "://" not in t and not (page.parent / t).exists()]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_commands_and_their_flags_exist(page):
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    for command, rest in re.findall(r"^ {4}codet5p (\w+)(.*)$", text, flags=re.M):
        assert command in COMMANDS, f"{command} in {_name(page)}"
        known = _flags(command)
        rest = rest.partition(" -- ")[0]  # what follows belongs to Beam
        used = set(re.findall(r"--[a-z_]+(?![\w.])", rest))
        assert used <= known, f"codet5p {command} has no {sorted(used - known)} ({_name(page)})"


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_gin_files_exist(page):
    for path in re.findall(r"--gin_file=([\w/]+\.gin)", page.read_text(encoding="utf-8")):
        assert (ROOT / "gin" / path).exists(), path


@pytest.mark.parametrize(
    "page", ["docs/metrics.md", pytest.param("docs/modes.md", marks=pytest.mark.slow)]
)
def test_python_blocks_run_one_after_the_other(page, model_dir, tmp_path, monkeypatch):  # noqa: F811
    (tmp_path / "runs" / "quickstart").mkdir(parents=True)
    (tmp_path / "runs" / "quickstart" / "stage2").symlink_to(model_dir)
    monkeypatch.chdir(tmp_path)
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    assert blocks
    exec(compile("\n".join(blocks), page, "exec"), {})


def _flags(command):
    parser = argparse.ArgumentParser()
    flags_module(command).add_arguments(parser)
    return set(_option_strings(parser))


def _option_strings(parser):
    for action in parser._actions:
        yield from action.option_strings
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield from _option_strings(inner)
