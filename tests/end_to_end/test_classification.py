"""A classifier is finetuned from a pretrained MODEL_DIR, as for defects."""

import json

import jax
import numpy as np
import optax

from codet5p_jax.objectives.classification import ClassificationObjective
from codet5p_jax.training.checkpoints import load_params, save_params
from codet5p_jax.training.curriculum import Curriculum, Phase, Stream
from codet5p_jax.training.loop import Run, Schedule
from codet5p_jax.training.partitioning import Partitioner
from codet5p_jax.training.program import Program

STEPS = 40
DEFECT = 7  # the id that makes a sequence class 1


class Functions:
    """Batches of 16 sequences, half of which hold the id 7 somewhere."""

    def __init__(self, dataset):
        self._numbers = np.random.default_rng(dataset)

    def __next__(self):
        tokens = self._numbers.integers(20, 60, (16, 6)).astype(np.int32)
        tokens[:, 0] = 1
        labels = np.arange(16) % 2
        places = self._numbers.integers(1, 6, 16)
        tokens[np.arange(16)[labels == 1], places[labels == 1]] = DEFECT
        return {"input_tokens": tokens, "labels": labels.astype(np.int32)}

    def get_state(self):
        return {}

    def close(self):
        pass


def test_a_run_learns_to_tell_defects_from_the_encoder_of_a_pretrained_model(
    tiny_model, tiny_params, tmp_path
):
    pretrained, model_dir = tmp_path / "pretrained", tmp_path / "defects"
    metadata = {"model": tiny_model.config.to_dict()}
    save_params(pretrained, tiny_params, metadata)
    objective = ClassificationObjective(model=tiny_model, num_classes=2)
    stream = Stream(name="defects", objective=objective, dataset=0, eval_dataset=1)
    program = Program(
        curriculum=Curriculum(phases=[Phase(name="finetuning", steps=STEPS, streams=[stream])]),
        learning_rate=optax.constant_schedule(1e-2),
        optimizer=optax.adam,
        partitioner=Partitioner(devices=jax.devices()[:1]),
    )
    run = Run(
        model_dir=str(model_dir),
        program=program,
        open_batches=Functions,
        identity={},
        metadata=metadata,
        schedule=Schedule(log_period=10, eval_period=STEPS, eval_batches=4),
        initial_checkpoint_path=str(pretrained),
    )
    assert run.train() == 0
    lines = [json.loads(line) for line in (model_dir / "metrics.jsonl").read_text().splitlines()]
    held_out = next(line for line in lines if line["split"] == "eval")
    assert held_out["defects/accuracy"] > 0.95
    assert held_out["defects/padding_share"] == 0.0
    params = load_params(model_dir)
    assert params["classifier"]["out"]["kernel"].shape == (16, 2)
    np.testing.assert_array_equal(  # nothing reads the decoder, and adam leaves it as it was
        params["decoder"]["final_norm"]["scale"], tiny_params["decoder"]["final_norm"]["scale"]
    )
