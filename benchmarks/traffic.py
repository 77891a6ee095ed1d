"""What a T5 1.1 base step moves and sends on TPU v5e, counted in the compiled program.

``python -m benchmarks.traffic`` compiles the step ahead of time, without a TPU (needs libtpu):
128 rows of 512/512 tokens on v5e:4x4, bfloat16 activations, float32 parameters, Adafactor, dropout.
Beside it, where T5X can be imported, T5X's own network, loss and optimizer, counted alike.
"""

import argparse
import dataclasses
import importlib.util
import json
import pathlib
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp

from codet5p_jax.cli.results import now, write_results
from codet5p_jax.kernels.xla_attention import xla_attention
from codet5p_jax.models.codet5p import CodeT5p
from codet5p_jax.models.config import T5Config
from codet5p_jax.objectives.seq2seq import Seq2SeqObjective
from codet5p_jax.training.ahead_of_time import topology_devices
from codet5p_jax.training.curriculum import Curriculum, Phase, Stream
from codet5p_jax.training.optimizer import adafactor
from codet5p_jax.training.partitioning import Partitioner, standard_logical_axis_rules
from codet5p_jax.training.program import Program
from codet5p_jax.training.program_costs import program_costs
from codet5p_jax.training.schedules import linear

TOPOLOGY, ROWS, LENGTH, CHUNK_LENGTH = "v5e:4x4", 128, 512, 128
RESULTS = pathlib.Path(__file__).parent / "results" / "traffic.json"
REMAT = jax.checkpoint_policies.nothing_saveable
T5_BASE = T5Config(
    vocab_size=32_128,
    embed_dim=768,
    num_encoder_layers=12,
    num_decoder_layers=12,
    num_heads=12,
    head_dim=64,
    mlp_dim=2048,
    gated_mlp=True,
    tie_embeddings=False,
    dtype=jnp.bfloat16,
)
LAYOUTS: dict[str, dict[str, Any]] = {  # name -> changes of the model, and whether FSDP
    "data parallel": {},
    "data parallel, remat": {"remat_policy": REMAT},
    "data parallel, layers unrolled": {"scan_unroll": 12},
    "data parallel, XLA's attention": {"attention": xla_attention},
    "data parallel, XLA's attention, layers unrolled": {
        "attention": xla_attention,
        "scan_unroll": 12,
    },
    "fully sharded, remat": {"remat_policy": REMAT, "fully_sharded": True},
}
T5X = "T5X, layers unrolled"


def main() -> None:
    """Compiles each layout in a process of its own, or with --only one of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=[*LAYOUTS, T5X])
    chosen = parser.parse_args().only
    if chosen:
        print_and_keep(chosen, figures(compiled(chosen)))
        return
    names = [*LAYOUTS, *([T5X] if importlib.util.find_spec("t5x") else [])]
    for name in names:
        subprocess.run([sys.executable, "-m", "benchmarks.traffic", f"--only={name}"], check=True)


def compiled(name: str) -> jax.stages.Compiled:
    """Returns the step of a layout, compiled for the topology."""
    if name == T5X:
        from benchmarks.peers.t5x_traffic import lowered_step

        return lowered_step(T5_BASE, rows=ROWS, length=LENGTH, topology=TOPOLOGY).compile()
    changes = dict(LAYOUTS[name])
    dims = 2 if changes.pop("fully_sharded", False) else 1
    partitioner = Partitioner(
        devices=topology_devices(TOPOLOGY),
        logical_axis_rules=standard_logical_axis_rules(parameter_partitioning_dims=dims),
    )
    return _program(changes, partitioner).lower_train_step(0, {"pairs": batch()}).compile()


def batch() -> dict[str, jax.ShapeDtypeStruct]:
    """Returns the shapes of a global batch."""
    names = ("encoder_input_tokens", "decoder_input_tokens", "decoder_target_tokens")
    rows = {name: jax.ShapeDtypeStruct((ROWS, LENGTH), jnp.int32) for name in names}
    return {**rows, "decoder_loss_weights": jax.ShapeDtypeStruct((ROWS, LENGTH), jnp.float32)}


def figures(executable: jax.stages.Compiled) -> dict[str, Any]:
    """Returns what one chip needs, computes, moves and sends in a step.

    `hbm_traffic_bytes` counts HBM alone, bodies of loops times their trips; `xla_bytes_accessed`
    is XLA's own analysis, which counts on-chip memory too, and bodies of loops once.
    """
    memory, analysis = executable.memory_analysis(), executable.cost_analysis()
    text = executable.as_text()
    assert memory and analysis and text  # TPU's compiler always tells
    costs = program_costs(text)
    return {
        "peak_bytes": memory.argument_size_in_bytes + memory.temp_size_in_bytes,
        "flops": costs.flops,
        "hbm_traffic_bytes": costs.hbm_bytes,
        "xla_bytes_accessed": analysis["bytes accessed"],
        "wire_bytes": costs.wire_bytes(across_slices=False),
        "all_reduce_bytes": costs.operand_bytes("all-reduce"),
        "messages": sum(entry.count for entry in costs.collectives),
    }


def print_and_keep(name: str, counted: dict[str, Any]) -> None:
    """Prints the figures of a layout, and writes them beside those of the others."""
    print(
        f"{name}: peak {counted['peak_bytes'] / 2**30:.2f} GiB, "
        f"{counted['flops'] / 1e12:.2f} TFLOP, HBM {counted['hbm_traffic_bytes'] / 1e9:.1f} GB, "
        f"by XLA's count {counted['xla_bytes_accessed'] / 1e9:.1f} GB, "
        f"all-reduce {counted['all_reduce_bytes'] / 1e6:.0f} MB, on the wire "
        f"{counted['wire_bytes'] / 1e9:.2f} GB in {counted['messages']:,} messages",
        flush=True,
    )
    kept = _kept() | {name: {**counted, "date": now()}}
    write_results(RESULTS, kept)


def _kept() -> dict[str, Any]:
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}


def _program(changes: dict[str, Any], partitioner: Partitioner) -> Program:
    objective = Seq2SeqObjective(
        model=CodeT5p(dataclasses.replace(T5_BASE, **changes)), chunk_length=CHUNK_LENGTH
    )
    stream = Stream(name="pairs", objective=objective, dataset=None)
    return Program(
        curriculum=Curriculum(phases=[Phase(name="all", steps=100, streams=[stream])]),
        learning_rate=linear(peak_learning_rate=1e-3, warmup_steps=10, total_steps=100),
        optimizer=adafactor,
        partitioner=partitioner,
    )


if __name__ == "__main__":
    main()
