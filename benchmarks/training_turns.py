"""What the sides that train share: a batch of one stream, and turns of a step on it."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from benchmarks.paired import serve

STREAM = "lm"


def features(inputs: np.ndarray, targets: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the batch of tokens [batch, length] as a model reads it, every target weighing 1."""
    return {
        "encoder_input_tokens": inputs,
        "decoder_input_tokens": np.pad(targets[:, :-1], ((0, 0), (1, 0))),
        "decoder_target_tokens": targets,
        "decoder_loss_weights": np.ones(targets.shape, np.float32),
    }


def serve_training(
    step: Callable[..., Any], state: Any, batch: Mapping[str, Any], *, facts: Mapping[str, Any]
) -> None:
    """Serves turns of a guarded step, each of which donates the state.

    Args:
        step: (state, {stream: batch}) -> (state, metrics, verdict), compiled.
        state: To begin with.
        batch: On the devices.
        facts: See `serve`.
    """
    import jax

    def steps(count: int) -> None:
        nonlocal state
        for _ in range(count):
            state, metrics, _ = step(state, {STREAM: batch})
        jax.block_until_ready((state, metrics))

    serve(steps, facts=facts)
