"""Tests of codet5p_jax.progress."""

import io

import pytest

from codet5p_jax.progress import PlainLines, progress, track


class _Terminal(io.StringIO):
    def isatty(self):
        return True


class _Clock:
    def __init__(self):
        self.seconds = 0.0

    def __call__(self):
        return self.seconds


def test_plain_lines_come_every_ten_seconds_with_rate_and_time_left():
    clock, stream = _Clock(), io.StringIO()
    lines = PlainLines("training", 100, unit="steps", stream=stream, clock=clock)
    for clock.seconds in (1.0, 9.0, 10.0, 11.0):
        lines.advance(5, note="loss 2.5")

    assert stream.getvalue() == "training: 15 of 100 steps, 1.5 steps/s, 0:57 left (loss 2.5)\n"


def test_what_an_earlier_run_did_is_no_part_of_the_rate():
    clock, stream = _Clock(), io.StringIO()
    lines = PlainLines("training", 60, unit="steps", stream=stream, done=40, clock=clock)
    for clock.seconds in (5.0, 10.0):
        lines.advance(5)
    assert stream.getvalue() == "training: 50 of 60 steps, 1 steps/s, 0:10 left\n"


def test_a_slow_first_step_foretells_nothing():
    clock, stream = _Clock(), io.StringIO()
    lines = PlainLines("training", 260, unit="steps", stream=stream, clock=clock)
    for clock.seconds in (65.0, 70.0, 75.0):
        lines.advance()
    assert stream.getvalue().splitlines() == [
        "training: 1 of 260 steps, the first in 1:05",
        "training: 3 of 260 steps, 0.2 steps/s, 21:25 left",
    ]


def test_plain_rate_forgets_a_slow_start():
    clock, stream = _Clock(), io.StringIO()
    lines = PlainLines("training", stream=stream, clock=clock)
    for _ in range(20):
        clock.seconds += 10
        lines.advance(1 if clock.seconds < 100 else 100)

    assert "10 items/s" in stream.getvalue().splitlines()[-1]


def test_last_plain_line_says_how_long_it_took():
    clock, stream = _Clock(), io.StringIO()
    lines = PlainLines("fetching", 3, unit="packages", stream=stream, clock=clock)
    lines.advance(3)
    clock.seconds = 3725.0
    lines.close()

    assert stream.getvalue() == "fetching: 3 of 3 packages in 1:02:05\n"


def test_progress_is_plain_where_there_is_no_terminal():
    stream = io.StringIO()
    with progress("fetching", 2, unit="packages", stream=stream) as shown:
        shown.advance(2)

    assert stream.getvalue() == "fetching: 2 of 2 packages in 0:00\n"


@pytest.mark.parametrize("total", [4, None])
def test_progress_is_a_bar_on_a_terminal(total):
    stream = _Terminal()
    with progress("fetching", total, unit="packages", stream=stream) as shown:
        shown.advance(3)
        shown.advance(note="lodash")

    assert "fetching" in stream.getvalue() and "lodash" in stream.getvalue()


def test_track_yields_every_element_and_counts_them(capsys):
    assert list(track([1, 2, 3], "reading", unit="files")) == [1, 2, 3]
    assert "3 of 3 files" in capsys.readouterr().err


def test_track_counts_what_has_no_length(capsys):
    assert list(track(iter("ab"), "reading")) == ["a", "b"]
    assert "reading: 2 items" in capsys.readouterr().err
