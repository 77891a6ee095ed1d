"""Tests of `codet5p ablate`: what it runs, and runs again, and says; and two real ablations."""

import json
import pathlib
import shutil

import gin
import pytest

from codet5p_jax.cli import ablation_plan, gin_config, pretrain, stations
from codet5p_jax.cli.ablation_plan import Ablation, Overlay
from codet5p_jax.cli.pretrain import RECIPES, Recipe
from codet5p_jax.training.curriculum import Curriculum
from tests.corpora import corpus_dir, tokenizer, tokenizer_dir  # noqa: F401

WITHOUT_CLM = "ablations/stage1/without_clm.gin"
QUEUE_0 = "ablations/stage2/queue_0.gin"
GIN = pathlib.Path(__file__).parents[2] / "gin"
OVERLAYS = sorted(str(path.relative_to(GIN)) for path in GIN.glob("ablations/*/*.gin"))


def _ablation(out, *overlays, seeds=1, **changes):
    arguments = {
        "recipe": RECIPES["quickstart"],
        "base": "quickstart",
        "overlays": [Overlay.from_file(path) for path in overlays],
        "seeds": range(seeds),
        "out": out,
        "corpus": out / "corpus",
        "tokenizer": out / "tokenizer",
        "builds_corpus": False,
    }
    return Ablation(**{**arguments, **changes})


def _names(ablation):
    return [station.name for station in ablation_plan.stations(ablation)]


def test_a_variant_of_stage_2_starts_from_the_bases_stage_1_of_its_seed(tmp_path):
    planned = ablation_plan.stations(_ablation(tmp_path, QUEUE_0, seeds=2))
    by_name = {station.name: station for station in planned}
    assert list(by_name) == [
        f"{variant}, seed {seed}: {what}"
        for seed in (0, 1)
        for variant, what in (
            ("base", "stage1"),
            ("base", "stage2"),
            ("base", "held-out pairs"),
            ("queue_0", "stage2"),
            ("queue_0", "held-out pairs"),
        )
    ]
    words = by_name["queue_0, seed 1: stage2"].words
    base = tmp_path / "runs" / "base" / "seed_1" / "stage1"
    assert f"--gin.INITIAL_CHECKPOINT_PATH={base}" in words
    assert words[1:3] == [
        "--gin_file=recipes/quickstart_stage2.gin",
        f"--gin_file={QUEUE_0}",
    ]
    assert "--gin.RANDOM_SEED=1" in words


def test_a_variant_of_stage_1_is_judged_on_files_and_on_request_after_stage_2(tmp_path):
    assert _names(_ablation(tmp_path, WITHOUT_CLM)) == [
        f"{variant}, seed 0: {what}"
        for variant in ("base", "without_clm")
        for what in ("stage1", "completion", "held-out files")
    ]
    through = _ablation(tmp_path, WITHOUT_CLM, through_stage2=True)
    by_name = {station.name: station for station in ablation_plan.stations(through)}
    stage2 = by_name["without_clm, seed 0: stage2"]
    own = tmp_path / "runs" / "without_clm" / "seed_0" / "stage1"
    assert f"--gin.INITIAL_CHECKPOINT_PATH={own}" in stage2.words
    assert not any("ablations" in word for word in stage2.words)


def test_lengths_of_held_out_files_are_the_bases(tmp_path):
    planned = ablation_plan.stations(_ablation(tmp_path, WITHOUT_CLM))
    assert f"--lengths_of={tmp_path / 'runs/base/seed_0/stage1'}" in planned[-1].words


def test_without_a_corpus_the_bases_is_built_first(tmp_path):
    corpus, tokenizer_station, first, *_ = ablation_plan.stations(
        _ablation(tmp_path, builds_corpus=True)
    )
    assert corpus.words[:2] == ["corpus", "build"]
    assert tokenizer_station.needs == [corpus.name]
    assert first.needs == [corpus.name, tokenizer_station.name]


def test_what_reads_a_station_depends_on_it_at_any_distance(tmp_path):
    planned = ablation_plan.stations(_ablation(tmp_path, QUEUE_0, seeds=2))
    assert ablation_plan.dependents("base, seed 1: stage1", planned) == [
        "base, seed 1: stage2",
        "base, seed 1: held-out pairs",
        "queue_0, seed 1: stage2",
        "queue_0, seed 1: held-out pairs",
    ]


