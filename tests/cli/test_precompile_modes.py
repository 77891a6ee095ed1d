"""Tests of codet5p_jax.cli.precompile_modes; those that compile are in test_precompile.py."""

from codet5p_jax.cli.precompile_modes import skipped_lines
from codet5p_jax.cli.precompile_search import Candidate, Layout


def _candidate(microbatches):
    layout = Layout(mesh=(4, 1), fsdp=False, remat="none")
    return Candidate(layout=layout, microbatches=microbatches)


def test_a_reason_is_told_once_with_how_many_it_holds_for():
    skipped = {"Too many.": [_candidate(n) for n in (4, 8, 16)], "Too few.": [_candidate(1)]}
    assert list(skipped_lines(skipped)) == [
        "data 4 x model 1, remat none, MICROBATCHES=4 and 2 more: skipped. Too many.",
        "data 4 x model 1, remat none, MICROBATCHES=1: skipped. Too few.",
    ]
