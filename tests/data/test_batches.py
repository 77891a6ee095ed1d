"""Tests of codet5p_jax.data.batches: order, hosts, positions, ends and errors."""

import contextlib
import dataclasses
import itertools
import shutil

import numpy as np
import pytest
import seqio

from codet5p_jax.data.batches import DatasetConfig, batch_shapes, batches
from codet5p_jax.data.feature_converters import pair_features

LENGTHS = {"inputs": 64, "targets": 40}
PAIR_LENGTHS = {"text": 16, "code": 32}

pytestmark = pytest.mark.usefixtures("registered")


def _config(name="unimodal_span_denoising", **changes):
    options = {"task_feature_lengths": LENGTHS, "batch_size": 16, "use_cached": True, **changes}
    return DatasetConfig(mixture_or_task_name=name, **options)


def _pairs(name="bimodal_pairs", **changes):
    options = {"task_feature_lengths": PAIR_LENGTHS, "feature_converter": pair_features, **changes}
    return _config(name, **options)


EXAMPLE_LENGTHS = {
    "unimodal_span_denoising": {"inputs": 40, "targets": 20},
    "unimodal_seq2seq_clm": {"inputs": 48, "targets": 40},
    "unimodal_decoder_clm": {"inputs": 1, "targets": 60},
}


def _mixture(**changes):
    options = {
        "task_feature_lengths": {"inputs": 96, "targets": 64},
        "pack": True,
        "example_lengths": EXAMPLE_LENGTHS,
    }
    return _config("unimodal", **{**options, **changes})


def _take(config, count=None, *, state=None, rows=None):
    with contextlib.closing(batches(config, rows=rows)) as iterator:
        if state is not None:
            iterator.set_state(state)
        return list(itertools.islice(iterator, count))


def _equal(first, second):
    return len(first) == len(second) and all(
        a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)
        for a, b in zip(first, second, strict=True)
    )


CONFIGS = {
    "denoising": lambda: _config(),
    "packed denoising": lambda: _config(pack=True),
    "packed clm": lambda: _config("unimodal_seq2seq_clm", pack=True),
    "packed into long rows": lambda: _config(
        "unimodal_decoder_clm", pack=True, task_feature_lengths={"inputs": 8, "targets": 300}
    ),
    "packed mixture of objectives": lambda: _mixture(),
    "pairs": lambda: _pairs(),
    "without shuffling": lambda: _config(shuffle=False),
    "one language": lambda: _config("unimodal_decoder_clm_ruby"),
    "not cached": lambda: _pairs(use_cached=False, block_size=8),
    "small blocks": lambda: _config(block_size=2),
    "two virtual shards": lambda: _config(num_virtual_shards=2),
    "read by record": lambda: _pairs(num_virtual_shards=4, batch_size=4, block_size=3),
}
every_config = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)


@every_config
def test_any_number_of_hosts_gives_the_same_global_batches(config):
    config = config()
    whole = _take(config, 5)
    for num_hosts in (2, 4):
        shares = np.split(np.arange(config.batch_size), num_hosts)
        hosts = [_take(config, 5, rows=rows) for rows in shares]
        assert _equal([_joined(parts) for parts in zip(*hosts, strict=True)], whole)


def _joined(parts):
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def test_rows_that_lie_apart_and_cut_virtual_shards_are_those_of_the_global_batch():
    """Devices of a host need not be neighbours, nor as few as there are virtual shards."""
    config = _config(pack=True)  # 16 rows, 2 from each of 8 virtual shards
    whole = _take(config, 3)
    for rows in (np.array([0, 5, 6, 15]), np.array([3])):
        expected = [{name: values[rows] for name, values in batch.items()} for batch in whole]
        assert _equal(_take(config, 3, rows=rows), expected)


def test_a_host_reads_only_the_virtual_shards_of_its_rows():
    with contextlib.closing(batches(_config(), rows=np.arange(4, 8))) as iterator:
        assert list(iterator.get_state()) == ["virtual_shard_00002", "virtual_shard_00003"]


@every_config
def test_a_run_resumed_at_any_step_equals_the_uninterrupted_one(config):
    config = config()
    with contextlib.closing(batches(config)) as iterator:
        states, whole = [], []
        for _ in range(24):
            states.append(iterator.get_state())
            whole.append(next(iterator))
    with contextlib.closing(batches(config)) as resumed:
        for step in [7, 1, 0, 22, 13, 14, 2]:
            resumed.set_state(states[step])
            assert _equal([next(resumed), next(resumed)], whole[step : step + 2])


