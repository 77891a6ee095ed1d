"""Tests of codet5p_jax.cli.quantities."""

import pytest

from codet5p_jax.cli.quantities import amount_text, duration_text, memory_text


@pytest.mark.parametrize(
    "size, text",
    [
        (int(15.75 * 2**30), "15.75 GiB"),
        (2000 * 2**30, "2,000.00 GiB"),
        (3 * 2**19, "1.50 MiB"),
        (2**10, "1.00 KiB"),
        (1023, "1,023 B"),
        (0, "0 B"),
    ],
)
def test_memory_is_told_in_the_largest_unit_that_it_fills(size, text):
    assert memory_text(size) == text


@pytest.mark.parametrize(
    "amount, unit, text",
    [
        (1.234e15, "B", "1,234 TB"),
        (100e12, "", "100 T"),
        (90e12, "FLOPs", "90.0 TFLOPs"),
        (1.126e9, "B", "1.13 GB"),
        (9.999e6, "B", "10.0 MB"),
        (44e6, "B", "44.0 MB"),
        (1000, "B", "1.00 kB"),
        (999, "B", "999 B"),
        (0, "", "0"),
    ],
)
def test_an_amount_has_three_digits(amount, unit, text):
    assert amount_text(amount, unit) == text


@pytest.mark.parametrize(
    "seconds, text",
    [(20.5, "20,500 ms"), (0.976, "976 ms"), (0.001, "1.00 ms"), (12.3e-6, "12.3 µs"), (0, "0 ms")],
)
def test_a_duration_is_told_in_milliseconds_or_in_microseconds(seconds, text):
    assert duration_text(seconds) == text