def test_time_left_is_the_mean_of_what_was_done_of_the_same_kind(tmp_path):
    planned = ablation_plan.stations(_ablation(tmp_path, QUEUE_0, seeds=2))
    done = {"base, seed 0: stage1": {"seconds": 60}, "base, seed 1: stage1": {"seconds": 120}}
    assert ablation_plan.time_left(planned, {}) == ""
    assert ablation_plan.time_left(planned, done) == ""  # nothing of a kind that is left
    done["base, seed 0: stage2"] = {"seconds": 200}  # three of its kind are left
    assert ablation_plan.time_left(planned, done) == " (at least 10 min left)"
    done["base, seed 0: held-out pairs"] = {"seconds": 40}  # and three of these
    assert ablation_plan.time_left(planned, done) == " (about 12 min left)"


def _ablate(codet5p, out, *words):
    return codet5p("ablate", f"--out={out}", *words)


def test_a_dry_run_prints_the_commands_and_runs_none(codet5p, tmp_path):
    code, printed, _ = _ablate(codet5p, tmp_path, f"--set={QUEUE_0}", "--seeds=1", "--dry_run")
    lines = printed.splitlines()
    assert code == 0 and len(lines) == 7
    assert lines[0].startswith("codet5p corpus build --recipe=quickstart")
    assert lines[5].startswith("codet5p train --gin_file=recipes/quickstart_stage2.gin --gin_file=")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    "words, message",
    [
        (["--set=ablations/stage2/queue0.gin"], "Did you mean ablations/stage2/queue_0.gin"),
        (["--set=models/codet5p_test.gin"], "put it into a folder called stage1 or stage2"),
        (["--base=quickstat"], "Did you mean quickstart?"),
        (["--seeds=0"], "must be 1 or more, got 0"),
        ([f"--set={QUEUE_0}", f"--set={QUEUE_0}"], "Two variants are called queue_0"),
        (["--corpus=."], "--corpus is given without --tokenizer"),
        (["--corpus=none", "--tokenizer=none"], "--corpus is 'none', which is no folder; give"),
        (
            ["--set=ablations/stage2/queue_small.gin"],
            "changes nothing in recipes/quickstart_stage2",
        ),
    ],
)
def test_what_cannot_be_compared_is_an_error_before_anything_runs(
    codet5p, tmp_path, words, message
):
    code, _, error = _ablate(codet5p, tmp_path, *words)
    assert code == 2 and message in error
    assert not any(tmp_path.iterdir())


def test_an_overlay_of_macros_that_nothing_reads_changes_nothing(codet5p, tmp_path):
    overlay = tmp_path / "stage2" / "typo.gin"
    overlay.parent.mkdir()
    overlay.write_text("QEUE_SIZE = 0\n")
    code, _, error = _ablate(codet5p, tmp_path / "out", f"--set={overlay}")
    assert code == 2 and "or macros that nothing there reads" in error


# A command that leaves what the real one would leave, and fails where a test wants it to.


@pytest.fixture
def calls(monkeypatch):
    made = []

    def call(words):
        made.append(words)
        if call.fails(words):
            return call.code
        _leave_result(words)
        return 0

    call.fails, call.code, call.made = (lambda words: False), 1, made
    monkeypatch.setattr(stations, "call", call)
    return call


def _leave_result(words):
    flags = dict(word.lstrip("-").split("=", 1) for word in words if word.startswith("--"))
    folder = pathlib.Path(flags.get("gin.MODEL_DIR") or flags["model_dir"])
    folder.mkdir(parents=True, exist_ok=True)
    if words[0] == "train":
        files = [w.removeprefix("--gin_file=") for w in words if w.startswith("--gin_file=")]
        bindings = [w.removeprefix("--gin.") for w in words if w.startswith("--gin.")]
        gin_config.parse(gin_files=files, bindings=bindings)
        (folder / "config.gin").write_text(gin_config.config_text())
        (folder / "metrics.jsonl").touch()
    elif words[0] == "eval":
        (folder / "evaluation.json").write_text(json.dumps(_evaluation(str(folder))))


