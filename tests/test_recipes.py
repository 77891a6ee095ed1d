"""Every recipe builds as published, with shapes alone; and its toy twin trains."""

import copy
import json
import math
import pathlib

import gin
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import seqio
from flax import linen as nn
from flax.traverse_util import flatten_dict

import tasks
from codet5p_jax.cli import gin_config
from codet5p_jax.cli.main import main
from codet5p_jax.data.batches import batch_shapes
from codet5p_jax.models.codet5p import abstract_params, language_model_paths
from codet5p_jax.models.encoder_decoder import config_from_dict
from codet5p_jax.training.checkpoints import load_metadata, load_params
from tests.corpora import (  # noqa: F401
    corpus_dir,
    finished_corpus_dir,
    registry,
    tokenizer,
    tokenizer_dir,
)

GIN = pathlib.Path(__file__).parent.parent / "gin"
RECIPES = sorted(path.stem for path in (GIN / "recipes").glob("*.gin"))
PLACES = ["MODEL_DIR=m", "CORPUS_DIR=c", "TOKENIZER_DIR=t", "INITIAL_CHECKPOINT_PATH=i"]

# Parameters, as published (see docs/models.md), and steps of each phase with the batch of each
# stream. The 770M of stage 2 was not published: 737,639,424 + 3 rows of 1024 + two heads.
PUBLISHED = {
    "stage1_220m": (
        222_882_048,
        [(10_000, [2048]), (100_000, [2048, 512, 512])],
    ),
    "stage1_770m": (
        737_639_424,
        [(10_000, [2048]), (100_000, [2048, 512, 512])],
    ),
    "stage1_220m_packed": (222_882_048, [(10_000, [1024]), (100_000, [896])]),
    "stage1_220m_py": (222_882_048, [(8_540, [512, 512])]),
    **{
        f"stage1_{size}": (parameters, [(10_000, [2048]), (100_000, [2048, 512, 512])])
        for size, parameters in {
            "2b": 3_112_427_008,
            "6b": 7_439_753_216,
            "16b": 16_493_680_640,
        }.items()
    },
    "stage1_2b_py": (3_112_427_008, [(8_540, [512, 512])]),
    "instruct_220m": (222_882_048, [(423, [128])]),
    "instruct_770m": (737_639_424, [(423, [128])]),
    "instruct_2b": (3_112_427_008, [(423, [128])]),
    "instruct_16b": (16_493_680_640, [(423, [128])]),
    "stage2_220m": (223_082_754, [(75_400, [256])]),
    "stage2_770m": (737_639_424 + 3 * 1024 + 1025 * 256 + 1025 * 2, [(75_400, [256])]),
}
EXAMPLE_LENGTHS = {  # paper section 4.2 and appendix B
    "unimodal_span_denoising": {"inputs": 512, "targets": 128},
    "unimodal_seq2seq_clm": {"inputs": 768, "targets": 600},
    "unimodal_decoder_clm": {"inputs": 1, "targets": 1024},
    "bimodal_pairs": {"text": 128, "code": 420},
    "instruction": {"inputs": 512, "targets": 512},
}
PEAK_LEARNING_RATES = {"stage1": 2e-4, "stage2": 1e-4, "instruct": 2e-5}
WARMUP_STEPS = {"stage1": 1_000, "stage2": 1_000, "instruct": 30}


def _places(recipe):
    return [*PLACES, *(["INSTRUCTION_FILES={'a': 'b'}"] if _tunes_on_instructions(recipe) else [])]


def _tunes_on_instructions(recipe):
    return "instruct" in recipe


def _published(recipe):
    """Returns (curriculum, learning rate schedule, TRAIN_STEPS) of a recipe."""
    gin_config.parse(gin_files=[f"recipes/{recipe}.gin"], bindings=_places(recipe))
    curriculum, schedule = (
        copy.deepcopy(gin.query_parameter(f"{name}/gin.macro.value"))  # makes what @ names
        for name in ("CURRICULUM", "SCHEDULE")
    )
    return curriculum, schedule, gin.query_parameter("TRAIN_STEPS/gin.macro.value")


def test_every_recipe_of_the_paper_is_checked_here():
    ours = {name for name in RECIPES if not name.startswith("quickstart")}
    assert ours == PUBLISHED.keys()


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_is_short_and_says_what_it_is(recipe):
    lines = (GIN / "recipes" / f"{recipe}.gin").read_text().splitlines()
    assert len(lines) < 40 and max(map(len, lines)) <= 110
    assert lines[0].startswith("# ")


