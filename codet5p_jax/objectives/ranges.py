"""Ranges of configured numbers, checked where the object is made."""

import dataclasses
import math
import numbers
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Range:
    """Which values an attribute may have.

    Attributes:
        least: Smallest value.
        most: Largest value; infinity for none, and is itself refused.
        whole: Whether it must be a whole number.
        optional: Whether None is a value, too.
        macro: Gin macro that sets it; None means the attribute's name in capitals.
    """

    least: float | int
    most: float | int = math.inf
    whole: bool = False
    optional: bool = False
    macro: str | None = None

    def holds(self, value: Any) -> bool:
        """Returns whether `value` lies in the range and is of its kind."""
        if value is None:
            return self.optional
        kind = numbers.Integral if self.whole else numbers.Real
        if not isinstance(value, kind) or isinstance(value, bool):
            return False
        return self.least <= float(value) <= self.most and value != math.inf

    def __str__(self) -> str:
        """Returns the range in words."""
        kind = "a whole number, " if self.whole else "a number, "
        size = f"{self.least} or more"
        if self.most != math.inf:
            size = f"in [{self.least}, {self.most}]"
        return kind + size + (", or None" if self.optional else "")


def check_ranges(owner: Any, ranges: Mapping[str, Range]) -> None:
    """Raises ValueError for the first attribute of `owner` outside its range, naming the macro."""
    for name, allowed in ranges.items():
        value = getattr(owner, name)
        if not allowed.holds(value):
            raise ValueError(
                f"{type(owner).__name__}.{name} is {value!r}; it must be {allowed}. Set "
                f"{allowed.macro or name.upper()} in gin."
            )