def _evaluation(folder):
    """MRR 0.2 for the base and 0.5 for the variant, 0.1 more with seed 1."""
    mrr = (0.2 if "base" in folder else 0.5) + (0.1 if "seed_1" in folder else 0.0)
    return {
        "retrieval": [{"ranking": "after", "mrr": {"all": {"mean": mrr}}}],
        "matching": [],
        "translation": [],
    }


def _run(codet5p, tmp_path, *words):
    for name in ("corpus", "tokenizer"):
        (tmp_path / name).mkdir(exist_ok=True)
    folders = [f"--corpus={tmp_path / 'corpus'}", f"--tokenizer={tmp_path / 'tokenizer'}"]
    return _ablate(codet5p, tmp_path / "out", f"--set={QUEUE_0}", "--seeds=2", *folders, *words)


def _result(tmp_path):
    return json.loads((tmp_path / "out" / "ablation.json").read_text())


def test_results_are_printed_and_written_with_what_was_changed(codet5p, tmp_path, calls):
    code, printed, _ = _run(codet5p, tmp_path)
    assert code == 0
    assert "0.550 ±0.071" in printed and "+0.300 ±0.000 2/2" in printed
    result = _result(tmp_path)
    cell = result["stages"]["stage2"][1]["cells"]["mrr"]
    assert cell["values"] == pytest.approx({"0": 0.5, "1": 0.6})
    assert result["changes"]["queue_0"] == [
        {"name": "bimodal.BimodalObjective.queue_size", "base": "64", "variant": "0"}
    ]
    assert "+0.300" in (tmp_path / "out" / "ablation.md").read_text()


def test_what_is_done_is_not_done_again(codet5p, tmp_path, calls):
    _run(codet5p, tmp_path)
    assert len(calls.made) == 10
    code, printed, _ = _run(codet5p, tmp_path)
    assert code == 0 and len(calls.made) == 10
    assert "+0.300 ±0.000 2/2" in printed


def test_a_failed_run_is_named_the_others_are_kept_and_it_is_tried_again(codet5p, tmp_path, calls):
    calls.fails = lambda words: any("queue_0/seed_1" in word for word in words)
    code, printed, error = _run(codet5p, tmp_path)
    assert code == 1
    assert "Failed: queue_0, seed 1: stage2" in error
    assert "left out: what it needs failed" in printed
    assert _result(tmp_path)["stages"]["stage2"][1]["cells"]["mrr"]["count"] == 1
    assert _result(tmp_path)["failed"] == ["queue_0, seed 1: stage2"]
    calls.fails, before = (lambda words: False), len(calls.made)
    code, _, _ = _run(codet5p, tmp_path)
    assert code == 0 and len(calls.made) == before + 2
    assert _result(tmp_path)["stages"]["stage2"][1]["cells"]["mrr"]["count"] == 2


def test_a_stopped_ablation_goes_on_where_it_was(codet5p, tmp_path, calls):
    calls.fails, calls.code = (lambda words: len(calls.made) == 4), 143
    code, _, error = _run(codet5p, tmp_path)
    assert code == 143 and "run the same command again to go on" in error
    assert len(calls.made) == 4
    calls.fails = lambda words: False
    code, _, _ = _run(codet5p, tmp_path)
    assert code == 0 and len(calls.made) == 4 + 7
    assert calls.made[4] == calls.made[3]


def test_a_run_of_another_configuration_is_not_gone_on_with(codet5p, tmp_path, calls):
    _run(codet5p, tmp_path)
    config = tmp_path / "out" / "runs" / "queue_0" / "seed_1" / "stage2" / "config.gin"
    config.write_text(config.read_text().replace("QUEUE_SIZE = 0", "QUEUE_SIZE = 128"))
    code, _, error = _run(codet5p, tmp_path)
    assert code == 2
    assert "BimodalObjective.queue_size is 128 there and 0 now. Remove the folder" in error


def test_a_run_whose_stage_1_is_gone_is_not_gone_on_with(codet5p, tmp_path, calls):
    _run(codet5p, tmp_path)
    shutil.rmtree(tmp_path / "out" / "runs" / "base" / "seed_0" / "stage1")
    code, _, error = _run(codet5p, tmp_path)
    assert code == 2 and "which is gone. Remove it too" in error


