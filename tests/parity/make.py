"""Write `reference.npz`, `library.npz` and `networks.npz` anew: what goes into each case, and what PyTorch makes of it.

python -m tests.parity.make
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np

import autobatch as ab

from .cases import REFERENCE, Array, Arrays, Case
from .functions import FUNCTIONS
from .layers import LAYERS
from .library import LIBRARY
from .networks import NETWORKS
from .schedules import MINIMISED, SCHEDULES, Minimised, Schedule
from .training import RUNS, Run

Compared = Case | Run | Schedule | Minimised

ALL: list[Compared] = [*LAYERS, *FUNCTIONS, *LIBRARY, *NETWORKS, *RUNS, *SCHEDULES, *MINIMISED]
KEPT = {
    REFERENCE: [case for case in ALL if case not in (*LIBRARY, *NETWORKS)],
    REFERENCE.with_name("library.npz"): LIBRARY,
    REFERENCE.with_name("networks.npz"): NETWORKS,
}
"""Files of what is kept."""


def drawn(case: Compared) -> Array:
    """The numbers that go into a case, one behind the other."""
    n = sum(int(np.prod(shape)) for shape in case.shapes().values())
    return np.random.default_rng(zlib.crc32(case.name.encode())).normal(size=n).round(3)


def taken(case: Compared, numbers: Array) -> Arrays:
    """Numbers as the arrays that a case reads."""
    found, at = {}, 0
    for name, shape in case.shapes().items():
        size = int(np.prod(shape))
        found[name] = numbers[at : at + size].reshape(shape)
        at += size
    assert at == numbers.size, f"{case} reads {at} numbers, {numbers.size} are kept; {REPAIR}"
    return found


REPAIR = "repair: python -m tests.parity.make"


def flat(results: Arrays) -> Array:
    """Arrays one behind the other."""
    return np.concatenate([np.ravel(x) for x in results.values()])


def by_torch(torch: Any, case: Compared, numbers: Array) -> Arrays:
    """What PyTorch makes of these numbers, in float64 where nothing else is said."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        return case.by_them(torch, taken(case, numbers))
    finally:
        torch.set_default_dtype(before)


def main() -> None:
    """Compute and write all cases."""
    import torch

    ab.set_default_dtype("float64")
    for path, cases in KEPT.items():
        arrays = {}
        for case in cases:
            arrays[f"{case} in"] = numbers = drawn(case)
            arrays[f"{case} out"] = flat(by_torch(torch, case, numbers))
        np.savez_compressed(path, made_by=np.array(f"PyTorch {torch.__version__}"), **arrays)
        print(f"{len(cases)} cases by PyTorch {torch.__version__}, {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