def test_a_run_resumes_on_another_number_of_hosts():
    config = _config(pack=True)
    state = {}
    for rows in np.split(np.arange(config.batch_size), 4):
        with contextlib.closing(batches(config, rows=rows)) as iterator:
            list(itertools.islice(iterator, 5))
            state |= iterator.get_state()
    assert _equal(_take(config, 3, state=state), _take(config, 8)[5:])


def test_positions_are_a_few_integers_and_taking_them_changes_nothing():
    with contextlib.closing(batches(_config())) as iterator:
        next(iterator)
        state = iterator.get_state()
        assert len(state) == 8
        assert all(v.dtype == np.int64 and v.shape == (9,) for v in state.values())  # 1 + 4 * 2
        iterator.get_state()
        after = next(iterator)
        iterator.set_state(state)
        assert _equal([next(iterator)], [after])


def test_equal_seeds_give_equal_batches_and_others_other():
    first, again, other = (_take(_config(seed=seed), 3) for seed in (1, 1, 2))
    assert _equal(first, again) and not _equal(first, other)


def test_epochs_mask_anew():
    """Every row of the second pass differs from all rows of the first."""
    config = _config("unimodal_span_denoising_ruby", num_epochs=1, num_virtual_shards=1)
    once, twice = (
        np.concatenate(
            [
                batch["encoder_input_tokens"]
                for batch in _take(dataclasses.replace(config, **change))
            ]
        )
        for change in ({}, {"num_epochs": 2})
    )
    seen = {row.tobytes() for row in once if row.any()}
    assert len({row.tobytes() for row in twice if row.any()}) > 1.8 * len(seen)


def test_one_epoch_holds_every_pair_once():
    expected = sum(t.get_cached_stats("train")["examples"] for t in _tasks("bimodal_pairs"))
    for config in (_pairs(num_epochs=1), _pairs(num_epochs=1, shuffle=False, batch_size=8)):
        ids = np.concatenate([batch["pair_ids"] for batch in _take(config)])
        assert (ids >= 0).sum() == expected


def _tasks(name):
    return seqio.MixtureRegistry.get(name).tasks


@pytest.mark.parametrize("use_cached", [True, False])
def test_one_epoch_of_a_held_out_split_predicts_every_token_once(use_cached):
    config = _config(
        "unimodal_decoder_clm",
        task_feature_lengths={"inputs": 1, "targets": 48},
        split="validation",
        num_epochs=1,
        shuffle=False,
        use_cached=use_cached,
    )
    weights = sum(int(batch["decoder_loss_weights"].sum()) for batch in _take(config))
    rows = sum(int(batch["decoder_target_tokens"].any(axis=1).sum()) for batch in _take(config))
    stats = [t.get_cached_stats("validation") for t in _tasks("unimodal_decoder_clm")]
    tokens = sum(s.get("tokens_tokens", 0) - s["examples"] for s in stats)  # without the </s>
    assert weights == tokens + 2 * rows


def test_the_last_batch_is_padded_with_rows_of_no_weight_or_dropped():
    config = _pairs(num_epochs=1)
    padded = _take(config)
    dropped = _take(_pairs(num_epochs=1, drop_remainder=True))
    assert 0 < len(dropped) < len(padded) and _equal(dropped, padded[: len(dropped)])
    last = padded[-1]
    assert (last["pair_ids"] == -1).any() and (last["pair_ids"] != -1).any()
    assert not last["text_tokens"][last["pair_ids"] == -1].any()


def test_languages_are_drawn_by_temperature():
    """Python and Ruby pairs in proportion to their numbers ** 0.7; told apart by their ids."""
    sizes = {t.name: t.get_cached_stats("train")["examples"] for t in _tasks("bimodal_pairs")}
    rates = {name: size**0.7 for name, size in sizes.items()}
    ruby = _pairs("bimodal_pairs_ruby", num_epochs=1)
    known = {i for batch in _take(ruby) for i in batch["pair_ids"]}
    drawn = np.concatenate([batch["pair_ids"] for batch in _take(_pairs(), 150)])
    share = np.mean([i in known for i in drawn])
    expected = rates["bimodal_pairs_ruby"] / sum(rates.values())
    assert abs(share - expected) < 0.04  # four standard deviations of 2,400 draws


