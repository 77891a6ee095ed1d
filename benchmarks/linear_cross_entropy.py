"""What the logits, their cross-entropy and its gradients cost on TPU v5e, in chunks and whole.

``python -m benchmarks.linear_cross_entropy`` compiles them ahead of time, without a TPU (needs
libtpu): hidden states in bfloat16, a float32 kernel of 32,100 rows padded to 32,128, z-loss.
Beside them, where tokamax can be imported, its fused kernels, which have no z-loss, no weights and
no padding.
"""

import dataclasses
import functools
import importlib.util
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from codet5p_jax.cli.results import now, write_results
from codet5p_jax.models.codet5p import CodeT5p, abstract_params, logits_params
from codet5p_jax.models.config import T5Config
from codet5p_jax.objectives.losses import TokenLoss
from codet5p_jax.objectives.seq2seq import target_loss
from codet5p_jax.training.ahead_of_time import topology_devices
from codet5p_jax.training.chips import chip_of_generation
from codet5p_jax.training.hlo.arithmetic import matmul_flops
from codet5p_jax.training.hlo.breakdown import executions
from codet5p_jax.training.hlo.custom_calls import target
from codet5p_jax.training.hlo.parser import Computation, Instruction, Module, parse
from codet5p_jax.training.hlo.traffic import hbm_bytes
from codet5p_jax.training.program_costs import program_costs
from codet5p_jax.typing import PyTree

TOPOLOGY, VOCAB = "v5e:2x2", 32_100
CHUNK_LENGTHS = (64, 128, 256, None)
KernelCosts = Callable[[Computation, Instruction], tuple[int, int]]
RESULTS = pathlib.Path(__file__).parent / "results" / "linear_cross_entropy.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """What one chip computes.

    Attributes:
        rows: Of the batch.
        length: Target positions.
        embed: Width of the hidden states.
        tied: Whether the kernel is the embedding [vocab, embed]: logits are then float32, else
            rounded to bfloat16.
    """

    rows: int = 8
    length: int
    embed: int
    tied: bool

    @property
    def name(self) -> str:
        """Returns what the results call it."""
        kernel = "embedding" if self.tied else "head"
        return f"{self.rows} x {self.length} x {self.embed}, {kernel}"

    @property
    def sizes(self) -> dict[str, int]:
        """Returns the sizes of the products."""
        vocab = self.config.padded_vocab_size
        return {"tokens": self.rows * self.length, "embed": self.embed, "vocab": vocab}

    @property
    def config(self) -> T5Config:
        """Returns a model with such logits; its layers are not run."""
        return T5Config(
            vocab_size=VOCAB,
            embed_dim=self.embed,
            num_encoder_layers=1,
            num_decoder_layers=1,
            num_heads=2,
            head_dim=64,
            mlp_dim=128,
            tie_embeddings=self.tied,
            dtype=jnp.bfloat16,
        )


CASES = [
    Case(length=length, embed=embed, tied=tied)
    for length, embed in ((512, 768), (128, 768), (512, 1024))
    for tied in (False, True)
]


def main() -> None:
    """Compiles all, prints their costs, and writes the results."""
    mesh = jax.sharding.Mesh(np.array(topology_devices(TOPOLOGY)[:1]), ("data",))
    results: dict[str, Any] = {"topology": TOPOLOGY, "date": now(), "jax": jax.__version__}
    for case in CASES:
        results[case.name] = {}
        for name, counted in variants(case, mesh):
            print(
                f"{case.name}, {name}: HBM {counted['hbm_traffic_bytes'] / 1e6:.0f} MB, "
                f"temporaries {counted['temporary_bytes'] / 2**20:.0f} MiB, "
                f"{counted['flops'] / 1e9:.0f} GFLOP, "
                f"at least {1e3 * counted['least_seconds']:.2f} ms",
                flush=True,
            )
            results[case.name][name] = counted
    write_results(RESULTS, results)


def variants(case: Case, mesh: jax.sharding.Mesh) -> Iterator[tuple[str, dict[str, float]]]:
    """Yields names and costs of ours at each chunk length, then those of tokamax's kernels."""
    for chunk_length in CHUNK_LENGTHS:
        if chunk_length is None or chunk_length < case.length:
            name = f"chunks of {chunk_length}" if chunk_length else "whole"
            yield name, figures(lowered_loss(case, mesh, chunk_length).compile())
    if importlib.util.find_spec("tokamax"):
        from benchmarks.peers import tokamax_cross_entropy as tokamax

        whole_width = dataclasses.replace(tokamax.DEFAULT, embed=case.embed)
        named = {"tokamax": tokamax.DEFAULT, "tokamax, blocks as wide as the model": whole_width}
        for name, blocks in named.items():
            lowered = tokamax.lowered_loss(mesh, blocks, **case.sizes, tied=case.tied)
            costs = functools.partial(tokamax.kernel_costs, blocks=blocks, **case.sizes)
            yield name, figures(lowered.compile(), costs)


