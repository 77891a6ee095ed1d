"""Tests of codet5p_jax.training.loop: whole runs of a tiny model on two streams."""

import dataclasses
import functools
import json
import os
import shutil
import signal
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from codet5p_jax.kernels.fused_attention import fused_attention
from codet5p_jax.kernels.xla_attention import xla_attention
from codet5p_jax.models.codet5p import CodeT5p
from codet5p_jax.objectives.bimodal import BimodalObjective
from codet5p_jax.objectives.seq2seq import Seq2SeqObjective
from codet5p_jax.training.anomalies import NonFiniteLossError
from codet5p_jax.training.checkpoints import (
    CheckpointError,
    Checkpoints,
    load_metadata,
    load_params,
    newest_step,
)
from codet5p_jax.training.curriculum import Curriculum, Phase, Stream
from codet5p_jax.training.identity import IdentityError
from codet5p_jax.training.loop import Run, Schedule
from codet5p_jax.training.loss_guard import LossGuard, roll_back, skip
from codet5p_jax.training.optimizer import adafactor, adamw
from codet5p_jax.training.partitioning import Partitioner, standard_logical_axis_rules
from codet5p_jax.training.program import Program
from codet5p_jax.training.schedules import linear
from codet5p_jax.training.state import Purpose, branch
from codet5p_jax.typing import WeightedMean

STEPS = 6


class RandomBatches:
    """A deterministic stream that knows its position, as the data layer's do."""

    def __init__(self, make):
        self._make, self._position = make, 0

    def __next__(self):
        self._position += 1
        return self._make(np.random.default_rng(self._position))

    def get_state(self):
        return {"position": np.array([self._position])}

    def set_state(self, state):
        self._position = int(state["position"][0])

    def close(self):
        pass


def _seq2seq_batch(numbers):
    tokens = numbers.integers(5, 400, (8, 10)).astype(np.int32)
    targets = tokens[:, :6]
    return {
        "encoder_input_tokens": tokens,
        "decoder_input_tokens": np.pad(targets[:, :-1], ((0, 0), (1, 0))),
        "decoder_target_tokens": targets,
        "decoder_loss_weights": np.ones_like(targets),
    }


def _held_out_batch(numbers):
    return _seq2seq_batch(numbers)


def _pair_batch(numbers):
    tokens = numbers.integers(5, 400, (8, 6)).astype(np.int32)
    tokens[:, 0], tokens[:, -1] = 1, 2
    return {"text_tokens": tokens, "code_tokens": tokens, "pair_ids": np.arange(8, dtype=np.int32)}


def _streams(model):
    denoising = Stream(
        name="denoising",
        objective=Seq2SeqObjective(model=model),
        dataset=_seq2seq_batch,
        eval_dataset=_held_out_batch,
    )
    objective = BimodalObjective(model=model, text_length=6, code_length=6, queue_size=16)
    return denoising, Stream(name="pairs", objective=objective, dataset=_pair_batch)


def _run(model, model_dir, **changes):
    denoising, pairs = _streams(model)
    first = Phase(name="first", steps=2, streams=[denoising])
    second = Phase(name="second", steps=STEPS - 2, streams=[denoising, pairs])
    program = Program(
        curriculum=Curriculum(phases=[first, second]),
        learning_rate=linear(peak_learning_rate=1e-2, warmup_steps=1, total_steps=STEPS),
        optimizer=adamw,
        partitioner=Partitioner(devices=jax.devices()[:1]),
    )
    of_program = {field.name for field in dataclasses.fields(Program)} & changes.keys()
    program = dataclasses.replace(program, **{name: changes.pop(name) for name in of_program})
    run = Run(
        model_dir=str(model_dir),
        program=program,
        open_batches=RandomBatches,
        identity={"tokenizer": "abc"},
        metadata={"model": model.config.to_dict()},
        schedule=Schedule(log_period=2, checkpoint_period=3, eval_period=3, eval_batches=2),
    )
    return dataclasses.replace(run, **changes)


