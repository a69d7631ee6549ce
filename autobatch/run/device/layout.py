"""layout: a `Plan` → everything a device needs to run it: one allocation, one upload, and the addresses of each launch.

Input: as of `execute`. Output: `DeviceRun`, which answers what `Run` does, in arrays of the device. Invariants: after
`lay_out` nothing is allocated or uploaded until the backward pass; all row numbers, offsets, data and host
inputs lie in one staging buffer. Cost: a few microseconds a launch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...backends.device import Device
from ...backends.transfer import is_on_device
from ...base.jit import njit
from ...base.types import Array, Type
from ...compile.cuda.lower import CudaProgram
from ...ir.graph import OF_LISTS
from ...schedule.structures import Expansion, Plan, Schedule
from ..earlier import rows_of
from ..execute import Run, SharedArrays
from ..feed import from_lengths
from ..layout import Access, Launch, gradients_wanted, offsets_of_lists, places_of, pool_number, rows_shape
from ..protocols import Recording, Signature
from .expressions import evaluate
from .memory import Room
from .rows import take_rows
from .staging import Staging


@dataclass(slots=True)
class DeviceLaunch(Launch):
    """One launch of a device: addresses of what it reads.

    reads: for each slot its pool, its row numbers, and the first row where these are consecutive, else -1
    lists: what follows from the lengths of lists, by kind and number of the list
    """

    number: int
    reads: list[tuple[int, int, int]]
    lists: dict[tuple[str, int], int]
    data: list[int]


@dataclass(eq=False, slots=True, kw_only=True)
class DeviceRun(Run):
    """Values of one tape on a device, and the residuals for its backward pass."""

    device: Device
    room: Room
    staging: Staging
    n_examples: int
    launches: list[DeviceLaunch] = field(default_factory=list)
    pool_address: list[int] = field(default_factory=list)
    residual_at: dict[int, list[int]] = field(default_factory=dict)
    """For each signature the offsets of its residuals in the room."""
    scratch: int = 0
    totals: dict[int, list[int]] = field(default_factory=dict)
    """For each signature its nodes and elements over all launches."""
    indices: dict[tuple[int, int], Array] = field(default_factory=dict)
    """(signature, residual) → row numbers of a table, where the host knows them."""
    host_pools: dict[tuple[int, np.dtype[Any]], Array] = field(default_factory=dict)
    """Width and dtype → pools of integers that the host knows."""
    payloads: Sequence[tuple[int, Any]] = ()

    def program(self, s: int) -> CudaProgram:
        """What launches of a signature run, going forward."""
        return self.signatures[s].kernel.device_program("forward" if self.needs_sig[s] else "inference")

    def value(self, recorded: int, type: Type) -> Any:
        """A copy of one value, on the device."""
        pool, rows = self.rows(recorded)
        return type.unpack(self.taken(self.pools[pool], rows))

    def copies(self, recorded: Sequence[int], type: Type) -> Any:
        """Copies of values of one type, on the device, made by one upload and one kernel."""
        return [self.value(recorded[0], type)] if len(recorded) == 1 else self.block(recorded, type)

    def block(self, recorded: Sequence[int], type: Type) -> Any:
        """Values of one type, stacked along a new first axis."""
        found = rows_of(self, np.array(recorded))
        return type.unpack(self.taken(self.pools[found.pool[0]], found.rows), len(recorded))

    def accesses(self, number: int) -> Sequence[Access]:
        """See `Run`."""
        launch = self.launches[number]
        slots = self.signatures[launch.sig].slots
        return [
            (self.pools[pool_number(self.tape, slot)], self.row_numbers(launch, k), launch.reads[k][2])
            for k, slot in enumerate(slots)
        ]

    def taken(self, pool: Any, rows: Any) -> Any:
        """A copy of rows of a pool."""
        if isinstance(rows, slice):
            return pool[rows].copy()
        made = self.device.empty((rows.size, pool.shape[1]), pool.dtype)
        numbers = self.device.upload(np.ascontiguousarray(rows, np.int32))
        take_rows(
            self.device, pool.data.ptr, numbers.data.ptr, made.data.ptr, rows.size, int(pool.shape[1]), pool.dtype
        )
        return made

    def residual_array(self, s: int, k: int) -> Any:
        """A residual of all launches of a signature, as rows."""
        type = self.signatures[s].kernel.device_pieces.residuals[k]
        return self.room.view(self.residual_at[s][k], rows_shape(type, self.totals[s]), type.dtype)

    def residual_places(self, s: int) -> list[tuple[int, int, int]]:
        """For each residual of a signature (address, size, bytes): the part that belongs to a launch begins at
        `address + launch.at[size] * bytes`."""
        found = []
        for type, at in zip(
            self.signatures[s].kernel.device_pieces.residuals, self.residual_at.get(s, ()), strict=False
        ):
            lead, width = type.shape[0], rows_shape(type, self.totals[s])[1]
            found.append((self.room.address + at, lead.index, lead.factor * width * type.dtype.itemsize))
        return found

    def address(self, launch: DeviceLaunch, kind: str, k: int) -> Any:
        """What an input of a program reads, all kinds but "residual" and "cotangent"."""
        if kind == "rows":
            return launch.reads[k]
        if kind == "data":
            return launch.data[k]
        if kind in ("shared", "derived"):
            return self.same_for_all(launch.sig, kind, k).data.ptr
        return launch.lists[kind, k]

    def same_for_all(self, sig: int, kind: str, k: int) -> Any:
        """A shared operand of a signature, or what is derived from such, computed when it is first read in a run."""
        signature = self.signatures[sig]
        if kind == "shared":
            return self.shared.memo[signature.shared[k]]
        if (signature, k) not in self.shared.derived:
            expression = signature.kernel.expressions[k]
            found = evaluate(self.device, expression, lambda _, i: self.shared.memo[signature.shared[i]])[0]
            self.shared.derived[signature, k] = found
        return self.shared.derived[signature, k]

    def column(self, launch: DeviceLaunch, k: int) -> Array:
        """Datum k of the nodes of a launch, on the host."""
        data, n = self.signatures[launch.sig].data, self._n_nodes(launch)
        before = data[:k].count(data[k])
        plan = self.plan
        values, first = (
            (plan.ints, plan.int_of[launch.number]) if data[k] == "i" else (plan.floats, plan.float_of[launch.number])
        )
        return values[first + before * n : first + (before + 1) * n]

    def row_numbers(self, launch: DeviceLaunch, k: int) -> Array:
        """Row numbers that slot k of a launch reads, on the host."""
        access = int(self.plan.access_of[launch.number]) + k
        return self.plan.rows[self.plan.rows_of[access] : self.plan.rows_of[access + 1]]

    def _n_nodes(self, launch: DeviceLaunch) -> int:
        bounds = self.schedule.launch_of
        return int(bounds[launch.number + 1] - bounds[launch.number])


def lay_out(
    expansion: Expansion,
    schedule: Schedule,
    plan: Plan,
    signatures: Sequence[Signature],
    shared: SharedArrays,
    needs: Array,
    recording: Recording,
    device: Device,
) -> DeviceRun:
    """Allocate, upload, and find all addresses. The host inputs of the recording (`payloads`) lie on the host
    or on the device; `examples` says how many it holds."""
    payloads, n_examples = recording.payloads, recording.examples
    needs_sig = gradients_wanted(expansion, schedule, needs, len(signatures))
    run = DeviceRun(
        expansion=expansion, schedule=schedule, plan=plan, signatures=signatures, backend=device.name, shared=shared,
        pools=[], needs=needs, needs_sig=needs_sig, device=device, room=Room("forward pass"), staging=Staging(),
        n_examples=n_examples, payloads=payloads,
    )  # fmt: skip
    staging, room = run.staging, run.room
    places = staging.put(plan.rows), staging.put(plan.ints), staging.put(plan.floats)
    lists = _lists(run)
    loads = _loads(run, payloads)
    pools = []
    for n, (width, dtype) in zip(plan.pool_rows.tolist(), run.tape.pools, strict=True):
        kind = np.dtype(dtype)
        pools.append((room.reserve(n * width * kind.itemsize, "pools"), (n, width), kind))
    _launches(run, *places, lists)
    for s, total in run.totals.items():
        if needs_sig[s]:
            shapes = [(rows_shape(t, total), t.dtype.itemsize) for t in signatures[s].kernel.device_pieces.residuals]
            run.residual_at[s] = [room.reserve(n * width * size, "the backward pass") for (n, width), size in shapes]
    scratch = room.reserve(_scratch(run), "scratch")
    room.allocate(device, n_examples)
    staging.send(device)
    run.scratch = room.address + scratch
    run.pools = [room.view(*pool) for pool in pools]
    run.pool_address = [room.address + at for at, _, _ in pools]
    _add_addresses(run)
    for pool, start, source, n_bytes in loads:
        width, dtype = run.tape.pools[pool]
        target = run.pool_address[pool] + start * width * np.dtype(dtype).itemsize
        at = source.data.ptr if is_on_device(source) else staging.address + source
        device.copy(target, at, n_bytes)
    return run


def _lists(run: DeviceRun) -> dict[int, tuple[int, int, int]]:
    """Where lengths, positions and segments of each access that is a list lie in the staging buffer."""
    plan, schedule = run.plan, run.schedule
    listed = np.flatnonzero(plan.offsets_of >= 0)
    if not listed.size:
        return {}
    launch_of_access = np.repeat(np.arange(schedule.launch_sig.size), np.diff(plan.access_of))
    n_nodes = np.diff(schedule.launch_of)[launch_of_access[listed]]
    first = plan.offsets_of[listed]
    element = np.concatenate(([0], np.cumsum(plan.offsets[first + n_nodes])))
    lengths = np.zeros(plan.offsets.size, np.int64)
    positions, segments = np.empty(element[-1], np.int64), np.empty(element[-1], np.int64)
    _fill_lists(plan.offsets, first, n_nodes, element, lengths, positions, segments)
    starts = (first.astype(np.int64), element[:-1], element[:-1])
    arrays = zip((lengths, positions, segments), starts, strict=True)
    columns = [(run.staging.put(array) + 8 * start).tolist() for array, start in arrays]
    return dict(zip(listed.tolist(), zip(*columns, strict=True), strict=True))


@njit
def _fill_lists(offsets, first, n_nodes, element, lengths, positions, segments):  # type: ignore[no-untyped-def]
    for a in range(first.size):
        at = element[a]
        for node in range(n_nodes[a]):
            n = offsets[first[a] + node + 1] - offsets[first[a] + node]
            lengths[first[a] + node] = n
            for k in range(n):
                positions[at] = k
                segments[at] = node
                at += 1


def _loads(run: DeviceRun, payloads: Sequence[tuple[int, Any]]) -> list[tuple[int, int, Any, int]]:
    """(pool, first row, place in the staging buffer or device array, bytes) of the host inputs that are read."""
    if not payloads:
        return []
    places = places_of(run.expansion, run.plan, payloads)
    found: list[tuple[int, int, Any, int]] = []
    together: list[Array] = []
    end = (-1, -1)

    def close() -> None:
        if together:
            pool, start = end[0], first
            found.append((pool, start, run.staging.put_together(together), sum(a.nbytes for a in together)))
            together.clear()

    first = 0
    for k, pool, start, stop in zip(*(column.tolist() for column in places), strict=True):
        array = payloads[k][1]
        if is_on_device(array) or (pool, start) != end:
            close()
            first = start
        if is_on_device(array):
            found.append((pool, start, array, array.nbytes))
            end = (-1, -1)
        else:
            together.append(np.ascontiguousarray(array))
            end = (pool, stop)
    close()
    return found


def _launches(
    run: DeviceRun, rows_at: int, ints_at: int, floats_at: int, lists: dict[int, tuple[int, int, int]]
) -> None:
    """Lay out every launch; addresses count from the beginning of the staging buffer until `_add_addresses`."""
    plan, schedule, table = run.plan, run.schedule, run.tape.signatures
    launch_of, launch_sig = schedule.launch_of.tolist(), schedule.launch_sig.tolist()
    access_of, rows_of, blocks = plan.access_of.tolist(), plan.rows_of.tolist(), plan.block.tolist()
    write_of, write_start, write_rows = plan.write_of.tolist(), plan.write_start.tolist(), plan.write_rows.tolist()
    int_of, float_of = plan.int_of.tolist(), plan.float_of.tolist()
    result_of, result_pool = table.result_of.tolist(), table.result_pool.tolist()
    slot_pools = [[pool_number(run.tape, slot) for slot in s.slots] for s in run.signatures]
    for launch, s in enumerate(launch_sig):
        signature = run.signatures[s]
        n = launch_of[launch + 1] - launch_of[launch]
        first = access_of[launch]
        reads = [(pool, rows_at + 4 * rows_of[first + k], blocks[first + k]) for k, pool in enumerate(slot_pools[s])]
        offsets = offsets_of_lists(plan, signature, launch, n)
        sizes = [rows_of[first + 1] - rows_of[first] if signature.by_rows else n]
        sizes += [int(of_list[-1]) for of_list in offsets]
        if signature.is_paired:
            kinds = _kinds_of_lists(signature, bool(run.needs_sig[s]))
            listed = {kind: run.staging.put(from_lengths(*kind, offsets)) for kind in kinds}
        else:
            of_slots = ((k, lists[first + slot]) for k, slot in enumerate(signature.lists, start=1))
            listed = {(kind, k): at for k, places in of_slots for kind, at in zip(OF_LISTS, places, strict=False)}
        i, f = ints_at + 8 * int_of[launch], floats_at + 8 * float_of[launch]
        data = []
        for kind in signature.data:
            data.append(i if kind == "i" else f)
            i, f = (i + 8 * n, f) if kind == "i" else (i, f + 8 * n)
        first_write, first_result = write_of[launch], result_of[s]
        writes = [
            (result_pool[first_result + r], write_start[first_write + r], write_rows[first_write + r])
            for r in range(result_of[s + 1] - first_result)
        ]
        total = run.totals.setdefault(s, [0] * len(sizes))
        run.launches.append(DeviceLaunch(s, tuple(sizes), writes, tuple(total), launch, reads, listed, data))
        for k, size in enumerate(sizes):
            total[k] += size


def _kinds_of_lists(signature: Signature, needs_gradient: bool) -> set[tuple[str, int]]:
    """What the pieces of a signature read that follows from the lengths of lists."""
    pieces = ("forward", "backward", "final") if needs_gradient else ("inference",)
    read = (one for piece in pieces for one in signature.kernel.inputs(piece, on_device=True))
    return {one for one in read if one[0] in OF_LISTS}


def _add_addresses(run: DeviceRun) -> None:
    """What counted from the beginning of the staging buffer counts from zero, and pools stand by their addresses."""
    base, pools = run.staging.address, run.pool_address
    for launch in run.launches:
        launch.reads = [(pools[pool], base + at, block) for pool, at, block in launch.reads]
        launch.lists = {kind: base + at for kind, at in launch.lists.items()}
        launch.data = [base + at for at in launch.data]


def _scratch(run: DeviceRun) -> int:
    """Bytes that the largest launch needs for what it makes on the way."""
    found = largest(run.launches).items()
    return max((run.program(s).scratch(sizes[0], sizes) for s, sizes in found), default=0)


def largest(launches: Sequence[Launch]) -> dict[int, tuple[int, ...]]:
    """For each signature the largest sizes of its launches, each size by itself."""
    found: dict[int, tuple[int, ...]] = {}
    for launch in launches:
        before = found.get(launch.sig)
        found[launch.sig] = launch.sizes if before is None else tuple(map(max, before, launch.sizes))
    return found
