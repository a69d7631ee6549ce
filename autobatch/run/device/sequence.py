"""sequence: the calls of one pass over a device, written down, so that a pass that recurs is one call.

While a launch loop runs, a `Recorder` stands in for the device. It takes what such a loop asks for (`VERBS`) and hands
the whole on at the end; memory is asked for and uploads are made at once, and held until then. Anything else (sorting)
runs what was taken so far first. `recording` is the device itself unless its graphs are on.

    (("launch", (k0, 4, 256, (7, 140163, 140419))), ("product", (7, 64, 64, 140419, 64, False, …)), …)

A recorder belongs to a thread, and so do the graphs that are made of what it records.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

from ...backends.device import Call, Device
from .graphs import Graphs

VERBS = ("zero", "copy", "launch", "launch_resident", "product", "products", "products_at")
"""What is written down."""


class Recorder:
    """Stands in for a device while a pass is launched."""

    def __init__(self, device: Device, graphs: Graphs) -> None:
        self.device, self._graphs = device, graphs
        self._calls: list[Call] = []
        self._held: list[Any] = []
        self.kernel, self.resident_kernel, self.faults = device.kernel, device.resident_kernel, device.faults
        self.blocks_at_once, self.shared_bytes = device.blocks_at_once, device.shared_bytes
        for verb in VERBS:
            setattr(self, verb, self._noting(verb))

    @property
    def persistent(self) -> bool:
        """See `Device`."""
        return self.device.persistent

    @property
    def groups(self) -> bool:
        """See `Device`."""
        return self.device.groups

    def _noting(self, verb: str) -> Callable[..., None]:
        note = self._calls.append

        def call(*arguments: Any) -> None:
            note((verb, arguments))

        return call

    def empty(self, shape: Any, dtype: Any) -> Any:
        """See `Device`. Nobody else gets this memory before what was recorded on it has been launched."""
        made = self.device.empty(shape, dtype)
        self._held.append(made)
        return made

    def upload(self, host: Any) -> Any:
        """See `Device`. At once; nobody else gets its memory either."""
        made = self.device.upload(host)
        self._held.append(made)
        return made

    def argsort(self, address: int, n: int) -> Any:
        """See `Device`: what it sorts is made by what was recorded."""
        self.run()
        made = self.device.argsort(address, n)
        self._held.append(made)
        return made

    def run(self) -> None:
        """Launch what was recorded."""
        calls = tuple(self._calls)
        self._calls.clear()
        if calls:
            self._graphs.run(calls)
        self._held.clear()

    def drop(self) -> None:
        """Forget what was recorded and not launched."""
        self._calls.clear()
        self._held.clear()


class _OfThread(threading.local):
    recorder: Recorder | None = None


_of_thread = _OfThread()


@contextlib.contextmanager
def recording(device: Device, is_on: bool = True) -> Iterator[Any]:
    """What to launch on inside the block: the device, or a recorder for it that launches when the block ends. What was
    recorded when an error ends the block is not launched."""
    recorder = _of_thread.recorder
    if not (device.graphs and is_on):
        if recorder is not None and recorder.device is device and not device.graphs:
            _of_thread.recorder = None  # with all that it keeps
        yield device
        return
    if recorder is None or recorder.device is not device:
        recorder = _of_thread.recorder = Recorder(device, Graphs(device))
    try:
        yield recorder
        recorder.run()
    finally:
        recorder.drop()
