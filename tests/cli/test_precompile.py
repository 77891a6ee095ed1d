"""Tests of codet5p_jax.cli.precompile; those that compile need libtpu."""

import importlib.util
import json

import jax
import pytest

import tasks
from codet5p_jax.cli import gin_config
from codet5p_jax.cli.precompile_figures import abstract_batches
from codet5p_jax.cli.train import train
from codet5p_jax.data.batches import batch_shapes
from codet5p_jax.training.ahead_of_time import DoesNotFitError, compile_step
from codet5p_jax.training.chips import chip_of_generation
from codet5p_jax.training.program import Program
from tests.corpora import corpus_dir, registry, tokenizer, tokenizer_dir  # noqa: F401

TOY = ("recipes/stage1_220m.gin", "runs/toy.gin")


def _toy(*bindings):
    """The toy twin of a recipe, on the eight CPU devices."""
    folders = [f"{name}=''" for name in ("MODEL_DIR", "CORPUS_DIR", "TOKENIZER_DIR")]
    gin_config.parse(gin_files=TOY, bindings=[*folders, *bindings])
    bound = gin_config.arguments(train)
    names = ("curriculum", "learning_rate", "optimizer", "partitioner")
    return Program(**{name: bound[name] for name in names})


def test_shapes_without_data_are_those_of_the_data(corpus_dir, tokenizer_dir, registry):  # noqa: F811
    tasks.register(corpus_dir, tokenizer_dir, languages=("python", "ruby"))
    program = _toy()
    shapes = abstract_batches(program)
    assert set(shapes) == {"span_denoising", "seq2seq_clm", "decoder_clm"}
    for name, stream in program.curriculum.streams.items():
        assert {k: v.shape for k, v in shapes[name].items()} == batch_shapes(stream.dataset)


def test_a_compiled_step_tells_what_each_device_computes_and_sends():
    program = _toy()
    shapes = abstract_batches(program)
    batches = {"span_denoising": shapes["span_denoising"]}
    step = compile_step(program, 0, batches, chip=chip_of_generation("v5e"))
    [objective] = [stream.objective for stream in step.phase.streams]
    sizes = {name: rows.shape for name, rows in batches["span_denoising"].items()}
    assert step.model_flops == objective.flops(sizes) / 8
    assert step.costs.flops > 0.9 * step.model_flops
    params = jax.tree.leaves(program.abstract_state().params)
    gradients = sum(4 * leaf.size for leaf in params)  # float32, summed over the data axis
    assert step.costs.operand_bytes("all-reduce") >= gradients
    assert 0 < step.hbm_bytes < step.usable_hbm_bytes and 0 < step.spare < 1
    assert step.roofline.step_seconds == max(step.roofline.seconds.values())


@pytest.mark.parametrize(
    "said, needed",
    [
        ("RESOURCE_EXHAUSTED: Used 17.50G of 15.75G hbm. Exceeded", 17.5 * 2**30),
        ("total memory required for HLO temporaries (112.50G) exceeds", 112.5 * 2**30),
        ("RESOURCE_EXHAUSTED: of something else", None),
    ],
)
def test_what_the_compiler_lacks_is_read_from_its_words(said, needed):
    assert DoesNotFitError(said).needed_bytes == needed


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--topology=v5e:4x4"], "Give a recipe"),
        (["--gin_file=recipes/stage1_220m.gin", "--topology=v5e"], "is 'v5e'; give a generation"),
        (["--gin_file=recipes/stage1_220m.gin", "--topology=v9:4x4"], "give one of v4, v5e, v5p"),
        (["--gin_file=recipes/stage1_220m.gin"], "--topology"),
    ],
)
def test_a_bad_command_line_is_one_error(codet5p, arguments, message):
    code, _, error = codet5p("precompile", *arguments)
    assert code == 2
    assert message in error


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is not None, reason="libtpu is installed")
def test_without_libtpu_it_says_what_to_install(codet5p):
    code, _, error = codet5p(
        "precompile", "--gin_file=recipes/stage1_220m.gin", "--topology=v5e:4x4"
    )
    assert code == 2
    assert "pip install 'codet5p_jax[tpu]'" in error


@pytest.mark.tpu
@pytest.mark.slow
def test_a_recipe_is_compiled_for_a_topology(codet5p, tmp_path):
    pytest.importorskip("libtpu")
    code, printed, error = codet5p(
        "precompile",
        *(f"--gin_file={name}" for name in TOY),
        "--topology=v5e:2x2",
        f"--json={tmp_path / 'figures.json'}",
    )
    assert code == 0, error
    assert "MFU, at most" in printed
    phases = json.loads((tmp_path / "figures.json").read_text())["phases"]
    assert [phase["phase"] for phase in phases] == ["denoising", "all"]
    assert all(phase["mesh"] == {"slice": 1, "data": 4, "model": 1} for phase in phases)


@pytest.mark.tpu
@pytest.mark.slow
def test_a_topology_that_nobody_builds_and_a_batch_that_does_not_divide_are_errors(codet5p):
    pytest.importorskip("libtpu")
    for topology, message in (("v5e:3x5", "refuses the topology"), ("v5e:16x16", "256 devices")):
        recipe = [f"--gin_file={name}" for name in TOY]
        code, _, error = codet5p("precompile", *recipe, f"--topology={topology}")
        assert code == 2
        assert message in error
