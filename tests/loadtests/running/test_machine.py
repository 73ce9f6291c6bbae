import ctypes
import struct

import pytest

from loadtests.running.machine import clock_error_s, this_machine

NOT_SYNCHRONISED = 0x40


@pytest.mark.parametrize(
    ("state", "maxerror_us", "status", "error_s"),
    [
        (0, 2500, 0x2001, 0.0025),
        (5, 16_000_000, NOT_SYNCHRONISED, None),
        (-1, 0, 0, None),
    ],
)
def test_the_kernel_knows_how_far_the_clock_may_be_off(state, maxerror_us, status, error_s, monkeypatch) -> None:
    class Libc:
        def __init__(self, *_, **__) -> None:
            pass

        def adjtimex(self, asked) -> int:
            # struct timex of 64-bit Linux: modes, offset, freq, maxerror, esterror, status.
            struct.pack_into("I4xqqqqi", asked, 0, 0, 7, 8, maxerror_us, 9, status)
            return state

    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", Libc)
    assert clock_error_s() == error_s


def test_this_machine() -> None:
    machine = this_machine()
    assert machine.cpus >= 1
    assert machine.cpu
    clock_error_s()
