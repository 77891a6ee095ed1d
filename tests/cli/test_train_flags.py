"""Tests of codet5p_jax.cli.train_flags."""

import argparse

import pytest

from codet5p_jax.cli import train_flags
from codet5p_jax.training.cluster import Cluster

RECIPE = "--gin_file=recipes/quickstart_stage1.gin"


def _parsed(*words):
    parser = argparse.ArgumentParser()
    train_flags.add_arguments(parser)
    return parser.parse_args(words)


@pytest.mark.parametrize(
    "words, message",
    [
        ([], "Give a recipe: codet5p train --gin_file="),
        (["--gin_file=recipes/quickstart.gin"], "Did you mean recipes/quickstart_stage"),
        ([RECIPE, "--gin.TRAIN_STEPS"], "Binding 'TRAIN_STEPS' is not of the form NAME=VALUE"),
        ([RECIPE, "--num_processes=2"], "Give --coordinator_address=... --process_id=..."),
        ([RECIPE, "--multihost", "--silence_seconds=1"], "give --silence_seconds=3 or more"),
    ],
)
def test_a_bad_command_line_is_one_error(codet5p, words, message):
    code, _, error = codet5p("train", *words)
    assert code == 2
    assert message in error.splitlines()[0]


def test_a_process_is_alone_unless_it_is_told_of_others():
    assert train_flags.cluster_of(_parsed(RECIPE)) is None
    address = ("--coordinator_address=host:1234", "--num_processes=2", "--process_id=1")
    expected = Cluster(coordinator_address="host:1234", num_processes=2, process_id=1)
    assert train_flags.cluster_of(_parsed(RECIPE, *address)) == expected
