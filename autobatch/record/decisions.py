"""What recordings have decided about a signature. It lives as long as the signature, and so as its parameters."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..schedule.structures import Part

if TYPE_CHECKING:
    from .derived import Derivative
    from .operands import OperandSet
    from .signature import Signature


@dataclass(slots=True, frozen=True)
class Cut:
    """A signature that is cut: the signatures of its parts, and the parts but for their numbers."""

    signatures: tuple[Signature, Signature]
    parts: tuple[Part, Part]


@dataclass(slots=True, frozen=True, eq=False)
class FoundCell:
    """A run of nodes that recurs: the signatures of its nodes, what they read and write (see `expand.match.Pattern`),
    and the signature of the one node that takes their place."""

    members: tuple[Signature, ...]
    slots: tuple[int, ...]
    reads: tuple[int, ...]
    results: tuple[int, ...]
    signature: Signature
    distinct: frozenset[Signature]


@dataclass(slots=True)
class Decisions:
    """What recordings have decided about a signature.

    version: grows when nodes are expanded differently from now on; a kept plan is valid for the versions it was made at
    cut: how it is cut, if it is; is_cut_decided: whether that is decided
    reads_of_weights: of its graph (see `expand.costs`), until that is decided; None: not looked at yet
    found_cells: patterns stored with it; searches: how many searches for them it took part in; searched: how many nodes
        of it a search has seen at most
    joined: signatures of found cells, by what they are made of
    constant_slots: slots that no recording has read a value with gradient in; None: not looked at yet
    constant_variants: the same signature with some slots constant; frozen_variant: without any gradient
    operand_sets: of recordings, by their signatures; learners: tables of schedule policies, by sets of signatures
    derivatives: its VJP, by the shared operands that are wanted
    """

    version: int = 0
    cut: Cut | None = None
    is_cut_decided: bool = False
    reads_of_weights: list[tuple[frozenset[int], int, int]] | None = None
    found_cells: tuple[FoundCell, ...] = ()
    searches: int = 0
    searched: int = 0
    joined: dict[Any, Signature] = field(default_factory=dict)
    constant_slots: frozenset[int] | None = None
    constant_variants: dict[frozenset[int], Signature] = field(default_factory=dict)
    frozen_variant: Signature | None = None
    operand_sets: dict[int, OperandSet] = field(default_factory=dict)
    learners: dict[Any, Any] = field(default_factory=dict)
    derivatives: dict[frozenset[int], Derivative] = field(default_factory=dict)

    def decide_cut(self, cut: Cut | None) -> None:
        """Decide for good how the signature is cut."""
        self.cut, self.is_cut_decided, self.reads_of_weights = cut, True, None
        self.version += 1

    def keep_cell(self, found: FoundCell) -> None:
        """Keep a found cell with the signature."""
        self.found_cells = (*self.found_cells, found)
        self.version += 1
