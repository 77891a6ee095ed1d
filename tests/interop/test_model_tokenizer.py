import dataclasses

import pytest

from codet5p_jax.interop.model_tokenizer import differing_ids, fitting_tokenizer, models_tokenizer


def test_task_tokens_are_added_where_the_vocabulary_has_them(tokenizer):
    assert fitting_tokenizer(tokenizer, 393).has_task_tokens
    assert not fitting_tokenizer(tokenizer, 390).has_task_tokens


def test_a_tokenizer_of_another_size_is_an_error(tokenizer):
    with pytest.raises(ValueError, match=r"390 ids \(393 with task tokens\) but .* 32,100 rows"):
        fitting_tokenizer(tokenizer, 32_100)


def test_a_t5_has_the_task_tokens_that_its_rows_are_for(config, tokenizer):
    assert models_tokenizer(tokenizer, config).vocab_size == config.vocab_size == 393


def test_other_models_may_have_rows_to_spare_but_not_fewer_than_ids(
    two_codegens, codegen_tokenizer
):
    config = two_codegens()
    assert config.vocab_size > codegen_tokenizer.vocab_size
    assert models_tokenizer(codegen_tokenizer, config) is codegen_tokenizer
    encoder, decoder = (
        dataclasses.replace(half, vocab_size=codegen_tokenizer.vocab_size - 1)
        for half in (config.encoder, config.decoder)
    )
    fewer = dataclasses.replace(config, encoder=encoder, decoder=decoder, pad_id=5)
    with pytest.raises(ValueError, match=r"434 ids, sentinels .* vocabulary has 433 rows"):
        models_tokenizer(codegen_tokenizer, fewer)


def test_other_ids_with_a_meaning_are_an_error_that_names_them(two_codegens, codegen_tokenizer):
    config = two_codegens(pad_id=0, eos_id=7)
    eos, pad = codegen_tokenizer.eos_id, codegen_tokenizer.pad_id
    assert differing_ids(config, codegen_tokenizer) == {
        "pad_id": f"pad_id 0, not {pad}",
        "eos_id": f"eos_id 7, not {eos}",
    }
    with pytest.raises(ValueError, match=f"another tokenizer: it has pad_id 0, not {pad}, eos_id"):
        models_tokenizer(codegen_tokenizer, config)
