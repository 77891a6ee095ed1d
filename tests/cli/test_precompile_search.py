"""Tests of the order in which `codet5p precompile --search` tries; nothing is compiled."""

import itertools

import pytest

from codet5p_jax.cli.precompile_search import (
    Candidate,
    Layout,
    default_meshes,
    default_microbatches,
    layouts,
    search,
)
from codet5p_jax.cli.precompile_trials import Outcome
from tests.cli.test_precompile_trials import figures

PLAIN = Layout(mesh=(16, 1), fsdp=False, remat="none")
REMAT = Layout(mesh=(16, 1), fsdp=False, remat="nothing_saveable")
SHARDED = Layout(mesh=(16, 1), fsdp=True, remat="none")
POWERS = [1, 2, 4, 8, 16]


def _compiler(least, *, seconds):
    """Returns a function that compiles: a layout fits from its least MICROBATCHES on."""
    asked = []

    def attempt(candidate):
        asked.append((candidate.layout, candidate.microbatches))
        fits = candidate.microbatches >= least[candidate.layout]
        took = seconds[candidate.layout] + 0.01 * candidate.microbatches
        return Outcome(phases=[figures(seconds=took)], fits=fits)

    return attempt, asked


def _found(tried):
    first, outcome = next(iter(tried.items()))
    return (first.layout, first.microbatches) if outcome.fits else None


def test_a_dearer_layout_is_tried_with_fewer_microbatches_alone():
    attempt, asked = _compiler({PLAIN: 4, REMAT: 1}, seconds={PLAIN: 1.0, REMAT: 1.3})
    tried = search({PLAIN: POWERS, REMAT: POWERS}, attempt)
    assert asked == [(PLAIN, 4), (PLAIN, 1), (PLAIN, 2), (REMAT, 1)]
    assert _found(tried) == (PLAIN, 4)  # 1.04 s beside 1.31
    assert len(tried) == 4


def test_the_dearer_layout_wins_where_it_is_faster():
    attempt, _ = _compiler({PLAIN: 16, REMAT: 2}, seconds={PLAIN: 1.0, REMAT: 1.1})
    assert _found(search({PLAIN: POWERS, REMAT: POWERS}, attempt)) == (REMAT, 2)


def test_what_fits_in_one_part_needs_nothing_dearer():
    attempt, asked = _compiler(
        {PLAIN: 1, REMAT: 1, SHARDED: 1}, seconds=dict.fromkeys((PLAIN, REMAT, SHARDED), 1.0)
    )
    assert _found(search({PLAIN: POWERS, REMAT: POWERS, SHARDED: POWERS}, attempt)) == (PLAIN, 1)
    assert {layout for layout, _ in asked} == {PLAIN}


def test_a_layout_that_never_fits_rules_out_no_other():
    attempt, _ = _compiler({PLAIN: 99, SHARDED: 8}, seconds={PLAIN: 1.0, SHARDED: 1.0})
    tried = search({PLAIN: POWERS, SHARDED: POWERS}, attempt)
    assert _found(tried) == (SHARDED, 8)
    assert [o.fits for o in tried.values()] == sorted(o.fits for o in tried.values())[::-1]


def test_of_equally_fast_candidates_the_one_with_least_memory_wins():
    sizes = {(PLAIN, 2): 12.0, (REMAT, 1): 9.0}

    def attempt(candidate):
        key = (candidate.layout, candidate.microbatches)
        return Outcome(phases=[figures(gib=sizes.get(key, 20.0))], fits=key in sizes)

    assert _found(search({PLAIN: [1, 2], REMAT: [1, 2]}, attempt)) == (REMAT, 1)


def test_nothing_may_fit():
    attempt, _ = _compiler({PLAIN: 99}, seconds={PLAIN: 1.0})
    assert _found(search({PLAIN: POWERS}, attempt)) is None


def test_the_search_finds_the_best_where_dearer_layouts_take_longer_at_like_microbatches():
    """Against trying everything, for all ways that three layouts can fit."""
    kinds = (PLAIN, REMAT, SHARDED)
    seconds = {PLAIN: 1.0, REMAT: 1.05, SHARDED: 1.08}
    for fitting in itertools.product([1, 2, 4, 8, 99], repeat=3):
        least = dict(zip(kinds, fitting, strict=True))
        attempt, _ = _compiler(least, seconds=seconds)
        everything = [
            (seconds[kind] + 0.01 * number, (kind, number))
            for kind in kinds
            for number in POWERS
            if number >= least[kind]
        ]
        best = min(everything, key=lambda pair: pair[0])[1] if everything else None
        assert _found(search(dict.fromkeys(kinds, POWERS), attempt)) == best


def test_layouts_come_with_the_cheapest_kind_first():
    kinds = layouts(meshes=[(8, 2), (16, 1)], fsdp=[True, False], remats=["none", "dots_saveable"])
    assert [(kind.mesh, kind.fsdp, kind.remat) for kind in kinds] == [
        ((16, 1), False, "none"),
        ((16, 1), False, "dots_saveable"),
        ((16, 1), True, "none"),
        ((16, 1), True, "dots_saveable"),
        ((8, 2), False, "none"),
        ((8, 2), False, "dots_saveable"),
        ((8, 2), True, "none"),
        ((8, 2), True, "dots_saveable"),
    ]


@pytest.mark.parametrize("devices, meshes", [(16, [(16, 1), (8, 2), (4, 4)]), (1, [(1, 1)])])
def test_meshes_split_the_model_over_few_devices(devices, meshes):
    assert default_meshes(devices) == meshes


def test_microbatches_divide_what_each_device_has_of_all_batches():
    assert default_microbatches([2048, 512, 512], 16) == [1, 2, 4, 8, 16, 32]  # 32 of 512 rows
    assert default_microbatches([256], 256) == [1]
    assert default_microbatches([256], 512) == []


def test_a_candidate_is_what_can_be_pasted():
    layout = Layout(mesh=(8, 2), fsdp=True, remat="dots_saveable")
    candidate = Candidate(layout=layout, microbatches=4)
    assert candidate.gin_file == "remat/dots_saveable.gin"
    assert candidate.bindings == (
        "NUM_PARTITIONS=1",
        "MESH_SHAPE=(8, 2)",
        "PARAMETER_PARTITIONING_DIMS=2",
        "MICROBATCHES=4",
    )
    assert str(candidate) == "data 8 x model 2, FSDP, remat dots_saveable, MICROBATCHES=4"
