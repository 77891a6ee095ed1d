"""Tests of codet5p_jax.corpus.evaluation_sets."""

import gzip
import json

import pytest

from codet5p_jax.corpus.evaluation_sets import content_digest, name_of, read_items, read_names

HUMAN_EVAL = {
    "task_id": "HumanEval/0",
    "prompt": "def add(a, b):\n",
    "canonical_solution": "    return a + b\n",
}
MBPP = {"task_id": 1, "text": "Add.", "code": "x = 1", "test_list": ["assert x", "assert 1"]}
SEARCH_NET = {"repo": "owner/name", "code": "def f(): pass", "language": "python"}


def test_every_string_of_json_lines_is_text_of_its_item(tmp_path):
    content = "\n".join(json.dumps(line, ensure_ascii=False) for line in (HUMAN_EVAL, MBPP))
    (tmp_path / "sets.jsonl.gz").write_bytes(gzip.compress(content.encode()))
    items = [item.texts for item in read_items(tmp_path / "sets.jsonl.gz")]
    assert items == [
        tuple(HUMAN_EVAL.values()),
        ("Add.", "x = 1", "assert x", "assert 1"),
    ]


def test_separators_of_lines_inside_of_a_string_do_not_split_it(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"code": "a\u2028b"}\n', encoding="utf-8")
    assert [item.texts for item in read_items(tmp_path / "a.jsonl")] == [("a\u2028b",)]


def test_a_json_file_is_a_list_of_items(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps([MBPP, SEARCH_NET]))
    assert len(list(read_items(tmp_path / "a.json"))) == 2


def test_a_folder_is_read_in_order_without_hidden_and_binary_files(tmp_path):
    for name, content in {
        "b/two.py": b"x = 2",
        "a.py": b"x = 1",
        ".git/config": b"x = 3",
        "image.bin": b"\0\1",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    assert [item.texts for item in read_items(tmp_path)] == [("x = 1",), ("x = 2",)]


def test_repositories_come_from_a_file_of_names_and_from_fields(tmp_path):
    (tmp_path / "repositories.txt").write_text("# used in the paper\na/b\n")
    (tmp_path / "test.jsonl").write_text(json.dumps(SEARCH_NET))
    items = list(read_items(tmp_path))
    assert [item.repositories for item in items] == [("a/b",), ("owner/name",)]


def test_names_are_read_from_a_file_with_comments(tmp_path):
    (tmp_path / "names.txt").write_text("# CodeSearchNet\nowner/b\n\nc  # twice\n")
    assert read_names(tmp_path / "names.txt") == ["owner/b", "c"]
    with pytest.raises(FileNotFoundError, match=r"No file of names of repositories at .*none\.txt"):
        read_names(tmp_path / "none.txt")


@pytest.mark.parametrize(
    ("path", "name"),
    [("sets/HumanEval.jsonl.gz", "HumanEval"), ("sets/mbpp/", "mbpp"), ("x.json", "x")],
)
def test_a_set_is_called_as_its_file_or_folder(path, name):
    assert name_of(path) == name


def test_the_digest_depends_on_names_and_content_alone(tmp_path):
    digests = []
    for folder, name, content in (
        *(("1", "a", "x"), ("2", "a", "x"), ("3", "a", "y"), ("4", "b", "x")),
    ):
        (tmp_path / folder).mkdir()
        path = tmp_path / folder / f"{name}.py"
        path.write_text(content)
        digests.append(content_digest([path]))
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


def test_a_path_that_is_not_there_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No evaluation set at .*nowhere"):
        list(read_items(tmp_path / "nowhere"))


def test_a_file_that_is_no_json_is_told(tmp_path):
    for text in ("{'code': 1}\n", "[" * 10_000):
        (tmp_path / "a.jsonl").write_text(text)
        with pytest.raises(ValueError, match=r"a\.jsonl is no JSON"):
            list(read_items(tmp_path / "a.jsonl"))
