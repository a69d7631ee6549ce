"""What timing depends on."""

from __future__ import annotations

import subprocess
import sys

import pytest

PAGES_OF_FREED_BYTES = """
import resource
from benchmarks.measure import keep_freed_memory
N_BYTES = 64_000_000
print(KEEP and keep_freed_memory())
b"x" * N_BYTES
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
b"x" * N_BYTES
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(keep: bool) -> tuple[bool, int]:
    """Whether memory is kept, and the page faults of as many bytes as were freed."""
    script = PAGES_OF_FREED_BYTES.replace("KEEP", str(keep))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    kept, count = done.stdout.split()
    return kept == "True", int(count)


def test_freed_memory_is_kept() -> None:
    kept, count = faults(keep=True)
    if not kept:
        pytest.skip("the C library cannot be told to keep memory")
    assert count < 1_000 < faults(keep=False)[1]