def _short_run(model, model_dir, *, steps=4, **changes):
    """One phase of denoising alone, a checkpoint every second step: quick to compile."""
    denoising, _ = _streams(model)
    denoising = dataclasses.replace(denoising, eval_dataset=None)
    changes = {
        "curriculum": Curriculum(phases=[Phase(name="all", steps=steps, streams=[denoising])]),
        "schedule": Schedule(log_period=1, checkpoint_period=2, eval_period=None),
        **changes,
    }
    return _run(model, model_dir, **changes)


@pytest.fixture(scope="module")
def whole(tiny_model, tmp_path_factory):
    """A run that nothing interrupted."""
    model_dir = tmp_path_factory.mktemp("whole")
    assert _run(tiny_model, model_dir).train() == 0
    return model_dir


def _interrupting(number, *, dataset, position):
    """Batches that send this process a signal when one of `dataset` is asked for."""

    class Interrupting(RandomBatches):
        def __next__(self):
            if self._make is dataset and self._position == position:
                os.kill(os.getpid(), number)
            return super().__next__()

    return Interrupting


def _metrics(model_dir):
    return [json.loads(line) for line in (model_dir / "metrics.jsonl").read_text().splitlines()]


def _assert_same_params(one, other):
    jax.tree.map(np.testing.assert_array_equal, load_params(one), load_params(other))


@pytest.mark.parametrize(
    "number, code, dataset, position",
    [
        pytest.param(  # before the first step of a phase
            signal.SIGTERM, 143, _seq2seq_batch, 2, marks=pytest.mark.slow
        ),
        (signal.SIGINT, 130, _seq2seq_batch, 3),  # between two steps
        pytest.param(  # behind the fetch of the next batch
            signal.SIGTERM, 143, _held_out_batch, 1, marks=pytest.mark.slow
        ),
    ],
)
def test_a_stopped_and_resumed_run_equals_the_uninterrupted_one(
    tiny_model, tmp_path, whole, number, code, dataset, position
):
    interrupting = _interrupting(number, dataset=dataset, position=position)
    assert _run(tiny_model, tmp_path, open_batches=interrupting).train() == code
    assert newest_step(tmp_path) < STEPS
    assert _run(tiny_model, tmp_path).train() == 0
    _assert_same_params(tmp_path, whole)
    numbers = [
        {k: v for k, v in line.items() if k != "time" and not k.startswith("timing/")}
        for line in _metrics(tmp_path)
        if line["step"] == STEPS
    ]
    expected = [
        {k: v for k, v in line.items() if k != "time" and not k.startswith("timing/")}
        for line in _metrics(whole)
        if line["step"] == STEPS
    ]
    assert numbers == expected


def test_metrics_hold_every_stream_of_its_phase_once_per_window(whole):
    lines = [line for line in _metrics(whole) if line["split"] == "train"]
    assert [(line["step"], line["phase"]) for line in lines] == [
        (2, "first"),
        (4, "second"),
        (6, "second"),
    ]
    assert "pairs/loss" not in lines[0] and "pairs/matching_loss" in lines[1]
    assert lines[1]["learning_rate"] > lines[2]["learning_rate"] > 0
    assert {"gradient_norm", "timing/steps_per_second"} <= lines[0].keys()


def test_each_step_takes_one_batch_of_each_stream_of_its_phase(tiny_model, whole):
    """Six steps on denoising; pairs come in at the third."""
    checkpoints = Checkpoints(whole)
    state, positions = _run(tiny_model, whole)._start(checkpoints)
    checkpoints.close()
    assert int(state.step) == int(state.updates) == STEPS
    counts = {name: int(position["position"][0]) for name, position in positions.items()}
    assert counts == {"denoising": STEPS, "pairs": STEPS - 2}
    assert int(state.objective_state["pairs"].steps) == STEPS - 2
    assert int(state.loss_statistics.count) == STEPS - 2  # of the second phase alone


def test_the_loss_on_held_out_data_is_written_at_its_period(whole):
    lines = [line for line in _metrics(whole) if line["split"] == "eval"]
    assert [line["step"] for line in lines] == [3, 6]
    assert all("denoising/loss" in line for line in lines)


def test_a_finished_run_does_nothing_more(tiny_model, whole):
    before = (whole / "metrics.jsonl").read_bytes()
    assert _run(tiny_model, whole).train() == 0
    assert (whole / "metrics.jsonl").read_bytes() == before


