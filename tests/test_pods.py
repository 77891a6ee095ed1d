"""Pod recipes: each is a recipe of the paper laid out for a slice; and the table of figures."""

import importlib.util
import pathlib

import pytest

from benchmarks import precompile_all
from codet5p_jax.cli import gin_config
from codet5p_jax.cli.precompile_figures import abstract_batches, fits
from codet5p_jax.cli.precompile_trials import Outcome
from codet5p_jax.cli.train import train
from codet5p_jax.training.partitioning import Partitioner
from codet5p_jax.training.program import Program
from codet5p_jax.training.slice_shapes import SLICE_SHAPES, chips_of
from tests.cli.test_precompile_page import DOES_NOT, FITS

GIN = pathlib.Path(__file__).parent.parent / "gin"
PODS = precompile_all.pod_recipes()
FOLDERS = [f"{name}=x" for name in ("MODEL_DIR", "CORPUS_DIR", "TOKENIZER_DIR")]
FOLDERS.append("INITIAL_CHECKPOINT_PATH=x")
LAYOUT = (
    "MICROBATCHES",
    "CHUNK_LENGTH",
    "PARAMETER_PARTITIONING_DIMS",
    "GATHER_PER_LAYER",
    "NUM_PARTITIONS",
)


def _bound(*files):
    tunes = any("/instruct" in file for file in files)
    more = ["INSTRUCTION_FILES={'a': 'x'}"] if tunes else []
    gin_config.parse(gin_files=files, bindings=[*FOLDERS, *more])
    return gin_config.arguments(train)


def _recipe_of(pod):
    return f"recipes/{pod.rsplit('_', 2)[0]}.gin"


def test_both_stages_of_both_models_have_the_slices_that_were_asked_for():
    assert {
        f"stage{stage}_{size}_{slice_}"
        for stage in (1, 2)
        for size, slices in {
            "220m": ("v5e_4x4", "v4_2x2x2"),
            "770m": ("v5e_8x8", "v5p_2x2x4"),
        }.items()
        for slice_ in slices
    } <= set(PODS)
    assert {
        "stage1_2b_v5e_8x8",
        "stage1_6b_v5e_8x8",
        "stage1_16b_v5e_16x16",
        "stage1_16b_v5p_4x4x4",
        "instruct_16b_v5p_4x4x4",
    } <= set(PODS)


@pytest.mark.parametrize("pod", PODS)
def test_a_pod_recipe_is_short_and_names_its_slice(pod):
    topology = precompile_all.topology_of(pod)
    generation, shape = topology.split(":")
    assert shape in SLICE_SHAPES[generation]
    lines = (GIN / "pods" / f"{pod}.gin").read_text().splitlines()
    assert len(lines) < 40 and max(map(len, lines)) <= 120
    assert f"{chips_of(topology)} chips" in lines[0] and f"({topology}, " in lines[0]
    assert any(f"--gin_file=pods/{pod}.gin" in line for line in lines)


@pytest.mark.parametrize("pod", PODS)
def test_a_pod_recipe_changes_how_its_recipe_is_computed_and_nothing_else(pod):
    _bound(_recipe_of(pod))
    published = gin_config.macro_values()
    bindings = gin_config.resolved_bindings()
    _bound(f"pods/{pod}.gin")
    macros = gin_config.macro_values()
    changed = {name for name in macros if str(macros[name]) != str(published.get(name))}
    assert changed <= set(LAYOUT)
    ours = gin_config.resolved_bindings()
    new = {name.rpartition(".")[2] for name in ours if ours[name] != bindings.get(name)}
    assert new <= {name.lower() for name in LAYOUT} | {"dtype", "remat_policy"}


class _Devices(Partitioner):
    """A partitioner of this machine that says how many parts a slice would cut a batch into."""

    def __init__(self, chips):
        super().__init__()
        self._chips = chips

    @property
    def num_row_shards(self):
        return self._chips


def _program(bound, **changes):
    names = ("curriculum", "learning_rate", "optimizer", "partitioner", "parameter_rules")
    return Program(**({name: bound[name] for name in names} | changes))


