"""Benchmark: a step of a 2B whose decoder is a frozen language model, against training all of it.

``python -m benchmarks.frozen_step`` divides all widths by eight, so that it runs on two cores;
depth, heads and the ratio of the halves stay. With ``--divisor=1 --dtype=bfloat16 --remat`` it is
the 2B itself, for a device of 80 GB. Source and target are alike in length, as in instruction
tuning.
"""

import argparse
import os
import sys
import time

from benchmarks.paired import Side, compare, report
from benchmarks.training_turns import STREAM, serve_training

FROZEN = (("decoder/.*cross_attention/.*", 1.0), ("decoder/.*", None), (".*", 1.0))
LIMITS = {"time": 0.6}  # FLOPs are 0.41 of the whole; attention, norms and the encoder stay


def serve_steps(arguments: argparse.Namespace) -> None:
    """Serves turns of the training step of one side."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    import optax

    from codet5p_jax.models.codet5p import CodeT5p
    from codet5p_jax.models.encoder_decoder import with_execution_fields
    from codet5p_jax.objectives.seq2seq import Seq2SeqObjective
    from codet5p_jax.training.curriculum import Curriculum, Phase, Stream
    from codet5p_jax.training.optimizer import adamw
    from codet5p_jax.training.parameter_rules import EVERY_PARAMETER
    from codet5p_jax.training.partitioning import Partitioner
    from codet5p_jax.training.program import Program

    frozen = arguments.serve == "frozen"
    policy = jax.checkpoint_policies.nothing_saveable if arguments.remat else None
    config = with_execution_fields(
        model_config(arguments.divisor), dtype=jnp.dtype(arguments.dtype).type, remat_policy=policy
    )
    objective = Seq2SeqObjective(model=CodeT5p(config), chunk_length=arguments.length // 4)
    stream = Stream(name=STREAM, objective=objective, dataset=None)
    program = Program(
        curriculum=Curriculum(phases=[Phase(name=STREAM, steps=1000, streams=[stream])]),
        learning_rate=optax.constant_schedule(1e-4),
        optimizer=adamw,
        partitioner=Partitioner(devices=jax.devices()[:1]),
        parameter_rules=FROZEN if frozen else EVERY_PARAMETER,
        frozen_dtype="bfloat16" if frozen else None,
    )
    tokens = np.random.default_rng(0).integers(
        5, config.vocab_size - 900, [2, arguments.rows, arguments.length], dtype=np.int32
    )
    batch = {
        "encoder_input_tokens": tokens[0],
        "decoder_input_tokens": np.pad(tokens[1][:, :-1], ((0, 0), (1, 0))),
        "decoder_target_tokens": tokens[1],
        "decoder_loss_weights": np.ones(tokens[1].shape, np.float32),
    }
    [phase] = program.curriculum.phases
    batch = program.partitioner.put_batch(batch)
    state = program.initial_state()
    start_time = time.perf_counter()
    step = program.train_steps[0].lower(state, {STREAM: batch}).compile()
    compile_seconds = time.perf_counter() - start_time
    memory = step.memory_analysis()
    serve_training(
        step,
        state,
        batch,
        facts={
            "jax": jax.__version__,
            "device": jax.devices()[0].device_kind,
            "threads": len(os.sched_getaffinity(0)),
            "parameters": config.num_parameters(),
            "rows": arguments.rows,
            "length": arguments.length,
            "dtype": arguments.dtype,
            "remat": arguments.remat,
            "model_flops": program.model_flops(phase, {STREAM: batch}),
            "state_bytes": memory and memory.argument_size_in_bytes,
            "temporary_bytes": memory and memory.temp_size_in_bytes,
            "compile_seconds": compile_seconds,
        },
    )


def model_config(divisor: int):
    """Returns the 2B with all widths divided."""
    import dataclasses

    from codet5p_jax.models.sizes import model_config

    config = model_config("codet5p_2b")
    halves = {
        name: dataclasses.replace(
            half,
            vocab_size=half.vocab_size // divisor,
            embed_dim=half.embed_dim // divisor,
            mlp_dim=half.mlp_dim // divisor,
            head_dim=half.head_dim // divisor,
            rotary_dim=max(2, half.rotary_dim // divisor),
        )
        for name, half in (("encoder", config.encoder), ("decoder", config.decoder))
    }
    ids = ("pad_id", "start_id", "eos_id", "clm_id", "match_id")
    return dataclasses.replace(
        config, **halves, **{name: getattr(config, name) // divisor for name in ids}
    )


def main() -> None:
    """Runs the benchmark, or with --serve one side of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=5, help="measured turns of each side")
    parser.add_argument("--steps", type=int, default=1, help="steps in a turn")
    parser.add_argument("--divisor", type=int, default=8, help="of all widths")
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--length", type=int, default=128, help="tokens of each side")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--remat", action="store_true", help="keep inputs of layers alone")
    parser.add_argument("--name", default="frozen_step", help="of the result file")
    parser.add_argument("--serve", choices=("frozen", "whole"), help="be one side (internal)")
    arguments = parser.parse_args()
    if arguments.serve:
        serve_steps(arguments)
        return
    shared = [word for word in sys.argv[1:] if word.startswith("--")]
    command = (sys.executable, "-m", "benchmarks.frozen_step", *shared)
    report(
        compare(
            arguments.name,
            Side(name="frozen", command=(*command, "--serve=frozen")),
            Side(name="whole", command=(*command, "--serve=whole")),
            turns=arguments.turns,
            units=arguments.steps,
            limits=LIMITS,
        )
    )


if __name__ == "__main__":
    main()
