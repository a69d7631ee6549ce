"""graphs: sequences of calls that recur are captured as graphs of the device, and replayed by one call.

A sequence is met a first time and runs call by call; met again it is captured, and from then on replayed. Two are the
same if all their calls are: kernels, extents, addresses, in order, compared in full, on the same stream in the same
mode of arithmetic. The same calls at the same addresses are the same work, whatever the numbers there, so a replay does
what the calls would do. What was captured and not met for longest goes when there is too much. A sequence that cannot
be captured runs call by call, as ever. Cost: a sequence is hashed and compared, some 0.1 µs a call.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from typing import Any

from ...backends.device import Call, Device
from ...stages import active

FEWEST_CALLS = 4
"""A shorter sequence is not worth a graph."""

MOST_CALLS = 1 << 17
"""Calls of all graphs that are kept."""

MOST_MET = 1 << 14
"""Sequences that are known to have been met once."""

RUN, CAPTURED, REPLAYED = "run", "captured", "replayed"


class Graphs:
    """The graphs of one thread on one device. n_calls: of all that are kept."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._graphs: OrderedDict[int, tuple[Any, Any]] = OrderedDict()  # see `_number` → sequence, graph
        self._met: OrderedDict[int, bool] = OrderedDict()  # hash → whether it may be captured
        self._has_warned = False
        self.n_calls = 0

    def run(self, calls: tuple[Call, ...]) -> None:
        """Do what the calls say."""
        key = self._device.setting, calls
        number = _number(key)
        kept, graph = self._graphs.get(number, (None, None))
        how = REPLAYED
        if kept == key:
            self._graphs.move_to_end(number)
            self._device.play(graph)
        else:
            how = self._run_new(number, key)
        for profile in active.profiles:
            profile.note_sequence(how, len(calls))

    def _run_new(self, number: int, key: tuple[Any, tuple[Call, ...]]) -> str:
        """A sequence without a graph."""
        calls = key[1]
        whole = hash(key)  # of two sequences with one hash the second is captured at once, which does no harm
        may, refused = self._met.get(whole), None
        if may and len(calls) >= FEWEST_CALLS:
            try:
                graph = self._device.capture(calls)
            except Exception as error:
                self._met[whole], refused = False, error
            else:
                del self._met[whole]
                self._keep(number, key, graph)
                self._device.play(graph)
                return CAPTURED
        elif may is None:
            self._met[whole] = True
            if len(self._met) > MOST_MET:
                self._met.popitem(last=False)
        for verb, arguments in calls:
            getattr(self._device, verb)(*arguments)
        if refused is not None and not self._has_warned:
            self._has_warned = True
            warnings.warn(f"graphs: launches could not be captured and ran one by one: {refused}", stacklevel=2)
        return RUN

    def _keep(self, number: int, key: tuple[Any, tuple[Call, ...]], graph: Any) -> None:
        if number in self._graphs:
            self._forget(self._graphs.pop(number))
        self._graphs[number] = key, graph
        self.n_calls += len(key[1])
        while self.n_calls > MOST_CALLS and len(self._graphs) > 1:
            self._forget(self._graphs.popitem(last=False)[1])

    def _forget(self, entry: tuple[Any, Any]) -> None:
        self.n_calls -= len(entry[0][1])


def _number(key: tuple[Any, tuple[Call, ...]]) -> int:
    """Where to look for a sequence: a hash of its length and of some of its calls."""
    setting, calls = key
    return hash((setting, len(calls), calls[:: max(len(calls) // 8, 1)]))
