"""What attention with T5's bias moves and needs at each length, fused and in plain XLA.

``python -m benchmarks.attention`` compiles forward and backward pass ahead of time for one chip of
TPU v5e, without a TPU (needs libtpu): T5 base's heads, 16,384 tokens in padded rows, bfloat16.
"""

import functools
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from codet5p_jax.cli.results import now, write_results
from codet5p_jax.kernels.attention_mask import AttentionMask
from codet5p_jax.kernels.fused_attention import fused_attention
from codet5p_jax.kernels.position_bias import PositionBias
from codet5p_jax.kernels.xla_attention import xla_attention
from codet5p_jax.training.ahead_of_time import topology_devices
from codet5p_jax.training.program_costs import program_costs

TOKENS, HEADS, HEAD_DIM, BUCKETS = 16_384, 12, 64, 32
LENGTHS = (512, 1024, 2048, 4096, 8192)
RESULTS = pathlib.Path(__file__).parent / "results" / "attention.json"


def main() -> None:
    """Compiles every length, prints a row for each, and writes the figures."""
    mesh = Mesh(np.array(topology_devices("v5e:2x2")[:1]), ("data",))
    rows = []
    print("length | HBM GB fused, XLA, ratio | memory MiB fused, XLA | backward / forward")
    with jax.set_mesh(mesh):
        for length in LENGTHS:
            fused, plain = (figures(f, length) for f in (fused_attention, xla_attention))
            row = {"length": length, "fused": fused, "xla": plain}
            row["hbm_ratio"] = fused["hbm_bytes"] / plain["hbm_bytes"]
            rows.append(row)
            print(
                f"{length} | {fused['hbm_bytes'] / 1e9:.3f}, {plain['hbm_bytes'] / 1e9:.3f}, "
                f"{row['hbm_ratio']:.2f} | {fused['temp_bytes'] / 2**20:.1f}, "
                f"{plain['temp_bytes'] / 2**20:.1f} | "
                f"{fused['backward_hbm_bytes'] / fused['forward_hbm_bytes']:.2f}",
                flush=True,
            )
    write_results(RESULTS, {"date": now(), "tokens": TOKENS, "lengths": rows})


def figures(attention: Callable[..., jax.Array], length: int) -> dict[str, Any]:
    """Returns what the forward pass, and both, move in HBM and hold at once.

    Args:
        attention: The function.
        length: Of queries and keys.
    """
    passes = [functools.partial(function, attention) for function in (_out, _gradients)]
    forward, both = (_compiled(function, length) for function in passes)
    of_forward, of_both = (program_costs(p.as_text()).hbm_bytes for p in (forward, both))
    memory, analysis = both.memory_analysis(), both.cost_analysis()
    assert memory and analysis  # TPU's compiler always tells
    return {
        "forward_hbm_bytes": of_forward,
        "backward_hbm_bytes": of_both - of_forward,
        "hbm_bytes": of_both,
        "xla_bytes_accessed": analysis["bytes accessed"],
        "temp_bytes": memory.temp_size_in_bytes,
    }


def _out(attention, query, key, value, d_out, table, segments):
    """Returns what is gathered; arrays are as projections make them, [rows, length, joined]."""
    shape = (*query.shape[:2], HEADS, HEAD_DIM)
    query, key, value = (x.reshape(shape) for x in (query, key, value))
    mask, bias = AttentionMask(key_segments=segments), PositionBias(table=table)
    return attention(query, key, value, mask=mask, bias=bias).reshape(d_out.shape)


def _gradients(attention, query, key, value, d_out, table, segments):
    def attend(query, key, value, table):
        return _out(attention, query, key, value, d_out, table, segments)

    out, pull = jax.vjp(attend, query, key, value, table)
    return out, pull(d_out)


def _compiled(function: Callable[..., Any], length: int) -> jax.stages.Compiled:
    everywhere = NamedSharding(jax.sharding.get_mesh(), PartitionSpec())

    def array(*shape, dtype=jnp.bfloat16):
        return jax.ShapeDtypeStruct(shape, dtype, sharding=everywhere)

    rows = TOKENS // length
    qkv = [array(rows, length, HEADS * HEAD_DIM)] * 4
    table = array(BUCKETS, HEADS, dtype=jnp.float32)
    segments = array(rows, length, dtype=jnp.int32)
    return jax.jit(function).lower(*qkv, table, segments).compile()


if __name__ == "__main__":
    main()
