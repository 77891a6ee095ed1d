"""Quantities in words, in the unit that shows three digits of them: toys are small, pods large."""

from collections.abc import Callable

from codet5p_jax.training.chips import GIB

_BINARY = (("GiB", GIB), ("MiB", 2**20), ("KiB", 2**10))
_DECIMAL = (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3))


def memory_text(size: int | float) -> str:
    """Returns a size in memory, such as "15.75 GiB" or "1.50 MiB".

    Args:
        size: In bytes.
    """
    for unit, factor in _BINARY:
        if size >= factor:
            return f"{size / factor:,.2f} {unit}"
    return f"{size:,.0f} B"


def amount_text(amount: int | float, unit: str = "") -> str:
    """Returns an amount to three digits, such as "1.23 GB" or "600 MB".

    Args:
        amount: In `unit`.
        unit: Such as "B" or "FLOPs"; may be empty.
    """
    for prefix, factor in _DECIMAL:
        if amount >= factor:
            return f"{_three_digits(amount / factor)} {prefix}{unit}"
    return f"{amount:,.0f} {unit}".rstrip()


def counted_text(value: float | None, text: Callable[[float], str]) -> str:
    """Returns `text` of a value that is not counted where some parameters are frozen: None."""
    return "not counted" if value is None else text(value)


def duration_text(seconds: int | float) -> str:
    """Returns a duration to three digits, such as "976 ms" or "12.3 µs"."""
    if not seconds:
        return "0 ms"
    if seconds >= 1e-3:
        return f"{_three_digits(seconds * 1e3)} ms"
    return f"{_three_digits(seconds * 1e6)} µs"


def _three_digits(value: int | float) -> str:
    decimals = 0 if value >= 99.95 else 1 if value >= 9.995 else 2
    return f"{value:,.{decimals}f}"
