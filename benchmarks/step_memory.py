"""Benchmark: memory and time of a 220M training step, with and without what saves memory.

``python -m benchmarks.step_memory`` pairs steps on CPU, real memory as the system counts it:

- chunked against whole logits, on decoder-only rows: their scores are small beside the logits;
- remat of every layer against none, on shorter rows;
- a frozen decoder against a trained one.
"""

import argparse
import dataclasses
import functools
import os
import sys

import numpy as np

from benchmarks.paired import Comparison, Side, compare, report
from benchmarks.training_turns import STREAM, features, serve_training


@dataclasses.dataclass(frozen=True, kw_only=True)
class Variant:
    """A way to compute the step.

    Attributes:
        rows: Rows of a batch.
        inputs: Encoder positions of a row.
        targets: Decoder positions of a row.
        chunk_length: Positions whose logits exist at once; None: all.
        remat: Whether the backward pass computes every layer again.
        frozen: Whether the decoder is frozen.
    """

    rows: int
    inputs: int
    targets: int
    chunk_length: int | None = 64
    remat: bool = True
    frozen: bool = False


CAUSAL = Variant(rows=64, inputs=1, targets=256)
SHORT = Variant(rows=4, inputs=256, targets=256)
VARIANTS = {
    "chunked logits": CAUSAL,
    "whole logits": dataclasses.replace(CAUSAL, chunk_length=None),
    "remat": SHORT,
    "no remat": dataclasses.replace(SHORT, remat=False),
    "frozen decoder": dataclasses.replace(SHORT, frozen=True),
}
PAIRS = {  # name -> (ours, compared with, limits)
    "chunked_logits": ("chunked logits", "whole logits", {"memory": 0.7}),
    "remat": ("remat", "no remat", {}),
    "frozen_decoder": ("frozen decoder", "remat", {}),
}


def main() -> None:
    """Runs the benchmarks, or with --serve one side of one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=3, help="measured turns of each side")
    parser.add_argument("--pairs", nargs="*", choices=list(PAIRS), default=list(PAIRS))
    parser.add_argument("--serve", choices=list(VARIANTS), help="be a side (internal)")
    arguments = parser.parse_args()
    if arguments.serve:
        serve_steps(VARIANTS[arguments.serve])
        return
    for name in arguments.pairs:
        report(compare_steps(name, turns=arguments.turns))


def compare_steps(name: str, *, turns: int) -> Comparison:
    """Returns one pair of variants side by side."""
    ours, other, limits = PAIRS[name]
    command = (sys.executable, "-m", "benchmarks.step_memory", "--serve")
    sides = (Side(name=side, command=(*command, side)) for side in (ours, other))
    return compare(name, *sides, turns=turns, units=1, limits=limits)


def serve_steps(variant: Variant) -> None:
    """Serves turns of the loop's own step on one stream."""
    from codet5p_jax.cli.huge_pages import restart_with_huge_pages

    restart_with_huge_pages()  # as `codet5p train` does

    import jax
    import jax.numpy as jnp
    import optax
    from flax import linen as nn

    from codet5p_jax.models.codet5p import CodeT5p
    from codet5p_jax.models.sizes import model_config
    from codet5p_jax.objectives.seq2seq import Seq2SeqObjective
    from codet5p_jax.training.curriculum import Stream
    from codet5p_jax.training.loss_guard import STOP_ON_NON_FINITE, guarded_step
    from codet5p_jax.training.optimizer import adamw
    from codet5p_jax.training.parameter_rules import EVERY_PARAMETER, parameter_factors
    from codet5p_jax.training.state import TrainState
    from codet5p_jax.training.step import train_step

    policy = jax.checkpoint_policies.nothing_saveable if variant.remat else None
    config = dataclasses.replace(
        model_config("codet5p_220m"), dropout_rate=0.0, remat_policy=policy
    )
    model = CodeT5p(config)
    rng = np.random.default_rng(0)
    inputs, targets = (
        rng.integers(5, config.vocab_size, [variant.rows, length], dtype=np.int32)
        for length in (variant.inputs, variant.targets)
    )
    batch = jax.device_put(features(inputs, targets))
    rules = [("decoder/.*", None), *EVERY_PARAMETER] if variant.frozen else EVERY_PARAMETER
    schedule = optax.constant_schedule(1e-4)
    optimizer = adamw(schedule)
    objective = Seq2SeqObjective(model=model, chunk_length=variant.chunk_length)

    def create(rng: jax.Array) -> TrainState:
        tokens = jnp.ones([1, 2], jnp.int32)
        params = nn.unbox(model.init(rng, tokens, tokens)["params"])
        trainable, _ = parameter_factors(rules, params).split(params)
        return TrainState(jnp.int32(0), params, optimizer.init(trainable), {STREAM: {}}, rng)

    step = functools.partial(
        train_step,
        streams=[Stream(name=STREAM, objective=objective, dataset=None)],
        optimizer=optimizer,
        learning_rate=schedule,
        parameter_rules=rules,
    )
    state = jax.jit(create)(jax.random.key(0))
    guarded = functools.partial(guarded_step, step=step, guard=STOP_ON_NON_FINITE, first_step=0)
    compiled = jax.jit(guarded, donate_argnums=0).lower(state, {STREAM: batch}).compile()
    memory = compiled.memory_analysis()

    state, metrics, _ = compiled(state, {STREAM: batch})
    serve_training(
        compiled,
        state,
        batch,
        facts={
            **dataclasses.asdict(variant),
            "first_loss": float(metrics[f"{STREAM}/loss"].compute()),
            "state_bytes": memory.argument_size_in_bytes,
            "temporary_bytes": memory.temp_size_in_bytes,
            "jax": jax.__version__,
            "threads": len(os.sched_getaffinity(0)),
        },
    )


if __name__ == "__main__":
    main()