@pytest.mark.parametrize("pod", PODS)
def test_the_papers_batches_divide_the_slice(pod):
    bound = _bound(f"pods/{pod}.gin")
    chips = chips_of(precompile_all.topology_of(pod)) // gin_config.macro_values()["NUM_PARTITIONS"]
    shapes = abstract_batches(_program(bound, partitioner=_Devices(chips)))
    rows = {name: next(iter(features.values())).shape[0] for name, features in shapes.items()}
    published = {
        "stage1": {"span_denoising": 2048, "seq2seq_clm": 512, "decoder_clm": 512},
        "stage2": {"pairs": 256},
        "instruct": {"instruction": 128},
    }
    assert rows == published[pod.split("_")[0]]


# One of each recipe and kind of mesh; the others differ in sizes.
TRACED = {
    "stage1_220m_v5e_4x4",
    "stage2_770m_v5e_8x8",
    "stage1_6b_v5e_8x8",
    "instruct_16b_v5p_4x4x4",
}


@pytest.mark.parametrize(
    "pod", [pytest.param(p, marks=[] if p in TRACED else [pytest.mark.slow]) for p in PODS]
)
def test_the_toy_twin_of_a_pod_recipe_is_traced_on_a_mesh(pod):
    """Its steps as the slice would run them, but for sizes; the twin of its recipe is trained."""
    program = _program(_bound(f"pods/{pod}.gin", "runs/toy.gin"))
    assert program.partitioner.mesh.size == 8
    shapes = abstract_batches(program)
    program.lower_train_step(max(program.train_steps), shapes)  # the last phase has all streams


def test_a_batch_that_does_not_divide_the_slice_names_stream_axis_size_and_a_way_out():
    bound = _bound("pods/stage2_220m_v5e_4x4.gin")
    with pytest.raises(ValueError) as raised:
        abstract_batches(_program(bound, partitioner=_Devices(512)))
    assert str(raised.value) == (
        "Stream 'pairs': The batch has 256 rows, which the 512 devices along 'slice' and 'data' do "
        "not divide; use a batch of 512 rows. Set DatasetConfig.batch_size, a BATCH_SIZE of the "
        "recipe, or NUM_PARTITIONS."
    )


# --- The table --------------------------------------------------------------------------------

PAGE = f"# Pods\n\nbefore\n\n{precompile_all.BEGIN}\nold\n{precompile_all.END}\n\nafter\n"


def _outcome(*phases):
    return Outcome(phases=phases, fits=all(fits(phase) for phase in phases))


def test_a_row_tells_what_a_phase_needs_moves_and_sends(tmp_path):
    page = tmp_path / "pods.md"
    page.write_text(PAGE)
    precompile_all.write_table(page, {"stage1_220m_v5e_4x4": [FITS, DOES_NOT]})
    lines = page.read_text().splitlines()
    assert lines[2] == "before" and lines[-1] == "after" and "old" not in lines
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if "|" in line]
    header, _, row, unfit = cells
    assert dict(zip(header, row, strict=True)) == {
        "recipe, phase": "stage1_220m, all",
        "slice": "v5e:4x4",
        "batch, rows": "2,048 + 512",
        "`MICROBATCHES`": "16",
        "mesh": "slice 2 x data 16",
        "remat": "dots_saveable",
        "HBM, GiB": "10.50 of 15.75",
        "spare": "33%",
        "FLOPs, T (the model's)": "100.0 (90.0)",
        "HBM traffic, GB": "800",
        "all-reduce, GB": "0.64",
        "other messages, GB": "0.00",
        "step at least, ms": "976",
        "limited by": "HBM",
        "MFU at most": "47%",
        "compiled in, s": "61",
    }
    assert unfit[6:8] == ["20.00", "does not fit"]


