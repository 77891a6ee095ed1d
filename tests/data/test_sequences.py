"""Tests of codet5p_jax.data.sequences, and of batches of both tokenizers that they make alike."""

import contextlib
import itertools

import numpy as np
import pytest
import seqio
from hypothesis import given, settings
from hypothesis import strategies as st

import tasks
from codet5p_jax.data.batches import DatasetConfig, batches, empty_features
from codet5p_jax.data.feature_converters import seq2seq_features
from codet5p_jax.data.mixtures import get_mixture_or_task
from codet5p_jax.data.packing import empty_batch, place, place_packed, segment_positions
from codet5p_jax.data.sequences import (
    SequenceIds,
    sequence_features,
    sequence_ids,
    with_lengths_beside,
)
from codet5p_jax.data.task_stream import Example
from codet5p_jax.data.vocabulary import CodeVocabulary

CODET5 = SequenceIds(pad_id=0, start_id=0)
CODEGEN = SequenceIds(pad_id=99, start_id=50)
ROW = {"inputs": 12, "targets": 16, "loss_weights": 16}
TASKS = ("unimodal_span_denoising", "unimodal_seq2seq_clm", "unimodal_decoder_clm", "text_to_code")
SMALL = {
    "unimodal_span_denoising": {"inputs": 40, "targets": 20},
    "unimodal_seq2seq_clm": {"inputs": 48, "targets": 40},
    "unimodal_decoder_clm": {"inputs": 1, "targets": 60},
    "text_to_code": {"inputs": 32, "targets": 64},
}


def _feature(vocabulary, rank=1):
    return seqio.Feature(vocabulary, rank=rank)


def test_the_ids_are_those_of_the_tokenizer(tokenizer, codegen):
    ours, theirs = CodeVocabulary(tokenizer), CodeVocabulary(codegen)
    assert sequence_ids({"inputs": _feature(ours), "targets": _feature(ours)}) == CODET5
    found = sequence_ids({"inputs": _feature(theirs), "targets": _feature(theirs)})
    assert found == SequenceIds(pad_id=codegen.pad_id, start_id=codegen.eos_id)
    assert sequence_ids({"text": _feature(seqio.ByteVocabulary())}) == CODET5


def test_numbers_beside_tokens_are_filled_with_0_and_are_as_long_without_being_asked(codegen):
    vocabulary = CodeVocabulary(codegen)
    features = {
        "inputs": _feature(vocabulary),
        "targets": _feature(vocabulary),
        "loss_weights": _feature(seqio.PassThroughVocabulary(2)),
        "pair_id": _feature(seqio.PassThroughVocabulary(9), rank=0),
    }
    ids = sequence_ids(features)
    assert ids.padding("loss_weights") == 0 and ids.padding("targets") == codegen.pad_id
    assert sequence_features(features) == {"inputs", "targets"}
    given = {"inputs": 3, "targets": 5}
    assert with_lengths_beside(given, features.keys()) == {**given, "loss_weights": 5}
    assert with_lengths_beside(given, given.keys()) == given


def test_sequences_of_two_tokenizers_are_refused(tokenizer, codegen):
    features = {
        "inputs": _feature(CodeVocabulary(tokenizer)),
        "targets": _feature(CodeVocabulary(codegen)),
    }
    with pytest.raises(ValueError, match=r"inputs pads with 0, 0, targets pads .* one tokenizer"):
        sequence_ids(features)


class _Examples:
    """A shard of given (inputs, targets, loss weights)."""

    def __init__(self, rows, ids):
        self._rows = [self._row(dict(zip(ROW, row, strict=True)), ids) for row in rows]

    @staticmethod
    def _row(values, ids):
        features = {n: np.full([1, ROW[n]], ids.padding(n), np.int32) for n in ROW}
        for name, tokens in values.items():
            features[name][0, : len(tokens)] = tokens
        return Example(features, {n: np.array([len(tokens)]) for n, tokens in values.items()}, 0)

    def peek(self):
        return self._rows[0] if self._rows else None

    def advance(self):
        self._rows = self._rows[1:]


def _unpacked(rows, ids):
    batch = empty_batch(len(rows), lengths=ROW, scalars=(), pack=False, ids=ids)
    shard = _Examples(rows, ids)
    assert all(place(batch, i, shard=shard) for i in range(len(rows)))
    return seq2seq_features(batch, ids)


def _packed(rows, ids):
    batch = empty_batch(len(rows), lengths=ROW, scalars=(), pack=True, ids=ids)
    place_packed(batch, range(len(rows)), shard=_Examples(rows, ids), lengths=ROW)
    positions = {f"{n}_positions": segment_positions(batch[f"{n}_segment_ids"]) for n in ROW}
    return seq2seq_features({**batch, **positions}, ids)