def test_packed_rows_hold_the_examples_of_the_stream_in_order():
    plain, packed = (_config("unimodal_seq2seq_clm", pack=p, batch_size=8) for p in (False, True))
    single = [row for batch in _take(plain, 40) for row in batch["decoder_target_tokens"][:1]]
    rows = [
        (batch["decoder_target_tokens"][0], batch["decoder_segment_ids"][0])
        for batch in _take(packed, 10)
    ]
    segments = [t[s == k] for t, s in rows for k in range(1, s.max() + 1)]
    assert len(segments) > 12
    for alone, segment in zip(single, segments, strict=False):
        assert np.array_equal(alone[alone != 0], segment)


def test_packing_fills_rows():
    fill = [
        np.mean([(b["decoder_target_tokens"] != 0).mean() for b in _take(config, 20)])
        for config in (_config("unimodal_seq2seq_clm", pack=pack) for pack in (False, True))
    ]
    assert fill[1] > 1.2 * fill[0]


def test_a_packed_mixture_draws_and_cuts_the_examples_of_each_objective_as_configured(tokenizer):
    """4 : 1 : 1, told apart by their first input: <s>, or [CLM] with or without a prefix."""
    counts, longest = np.zeros(3, int), np.zeros([3, 2], int)
    for batch in _take(_mixture(), 25):
        for row in range(16):
            inputs, targets = _segments(batch, "encoder", row), _segments(batch, "decoder", row)
            for source, target in zip(inputs, targets, strict=True):
                is_clm = source[0] == tokenizer.clm_id
                kind = 0 if not is_clm else 1 if len(source) > 1 else 2
                counts[kind] += 1
                longest[kind] = np.maximum(longest[kind], [len(source), len(target)])
    shares = counts / counts.sum()
    assert abs(shares - [4 / 6, 1 / 6, 1 / 6]).max() < 0.04  # some 900 examples
    allowed = [list(lengths.values()) for lengths in EXAMPLE_LENGTHS.values()]
    assert (longest <= allowed).all() and (longest >= 0.75 * np.array(allowed)).all()


def _segments(batch, side, row):
    name = "encoder_input_tokens" if side == "encoder" else "decoder_target_tokens"
    segments = batch[f"{side}_segment_ids"][row]
    return [batch[name][row][segments == k] for k in range(1, segments.max() + 1)]


@every_config
def test_the_shapes_of_batches_are_known_before_any_is_read(config):
    config = config()
    [batch] = _take(config, 1)
    assert batch_shapes(config) == {name: value.shape for name, value in batch.items()}


@pytest.fixture
def own_cache(cache_dir, tmp_path):
    """A copy of the cache, to damage."""
    copy = tmp_path / "cache"
    shutil.copytree(cache_dir, copy)
    _set_cache_dirs([str(copy)])
    return copy


def _set_cache_dirs(directories):
    seqio.set_global_cache_dirs(directories)
    for name in list(seqio.TaskRegistry.names()):
        seqio.TaskRegistry.get(name)._cache_dir = None  # SeqIO remembers where it found it


RUBY = "unimodal_span_denoising_ruby"


@pytest.mark.parametrize("lost_bytes", [1, 9, 100])
def test_a_truncated_record_file_is_named_before_anything_is_read(own_cache, lost_bytes):
    [path] = (own_cache / RUBY).glob("train.tfrecord-00003*")
    path.write_bytes(path.read_bytes()[:-lost_bytes])
    with pytest.raises(ValueError, match=r"train\.tfrecord-00003-of-00008' has [\d,]+ bytes, not"):
        batches(_config(RUBY))


def test_a_missing_record_file_is_named(own_cache):
    next((own_cache / RUBY).glob("train.tfrecord-00003*")).unlink()
    with pytest.raises(ValueError, match=r"train\.tfrecord-00003-of-00008' is missing"):
        batches(_config(RUBY))


@pytest.mark.parametrize("damage", [lambda b: b[:-9], lambda b: b[:-40] + b"x" * 40])
def test_damage_that_appears_while_reading_is_named(own_cache, damage):
    """As in caches of SeqIO's own tool, which notes no sizes."""
    (own_cache / RUBY / "sizes.train.json").unlink()
    [path] = (own_cache / RUBY).glob("train.tfrecord-00003*")
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(
        ValueError, match=r"train\.tfrecord-00003-of-00008' is damaged at or behind"
    ):
        _take(_config(RUBY, num_epochs=1))


