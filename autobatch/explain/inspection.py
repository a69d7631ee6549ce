"""Recordings as the stages see them, looked at without running anything.

Input: tensors. Output: `Inspected`, one for each recording that they were computed in, the earliest first, with what
leads to them and nothing else. What was executed is shown as it was; what is pending is assembled and scheduled as a
copy, so that the recording stays as it is.
Cost: for pending work that of the stages record, expand, schedule and place.
"""

from __future__ import annotations

import dataclasses
import heapq
import threading
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np

from ..backends import current_backend
from ..base.errors import OpTypeError, RecordingError, user_error
from ..base.types import Array
from ..expand.expand import expand_recording
from ..record.assemble import assemble
from ..record.links import links_of
from ..record.signature import Signature
from ..record.tape import CHANGED, OPEN, Recording, is_under_way
from ..record.tensor import RecordedTensor, iterate_tensors
from ..run.execute import Run
from ..schedule.place import place
from ..schedule.policies import current_schedule
from ..schedule.schedule import leading_to, schedule
from ..schedule.structures import KERNEL, PAYLOAD, TAKE_ROWS, Expansion, Plan, Schedule, Tape


@dataclass
class Inspected:
    """One recording after its stages.

    status: "pending", "executed" or "ended"
    recorded: the tape before it was expanded; expansion: after; signatures: of both
    needs: 1 for nodes that carry gradient; unbatched: recorded with `batched=False`, run node by node
    schedule: the launches, with the nodes that lead to what was asked for
    """

    recording: Recording
    status: str
    recorded: Tape
    expansion: Expansion
    signatures: list[Signature]
    needs: Array
    schedule: Schedule
    backend: str

    @property
    def tape(self) -> Tape:
        """What is scheduled."""
        return self.expansion.tape

    @property
    def unbatched(self) -> bool:
        """Whether the nodes run one by one."""
        return self.recording.unbatched

    @cached_property
    def plan(self) -> Plan:
        """Where every value is stored."""
        run = self.recording.run
        if isinstance(run, Run) and run.schedule is self.schedule:
            return run.plan
        return place(self.tape, self.schedule, bool((self.needs & self.schedule.live).any()))

    @cached_property
    def launch(self) -> Any:
        """The launch of each node, -1 where there is none."""
        launch = np.full(self.tape.sig.size, -1, np.int64)
        of_position = np.repeat(np.arange(self.schedule.launch_sig.size), np.diff(self.schedule.launch_of))
        launch[self.schedule.nodes] = of_position
        return launch

    @cached_property
    def kernels(self) -> list[int]:
        """Numbers of the signatures that are launched, in the order in which they were recorded first."""
        return np.unique(self.schedule.launch_sig).tolist()

    @cached_property
    def links(self) -> list[tuple[Recording, int]]:
        """The values of earlier recordings that are read, with their gradients."""
        links = links_of(self.recording)
        links = links.only(self.schedule.live[self.tape.node_of(self.expansion.values(links.here))] != 0)
        sources = [links.sources[k] for k in links.source.tolist()]
        return list(zip(sources, links.value.tolist(), strict=True))

    def differentiated(self, sig: int) -> bool:
        """Whether some launch of a signature saves residuals."""
        return bool(self.needs[self.schedule.nodes[self.tape.sig[self.schedule.nodes] == sig]].any())

    def node_of(self, t: RecordedTensor) -> int:
        """The node that a tensor is a result of; views of some rows of one value are followed."""
        node = self.producer(self.expansion.value(t._id))
        while self.kind(node) == TAKE_ROWS:
            node = self.producer(self.arguments(node)[0])
        return node

    def producer(self, value: int) -> int:
        """The node that a value is a result of."""
        return int(self.tape.node_of(value))

    def kind(self, node: int) -> int:
        """KERNEL, a view, or PAYLOAD."""
        return int(self.tape.signatures.kind[self.tape.sig[node]])

    def arguments(self, node: int) -> list[int]:
        """The values that a node reads."""
        tape = self.tape
        first, last = tape.arg_of[tape.slot_of[node]], tape.arg_of[tape.slot_of[node + 1]]
        return tape.args[first:last].tolist()

    def sources(self, node: int) -> list[int]:
        """The kernels whose results a node reads, directly or through views."""
        found: list[int] = []
        seen: set[int] = set()
        stack = self.arguments(node)[::-1]
        while stack:
            source = self.producer(stack.pop())
            if source in seen:
                continue
            seen.add(source)
            if self.kind(source) == KERNEL:
                found.append(source)
            elif self.kind(source) != PAYLOAD:
                stack.extend(self.arguments(source)[::-1])
        return found

    def depends(self, node: int, on: int) -> bool:
        """Whether a node needs another, directly or through others."""
        seen: set[int] = set()
        stack = [node]
        while stack:
            for value in self.arguments(stack.pop()):
                source = self.producer(value)
                if source == on:
                    return True
                if source > on and source not in seen:
                    seen.add(source)
                    stack.append(source)
        return False

    def where(self, node: int) -> str:
        """The user's line of a node."""
        return self.recording.where(self.expansion.node(node))

    def title(self, node: int) -> str:
        """The signature of a node, and the user's line where it is known."""
        where = self.where(node)
        return f"{self.signatures[self.tape.sig[node]]}{f', recorded at {where}' if where else ''}"