def test_a_damaged_checkpoint_is_skipped_by_name(tiny_model, tmp_path, whole):
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    for file in (tmp_path / f"checkpoint_{STEPS}" / "state").rglob("*"):
        if file.is_file():
            file.write_bytes(b"")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert _run(tiny_model, tmp_path).train() == 0
    skipped = [str(w.message) for w in caught if "cannot be read" in str(w.message)]
    assert len(skipped) == 1 and f"checkpoint_{STEPS}" in skipped[0]
    assert (tmp_path / f"unreadable_checkpoint_{STEPS}").is_dir()
    _assert_same_params(tmp_path, whole)  # the step was trained and written again


def test_checkpoints_that_none_can_be_read_of_are_not_trained_over(tiny_model, tmp_path, whole):
    shutil.copytree(whole, tmp_path / "run")
    before = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    other = functools.partial(adamw, max_gradient_norm=None)
    with pytest.raises(
        CheckpointError, match=rf"checkpoint_{STEPS}.* another optimizer.*PARAMETER_RULES"
    ):
        _run(tiny_model, tmp_path / "run", optimizer=other).train()
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == before


def test_a_run_stopped_before_its_first_step_is_saved_and_goes_on(tiny_model, tmp_path, whole):
    def optimizer(learning_rate):
        os.kill(os.getpid(), signal.SIGTERM)
        return adamw(learning_rate)

    assert _run(tiny_model, tmp_path, optimizer=optimizer).train() == 143
    assert newest_step(tmp_path) == 0
    assert _run(tiny_model, tmp_path).train() == 0
    _assert_same_params(tmp_path, whole)


def test_another_identity_is_refused_before_anything_is_written(tiny_model, whole):
    before = sorted(path.name for path in whole.iterdir())
    with pytest.raises(IdentityError, match="tokenizer: it holds 'abc', this run has 'xyz'"):
        _run(tiny_model, whole, identity={"tokenizer": "xyz"}).train()
    assert sorted(path.name for path in whole.iterdir()) == before


def test_a_run_starts_from_another_runs_parameters_with_a_longer_vocabulary(
    tiny_model, tmp_path, whole
):
    longer = CodeT5p(dataclasses.replace(tiny_model.config, vocab_size=506))
    run = _run(longer, tmp_path, initial_checkpoint_path=str(whole))
    taken = run._initial_params()
    table = load_params(whole)["token_embedder"]["embedding"]
    np.testing.assert_array_equal(taken["token_embedder"]["embedding"][:503], table[:503])
    np.testing.assert_allclose(
        taken["token_embedder"]["embedding"][503:506],
        np.tile(table[:503].mean(axis=0), (3, 1)),
        atol=1e-6,
    )
    assert run.train() == 0
    metadata = load_metadata(tmp_path)
    assert metadata["model"]["vocab_size"] == 506
    assert metadata["initial_checkpoint"] == {
        "path": str(whole),
        "fresh": [],
        "unused": [],
        "extended_rows": [503, 506],
    }


def test_frozen_parameters_stay_as_they_were_taken_through_a_restart(tiny_model, tmp_path, whole):
    rules = [("encoder/.*", None), ("token_embedder/.*", None), (".*", 1.0)]
    frozen = {"parameter_rules": rules, "frozen_dtype": "bfloat16"}
    _short_run(tiny_model, tmp_path, steps=2, initial_checkpoint_path=str(whole), **frozen).train()
    run = _short_run(tiny_model, tmp_path, steps=4, **frozen)
    run.train()
    trained, taken = load_params(tmp_path), load_params(whole)
    assert newest_step(tmp_path) == 4
    expected = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), taken["encoder"])
    jax.tree.map(np.testing.assert_array_equal, trained["encoder"], expected)
    assert trained["token_embedder"]["embedding"].dtype == jnp.bfloat16
    norms = [params["decoder"]["final_norm"]["scale"] for params in (trained, taken)]
    assert (norms[0] != norms[1]).all() and norms[0].dtype == np.float32
    (tmp_path / "full").mkdir()
    full = _short_run(tiny_model, tmp_path / "full", initial_checkpoint_path=str(tmp_path))
    assert {
        leaf.dtype
        for leaf in jax.tree.leaves(full.program.initial_state(full._initial_params()).params)
    } == {jnp.dtype("float32")}


