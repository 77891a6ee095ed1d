"""Tests of codet5p_jax.cli.precompile_flags."""

import argparse

import pytest

from codet5p_jax.cli import precompile_flags

RECIPE = ("--gin_file=recipes/stage1_220m.gin", "--topology=v5e:4x4")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--topology=v5e:4x4"], "Give a recipe"),
        (["--gin_file=recipes/stage1_220m.gin", "--topology=v9:4x4"], "give one of v4, v5e, v5p"),
        (["--gin_file=recipes/stage1_220m.gin"], "Give the slice, --topology=v5e:4x4, or"),
        ([*RECIPE, "--smallest=v5e"], "Give the slice, --topology=v5e:4x4, or"),
        (["--gin_file=recipes/stage1_220m.gin", "--smallest=v9"], "'v9' are not known; give one"),
        (["--smallest=v5e", "--search"], "Give --search or --smallest"),
        (
            [*RECIPE, "--search", "--spare=10"],
            "--spare is 10.0; give a share of the memory, such as 0.1",
        ),
        ([*RECIPE, "--spare=0.2"], "--spare says what --search or --smallest shall leave"),
        ([*RECIPE, "--search", "--save=x"], "--save keeps the steps of one configuration"),
        ([*RECIPE, "--search_mesh=4x4"], "--search_mesh says what --search shall try; give"),
        (["--gin_file=recipes/x.gin", "--topology=v5e:4x4"], "No gin file 'recipes/x.gin'. Did"),
        ([*RECIPE, "--gin_bindings=BATCH"], "'BATCH' is not of the form NAME=VALUE"),
        ([*RECIPE, "--search_mesh=16"], "--search_mesh: got '16'; give meshes such as 16x1"),
        ([*RECIPE, "--search_mesh=0x0"], "--search_mesh: got '0x0'; give meshes such as 16x1"),
        ([*RECIPE, "--json="], "--json is empty, so nothing would be written; give a path"),
        ([*RECIPE, "--search_microbatches="], "--search_microbatches: got ''; give values of"),
        ([*RECIPE, "--search_remat=dots"], "got 'dots'; give files of gin/remat: none, dots_save"),
        ([*RECIPE, "--search_fsdp=yes"], "--search_fsdp: got 'yes'; give off, on or both, sep"),
        ([*RECIPE, "--num_slices=0"], "--num_slices is 0; give 1 or more"),
        (["--topology=v5e:4x4x4"], "slices of v5e have 2 sides; give one such as v5e:4x8"),
        (["--topology=v5p:4x4"], "slices of v5p have 3 sides; give one such as v5p:2x4x4"),
        (["--topology=v5e:4x4", "--search"], "Give a recipe"),
        (["--smallest=v5e"], "Give a recipe"),
    ],
)
def test_a_bad_command_line_is_one_error(codet5p, arguments, message):
    code, _, error = codet5p("precompile", *arguments)
    assert code == 2
    assert message in error


@pytest.mark.parametrize(
    "flag, path, message",
    [
        ("json", "", "a folder; give the path of a file"),
        ("html", "file/page.html", "is no folder to write to: File exists"),
        ("save", "file", "is no folder to write to: File exists"),
    ],
)
def test_what_cannot_be_written_is_said_before_anything_is_compiled(
    codet5p, tmp_path, flag, path, message
):
    (tmp_path / "file").touch()
    code, _, error = codet5p("precompile", *RECIPE, f"--{flag}={tmp_path / path}")
    assert code == 2
    assert f"--{flag} is {tmp_path / path}" in error and message in error


def test_what_to_search_may_be_listed():
    parser = argparse.ArgumentParser()
    precompile_flags.add_arguments(parser)
    words = ["--search_mesh=16x1, 8x2", "--search_microbatches=1,4", "--search_fsdp=on"]
    parsed = parser.parse_args([*words, "--search_remat=none,dots_saveable"])
    assert parsed.search_mesh == [(16, 1), (8, 2)] and parsed.search_microbatches == [1, 4]
    assert parsed.search_fsdp == [True] and parsed.search_remat == ["none", "dots_saveable"]
    assert precompile_flags.spare_of(parsed) == 0.1
