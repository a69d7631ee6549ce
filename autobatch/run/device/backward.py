"""backward pass: the launches of a `DeviceRun` reversed → gradients, without waiting for the device.

Input and output: as of `run.backward`. One allocation and one upload at the start: rows to be cleared, seeds, and for
launches that add to some row twice the order in which they do. Where the host does not know the row numbers of a
table's gradient, it asks the device for them. Cost: the driver of each launch, then one program for each signature.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from ...backends.transfer import is_on_device
from ...base.types import Array
from ..backward import Seeds, to_reverse
from ..earlier import rows_of
from ..finals import GiveDense, GiveRows
from ..layout import pool_number
from .execute import fixed_inputs
from .finals import Final
from .layout import DeviceLaunch, DeviceRun, largest
from .memory import Room
from .rows import add, add_rows, clear_rows
from .segments import apart, segments_of, sorted_rows
from .staging import Staging


def run_backward_on_device(
    run: DeviceRun, seeds: Seeds, outside: Array, dense: GiveDense, rows: GiveRows
) -> tuple[DeviceBackward, bool]:
    """Run the backward pass of a run on a device.

    `outside` are the values whose cotangents are read afterwards, from the pools of what is returned. Also whether a
    launch was reversed for the sake of some of its nodes, while others in it do not lead to a seed.
    """
    ahead = to_reverse(run, seeds, outside)
    slots, first = ahead.slots, ahead.first
    back = DeviceBackward(run, [launch for launch, flag in zip(run.launches, ahead.wanted, strict=True) if flag])
    back.reserve_pools()
    clear = back.rows_to_clear(first.zero)
    steps = back.seeds(seeds)
    add_to = back.segments(first.stores, slots)
    finals = [Final(back, s) for s in sorted(back.used)]
    back.send(finals)
    for step in [*clear, *steps]:
        step()
    back.reverse_launches(first.stores, slots, add_to)
    for final in finals:
        final.compute()
    for final in finals:
        final.give(dense, rows)
    return back, ahead.is_mixed


class DeviceBackward:
    """One backward pass: its memory, its staging buffer, and the launches that are reversed."""

    def __init__(self, run: DeviceRun, launches: list[DeviceLaunch]) -> None:
        self.run = run
        self.device = run.device
        self.launches = launches
        self.used: dict[int, list[DeviceLaunch]] = {}
        for launch in launches:
            self.used.setdefault(launch.sig, []).append(launch)
        self.room = Room("backward pass", run.room.n_bytes)
        self.staging = Staging()
        self.pool_at: list[int] = []
        self.scratch_at = 0
        self._adding: tuple[Array, Array, Array] | None = None

    def reserve_pools(self) -> None:
        """A pool of cotangents for each pool of floats; row numbers of the others are never used."""
        for (width, dtype), n in zip(self.run.tape.pools, self.run.plan.pool_rows.tolist(), strict=True):
            kind = np.dtype(dtype)
            n_bytes = n * width * kind.itemsize if kind.kind == "f" else 0
            self.pool_at.append(self.room.reserve(n_bytes, "cotangents"))

    def pool(self, k: int) -> Any:
        """A pool of cotangents as an array."""
        width, dtype = self.run.tape.pools[k]
        return self.room.view(self.pool_at[k], (int(self.run.plan.pool_rows[k]), width), dtype)

    def staged(self, at: int) -> int:
        """The address of what was put into the staging buffer."""
        return self.staging.address + at

    def pool_address(self, k: int) -> int:
        """The address of a pool of cotangents."""
        return self.room.address + self.pool_at[k]

    def rows_to_clear(self, zero: list[Array]) -> list[Callable[[], None]]:
        """Fill the marked rows of each pool with zeros, later."""
        steps: list[Callable[[], None]] = []
        for k, (mask, (width, dtype)) in enumerate(zip(zero, self.run.tape.pools, strict=True)):
            kind = np.dtype(dtype)
            numbers = np.flatnonzero(mask).astype(np.int32) if kind.kind == "f" else np.zeros(0, np.int32)
            n = numbers.size
            if not n:
                continue
            first = int(numbers[0])
            if int(numbers[-1]) - first + 1 == n:
                size = width * kind.itemsize
                steps.append(partial(self._clear_block, k, first * size, n * size))
            else:
                steps.append(partial(self._clear_rows, k, self.staging.put(numbers), n, width, kind))
        return steps

    def _clear_block(self, k: int, offset: int, n_bytes: int) -> None:
        self.device.zero(self.pool_address(k) + offset, n_bytes)

    def _clear_rows(self, k: int, at: int, n: int, width: int, dtype: Any) -> None:
        clear_rows(self.device, self.pool_address(k), self.staging.address + at, n, width, dtype)

    def seeds(self, seeds: Seeds) -> list[Callable[[], None]]:
        """Add the seeds to their rows, later."""
        steps: list[Callable[[], None]] = []
        for values, g in seeds:
            found = rows_of(self.run, values)
            k, where = int(found.pool[0]), found.rows
            kind = np.dtype(self.run.tape.pools[k][1])
            source = g if is_on_device(g) else self.staging.put(np.ascontiguousarray(g, kind))
            if (np.diff(where) == 1).all():
                steps.append(partial(self._seed_block, k, source, int(where[0]), where.size))
                continue
            order, starts, rows = sorted_rows(where)
            places = [self.staging.put(part) for part in (order, starts, rows.astype(np.int32))]
            steps.append(partial(self._seed_rows, k, source, places, rows.size))
        return steps

    def _seed_address(self, source: Any) -> int:
        """Of an array of the device, or of a place in the staging buffer."""
        return int(source.data.ptr) if is_on_device(source) else self.staging.address + source

    def _seed_block(self, k: int, source: Any, first: int, n: int) -> None:
        width, dtype = self.run.tape.pools[k]
        to = self.pool_address(k) + first * width * np.dtype(dtype).itemsize
        add(self.device, to, self._seed_address(source), n * width, dtype)

    def _seed_rows(self, k: int, source: Any, places: Sequence[int], n: int) -> None:
        width, dtype = self.run.tape.pools[k]
        order, starts, rows = (self.staging.address + at for at in places)
        add_rows(self.device, self.pool_address(k), rows, self._seed_address(source), (order, starts, n), width, dtype)

    def segments(self, stores: Array, slots: Sequence[Sequence[int]]) -> Callable[[int], tuple[int, int, int] | None]:
        """For an access that is added to: the addresses of its order and starts and the number of its segments, or None
        where all its rows are different; once the staging buffer is sent."""
        plan = self.run.plan
        accesses = self.adding(stores, slots)[0]
        accesses = accesses[plan.block[accesses] < 0]
        found = segments_of(
            plan.rows, plan.rows_of[accesses], plan.rows_of[accesses + 1], int(plan.pool_rows.max(initial=0))
        )
        at_order, at_starts = self.staging.put(found.order), self.staging.put(found.starts)
        several = np.flatnonzero(found.count)
        columns = (at_order + 4 * found.order_of, at_starts + 4 * found.starts_of, found.count)
        places = zip(*(column[several].tolist() for column in columns), strict=True)
        where = dict(zip(accesses[several].tolist(), places, strict=True))

        def of_access(access: int) -> tuple[int, int, int] | None:
            place = where.get(access)
            base = self.staging.address
            return None if place is None else (base + place[0], base + place[1], place[2])

        return of_access

    def apart(self, stores: Array, slots: Sequence[Sequence[int]]) -> list[bool]:
        """For each launch of the run whether it adds to no row twice."""
        plan = self.run.plan
        first_row = np.concatenate(([0], np.cumsum(plan.pool_rows)))
        accesses, pools, owners = self.adding(stores, slots)
        first, last = plan.rows_of[accesses], plan.rows_of[accesses + 1]
        found = apart(plan.rows, first, last, first_row[pools], owners, int(first_row[-1]))
        return [bool(flag) for flag in found] + [True] * (len(self.run.launches) - found.size)

    def adding(self, stores: Array, slots: Sequence[Sequence[int]]) -> tuple[Array, Array, Array]:
        """Accesses that are added to, launch by launch: their numbers, pools and launches."""
        if self._adding is None:
            numbers = np.array([x.number for x in self.launches if not stores[x.number]], np.int64)
            sigs = self.run.schedule.launch_sig[numbers]
            n_slots = np.array([len(listed) for listed in slots])
            flat = np.array([k for listed in slots for k in listed], np.int64)
            pools = [
                pool_number(self.run.tape, self.run.signatures[s].slots[k]) for s, ks in enumerate(slots) for k in ks
            ]
            counts = n_slots[sigs]
            which = np.repeat(np.arange(numbers.size), counts)
            begins = np.cumsum(n_slots) - n_slots  # of each signature in `flat`
            at = np.arange(which.size) - (np.cumsum(counts) - counts)[which] + begins[sigs][which]
            accesses = self.run.plan.access_of[numbers[which]] + flat[at]
            self._adding = accesses, np.array(pools, np.int64)[at], numbers[which]
        return self._adding

    def send(self, finals: Sequence[Final]) -> None:
        """Allocate and upload."""
        run, most = self.run, 0
        for s, sizes in largest(self.launches).items():
            kernel = run.signatures[s].kernel
            adds = (True, False) if kernel.device_pieces.slots else (True,)
            if kernel.graph_of("backward", on_device=True).outputs:
                most = max(most, *(kernel.device_program("backward", a).scratch(sizes[0], sizes) for a in adds))
        for final in finals:
            most = max(most, final.reserve())
        self.scratch_at = self.room.reserve(most, "scratch")
        self.room.allocate(run.device, run.n_examples)
        self.staging.send(run.device)

    def reverse_launches(
        self, stores: Array, slots: Sequence[Sequence[int]], add_to: Callable[[int], tuple[int, int, int] | None]
    ) -> None:
        """Run the backward programs, the last launch first."""
        run, device = self.run, self.device
        pools = [self.pool_address(k) for k in range(len(self.pool_at))]
        slot_pools = {s: [pools[pool_number(run.tape, slot)] for slot in run.signatures[s].slots] for s in self.used}
        row_bytes = [width * np.dtype(dtype).itemsize for width, dtype in run.tape.pools]
        scratch = self.room.address + self.scratch_at
        plans: dict[tuple[int, bool], Any] = {}
        access_of = run.plan.access_of.tolist()
        is_apart, stored = self.apart(stores, slots), stores.tolist()
        for launch in reversed(self.launches):
            s, number = launch.sig, launch.number
            add_rows = not stored[number] or not slots[s]
            found = plans.get((s, add_rows))
            if found is None:
                found = plans[s, add_rows] = self._plan(s, add_rows, slots[s])
            program, inputs, residuals, made = found
            if program is None:
                continue
            arguments: list[Any] = []
            for kind, k, fixed in inputs:
                if fixed:
                    arguments.append(fixed)
                elif kind == "cotangent":
                    pool, start, _ = launch.writes[k]
                    arguments.append(pools[pool] + start * row_bytes[pool])
                elif kind == "residual":
                    address, size, n_bytes = residuals[k]
                    arguments.append(address + launch.at[size] * n_bytes)
                else:
                    arguments.append(run.address(launch, kind, k))
            outputs: list[Any] = []
            for slot in slots[s]:
                _, numbers, block = launch.reads[slot]
                segments = add_to(access_of[number] + slot) if add_rows and block < 0 else None
                outputs.append((slot_pools[s][slot], numbers, block, segments))
            outputs += [address + launch.at[size] * n_bytes for address, size, n_bytes in made]
            program(device, launch.sizes[0], launch.sizes, arguments, outputs, scratch, is_apart[number])

    def _plan(self, s: int, add_rows: bool, slots: Sequence[int]) -> tuple[Any, list[Any], list[Any], list[Any]]:
        """The backward program of a signature, None for nothing; its inputs; places of all residuals, and of
        those that it makes."""
        kernel, residuals = self.run.signatures[s].kernel, self.run.residual_places(s)
        made = residuals[kernel.device_pieces.n_forward_residuals :]
        program = kernel.device_program("backward", add_rows).run if slots or made else None
        return program, fixed_inputs(self.run, s, "backward"), residuals, made
