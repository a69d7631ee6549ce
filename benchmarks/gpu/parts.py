"""One part of the check in a process of its own: `python -m benchmarks.gpu.parts NAME --out FILE`.

machine   what the machine is; functions of the host are compiled, so that others find them in the cache
smoke     every so many of the small programs (`--shard 2/8`)
steps     one workload at one width: steps, timeline, profile, memory
cell      one workload at one width: steps alone
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from autobatch.errors import BackendError, MissingExtraError
from benchmarks import measure
from benchmarks.gpu import idle, smoke, steps
from benchmarks.gpu.results import Results
from benchmarks.gpu.where import Where, on_the_device

SMOKE_SECONDS = 40.0  # of one small program
NO_DEVICE = 2
"""Exit status where there is no GPU."""


def machine(results: Results, options: argparse.Namespace) -> None:
    """What there is, asked in ways that do not depend on each other."""
    results.measure("host", lambda: {**measure.machine(), "python": sys.version, "platform": platform.platform()})
    results.measure("nvidia-smi", nvidia_smi)
    results.measure("packages", packages)
    results.measure("place", lambda: place(options.rehearse))
    dim, batch = (6, 2) if options.rehearse else (256, 256)
    for workload in ("treelstm", "bilstm"):
        results.measure(f"host without a device: {workload}", lambda w=workload: without_a_device(w, dim, batch))


def nvidia_smi() -> dict[str, Any]:
    """What the driver's tool says."""
    done = subprocess.run(["nvidia-smi"], capture_output=True, text=True, timeout=20, check=False)
    return {"status": done.returncode, "said": done.stdout + done.stderr}


def packages() -> dict[str, Any]:
    """Versions of all that is installed."""
    from importlib import metadata

    return {"versions": sorted(f"{found.metadata['Name']} {found.version}" for found in metadata.distributions())}


def place(rehearsed: bool) -> dict[str, Any]:
    """The device, and whether an array comes back from it."""
    import numpy as np

    from autobatch.backends.device import current_device

    with on_the_device(rehearsed) as where:
        device = current_device()
        back = device.numpy(device.upload(np.arange(5.0)))
        variables = {key: value for key, value in os.environ.items() if key.startswith(("CUDA", "CUPY", "AUTOBATCH"))}
        return {
            **where.place.about,
            "came back": back.tolist(),
            "free bytes": device.free_bytes(),
            "cores": len(os.sched_getaffinity(0)),
            "variables": variables,
        }


def without_a_device(workload: str, dim: int, batch: int) -> dict[str, Any]:
    """Microseconds of the library for a launch on this host, CuPy and the driver left out."""
    found = idle.host_time(workload, dim, batch, n_batches=2, rounds=2)
    return {"launches": found.launches, "µs for each": found.each, "ms a step": found.step}


def small_programs(results: Results, where: Where, options: argparse.Namespace) -> None:
    """Those of this shard."""
    shard, of = (int(number) for number in options.shard.split("/"))
    every = where.sizes.smoke_every
    chosen = [(name, check) for k, (name, check) in enumerate(smoke.checks()) if k < every or k % every == 0]
    for name, check in chosen[shard::of]:
        results.measure(name, check, SMOKE_SECONDS)


def main(arguments: Sequence[str]) -> int:
    """Run one part."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.parts")
    parser.add_argument("part", choices=["machine", "smoke", "steps", "cell"])
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    parser.add_argument("--rehearse", action="store_true")
    parser.add_argument("--shard", default="0/1")
    parser.add_argument("--workload", default="treelstm")
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--batch", type=int, default=256)
    options = parser.parse_args(arguments)
    results = Results(options.out)
    if options.part == "machine":
        machine(results, options)
        return 0
    try:
        with on_the_device(options.rehearse) as where:
            if options.part == "smoke":
                small_programs(results, where, options)
            else:
                everything = options.part == "steps"
                steps.measure(results, where, options.workload, options.dim, options.batch, everything)
    except (BackendError, MissingExtraError) as error:
        results.add("device", ok=False, error=str(error))
        return NO_DEVICE
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
