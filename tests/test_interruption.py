"""Signals: at once where nothing is lost, else when asked."""

import os
import signal
import threading

import pytest

from fiancee_jax.errors import Interrupted
from fiancee_jax.training.interruption import Interruption


def send(number):
    os.kill(os.getpid(), number)


def test_at_once_where_nothing_is_lost():
    with pytest.raises(Interrupted, match="stopped by SIGTERM") as caught, Interruption():
        send(signal.SIGTERM)
    assert caught.value.number == signal.SIGTERM


def test_deferred_until_asked():
    with Interruption() as interruption, interruption.deferred():
        assert interruption.asked(0) is None
        send(signal.SIGTERM)
        assert interruption.asked(1) == signal.SIGTERM


def test_a_second_interrupt_does_not_wait():
    with Interruption() as interruption, interruption.deferred():
        send(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)


def test_handlers_are_put_back():
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with Interruption():
        assert signal.getsignal(signal.SIGTERM) not in before
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


def test_other_threads_leave_signals_alone():
    def work():
        with Interruption() as interruption, interruption.deferred():
            found.append((signal.getsignal(signal.SIGTERM), interruption.asked(1)))

    found: list[object] = []
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [(signal.getsignal(signal.SIGTERM), None)]
