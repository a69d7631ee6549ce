"""execute: a `DeviceRun` → its values, launch by launch, without waiting for the device.

Row numbers that the host can know are computed there first, and checked: an index out of range raises before anything
has run. Where kernels find their indices themselves, the device is asked once, in the end. Cost: the driver of each
launch; no allocation, no upload, and but for that one case no wait.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .faults import raise_fault
from .indices import host_pools, known_indices
from .layout import DeviceLaunch, DeviceRun


def execute_on_device(run: DeviceRun, check: Callable[[DeviceLaunch, int], None] | None = None) -> None:
    """Run the launches in order; `check` sees every launch after it ran."""
    run.host_pools, run.payloads = host_pools(run), ()
    device, scratch = run.device, run.scratch
    plans = {}
    unknown = False
    for s in run.totals:
        piece = "forward" if run.needs_sig[s] else "inference"
        unknown |= not known_indices(run, s, piece)
        plans[s] = _plan(run, s, piece)
    for launch in run.launches:
        if not launch.sizes[0]:
            continue
        program, inputs, writes, residuals = plans[launch.sig]
        outputs = [
            run.pool_address[pool] + start * row for (pool, start, _), row in zip(launch.writes, writes, strict=True)
        ]
        outputs += [address + launch.at[size] * n_bytes for address, size, n_bytes in residuals]
        arguments = [fixed or run.address(launch, kind, k) for kind, k, fixed in inputs]
        program(device, launch.sizes[0], launch.sizes, arguments, outputs, scratch)
        if check is not None:
            check(launch, launch.number)
    if unknown:
        raise_fault(device)


def _plan(
    run: DeviceRun, s: int, piece: str
) -> tuple[Any, list[tuple[str, int, int]], list[int], list[tuple[int, int, int]]]:
    """The program of a signature, its inputs (with the address of those that are the same for all launches), bytes of
    a row of each result, and places of the values that it keeps."""
    signature = run.signatures[s]
    kernel = signature.kernel
    row_bytes = [result.width * result.dtype.itemsize for result in signature.results]
    residuals = run.residual_places(s)[: kernel.device_pieces.n_forward_residuals] if piece == "forward" else []
    return run.program(s).run, fixed_inputs(run, s, piece), row_bytes, residuals


def fixed_inputs(run: DeviceRun, s: int, piece: str) -> list[tuple[str, int, int]]:
    """(kind, k, address) of what a piece reads; the address is 0 where it depends on the launch."""
    found = []
    for kind, k in run.signatures[s].kernel.inputs(piece, on_device=True):
        fixed = run.same_for_all(s, kind, k).data.ptr if kind in ("shared", "derived") else 0
        found.append((kind, k, int(fixed)))
    return found