def test_parameters_begin_with_keys_that_no_step_uses(tiny_model, tmp_path):
    state = _short_run(tiny_model, tmp_path, seed=5).program.initial_state()
    params_rng, _ = jax.random.split(branch(jax.random.key(5), Purpose.INITIALIZATION))
    model_rng, _ = jax.random.split(params_rng)
    tokens = jnp.ones((1, 2), jnp.int32)
    expected = nn.unbox(tiny_model.init(model_rng, tokens, tokens))["params"]
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7), state.params, expected
    )


def test_a_loss_that_is_no_number_stops_the_run(tiny_model, tmp_path):
    run = _run(tiny_model, tmp_path, optimizer=lambda rate: adamw(lambda step: jnp.nan))
    with pytest.raises(NonFiniteLossError, match=r"denoising/loss.* is not finite at step"):
        run.train()


def test_no_checkpoint_holds_parameters_that_are_no_numbers(tiny_model, tmp_path):
    schedule = Schedule(log_period=STEPS, checkpoint_period=2, eval_period=None)
    broken = adamw(lambda step: jnp.where(step < 3, 1e-3, jnp.nan))  # from the fourth step on
    run = _short_run(
        tiny_model, tmp_path, steps=STEPS, optimizer=lambda rate: broken, schedule=schedule
    )
    with pytest.raises(NonFiniteLossError, match=r"parameter_norm.* is not finite at step 4"):
        run.train()
    assert newest_step(tmp_path) == 2
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(load_params(tmp_path)))


@pytest.mark.parametrize("name", ["log_period", "checkpoint_period", "eval_batches"])
def test_a_period_of_no_steps_is_refused(name):
    with pytest.raises(ValueError, match=rf"Schedule\.{name} is 0; .* Set {name.upper()} in gin"):
        Schedule(**{name: 0})


def test_parameters_that_are_no_numbers_end_a_run_that_skips_losses_too(tiny_model, tmp_path):
    broken = adamw(lambda step: jnp.where(step < 2, 1e-3, jnp.nan))  # the step after is skipped
    run = _short_run(
        tiny_model,
        tmp_path,
        optimizer=lambda rate: broken,
        loss_guard=LossGuard(on_non_finite=skip),
    )
    with pytest.raises(NonFiniteLossError, match=r"parameter_norm is not finite at step [34]"):
        run.train()
    assert newest_step(tmp_path) == 2