def _examples(features, ids):
    """The examples of packed or of unpacked rows: tokens, decoder inputs, loss weights."""
    found = []
    for row in range(len(features["encoder_input_tokens"])):
        values = {name: array[row] for name, array in features.items()}
        inputs = values.get("encoder_segment_ids", values["encoder_input_tokens"] != ids.pad_id)
        targets = values.get("decoder_segment_ids", values["decoder_target_tokens"] != ids.pad_id)
        for segment in range(1, int(targets.max()) + 1):
            found.append(
                (
                    values["encoder_input_tokens"][inputs == segment].tolist(),
                    values["decoder_input_tokens"][targets == segment].tolist(),
                    values["decoder_target_tokens"][targets == segment].tolist(),
                    values["decoder_loss_weights"][targets == segment].tolist(),
                )
            )
    return sorted(found)


def _rows(ids):
    tokens = st.integers(0, 60).filter(lambda token: token != ids.pad_id)

    def row(targets):
        weights = st.lists(st.integers(0, 1), min_size=len(targets), max_size=len(targets))
        inputs = st.lists(tokens, min_size=1, max_size=ROW["inputs"])
        return st.tuples(inputs, st.just(targets), weights)

    targets = st.lists(tokens, min_size=1, max_size=ROW["targets"])
    return st.lists(targets.flatmap(row), min_size=1, max_size=6)


@settings(deadline=None)
@given(st.sampled_from([CODET5, CODEGEN]).flatmap(lambda i: st.tuples(st.just(i), _rows(i))))
def test_packed_and_unpacked_rows_of_any_tokens_give_the_same_features(drawn):
    ids, rows = drawn
    unpacked, packed = _unpacked(rows, ids), _packed(rows, ids)
    expected = sorted(
        (inputs, [ids.start_id, *targets[:-1]], targets, weights)
        for inputs, targets, weights in rows
    )
    assert _examples(unpacked, ids) == _examples(packed, ids) == expected
    for features in (unpacked, packed):
        padding = features["decoder_target_tokens"] == ids.pad_id
        assert not features["decoder_loss_weights"][padding].any()


def _config(name, **changes):
    options = {
        "task_feature_lengths": SMALL[name],
        "batch_size": 16,
        "split": "validation",
        "num_epochs": 1,
        "num_virtual_shards": 1,
        "shuffle": False,
    }
    return DatasetConfig(mixture_or_task_name=f"{name}_ruby", **{**options, **changes})


def _all(config):
    with contextlib.closing(batches(config)) as iterator:
        read = list(iterator)
    return {name: np.concatenate([batch[name] for batch in read]) for name in read[0]}


@pytest.fixture
def registered_codegen(registry, corpus_dir, codegen_dir):
    tasks.register(corpus_dir, codegen_dir, languages=("ruby",))


@pytest.mark.usefixtures("registered_codegen")
@pytest.mark.parametrize("name", TASKS)
def test_packed_rows_of_codegen_hold_what_unpacked_ones_do(name, codegen):
    ids = sequence_ids(get_mixture_or_task(f"{name}_ruby").output_features)
    assert ids == SequenceIds(pad_id=codegen.pad_id, start_id=codegen.eos_id)
    longer = {side: 3 * length for side, length in SMALL[name].items()}
    packed = _all(
        _config(name, pack=True, task_feature_lengths=longer, example_lengths={name: SMALL[name]})
    )
    unpacked = _examples(_all(_config(name)), ids)
    assert unpacked == _examples(packed, ids) and len(unpacked) > 20
    exclamation_marks = 0
    for _, decoder_inputs, targets, weights in unpacked:
        assert decoder_inputs == [codegen.eos_id, *targets[:-1]]
        assert targets[-1] == codegen.eos_id
        assert targets[0] != codegen.eos_id or len(targets) == 1  # where no span was masked
        assert codegen.pad_id not in targets and set(weights) == {1}
        exclamation_marks += targets.count(0)
    assert exclamation_marks > 0 or name == "text_to_code"  # the functions here are few


@pytest.mark.usefixtures("registered_codegen")
def test_rows_behind_the_end_are_padding_of_the_tokenizer(codegen):
    last = _config("unimodal_decoder_clm", batch_size=1_024)
    with contextlib.closing(batches(last)) as iterator:
        [batch] = itertools.islice(iterator, 2)
    assert (batch["encoder_input_tokens"][-1] == codegen.pad_id).all()
    assert (batch["decoder_target_tokens"][-1] == codegen.pad_id).all()
    assert not batch["decoder_loss_weights"][-1].any()


def test_features_that_nobody_registered_have_the_shapes_of_those_that_are_read():
    config = _config("unimodal_decoder_clm", pack=True)
    assert {name: values.shape for name, values in empty_features(config).items()} == {
        name: (1, length)
        for side, length in (("encoder", 1), ("decoder", 60))
        for name in (
            f"{side}_segment_ids",
            f"{side}_positions",
            *(
                [f"{side}_input_tokens"]
                if side == "encoder"
                else [f"decoder_{part}" for part in ("input_tokens", "target_tokens")]
            ),
            *(["decoder_loss_weights"] if side == "decoder" else []),
        )
    }
