"""Tests of codet5p_jax.cli.precompile; those that compile need libtpu."""

import importlib.util
import io
import json
import pathlib
import sys

import jax
import pytest
from rich.console import Console

import tasks
from codet5p_jax.cli import gin_config
from codet5p_jax.cli.precompile_figures import (
    abstract_batches,
    fits,
    phase_figures,
    phases_of,
    versions,
)
from codet5p_jax.cli.precompile_flags import REMAT_POLICIES
from codet5p_jax.cli.precompile_page import page
from codet5p_jax.cli.precompile_tables import phase_table
from codet5p_jax.cli.train import train
from codet5p_jax.data.batches import batch_shapes
from codet5p_jax.training.ahead_of_time import DoesNotFitError, compile_step
from codet5p_jax.training.chips import chip_of_generation
from codet5p_jax.training.program import Program
from codet5p_jax.training.stream_checks import check_streams
from tests.cli.test_precompile_page import DOES_NOT
from tests.corpora import corpus_dir, registry, tokenizer, tokenizer_dir  # noqa: F401

GIN = pathlib.Path(__file__).parents[2] / "gin"
TOY = ("recipes/stage1_220m.gin", "runs/toy.gin")


def _toy(*bindings, files=TOY):
    """The toy twin of a recipe, on the eight CPU devices."""
    folders = [f"{name}=''" for name in ("MODEL_DIR", "CORPUS_DIR", "TOKENIZER_DIR")]
    gin_config.parse(gin_files=files, bindings=[*folders, *bindings])
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


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize(
    "recipe, binding",
    [
        ("stage1_220m", "decoder_clm/eval/batches.DatasetConfig.batch_size = 12"),
        (
            "stage2_220m",
            'pairs/eval/batches.DatasetConfig.task_feature_lengths = {"text": 9, "code": 32}',
        ),
    ],
)
def test_held_out_data_that_do_not_fit_are_the_error_that_they_are_in_training(
    corpus_dir,  # noqa: F811
    tokenizer_dir,  # noqa: F811
    tmp_path,
    recipe,
    binding,
):
    tasks.register(corpus_dir, tokenizer_dir, languages=("python", "ruby"))
    header = "from __gin__ import dynamic_registration\nfrom codet5p_jax.data import batches\n"
    (tmp_path / "bad.gin").write_text(header + binding)
    program = _toy(
        *(["INITIAL_CHECKPOINT_PATH=None"] if recipe.startswith("stage2") else []),
        files=[f"recipes/{recipe}.gin", "runs/toy.gin", str(tmp_path / "bad.gin")],
    )
    told = []
    for check in (
        lambda: abstract_batches(program),
        lambda: check_streams(
            program.curriculum, batch_shapes=batch_shapes, partitioner=program.partitioner
        ),
    ):
        with pytest.raises(ValueError, match="held-out data: ") as raised:
            check()
        told.append(str(raised.value))
    assert told[0] == told[1]


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


def test_a_topology_without_a_shape_is_an_error(codet5p):
    recipe = "--gin_file=recipes/stage1_220m.gin"
    code, _, error = codet5p("precompile", recipe, "--topology=v5e")
    assert code == 2 and "is 'v5e'; give a generation" in error


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is not None, reason="libtpu is installed")
@pytest.mark.parametrize(
    "where", [["--topology=v5e:4x4"], ["--topology=v5e:4x4", "--search"], ["--smallest=v5e"]]
)
def test_without_libtpu_it_says_what_to_install(codet5p, where):
    code, _, error = codet5p("precompile", "--gin_file=recipes/stage1_220m.gin", *where)
    assert code == 2
    assert f"{sys.executable} -m pip install 'codet5p_jax[tpu]'" in error


def test_the_files_of_remat_bind_the_policies_that_they_are_named_for():
    assert set(REMAT_POLICIES) == {path.stem for path in GIN.glob("remat/*.gin")}
    for name in REMAT_POLICIES:
        config = _toy(files=[*TOY, f"remat/{name}.gin"]).model.config
        expected = None if name == "none" else getattr(jax.checkpoint_policies, name)
        assert config.remat_policy is expected
        stored = None if name == "none" else f"jax.checkpoint_policies.{name}"
        assert config.to_dict()["remat_policy"] == stored  # as a run's metadata have it


