"""Tests of codet5p_jax.training.preemption."""

import os
import signal

import pytest

from codet5p_jax.training.preemption import stop_on_signals


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_is_noted_once_and_gives_the_shells_exit_code(number, code, capfd):
    before = signal.getsignal(number)
    with stop_on_signals() as stop:
        assert not stop and stop.exit_code == 0
        os.kill(os.getpid(), number)
        assert stop and stop.exit_code == code
    assert signal.getsignal(number) is before
    assert capfd.readouterr().err.count("stopping after this step") == 1


def test_a_second_interrupt_stops_at_once():
    with pytest.raises(KeyboardInterrupt), stop_on_signals():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