def test_a_batch_must_be_a_multiple_of_the_virtual_shards():
    with pytest.raises(
        ValueError,
        match=r"batch_size of .* is 12.*8 virtual shards.*DatasetConfig\.num_virtual_shards",
    ):
        _config(batch_size=12)


def test_an_unknown_mixture_names_the_nearest():
    with pytest.raises(ValueError, match="Did you mean 'unimodal_span_denoising'"):
        batches(_config("unimodal_span_denosing"))
    with pytest.raises(ValueError, match=r"Known: bimodal_pairs.*tasks\.register"):
        batches(_config("zzz"))


def test_lengths_of_other_features_are_refused():
    with pytest.raises(ValueError, match=r"lengths of \['inputs', 'targets'\].*\['code', 'text'\]"):
        batches(_config("bimodal_pairs"))


def test_pairs_cannot_be_packed():
    with pytest.raises(ValueError, match="has one pair_id per row and cannot be packed"):
        batches(_pairs(pack=True))


def test_an_unknown_split_is_refused():
    with pytest.raises(ValueError, match=r"split 'dev'; its splits are"):
        batches(_config(split="dev"))


def test_a_task_that_is_not_cached_says_how_to_cache_it():
    _set_cache_dirs([])
    with pytest.raises(ValueError, match=r"in none of the cache directories.*codet5p cache"):
        batches(_config())


def test_a_position_of_other_virtual_shards_or_tasks_is_refused():
    with contextlib.closing(batches(_config())) as iterator:
        state = iterator.get_state()
        with pytest.raises(ValueError, match="lacks virtual_shard_00007"):
            iterator.set_state({k: v for k, v in state.items() if not k.endswith("7")})
        with pytest.raises(ValueError, match=r"of 2 tasks has \[9\]\. It was saved with another"):
            iterator.set_state({k: v[:5] for k, v in state.items()})


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            lambda: _config(task_feature_lengths={"inputs": 64, "targets": 9}),
            r"targets need \d+ tokens.* In gin: DatasetConfig\.task_feature_lengths",
        ),
        (
            lambda: _mixture(
                example_lengths={
                    **EXAMPLE_LENGTHS,
                    "unimodal_seq2seq_clm": {"inputs": 1, "targets": 9},
                }
            ),
            r"room for \[CLM\] and a token.* In gin: DatasetConfig\.example_lengths",
        ),
        (
            lambda: _config(
                "unimodal_decoder_clm", task_feature_lengths={"inputs": 1, "targets": 2}
            ),
            r"inputs of 1 token and targets of 3 or more.*DatasetConfig\.task_feature_lengths",
        ),
        (
            lambda: _pairs(task_feature_lengths={"text": 16, "code": 2}),
            r"'code' 2 tokens; <s>, </s> and a token .* need 3.*\.task_feature_lengths",
        ),
    ],
)
def test_lengths_too_short_for_an_objective_are_refused_before_anything_is_read(config, message):
    for reads in (batch_shapes, batches):
        with pytest.raises(ValueError, match=message):
            reads(config())


def test_a_feature_converter_for_other_features_names_those_that_fit():
    message = r"feature_converter is {}, which reads '{}'; '{}' gives .* pair_features for text and"
    with pytest.raises(ValueError, match=message.format("pair_f.*", "text", "unimodal_dec.*")):
        batch_shapes(_config("unimodal_decoder_clm", feature_converter=pair_features))
    with pytest.raises(ValueError, match=message.format("seq2seq_f.*", "targets", "bimodal_p.*")):
        batch_shapes(_config("bimodal_pairs", task_feature_lengths=PAIR_LENGTHS))


def test_example_lengths_are_for_packed_rows_that_hold_them():
    with pytest.raises(ValueError, match=r"example_lengths is for packed rows.* Set pack = True"):
        _mixture(pack=False)
    with pytest.raises(ValueError, match=r"none for the task 'unimodal_decoder_clm_python' of"):
        denoising = {"unimodal_span_denoising": {"inputs": 40, "targets": 20}}
        batches(_mixture(example_lengths=denoising))
    with pytest.raises(ValueError, match=r"60 'targets', and a packed row has 50; .* 1 to 50"):
        batches(_mixture(task_feature_lengths={"inputs": 96, "targets": 50}))
