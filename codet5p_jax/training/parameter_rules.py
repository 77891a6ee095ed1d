"""Which parameters are trained, and how fast: rules by path, of which the first that matches wins.

Example: completion with a frozen encoder and frozen cross-attention (paper, section 4.4) is
``[("encoder/.*", None), (".*cross_attention.*", None), (".*", 1.0)]``.
"""

import dataclasses
import difflib
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import traverse_util
from jax.typing import DTypeLike

from codet5p_jax.typing import Leaf, PyTree

ParameterRules = Sequence[tuple[str, float | None]]
"""(regular expression for a whole path such as "encoder/final_norm/scale", factor); None freezes.

The factor multiplies the optimizer's updates: the learning rate, weight decay included.
"""

EVERY_PARAMETER: ParameterRules = ((".*", 1.0),)

FROZEN_DTYPES = ("float32", "bfloat16", "float16")  # in others values are lost, or jax has none


@dataclasses.dataclass(frozen=True)
class ParameterFactors:
    """The factor on the learning rate of each parameter of a model; see `parameter_factors`.

    Attributes:
        by_path: Path with slashes -> factor; None is frozen.
    """

    by_path: Mapping[str, float | None]

    @property
    def frozen(self) -> frozenset[str]:
        """Paths of the frozen parameters."""
        return frozenset(path for path, factor in self.by_path.items() if factor is None)

    def split(self, params: PyTree) -> tuple[PyTree, PyTree]:
        """Returns (trainable, frozen): nested dicts that hold each parameter once."""
        leaves = leaves_by_path(params)
        frozen = {path: leaf for path, leaf in leaves.items() if self.by_path[path] is None}
        trainable = {path: leaf for path, leaf in leaves.items() if path not in frozen}
        return nested(trainable), nested(frozen)

    def scale(self, updates: PyTree) -> PyTree:
        """Returns the updates of trainable parameters, each times its factor."""

        def scaled(path: str, update: jax.Array) -> jax.Array:
            factor = self.by_path[path]
            return update if factor is None or factor == 1.0 else factor * update

        return nested(
            {path: scaled(path, update) for path, update in leaves_by_path(updates).items()}
        )

    def cast_frozen(self, params: PyTree, dtype: DTypeLike | None) -> PyTree:
        """Returns `params` with the frozen ones in `dtype`; None leaves them as they are.

        Raises:
            ValueError: `dtype` is none of `FROZEN_DTYPES`.
        """
        if dtype is None:
            return params
        target = _floating(dtype)
        trainable, frozen = self.split(params)
        return merge_params(trainable, jax.tree.map(lambda leaf: leaf.astype(target), frozen))


def parameter_factors(rules: Sequence[Any], params: PyTree) -> ParameterFactors:
    """Returns the factor of every parameter: that of the first rule that matches its whole path.

    Args:
        rules: See `ParameterRules`; checked here, since gin hands over whatever it is given.
        params: Nested dict of parameters, of their shapes or of boxes that hold them.

    Raises:
        ValueError: A rule is no pair, is no regular expression, has a factor of 0 or less or
            matches no parameter; a parameter matches no rule; no parameter is trained.
    """
    compiled = [_checked_rule(rule) for rule in rules]
    paths = list(leaves_by_path(params))
    for pattern, _ in compiled:
        if not any(pattern.fullmatch(path) for path in paths):
            raise ValueError(
                f"The rule {pattern.pattern!r} of PARAMETER_RULES matches no parameter. A rule is "
                f"a regular expression for a whole path. {_nearest(pattern.pattern, paths)}"
            )
    factors = {path: _first_match(compiled, path) for path in paths}
    if all(factor is None for factor in factors.values()):
        raise ValueError(
            f"PARAMETER_RULES freeze every one of {len(paths)} parameters, so there is nothing to "
            'train; give what shall be trained a factor, for example (".*", 1.0) as last rule.'
        )
    return ParameterFactors(factors)


def merge_params(trainable: PyTree, frozen: PyTree) -> PyTree:
    """Returns all parameters as one nested dict: what `ParameterFactors.split` took apart."""
    return nested({**leaves_by_path(trainable), **leaves_by_path(frozen)})


def leaves_by_path(tree: PyTree) -> dict[str, Leaf]:
    """Returns the leaves of nested dicts by their paths, with slashes."""
    return traverse_util.flatten_dict(tree, sep="/")


def nested(leaves: Mapping[str, Leaf]) -> PyTree:
    """Returns the nested dicts of such leaves."""
    return traverse_util.unflatten_dict(leaves, sep="/")


def _first_match(rules: Sequence[tuple[re.Pattern[str], float | None]], path: str) -> float | None:
    for pattern, factor in rules:
        if pattern.fullmatch(path):
            return factor
    raise ValueError(
        f"No rule of PARAMETER_RULES matches the parameter {path!r}; the rules are "
        f"{', '.join(repr(pattern.pattern) for pattern, _ in rules) or 'none'}. Add one for it: "
        "with None to freeze it, or with 1.0 to train it."
    )


def _checked_rule(rule: Any) -> tuple[re.Pattern[str], float | None]:
    if not isinstance(rule, Sequence) or isinstance(rule, str) or len(rule) != 2:
        raise ValueError(
            f"{rule!r} of PARAMETER_RULES is no rule; write (regular expression, factor or None), "
            'for example ("encoder/.*", None).'
        )
    pattern, factor = rule
    if not isinstance(pattern, str) or not isinstance(factor, int | float | None):
        raise ValueError(
            f"{rule!r} of PARAMETER_RULES is no rule; its regular expression must be text, its "
            "factor a number or None."
        )
    if factor is not None and not 0 < factor < math.inf:
        raise ValueError(
            f"The rule {pattern!r} of PARAMETER_RULES has the factor {factor}; it must be more "
            "than 0, or None to freeze what it matches."
        )
    try:
        return re.compile(pattern), factor
    except re.error as error:
        raise ValueError(
            f"The rule {pattern!r} of PARAMETER_RULES is no regular expression: {error}. To match "
            'all below "encoder", write "encoder/.*".'
        ) from error


def _nearest(pattern: str, paths: Sequence[str]) -> str:
    """Returns a sentence with the modules or paths nearest to `pattern`."""
    parts = [path.split("/") for path in paths]
    prefixes = {"/".join(part[:depth]) for part in parts for depth in range(1, len(part) + 1)}
    words = pattern.replace(".*", "").strip("/")
    close = difflib.get_close_matches(words, sorted(prefixes), n=3, cutoff=0.5)
    if close:
        return f"Nearest: {', '.join(close)}."
    return f"The model has {', '.join(sorted({part[0] for part in parts}))}."


def _floating(dtype: DTypeLike) -> jnp.dtype:
    try:
        found = jnp.dtype(dtype)
    except TypeError:
        found = None
    if found is None or found.name not in FROZEN_DTYPES:
        raise ValueError(
            f"FROZEN_DTYPE is {dtype!r}, which is none of {', '.join(map(repr, FROZEN_DTYPES))}; "
            "set it to 'bfloat16', or to None to keep float32."
        )
    return found
