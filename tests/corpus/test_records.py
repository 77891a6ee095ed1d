"""Tests of codet5p_jax.corpus.records."""

from codet5p_jax.corpus.records import (
    FILE_FEATURES,
    FUNCTION_FEATURES,
    CodeFile,
    CodeFunction,
    code_id,
    fields_of,
)


def test_code_that_differs_in_whitespace_only_has_one_id():
    assert code_id("int  f()\r\n{ }") == code_id("int f(){}")
    assert code_id("int f(){}") != code_id("int g(){}")
    assert len(code_id("")) == 16


def test_fields_of_records_are_the_features_of_the_datasets():
    common = dict(code="x", language="c", license="MIT", repository="r", path="p")
    assert sorted(fields_of(CodeFile(**common))) == list(FILE_FEATURES)
    function = CodeFunction(docstring="d", name="n", id="0", **common)
    assert sorted(fields_of(function)) == list(FUNCTION_FEATURES)