@pytest.mark.parametrize("path", OVERLAYS)
def test_every_overlay_changes_something_in_a_recipe_of_its_stage(path):
    overlay = Overlay.from_file(path)
    bases = sorted(GIN.glob(f"recipes/*{overlay.stage}*.gin"))
    changes = [
        ablation_plan.differences(
            ablation_plan.resolved([str(base)]), ablation_plan.resolved([str(base), path])
        )
        for base in bases
    ]
    assert any(changes)


@pytest.mark.parametrize("path", OVERLAYS)
def test_every_overlay_builds_a_curriculum_of_as_many_steps_as_the_quickstart(path):
    recipe = getattr(RECIPES["quickstart"], Overlay.from_file(path).stage)
    base, varied = ablation_plan.resolved([recipe]), ablation_plan.resolved([recipe, path])
    name = "codet5p_jax.cli.train_command.train.train_steps"
    assert varied[name] == base[name]
    assert gin.get_configurable(Curriculum)().steps == int(base[name])


# Real ablations: twelve processes, a tiny model, a tiny corpus.

TOY = """
include "models/codet5p_test.gin"
include "runs/pretrain.gin"
include "objectives/{objective}.gin"
from __gin__ import dynamic_registration
from codet5p_jax.models import config
config.T5Config.vocab_size = 1103
NUM_VIRTUAL_SHARDS = 2
LEARNING_RATE = 1e-2
WARMUP_STEPS = 1
EVAL_PERIOD = None
"""
TOY_STAGES = {
    "stage1": """
DENOISING_STEPS = 1
ALL_STEPS = 2
TRAIN_STEPS = 3
DENOISING_BATCH_SIZE = 4
CLM_BATCH_SIZE = 4
DENOISING_LENGTHS = {"inputs": 24, "targets": 12}
SEQ2SEQ_CLM_LENGTHS = {"inputs": 16, "targets": 16}
DECODER_CLM_LENGTHS = {"inputs": 1, "targets": 64}
""",
    "completion": """
TRAIN_STEPS = 2
BATCH_SIZE = 4
COMPLETION_LENGTH = 64
""",
    "stage2": """
TRAIN_STEPS = 2
BATCH_SIZE = 4
TEXT_LENGTH = 12
CODE_LENGTH = 24
BIMODAL_LENGTHS = {"text": 12, "code": 24}
QUEUE_SIZE = 4
""",
}


@pytest.fixture
def toy(tmp_path, corpus_dir, monkeypatch):  # noqa: F811
    """The name of a base that trains in seconds, and a corpus with a manifest."""
    for stage, macros in TOY_STAGES.items():
        (tmp_path / f"toy_{stage}.gin").write_text(TOY.format(objective=stage) + macros)
    corpus = shutil.copytree(corpus_dir, tmp_path / "toy_corpus")
    (corpus / "manifest.json").write_text(json.dumps({"fingerprint": "toy"}))
    recipe = Recipe(
        corpus="none",
        vocab_size=1_000,
        **{stage: str(tmp_path / f"toy_{stage}.gin") for stage in TOY_STAGES},
    )
    monkeypatch.setitem(pretrain.RECIPES, "toy", recipe)
    return corpus


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("overlay, stage", [(WITHOUT_CLM, "stage1"), (QUEUE_0, "stage2")])
def test_two_seeds_of_a_base_and_a_variant_give_a_table(
    codet5p,
    toy,
    tokenizer_dir,  # noqa: F811
    tmp_path,
    overlay,
    stage,
):
    code, printed, error = codet5p(
        "ablate",
        "--base=toy",
        f"--set={overlay}",
        "--seeds=2",
        f"--out={tmp_path / 'out'}",
        f"--corpus={toy}",
        f"--tokenizer={tokenizer_dir}",
    )
    assert code == 0, error
    assert "2/2" in printed or "1/2" in printed
    base, variant = json.loads((tmp_path / "out" / "ablation.json").read_text())["stages"][stage]
    for name, cell in base["cells"].items():
        assert cell["count"] == 2, name
    differing = [cell for cell in variant["cells"].values() if cell["difference"]["mean"]]
    assert differing
    assert len({tuple(cell["values"].values()) for cell in base["cells"].values()}) > 1
