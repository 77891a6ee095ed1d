"""The peer of the cross-entropy benchmark: tokamax's fused linear softmax cross-entropy on TPUs.

Its kernels keep logits in VMEM, a block at a time, and compute them again in the backward pass.
They tell the compiler nothing of their cost, so it is counted here from their grids and blocks
(tokamax 0.0.12, pallas_mosaic_tpu_kernel.py). Forward the grid is (tokens, vocabulary, embed);
backward (tokens, vocabulary, 2 stages, embed), where the stages make logits and then gradients.
"""

import dataclasses
import math
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from tokamax._src.ops.linear_softmax_cross_entropy_loss import pallas_mosaic_tpu_kernel as kernels

from codet5p_jax.training.hlo.parser import Computation, Instruction


@dataclasses.dataclass(frozen=True, kw_only=True)
class Blocks:
    """Sizes of the blocks that a kernel takes at once.

    Attributes:
        tokens: At least 1,024; divides the tokens of a batch.
        embed: Of the width; what the last block lacks is computed as zeros.
        vocab: Of the vocabulary; alike.
    """

    tokens: int = 1024
    embed: int = 512
    vocab: int = 512

    def counts(self, *, tokens: int, embed: int, vocab: int) -> tuple[int, int, int]:
        """Returns how many blocks there are of each, in the order of the grid."""
        return (
            math.ceil(tokens / self.tokens),
            math.ceil(vocab / self.vocab),
            math.ceil(embed / self.embed),
        )


DEFAULT = Blocks()  # what tokamax takes on v5e, whatever the shape


def lowered_loss(
    mesh: jax.sharding.Mesh, blocks: Blocks, *, tokens: int, embed: int, vocab: int, tied: bool
) -> jax.stages.Lowered:
    """Returns (loss, gradients of kernel and hidden) of a sum over tokens, all of weight 1.

    Args:
        mesh: One device, which need not exist.
        blocks: Of both kernels.
        tokens: Rows of the hidden states, bfloat16.
        embed: Their width.
        vocab: Rows of the vocabulary, padding included, as if all were real.
        tied: Whether the float32 kernel is an embedding [vocab, embed], which it wants transposed.
    """
    sizes = {f"{name}_block_size": size for name, size in _sizes(blocks)}
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())

    def loss(kernel: jax.Array, hidden: jax.Array, targets: jax.Array) -> tuple[jax.Array, ...]:
        taken = kernel.astype(hidden.dtype)
        taken = taken.T if tied else taken
        total, normalizer = kernels.linear_softmax_cross_entropy_loss_fwd_pallas_mosaic_tpu(
            hidden, targets, taken, **sizes
        )
        d_hidden, d_kernel = kernels.linear_softmax_cross_entropy_loss_bwd_pallas_mosaic_tpu(
            jnp.float32(1), normalizer, hidden, targets, taken, **sizes
        )
        return total, d_kernel.T if tied else d_kernel, d_hidden.astype(hidden.dtype)

    shapes = (
        jax.ShapeDtypeStruct((vocab, embed) if tied else (embed, vocab), jnp.float32),
        jax.ShapeDtypeStruct((tokens, embed), jnp.bfloat16),
        jax.ShapeDtypeStruct((tokens,), jnp.int32),
    )
    with jax.set_mesh(mesh):  # by which Pallas knows the device
        return jax.jit(loss, in_shardings=everywhere).lower(*shapes)


def kernel_costs(
    entry: Computation,
    call: Instruction,
    /,
    *,
    blocks: Blocks,
    tokens: int,
    embed: int,
    vocab: int,
) -> tuple[int, int]:
    """Returns (FLOPs, bytes read and written in HBM) of a kernel.

    Blocks beyond the edge are computed, not moved. A block moves where its index differs from that
    of the step before; what the compiler placed in VMEM moves for nothing, as elsewhere.

    Args:
        entry: The computation that calls it.
        call: Of one of the two kernels.
        blocks: See `lowered_loss`.
        tokens: See there.
        embed: See there.
        vocab: See there.
    """
    counts = by_tokens, by_vocab, by_embed = blocks.counts(tokens=tokens, embed=embed, vocab=vocab)
    product = 2 * by_tokens * blocks.tokens * by_vocab * blocks.vocab * by_embed * blocks.embed
    products = 1 if "_fwd_" in call.name else 3  # logits, and two products of the gradients
    moved = sum(often * size for often, size in _passes_and_bytes(entry, call, counts))
    return products * product, moved


def _passes_and_bytes(
    entry: Computation, call: Instruction, counts: tuple[int, int, int]
) -> Iterator[tuple[int, int]]:
    """Yields for each array of a kernel how often it moves, and its bytes in HBM."""
    by_tokens, by_vocab, by_embed = counts
    is_wide = by_embed == 1  # a block of the whole width stays where it is
    passes: tuple[int, ...]
    if "_fwd_" in call.name:  # hidden, targets, kernel -> loss, normalizer
        passes = (1 if is_wide else by_vocab, 1, by_tokens, 1, 1)
    else:  # scale, hidden, targets, kernel, normalizer -> gradients, which are added up in place
        stages = 1 if is_wide else 2
        hidden = 1 if is_wide else stages * by_vocab
        passes = (1, hidden, 1, stages * by_tokens, 1, 2 * by_vocab - 1, 2 * by_tokens - 1)
    operands = [buffer for name in call.operands for buffer in entry.instructions[name].buffers]
    for often, buffer in zip(passes, [*operands, *call.buffers], strict=True):
        yield often, buffer.hbm_bytes


def _sizes(blocks: Blocks) -> tuple[tuple[str, int], ...]:
    return ("b", blocks.tokens), ("h", blocks.embed), ("v", blocks.vocab)
