"""Tests of codet5p_jax.cli.tokenizer_checks."""

import dataclasses

import pytest

from codet5p_jax.cli.tokenizer_checks import check_fits
from codet5p_jax.models.sizes import model_config
from tests.codegen_model import codegen_config
from tests.corpora import codegen, codegen_dir, tokenizer  # noqa: F401


def _t5(vocab_size):
    return dataclasses.replace(model_config("codet5p_test"), vocab_size=vocab_size)


def test_a_t5_has_a_row_for_each_id_of_the_tokenizer_and_no_more(tokenizer):  # noqa: F811
    size = tokenizer.vocab_size
    check_fits(_t5(size), tokenizer, asking_streams=[])
    check_fits(_t5(size + 3), tokenizer, asking_streams=[])
    check_fits(_t5(size + 3), tokenizer, asking_streams=["pairs"])
    with pytest.raises(ValueError, match=f"'pairs' asks with the .*; set it to {size + 3}"):
        check_fits(_t5(size), tokenizer, asking_streams=["pairs"])
    with pytest.raises(ValueError, match=f"has {size} ids, {size + 3} with the task tokens"):
        check_fits(_t5(size + 1), tokenizer, asking_streams=[])


def test_a_codegen_based_model_may_have_rows_to_spare(codegen):  # noqa: F811
    check_fits(codegen_config(codegen), codegen, asking_streams=["pairs"])
    check_fits(codegen_config(codegen, rows=2_000), codegen, asking_streams=[])
    with pytest.raises(ValueError, match=r"has 1,042 rows .* has 1,043 of them"):
        check_fits(codegen_config(codegen, rows=1_042, pad_id=0), codegen, asking_streams=[])


def test_ids_with_a_meaning_are_those_of_the_tokenizer(codegen):  # noqa: F811
    with pytest.raises(ValueError, match=r"it has pad_id 0, not 1042, start_id 5, not 899 as"):
        check_fits(codegen_config(codegen, pad_id=0, start_id=5), codegen, asking_streams=[])
    other_match = codegen_config(codegen, match_id=7)
    check_fits(other_match, codegen, asking_streams=[])  # nobody asks with it
    with pytest.raises(ValueError, match=r"match_id 7, .*set its match_id to those of this one"):
        check_fits(other_match, codegen, asking_streams=["pairs"])


def test_a_t5_does_not_read_codegens_tokens(codegen):  # noqa: F811
    with pytest.raises(ValueError, match="made for another tokenizer: it has pad_id 0, not 1042"):
        check_fits(_t5(codegen.vocab_size), codegen, asking_streams=[])