@pytest.mark.parametrize("recipe", RECIPES)
def test_steps_add_up_and_held_out_data_is_held_out(recipe):
    curriculum, _, train_steps = _published(recipe)
    assert curriculum.steps == train_steps
    for stream in curriculum.streams.values():
        assert stream.dataset.split == "train" and stream.dataset.shuffle
        assert stream.eval_dataset.split == "validation" and not stream.eval_dataset.shuffle


@pytest.mark.parametrize(
    "recipe",
    [
        *("stage1_220m_py", "stage1_2b", "stage1_16b", "stage1_2b_py", "stage2_220m"),
        *("stage2_770m", "instruct_220m", "instruct_2b"),
    ],
)
def test_a_recipe_that_starts_from_another_run_asks_for_it(recipe):
    with pytest.raises(gin_config.GinConfigError, match="needs INITIAL_CHECKPOINT_PATH"):
        given = [place for place in _places(recipe) if not place.startswith("INITIAL")]
        gin_config.parse(gin_files=[f"recipes/{recipe}.gin"], bindings=given)


@pytest.mark.parametrize("recipe", PUBLISHED)
def test_a_recipe_has_the_papers_steps_batches_lengths_and_rate(recipe):
    _, phases = PUBLISHED[recipe]
    curriculum, schedule, train_steps = _published(recipe)
    assert [
        (phase.steps, [stream.dataset.batch_size for stream in phase.streams])
        for phase in curriculum.phases
    ] == phases
    for stream in curriculum.streams.values():
        mixture = stream.dataset.mixture_or_task_name.removesuffix("_python")
        for task, lengths in EXAMPLE_LENGTHS.items():
            if task in (mixture, *(stream.dataset.example_lengths or ())):
                assert stream.dataset.lengths_of(task) == lengths
    stage = recipe.split("_")[0]
    warm, end, peak = WARMUP_STEPS[stage], train_steps, PEAK_LEARNING_RATES[stage]
    np.testing.assert_allclose(
        [schedule(step) for step in (0, warm, (warm + end) // 2, end)],
        [0, peak, peak / 2, 0],
        rtol=5e-3,  # the middle falls between two steps
        atol=1e-9,
    )


@pytest.mark.parametrize("recipe", PUBLISHED)
def test_a_recipe_has_the_published_number_of_parameters(recipe):
    """Counted in the shapes of the initialised model, without the rows that pad the vocabulary."""
    curriculum, _, _ = _published(recipe)
    config = next(iter(curriculum.streams.values())).objective.model.config
    sizes = [math.prod(leaf.shape) for leaf in jax.tree.leaves(nn.unbox(abstract_params(config)))]
    padding = (config.padded_vocab_size - config.vocab_size) * config.embed_dim
    assert sum(sizes) - padding == PUBLISHED[recipe][0]


@pytest.mark.parametrize("recipe", PUBLISHED)
def test_a_recipe_traces_as_published(
    recipe,
    registry,  # noqa: F811
    corpus_dir,  # noqa: F811
    tokenizer_dir,  # noqa: F811
    instruction_file,
):
    """The loss of every stream on a batch of its size, in shapes: nothing is allocated."""
    files = {"a": str(instruction_file)}
    tasks.register(corpus_dir, tokenizer_dir, languages=("python", "ruby"), instruction_files=files)
    curriculum, _, _ = _published(recipe)
    for stream in curriculum.streams.values():
        objective, batch = stream.objective, _abstract_batch(stream.dataset)

        def loss(rng, batch, objective=objective):
            tokens = jnp.ones((1, 2), jnp.int32)
            params = dict(nn.unbox(objective.model.init(rng, tokens, tokens))["params"])
            params |= nn.unbox(objective.init_params(rng))
            state = nn.unbox(objective.init(rng, params))
            mean = objective.loss(params, state, batch, rng, train=True)[0]
            return mean.total, mean.weight

        total, weight = jax.eval_shape(loss, jax.random.key(0), batch)
        assert total.shape == weight.shape == ()


def _abstract_batch(dataset):
    return {
        name: jax.ShapeDtypeStruct(shape, jnp.int32)
        for name, shape in batch_shapes(dataset).items()
    }


@pytest.fixture(scope="module")
def instruction_file(tmp_path_factory):
    """Sixty instructions, so that a few are held out."""
    path = tmp_path_factory.mktemp("instructions") / "alpaca.jsonl"
    lines = [
        json.dumps({"instruction": f"Add {n} to x.", "input": "", "output": f"x + {n}"})
        for n in range(60)
    ]
    path.write_text("\n".join(lines))
    return path


ONE_DEVICE = """
from __gin__ import dynamic_registration
from codet5p_jax.training import partitioning
from tests import few_devices

partitioning.Partitioner.devices = @few_devices.first_device()
"""


@pytest.fixture(scope="module")
def train_toy(
    finished_corpus_dir,  # noqa: F811
    tokenizer_dir,  # noqa: F811
    tokenizer,  # noqa: F811
    tmp_path_factory,
    instruction_file,
):
    """Returns a function that trains two steps of a recipe's toy twin on one device."""
    one_device = tmp_path_factory.mktemp("gin") / "one_device.gin"
    one_device.write_text(ONE_DEVICE)

    def train(recipe, model_dir, *, initial=None):
        values = {
            "VOCAB_SIZE": tokenizer.vocab_size,
            "TWO_STAGE_VOCAB_SIZE": tokenizer.vocab_size + 3,
            "DENOISING_STEPS": 1,
            "ALL_STEPS": 1,
            "TRAIN_STEPS": 2,
            "WARMUP_STEPS": 1,
            "LOG_PERIOD": 1,
            "EVAL_PERIOD": 1 if _tunes_on_instructions(recipe) else None,
        }
        # In a file, since no recipe reads all of them.
        lines = [f"{name} = {value}" for name, value in values.items()]
        two_steps = one_device.with_name("two_steps.gin")
        two_steps.write_text("\n".join(lines))
        words = [
            f"--gin.MODEL_DIR={model_dir}",
            f"--gin.TOKENIZER_DIR={tokenizer_dir}",
            f"--gin.INITIAL_CHECKPOINT_PATH={initial}",
        ]
        if _tunes_on_instructions(recipe):
            words.append(f"--gin.INSTRUCTION_FILES={ {'made': str(instruction_file)} }")
        else:
            words.append(f"--gin.CORPUS_DIR={finished_corpus_dir}")
        names = (f"recipes/{recipe}.gin", "runs/toy.gin", one_device, two_steps)
        files = [f"--gin_file={name}" for name in names]
        seqio.TaskRegistry.reset()
        seqio.MixtureRegistry.reset()
        with pytest.raises(SystemExit) as stopped:
            main(["train", *files, *words])
        assert stopped.value.code == 0
        return model_dir

    yield train
    seqio.TaskRegistry.reset()
    seqio.MixtureRegistry.reset()


@pytest.fixture(scope="module")
def stage1_twin(train_toy, tmp_path_factory):
    return train_toy("stage1_220m", tmp_path_factory.mktemp("toy") / "stage1_220m")


def _logged(model_dir):
    return [json.loads(line) for line in (model_dir / "metrics.jsonl").read_text().splitlines()]


def _losses(model_dir):
    """The last logged loss of each stream."""
    lines = [line for line in _logged(model_dir) if line["split"] == "train"]
    merged = {k: v for line in lines for k, v in line.items() if k.endswith("/loss")}
    assert lines[-1]["step"] == 2 and all(map(math.isfinite, merged.values()))
    return merged.keys()


# What differs in size, the toy replaces. `make pretrain` trains the quickstart.
LARGER_TWINS = ("770m", "6b", "stage1_16b", "instruct_2b")  # those of 220M and 2B, of 16B
SLOW = [
    name
    for name in RECIPES
    if name.startswith("quickstart") or any(size in name for size in LARGER_TWINS)
]
SLOW += ["instruct_220m", "stage1_220m_packed", "stage1_2b_py"]  # like others
FROM_SCRATCH = [
    "quickstart_stage1",
    "quickstart_stage1_packed",
    "stage1_220m_packed",
    "stage1_770m",
    "stage1_2b",
    "stage1_6b",
    "stage1_16b",
    "stage1_2b_py",
    "instruct_16b",
    "instruct_2b",
]
FROM_STAGE_1 = [
    "quickstart_completion",
    "quickstart_stage2",
    "stage1_220m_py",
    "stage2_770m",
    "instruct_220m",
    "instruct_770m",
    "quickstart_instruct",
]


def _recipes(names):
    return [pytest.param(n, marks=[pytest.mark.slow] if n in SLOW else []) for n in names]


def test_every_recipe_has_a_twin_that_is_trained_here():
    assert {"stage1_220m", "stage2_220m", *FROM_SCRATCH, *FROM_STAGE_1} == set(RECIPES)


STAGE_1_STREAMS = {"span_denoising/loss", "seq2seq_clm/loss", "decoder_clm/loss"}


def test_the_twin_of_stage_1_trains_all_streams(stage1_twin):
    assert _losses(stage1_twin) == STAGE_1_STREAMS


@pytest.mark.parametrize("recipe", _recipes(FROM_SCRATCH))
def test_the_twin_of_a_recipe_trains(recipe, train_toy, tmp_path):
    model_dir = train_toy(recipe, tmp_path / recipe)
    streams = {
        "packed": {"span_denoising/loss", "unimodal/loss"},
        "py": STAGE_1_STREAMS - {"span_denoising/loss"},
    }
    if _tunes_on_instructions(recipe):
        assert _losses(model_dir) == {"instruction/loss"}
        lines = (model_dir / "answers.jsonl").read_text().splitlines()
        answers = [json.loads(line) for line in lines]
        assert {answer["step"] for answer in answers} == {1, 2}
        assert all(answer["instruction"].startswith("Add ") for answer in answers)
        return
    assert _losses(model_dir) == streams.get(recipe.split("_")[-1], STAGE_1_STREAMS)
    # Those of single examples, by which `codet5p eval` compares padded and packed runs.
    lengths = load_metadata(model_dir)["task_feature_lengths"]
    expected = {
        "span_denoising": {"inputs": 48, "targets": 20},
        "seq2seq_clm": {"inputs": 40, "targets": 40},
        "decoder_clm": {"inputs": 1, "targets": 48},
        "unimodal": {"inputs": 96, "targets": 64},
    }
    assert lengths == {name: expected[name] for name in lengths}
    assert lengths.keys() >= {name.removesuffix("/loss") for name in _losses(model_dir)}


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["stage1_2b"])
def test_the_twin_of_a_frozen_decoder_moves_nothing_of_its_language_model(
    recipe, train_toy, tmp_path
):
    first = train_toy(recipe, tmp_path / "first")
    second = train_toy(recipe, tmp_path / "second", initial=first)
    before, after = load_params(first), load_params(second)
    frozen = language_model_paths(_config_of(second), after)
    flat = {name: flatten_dict(tree, sep="/") for name, tree in (("a", before), ("b", after))}
    for path, value in flat["b"].items():
        same = bool(np.array_equal(value, flat["a"][path]))
        assert same == (path in frozen), path
        assert (value.dtype == jnp.bfloat16) == (path in frozen)


def _config_of(model_dir):
    return config_from_dict(load_metadata(model_dir)["model"])


@pytest.mark.parametrize("recipe", _recipes(FROM_STAGE_1))
def test_the_twin_of_a_later_recipe_trains_from_that_of_stage_1(
    recipe, train_toy, stage1_twin, tmp_path
):
    model_dir = train_toy(recipe, tmp_path / recipe, initial=stage1_twin)
    assert _losses(model_dir)
    origin = load_metadata(model_dir)["initial_checkpoint"]
    assert origin["path"] == str(stage1_twin)


def test_the_twin_of_stage_2_takes_the_task_tokens_as_the_mean_row_and_says_so(
    train_toy,
    stage1_twin,
    tmp_path,
    tokenizer,  # noqa: F811
):
    model_dir = train_toy("stage2_220m", tmp_path / "stage2", initial=stage1_twin)
    assert _losses(model_dir) == {"pairs/loss"}
    origin = load_metadata(model_dir)["initial_checkpoint"]
    size = tokenizer.vocab_size
    assert origin["extended_rows"] == [size, size + 3] and origin["unused"] == []
    assert any(name.startswith("projection/") for name in origin["fresh"])
    before, after = (
        load_params(run)["token_embedder"]["embedding"] for run in (stage1_twin, model_dir)
    )
    mean = before[:size].mean(axis=0)  # of rows of standard deviation 1
    two_steps = 5e-3  # AdamW at a rate of 1e-3 moves no weight further
    np.testing.assert_allclose(after[size : size + 3], np.tile(mean, (3, 1)), atol=two_steps)
    np.testing.assert_allclose(after[:size], before[:size], atol=two_steps)
