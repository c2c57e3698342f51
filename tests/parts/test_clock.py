"""The clock by which ways are compared."""

import time

import numba
import numpy as np

from precond.math.machine.clock import now


def test_the_clock_goes_with_the_processor_but_stands_while_code_is_compiled():
    @numba.njit
    def inner(x):
        return np.sqrt(x) + 1

    @numba.njit
    def outer(x):
        return inner(x) * inner(x + 1)

    begin, shown = time.process_time(), now()
    outer(np.ones(3))
    compiled, counted = time.process_time() - begin, now() - shown
    assert compiled > 0.02
    assert 0 <= counted < 0.3 * compiled
    begin, shown = time.process_time(), now()
    while time.process_time() < begin + 0.02:
        pass
    assert 0.02 <= now() - shown <= 1.01 * (time.process_time() - begin)
