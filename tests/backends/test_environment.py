"""Backends where Numba is told to compile nothing."""

from __future__ import annotations

import os
import subprocess
import sys

PROGRAM = """
import autobatch as ab
print(ab.evaluate(ab.map(lambda x: ab.tanh(x * 0.0), [ab.tensor(1.0), ab.tensor(2.0)])))
ab.set_backend("numba")
"""


def test_without_a_compiler_numpy_is_the_default_and_numba_refused() -> None:
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.count("0.") == 2, done.stderr
    assert "BackendError: set_backend: Numba compiles nothing where NUMBA_DISABLE_JIT is set" in done.stderr
