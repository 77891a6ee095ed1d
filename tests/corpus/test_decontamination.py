"""Tests of codet5p_jax.corpus.decontamination."""

import json

import pytest

from codet5p_jax.corpus.decontamination import (
    MAX_ITEMS,
    EvaluationGrams,
    decontaminate,
    write_evaluation_grams,
)
from codet5p_jax.corpus.sources import Source

SOLUTION = "for number in values:\n    if number > limit:\n        total += weight(number)\n"
OTHER = "while not queue.empty():\n    task = queue.get(timeout=delay)\n    run(task, name)\n"


@pytest.fixture
def grams(tmp_path):
    def write(**sets):
        """Sets by name: each a list of texts, one an item."""
        paths = []
        for name, texts in sets.items():
            paths.append(tmp_path / f"{name}.jsonl")
            paths[-1].write_text("\n".join(json.dumps({"code": text}) for text in texts))
        write_evaluation_grams(paths, tmp_path / "grams", repositories=["owner/b"])
        return EvaluationGrams(tmp_path / "grams")

    return write


def test_repositories_of_evaluation_sets_are_left_out_and_told():
    sources = [Source(name=n, ecosystem="pip", places=()) for n in ("a", "Owner/B", "c", "d")]
    kept, dropped = decontaminate(sources, ["owner/b", "someone/c"])
    assert [s.name for s in kept] == ["a", "d"]
    assert [s.name for s in dropped] == ["Owner/B", "c"]


def test_a_text_that_shares_thirteen_tokens_is_of_the_set(grams):
    found = grams(first=[SOLUTION], second=[OTHER])
    texts = [
        b"def f(values):\n    " + SOLUTION.replace("\n", "\n\t").encode(),
        OTHER.replace("run(task", "start(task").encode(),
        " ".join(SOLUTION.split()[:6]).encode(),
        SOLUTION.replace("number", "n").encode(),
        b"",
    ]
    assert found.sets_of(texts) == ["first", "second", None, None, None]
    assert found.sets_of([]) == []


def test_of_two_sets_the_first_is_told(grams):
    found = grams(first=[SOLUTION], second=[SOLUTION + OTHER])
    both = (OTHER + SOLUTION).encode()
    assert found.sets_of([both, OTHER.encode()]) == ["first", "second"]


def test_numbers_brackets_and_loops_do_not_tell(grams):
    table = "x = [[0, 1, 2], [3, 4, 5], [6, 7, 8], [0, 0, 0]]; y = ((((((((((1))))))))))"
    found = grams(one=[SOLUTION + table])
    assert found.sets_of([table.encode()]) == [None]


def test_what_many_items_of_a_set_have_does_not_tell(grams):
    harness = "if __name__ == '__main__': import sys, unittest; sys.exit(unittest.main(verbosity))"
    found = grams(one=[f"{harness}\n{SOLUTION.replace('n', f'n{i}')}" for i in range(MAX_ITEMS)])
    assert found.sets_of([harness.encode()]) == ["one"]
    found = grams(one=[f"{harness}\n{SOLUTION.replace('n', f'n{i}')}" for i in range(20)])
    assert found.sets_of([harness.encode(), SOLUTION.replace("n", "n7").encode()]) == [None, "one"]


def test_secrets_are_replaced_in_evaluation_sets_as_in_the_corpus(grams):
    text = "send(message, sender='jane@roe.org', subject=title, body=text, retries=3)"
    found = grams(one=[text])
    assert found.sets_of([text.replace("jane@roe.org", "<EMAIL>").encode()]) == ["one"]


def test_repositories_of_rows_are_known_by_name(grams):
    found = grams(one=[SOLUTION])
    assert found.names_repository("Owner/B") and found.names_repository("b")
    assert not found.names_repository("owner/c")


def test_names_alone_make_no_gram(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set/repositories.txt").write_text("a/b\n")
    assert write_evaluation_grams([tmp_path / "set"], tmp_path / "grams") == ["a/b"]
    found = EvaluationGrams(tmp_path / "grams")
    assert found.sets_of([SOLUTION.encode()]) == [None]
    assert found.names_repository("a/b")


def test_a_set_without_text_is_told(tmp_path):
    (tmp_path / "set.jsonl").write_text('{"code": "x = 1"}\n')
    with pytest.raises(ValueError, match=r"set\.jsonl has no text of 13 tokens"):
        write_evaluation_grams([tmp_path / "set.jsonl"], tmp_path / "grams")