def inspect_recordings(x: Any, whole: bool = False) -> list[Inspected]:
    """The recordings that the tensors of nested lists, tuples and dicts depend on, the earliest first; `whole`: with
    what ran or would run beside these.

    Raises `OpTypeError` where there is no tensor, `RecordingError` for a recording of another thread that is pending,
    and for one that was given up.
    """
    targets: dict[Recording, set[int]] = {}
    for t in iterate_tensors(x):
        targets.setdefault(t._tape, set()).add(t._id)
    if not targets:
        raise user_error(
            OpTypeError, "explain: there is no tensor", expected="tensors, or a traced cell", got=type(x).__name__
        )
    waiting = [(-recording.serial, recording) for recording in targets]
    heapq.heapify(waiting)
    found: list[Inspected] = []
    while waiting:
        _, recording = heapq.heappop(waiting)
        found.append(_inspect(recording, targets[recording], whole))
        for earlier, value in found[-1].links:
            if earlier is CHANGED:
                continue
            if earlier not in targets:
                heapq.heappush(waiting, (-earlier.serial, earlier))
            targets.setdefault(earlier, set()).add(value)
    return found[::-1]


def _inspect(recording: Recording, values: set[int], whole: bool) -> Inspected:
    run, arrays = recording.run, recording.arrays
    status = "pending" if arrays is None else "ended" if run is None else "executed"
    if arrays is None:
        if recording.state != OPEN or not is_under_way(recording):
            another = recording.thread != threading.get_ident()
            what = "belongs to another thread" if another else "was given up after an error"
            if recording.lines is not None:
                another, what = False, "has ended, and a later one, too: of it nothing but values is left"
            what = f"explain: the recording {what}"
            raise user_error(RecordingError, what, repair="explain it there" if another else "record it again")
        held = {t._id for t in recording.held_tensors()[0]} if whole else set()
        arrays = assemble(recording, sorted(values | held))
    if isinstance(run, Run):
        signatures = cast(list[Signature], list(run.signatures))
        expansion, needs, launches, backend = run.expansion, run.needs, run.schedule, run.backend
    else:
        expansion, signatures, needs = expand_recording(recording, arrays, recording.targets)
        launches = schedule(expansion.tape, recording.policy or current_schedule())
        backend = current_backend()
    if not whole:
        tape, launches = leading_to(expansion.tape, launches, [expansion.value(value) for value in values])
        expansion = dataclasses.replace(expansion, tape=tape)
    return Inspected(recording, status, arrays, expansion, signatures, needs, launches, backend)
