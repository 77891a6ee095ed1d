"""Benchmark: one training step of ours against transformers' T5 in torch, both on this CPU.

``python -m benchmarks.train_step`` measures with dropout off, as T5 v1.1 was pretrained, and
then with dropout 0.1; the limits are for the first.
"""

import argparse
import functools
import os
import sys
import time

from benchmarks.paired import Comparison, Side, compare, report
from benchmarks.training_turns import STREAM, features, serve_training
from benchmarks.workload import Workload

LIMITS = {"time": 0.85, "memory": 1.2}


def compare_with_transformers(
    *, dropout_rate: float, turns: int, steps: int, scan_unroll: int
) -> Comparison:
    """Returns our step beside transformers', at one dropout rate."""
    python = (sys.executable, "-m")
    dropout = f"--dropout_rate={dropout_rate}"
    ours = (*python, "benchmarks.train_step", "--serve", dropout, f"--scan_unroll={scan_unroll}")
    return compare(
        "train_step" if dropout_rate == 0 else "train_step_dropout",
        Side(name="codet5p_jax", command=ours),
        Side(
            name="transformers",
            command=(*python, "benchmarks.peers.transformers_train_step", dropout),
        ),
        turns=turns,
        units=steps,
        limits=LIMITS if dropout_rate == 0 else {},
    )


def serve_steps(workload: Workload, *, scan_unroll: int) -> None:
    """Serves turns of our training step: the loop's own, with its metrics, on one stream."""
    from codet5p_jax.cli.huge_pages import TUNABLES, restart_with_huge_pages

    restart_with_huge_pages()  # as `codet5p train` does

    import jax
    import jax.numpy as jnp
    import optax
    from flax import linen as nn

    from codet5p_jax.models.codet5p import CodeT5p
    from codet5p_jax.objectives.seq2seq import Seq2SeqObjective
    from codet5p_jax.training.curriculum import Stream
    from codet5p_jax.training.loss_guard import STOP_ON_NON_FINITE, guarded_step
    from codet5p_jax.training.optimizer import adamw
    from codet5p_jax.training.state import TrainState
    from codet5p_jax.training.step import train_step

    model = CodeT5p(model_config(workload, scan_unroll=scan_unroll))
    batch = jax.device_put(features(*workload.batch()))
    schedule = optax.constant_schedule(workload.learning_rate)
    optimizer = adamw(
        schedule,
        weight_decay=workload.weight_decay,
        max_gradient_norm=workload.max_gradient_norm,
    )

    def create(rng: jax.Array) -> TrainState:
        tokens = jnp.ones([1, 2], jnp.int32)
        params = nn.unbox(model.init(rng, tokens, tokens)["params"])
        return TrainState(jnp.int32(0), params, optimizer.init(params), {STREAM: {}}, rng)

    stream = Stream(name=STREAM, objective=Seq2SeqObjective(model=model), dataset=None)
    step = functools.partial(
        train_step, streams=[stream], optimizer=optimizer, learning_rate=schedule
    )
    guarded = functools.partial(guarded_step, step=step, guard=STOP_ON_NON_FINITE, first_step=0)
    state = jax.jit(create)(jax.random.key(0))
    start_time = time.perf_counter()
    compiled = jax.jit(guarded, donate_argnums=0).lower(state, {STREAM: batch}).compile()
    compile_seconds = time.perf_counter() - start_time

    serve_training(
        compiled,
        state,
        batch,
        facts={
            "jax": jax.__version__,
            "threads": len(os.sched_getaffinity(0)),
            "xla_flags": os.environ.get("XLA_FLAGS", ""),
            "glibc_tunables": os.environ.get(TUNABLES, ""),
            "parameters": model.config.num_parameters(),
            "scan_unroll": scan_unroll,
            "compile_seconds": compile_seconds,
            "tokens_per_step": workload.tokens,
        },
    )


def model_config(workload: Workload, *, scan_unroll: int):
    """Returns our config of the workload's size."""
    from codet5p_jax.models.config import T5Config

    return T5Config(
        vocab_size=workload.vocab_size,
        embed_dim=workload.embed_dim,
        num_encoder_layers=workload.num_layers,
        num_decoder_layers=workload.num_layers,
        num_heads=workload.num_heads,
        head_dim=workload.head_dim,
        mlp_dim=workload.mlp_dim,
        gated_mlp=True,
        tie_embeddings=False,
        dropout_rate=workload.dropout_rate,
        scan_unroll=scan_unroll,
    )


def main() -> None:
    """Runs the benchmark, or with --serve our side of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=7, help="measured turns of each side")
    parser.add_argument("--steps", type=int, default=2, help="steps in a turn")
    parser.add_argument("--scan_unroll", type=int, default=Workload.num_layers)
    parser.add_argument("--dropout_rate", type=float, nargs="*", default=[0.0, 0.1])
    parser.add_argument("--serve", action="store_true", help="be one side (internal)")
    arguments = parser.parse_args()
    if arguments.serve:
        workload = Workload(dropout_rate=arguments.dropout_rate[0])
        serve_steps(workload, scan_unroll=arguments.scan_unroll)
        return
    for dropout_rate in arguments.dropout_rate:
        report(
            compare_with_transformers(
                dropout_rate=dropout_rate,
                turns=arguments.turns,
                steps=arguments.steps,
                scan_unroll=arguments.scan_unroll,
            )
        )


if __name__ == "__main__":
    main()