@pytest.mark.slow  # test_meshes.py compares single steps
def test_eight_devices_train_to_the_losses_of_one(tiny_model, tmp_path, whole):
    partitioner = Partitioner(num_partitions=2, devices=jax.devices()[:8])
    model = CodeT5p(dataclasses.replace(tiny_model.config, num_heads=4))
    one, eight = tmp_path / "one", tmp_path / "eight"
    assert _run(model, one).train() == 0
    assert _run(model, eight, partitioner=partitioner).train() == 0
    for a, b in zip(_metrics(one), _metrics(eight), strict=True):
        for name in a:
            if name.endswith("loss"):
                np.testing.assert_allclose(b[name], a[name], rtol=1e-5, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("fsdp", [1, 2], ids=["data x model", "parameters over data too"])
def test_adafactor_on_eight_devices_trains_to_the_losses_of_one(tiny_model, tmp_path, fsdp):
    rules = standard_logical_axis_rules(parameter_partitioning_dims=fsdp)
    eight = Partitioner(num_partitions=2, devices=jax.devices()[:8], logical_axis_rules=rules)
    model = CodeT5p(dataclasses.replace(tiny_model.config, num_heads=4))
    optimizer = functools.partial(adafactor, min_dim_size_to_factor=16)
    alone = _short_run(model, tmp_path / "one", steps=2, optimizer=optimizer)
    shared = _short_run(model, tmp_path / "eight", steps=2, optimizer=optimizer, partitioner=eight)
    assert alone.train() == 0 and shared.train() == 0
    for one, other in zip(_metrics(tmp_path / "one"), _metrics(tmp_path / "eight"), strict=True):
        np.testing.assert_allclose(other["denoising/loss"], one["denoising/loss"], rtol=1e-5)


@pytest.mark.slow
def test_the_fused_kernel_interpreted_trains_to_the_losses_of_xla(tiny_model, tmp_path):
    """Self-attention with biases, both ways and causal, and across, with dropout of keys."""
    functions = {"xla": xla_attention, "fused": fused_attention}
    for name, attention in functions.items():
        config = dataclasses.replace(tiny_model.config, attention=attention, dropout_rate=0.1)
        assert _short_run(CodeT5p(config), tmp_path / name, steps=4).train() == 0
    for xla, fused in zip(*(_metrics(tmp_path / name) for name in functions), strict=True):
        for name in xla:
            if name.endswith("loss"):
                np.testing.assert_allclose(fused[name], xla[name], rtol=1e-4, err_msg=name)


def test_metrics_tell_padding_and_what_the_model_computed(tiny_model, whole):
    lines = [line for line in _metrics(whole) if line["split"] == "train"]
    denoising, pairs = _streams(tiny_model)
    shapes = {k: v.shape for k, v in _seq2seq_batch(np.random.default_rng(0)).items()}
    flops = denoising.objective.flops(shapes)
    assert lines[0]["denoising/padding_share"] == 0.0
    rates = [line["timing/model_flops_per_second"] for line in lines]
    assert rates[0] / lines[0]["timing/steps_per_second"] == pytest.approx(flops)
    shapes = {k: v.shape for k, v in _pair_batch(np.random.default_rng(0)).items()}
    flops += pairs.objective.flops(shapes)
    assert rates[1] / lines[1]["timing/steps_per_second"] == pytest.approx(flops)
    assert "timing/mfu" not in lines[0]  # no one knows a CPU's peak


def test_mfu_is_measured_against_the_peak_that_is_given(tiny_model, tmp_path):
    run = _run(tiny_model, tmp_path, peak_flops_per_device=5e9)
    batches = {"denoising": _seq2seq_batch(np.random.default_rng(0))}
    cost = run._step_cost(run.curriculum.phases[0], batches)
    assert cost.peak_flops_per_second == 5e9
    frozen = _run(tiny_model, tmp_path, parameter_rules=[("encoder/.*", None), (".*", 1.0)])
    assert frozen._step_cost(run.curriculum.phases[0], batches) is None  # not counted apart


class ScaledObjective(Seq2SeqObjective):
    """A real loss, times what its batch says: NaN, or a leap."""

    def loss(self, params, state, batch, rng, *, train):
        loss, metrics, state = super().loss(params, state, batch, rng, train=train)
        return WeightedMean(loss.total * batch["factor"][0], loss.weight), metrics, state


def _listed_batches(numbers, *, factors, stop_at=None):
    """Batches of these numbers in this order; the loss on number n is multiplied by factors[n].

    A signal asks the run to stop when the one at position `stop_at` is fetched.
    """

    class Listed(RandomBatches):
        def __next__(self):
            self._position += 1
            number = numbers[self._position - 1]
            if self._position == stop_at:
                os.kill(os.getpid(), signal.SIGTERM)
            batch = self._make(np.random.default_rng(number))
            return {**batch, "factor": np.full([8], factors.get(number, 1.0), np.float32)}

    return Listed


def _watched_run(
    model, model_dir, *, steps, numbers=range(1, 20), factors=None, stop_at=None, **guard
):
    stream = Stream(name="lm", objective=ScaledObjective(model=model), dataset=_seq2seq_batch)
    return _short_run(
        model,
        model_dir,
        curriculum=Curriculum(phases=[Phase(name="all", steps=steps, streams=[stream])]),
        open_batches=_listed_batches(numbers, factors=factors or {}, stop_at=stop_at),
        loss_guard=LossGuard(**guard),
    )


def _events(model_dir):
    return [json.loads(line) for line in (model_dir / "events.jsonl").read_text().splitlines()]


def test_a_skipped_step_leaves_no_trace_in_the_parameters(tiny_model, tmp_path):
    _watched_run(
        tiny_model, tmp_path / "bad", steps=4, factors={3: np.nan}, on_non_finite=skip
    ).train()
    _watched_run(tiny_model, tmp_path / "good", steps=3, numbers=[1, 2, 4]).train()
    _assert_same_params(tmp_path / "bad", tmp_path / "good")
    third, fourth = _metrics(tmp_path / "bad")[2:]
    assert third["skipped_steps"] == 1.0 and "lm/loss" not in third
    assert fourth["skipped_steps"] == 0.0 and np.isfinite(fourth["lm/loss"])
    assert fourth["learning_rate"] == _metrics(tmp_path / "good")[2]["learning_rate"]
    (event,) = _events(tmp_path / "bad")
    assert (event["step"], event["kind"], event["reaction"]) == (3, "non_finite", "skip")
    assert event["losses"] == {"lm/loss": "nan"} and event["gradient_norm"] == "nan"


def test_a_roll_back_goes_on_with_other_batches_through_a_restart_too(tiny_model, tmp_path):
    """Batch 3 of 5 is bad, the checkpoint at step 2; 4 was on its way when that was known."""
    bad, good = tmp_path / "bad", tmp_path / "good"
    run = functools.partial(
        _watched_run, tiny_model, bad, steps=5, factors={3: np.nan}, on_non_finite=roll_back
    )
    assert run(stop_at=6).train() == 143  # behind the roll back
    assert run().train() == 0
    _watched_run(tiny_model, good, steps=5, numbers=[1, 2, 5, 6, 7]).train()
    _assert_same_params(bad, good)
    assert [line["step"] for line in _metrics(bad)] == [1, 2, 3, 4, 5]
    assert [line["lm/loss"] for line in _metrics(bad)] == [
        line["lm/loss"] for line in _metrics(good)
    ]
    (event,) = _events(bad)
    assert (event["reaction"], event["rolled_back_to"]) == ("roll back", 2)
    assert load_metadata(bad)["events"] == [event]


def test_a_run_that_stops_names_its_batches_and_remembers_when_it_goes_on(tiny_model, tmp_path):
    with pytest.raises(
        NonFiniteLossError, match=r"lm/loss \(nan\).* not finite at step 4"
    ) as caught:
        _watched_run(tiny_model, tmp_path, steps=5, factors={4: np.nan}).train()
    path = tmp_path / "batches_of_step_4.npz"
    assert str(path) in str(caught.value) and "ON_NON_FINITE" in str(caught.value)
    held = np.load(path)
    assert np.isnan(held["lm/factor"]).all() and held["lm/encoder_input_tokens"].shape == (8, 10)
    assert newest_step(tmp_path) == 2
    _watched_run(tiny_model, tmp_path, steps=5, factors={4: np.nan}, on_non_finite=skip).train()
    assert [event["reaction"] for event in _events(tmp_path)] == ["stop", "skip"]
    assert load_metadata(tmp_path)["events"] == _events(tmp_path)


def test_a_roll_back_without_a_checkpoint_skips_and_too_many_in_a_row_stop(tiny_model, tmp_path):
    run = _watched_run(
        tiny_model,
        tmp_path,
        steps=5,
        factors={1: np.nan, 2: np.inf},
        on_non_finite=roll_back,
        max_in_row=1,
    )
    with pytest.raises(
        NonFiniteLossError, match=r"step 2 .*number 2 in a row; MAX_ANOMALIES_IN_ROW is 1"
    ):
        run.train()
    assert [event["reaction"] for event in _events(tmp_path)] == ["skip", "stop"]
    assert (tmp_path / "batches_of_step_2.npz").exists()


def test_a_leap_of_the_loss_is_skipped_once_the_run_has_warmed_up(tiny_model, tmp_path):
    _watched_run(
        tiny_model,
        tmp_path,
        steps=5,
        factors={5: 50.0},
        spike_factor=3.0,
        warmup_steps=4,
    ).train()
    (event,) = _events(tmp_path)
    assert (event["step"], event["kind"], event["reaction"]) == (5, "spike", "skip")
    assert event["loss"] > event["limit"] > 0