def lowered_loss(
    case: Case, mesh: jax.sharding.Mesh, chunk_length: int | None
) -> jax.stages.Lowered:
    """Returns loss, metrics and the gradients of kernel and hidden states, as a step takes them."""
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    model, config = CodeT5p(case.config), case.config

    def loss(params: PyTree, hidden: jax.Array, *data: jax.Array) -> tuple[Any, TokenLoss]:
        result = target_loss(model, params, hidden, *data, chunk_length=chunk_length, z_loss=1e-4)
        return result.loss.total, result

    gradient = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)
    targets = (case.rows, case.length)
    return jax.jit(gradient, in_shardings=everywhere).lower(
        nn.unbox(logits_params(config, abstract_params(config))),
        jax.ShapeDtypeStruct((*targets, case.embed), config.dtype),
        jax.ShapeDtypeStruct(targets, jnp.int32),
        jax.ShapeDtypeStruct(targets, jnp.float32),
    )


def figures(
    executable: jax.stages.Compiled, kernel_costs: KernelCosts | None = None
) -> dict[str, float]:
    """Returns what a chip holds beside arguments and results, moves in HBM, and computes.

    `least_seconds` is the sum over instructions of what takes longer, their arithmetic at the
    chip's peak or their traffic: a product of few tokens waits for the gradient that it adds to.

    Args:
        executable: Of one device.
        kernel_costs: FLOPs and bytes of a custom call that says nothing of its cost.
    """
    memory, text = executable.memory_analysis(), executable.as_text()
    chip = chip_of_generation(TOPOLOGY.split(":")[0])
    assert memory and text and chip.hbm_bytes_per_second  # TPU's compiler always tells
    module, flops, moved, seconds = parse(text), 0, 0, 0.0
    for computation, times in executions(module, module.computations[module.entry]):
        for instruction in computation.instructions.values():
            if kernel_costs and target(instruction) == "tpu_custom_call":
                of_one = kernel_costs(computation, instruction)
            else:
                of_one = (
                    product_flops(module, computation, instruction),
                    hbm_bytes(module, computation, instruction),
                )
            flops, moved = flops + times * of_one[0], moved + times * of_one[1]
            seconds += times * max(
                of_one[0] / chip.flops_per_second, of_one[1] / chip.hbm_bytes_per_second
            )
    costs = program_costs(module)
    assert kernel_costs or (flops, moved) == (costs.flops, costs.hbm_bytes)
    return {
        "temporary_bytes": memory.temp_size_in_bytes,
        "hbm_traffic_bytes": moved,
        "flops": flops,
        "least_seconds": seconds,
    }


def product_flops(module: Module, computation: Computation, instruction: Instruction) -> int:
    """Returns the FLOPs of matrix products, those of a fusion too."""
    if instruction.opcode != "fusion":
        return matmul_flops(computation, instruction)
    fused = module.called(instruction, "calls")
    return sum(product_flops(module, fused, inner) for inner in fused.instructions.values())


if __name__ == "__main__":
    main()
