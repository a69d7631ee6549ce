"""What a run asks of signatures, of the operands that they share, and of a recording; these are made in rooms above."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from ..compile.host.call_tables import CallTable
from ..compile.kernel import Kernel
from ..ir.graph import Graph
from ..schedule.structures import Result, Slot
from .feed import Feed


class SharedOperand(Protocol):
    """A parameter, a constant, or what is computed from such alone: one for all nodes of a signature."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...


class Signature(Protocol):
    """What nodes of one launch have in common, see `record.signature`."""

    feeds: dict[str, Feed]
    tables: dict[tuple[str, bool], CallTable | None]
    reverse_graph: tuple[Graph, list[tuple[str, int]]] | None

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> int: ...
    @property
    def slots(self) -> tuple[Slot, ...]: ...
    @property
    def results(self) -> tuple[Result, ...]: ...
    @property
    def graph(self) -> Graph: ...
    @property
    def shared(self) -> tuple[SharedOperand, ...]: ...
    @property
    def data(self) -> str: ...
    @property
    def attrs(self) -> tuple[Any, ...]: ...
    @property
    def frozen(self) -> bool: ...
    @property
    def by_rows(self) -> bool: ...
    @property
    def is_paired(self) -> bool: ...
    @property
    def members(self) -> tuple[Signature, ...]: ...
    @property
    def trainable(self) -> frozenset[int]: ...
    @property
    def lists(self) -> tuple[int, ...]: ...
    @property
    def kernel(self) -> Kernel: ...


class Recording(Protocol):
    """What was recorded: the host inputs with the numbers of their values, and how many examples it holds."""

    @property
    def payloads(self) -> Sequence[tuple[int, Any]]: ...
    @property
    def examples(self) -> int: ...