@pytest.mark.parametrize("name", ["xla", "fused"])
def test_the_files_of_attention_bind_the_functions_that_they_are_named_for(name):
    config = _toy(files=[*TOY, f"attention/{name}.gin"]).model.config
    stored = f"codet5p_jax.kernels.{name}_attention.{name}_attention"
    assert config.to_dict()["attention"] == stored  # as a run's metadata have it


def test_one_phase_may_be_chosen():
    program = _toy()
    assert [phase.name for _, phase in phases_of(program)] == ["denoising", "all"]
    [(start, phase)] = phases_of(program, only="all")
    assert start == 10 and phase.name == "all"
    with pytest.raises(ValueError, match="--phase is 'al'; the recipe has the phases denoising, "):
        phases_of(program, only="al")


def test_the_figures_of_a_phase_say_how_it_is_computed_and_can_be_saved(tmp_path):
    program = _toy("PARAMETER_PARTITIONING_DIMS=2")
    shapes = abstract_batches(program)
    figures = phase_figures(program, 0, shapes, topology="v5e:4x4", save=tmp_path)
    assert figures["batches"] == {"span_denoising": 8} and figures["microbatches"] == 1
    assert figures["fsdp"] and figures["remat_policy"] is None and figures["dtype"] == "float32"
    params = jax.tree.leaves(program.abstract_state().params)
    whole = 3 * sum(4 * leaf.size for leaf in params)  # with both moments, in float32
    assert whole / 8 < figures["state_bytes"] < whole / 4  # norms and biases are not split
    assert fits(figures, spare=figures["spare"]) and not fits(figures, spare=1.0)
    heaviest = [entry["hbm_bytes"] for entry in figures["heaviest"]]
    assert heaviest == sorted(heaviest, reverse=True) and len(heaviest) == 15
    assert (tmp_path / "denoising.executable").stat().st_size == figures["saved_bytes"]
    json.dumps(figures)
    assert "Whole step at its peak" in page([figures], recipe="toy", versions=versions())


def test_the_text_of_a_compiled_phase_is_asked_for_once(monkeypatch):
    asked, as_text = [], jax.stages.Compiled.as_text

    def counted(step):
        asked.append(step)
        return as_text(step)

    monkeypatch.setattr(jax.stages.Compiled, "as_text", counted)
    program = _toy()
    phase_figures(program, 0, abstract_batches(program), topology="v5e:4x4")
    assert len(asked) == 1


def test_a_phase_that_does_not_fit_is_a_table_with_what_to_try():
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(phase_table(DOES_NOT))
    lines = console.export_text()
    printed = " ".join(lines.split())
    assert lines.startswith(f"phase {DOES_NOT['phase']} on {DOES_NOT['topology']} (")
    assert lines.partition("\n")[0].endswith(")")  # not wrapped to the width of the table
    assert "│ HBM │ 20.00 GiB │ │ HBM there │ 15.75 GiB │ │ fits │ no │" in printed
    assert "--search finds the cheapest" in printed


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


@pytest.mark.tpu
@pytest.mark.slow
def test_a_search_without_anything_to_try_says_why(codet5p):
    pytest.importorskip("libtpu")
    recipe = [f"--gin_file={name}" for name in TOY]
    code, printed, error = codet5p(
        "precompile", *recipe, "--topology=v5e:2x2", "--search", "--search_mesh=3x1"
    )
    assert code == 2
    assert (
        "data 3 x model 1, remat none, MICROBATCHES=1 and 15 more: skipped. Partitioner.mesh_shape"
        in printed
    )
    assert printed.count("skipped.") == 1
    assert "--search has nothing to try" in error


@pytest.mark.tpu
@pytest.mark.slow
def test_the_smallest_slice_is_found_and_what_does_not_divide_it_is_said(codet5p):
    pytest.importorskip("libtpu")
    recipe = ["--gin_file=recipes/stage2_220m.gin", "--gin_file=runs/toy.gin"]
    code, printed, error = codet5p("precompile", *recipe, "--smallest=v5e")
    assert code == 0, error
    assert "v5e:4x4: skipped. Stream 'pairs': The batch has 8 rows, which the 16" in printed
    assert "The smallest: --topology=v5e:1x1" in printed