def test_one_recipe_is_refreshed_alone(tmp_path):
    words = []

    def compile_words(given):
        words.append(given)
        return _outcome(FITS)

    for name in ("stage1_220m_v5e_4x4", "stage2_220m_v4_2x2x2"):
        assert precompile_all.refresh(name, results=tmp_path, compile_words=compile_words)
    assert words[1] == ["--gin_file=pods/stage2_220m_v4_2x2x2.gin", "--topology=v4:2x2x2"]
    before = (tmp_path / "stage2_220m_v4_2x2x2.json").read_bytes()
    tight = {**FITS, "spare": 0.05}
    assert not precompile_all.refresh(
        "stage1_220m_v5e_4x4", results=tmp_path, compile_words=lambda _: _outcome(tight)
    )
    figures = precompile_all.figures_of(tmp_path, PODS)
    assert figures["stage1_220m_v5e_4x4"][0]["spare"] == 0.05
    assert (tmp_path / "stage2_220m_v4_2x2x2.json").read_bytes() == before


def test_a_recipe_that_fails_keeps_its_old_figures(tmp_path, capsys):
    name = "stage1_220m_v5e_4x4"
    precompile_all.refresh(name, results=tmp_path, compile_words=lambda _: _outcome(FITS))
    failed = Outcome(failure="no such axis")
    assert not precompile_all.refresh(name, results=tmp_path, compile_words=lambda _: failed)
    assert f"{name}: failed: no such axis" in capsys.readouterr().out
    assert precompile_all.figures_of(tmp_path, PODS)[name][0]["fits"]


def test_the_table_shows_the_recipes_there_are_and_those_without_figures_are_listed(
    tmp_path, monkeypatch, capsys
):
    page, pods = tmp_path / "pods.md", tmp_path / "pods"
    page.write_text(PAGE)
    pods.mkdir()
    for name in ("stage1_220m_v5e_4x4", "stage2_220m_v4_2x2x2"):
        (pods / f"{name}.gin").touch()
    for name in ("stage1_220m_v5e_4x4", "removed_220m_v5e_4x4"):
        precompile_all.refresh(name, results=tmp_path, compile_words=lambda _: _outcome(FITS))
    for constant, value in {"PAGE": page, "PODS": pods, "RESULTS": tmp_path}.items():
        monkeypatch.setattr(precompile_all, constant, value)
    assert precompile_all.main(["--table"]) == 0
    assert "stage1_220m, all" in page.read_text() and "removed" not in page.read_text()
    told = capsys.readouterr().err
    assert told == "precompile_all: no figures yet of stage2_220m_v4_2x2x2\n"


def test_a_page_without_marks_is_an_error(tmp_path):
    page = tmp_path / "pods.md"
    page.write_text("no marks")
    with pytest.raises(ValueError, match=r"pods\.md has not the marks .* put them back"):
        precompile_all.write_table(page, {})


def test_a_recipe_that_is_none_names_the_nearest():
    assert precompile_all.chosen([]) == PODS
    with pytest.raises(ValueError, match=r"no 'stage1_220m_v5e'\. Did you mean stage1_220m"):
        precompile_all.chosen(["stage1_220m_v5e"])


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is not None, reason="libtpu is installed")
def test_without_libtpu_it_says_what_to_install_and_compiles_nothing(capsys):
    assert precompile_all.main(["stage1_220m_v5e_4x4"]) == 2
    captured = capsys.readouterr()
    assert "precompile_all: Compiling for TPUs needs libtpu. Install it: " in captured.err
    assert captured.out == ""


def test_the_page_shows_the_figures_that_are_kept(tmp_path):
    copy = tmp_path / "pods.md"
    copy.write_text(precompile_all.PAGE.read_text())
    precompile_all.write_table(copy, precompile_all.figures_of(precompile_all.RESULTS, PODS))
    assert copy.read_text() == precompile_all.PAGE.read_text()


def test_kept_figures_are_of_recipes_that_fit_with_a_tenth_to_spare():
    assert {path.stem for path in precompile_all.RESULTS.glob("*.json")} <= set(PODS)
    for name, phases in precompile_all.figures_of(precompile_all.RESULTS, PODS).items():
        for phase in phases:
            assert fits(phase, spare=precompile_all.SPARE), (name, phase["phase"])
