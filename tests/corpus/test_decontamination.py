"""Tests of codet5p_jax.corpus.decontamination."""

from codet5p_jax.corpus.decontamination import decontaminate, read_names
from codet5p_jax.corpus.sources import Source


def test_repositories_of_evaluation_sets_are_left_out_and_told():
    sources = [Source(name=n, ecosystem="pip", places=()) for n in ("a", "Owner/B", "c", "d")]
    kept, dropped = decontaminate(sources, ["owner/b", "someone/c"])
    assert [s.name for s in kept] == ["a", "d"]
    assert [s.name for s in dropped] == ["Owner/B", "c"]


def test_names_are_read_from_a_file_with_comments(tmp_path):
    (tmp_path / "names.txt").write_text("# CodeSearchNet\nowner/b\n\nc  # twice\n")
    assert read_names(tmp_path / "names.txt") == ["owner/b", "c"]
