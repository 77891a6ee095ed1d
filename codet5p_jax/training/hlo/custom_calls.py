"""Custom calls: which cost nothing, and what kernels say of their own cost."""

import dataclasses
import json
import re

from codet5p_jax.training.hlo.parser import Instruction

_ESTIMATE = re.compile(r'"cost_estimate":\s*(\{[^{}]*\})')
# They name, join or mark memory.
# fmt: off
_FREE_TARGETS = frozenset({
    "AllocateBuffer", "ConcatBitcast", "AssumeGatherIndicesInBound", "AsyncCollectiveStart",
    "AsyncCollectiveDone", "Sharding", "LayoutConstraint", "SliceId", "ZeroCrop",
})
# fmt: on
_WITHOUT_FLOPS = frozenset({"GatherScatterIndicesBitpacked"})  # it packs integers


@dataclasses.dataclass(frozen=True, kw_only=True)
class CostEstimate:
    """What the author of a kernel says that one run of it costs (`pl.CostEstimate`)."""

    flops: int
    transcendentals: int
    bytes_accessed: int


def target(call: Instruction) -> str:
    """Returns what a custom call runs, such as "tpu_custom_call".

    Args:
        call: The custom call.
    """
    return (call.attribute("custom_call_target") or "").strip('"')


def is_free(call: Instruction) -> bool:
    """Returns whether a custom call neither computes nor moves anything.

    Args:
        call: The custom call.
    """
    return target(call) in _FREE_TARGETS


def computes_nothing(call: Instruction) -> bool:
    """Returns whether a custom call has no floating-point arithmetic; it may move memory.

    Args:
        call: The custom call.
    """
    return is_free(call) or target(call) in _WITHOUT_FLOPS


def cost_estimate(call: Instruction) -> CostEstimate | None:
    """Returns what a kernel says of its cost; None where it says nothing.

    Args:
        call: The custom call.
    """
    found = _ESTIMATE.search(call.attributes_text)
    if found is None:
        return None
    estimate = json.loads(found.group(1))
    flops, transcendentals, moved = (
        int(estimate.get(name, 0)) for name in ("flops", "transcendentals", "bytes_accessed")
    )
    return CostEstimate(flops=flops, transcendentals=transcendentals, bytes_accessed=moved)
