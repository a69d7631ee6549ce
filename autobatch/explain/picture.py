"""A recording or a graph as boxes and arrows, for drawings.

Input: what `inspection` found, or a graph of ops. Output: `Picture`: launches, recorded nodes or ops, each at the level
of the longest path that leads to it, and what reads what.
Cost: a few µs a node.

    digraph { … l0 [label="matmul\\n2 nodes"]; l1 [label="tanh\\n2 nodes"]; l0 -> l1; }
"""

from __future__ import annotations

import linecache
from collections.abc import Iterable
from dataclasses import dataclass, field
from types import CodeType
from typing import Any

import numpy as np

from ..base.errors import line_number, line_of
from ..ir.graph import Graph
from .inspection import Inspected
from .reasons import FORCED, counted, differences

MOST = 400
"""Boxes of a picture; the rest is counted."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the user's: `file:line in function`, its text, and how many nodes of a box it recorded."""

    where: str
    text: str
    count: int = 1


@dataclass(frozen=True, slots=True)
class Box:
    """A launch, a node or an op.

    name: of the op or cell; size: "3 nodes", or a type; kind: the signature, of which boxes of one colour are
    about: what is said of it; why: what kept it apart from an earlier launch of the op
    """

    name: str
    size: str
    kind: str
    level: int
    about: str
    why: str = ""
    lines: tuple[Line, ...] = ()


@dataclass(slots=True)
class Picture:
    """Boxes and arrows: (from, to); left_out: boxes that are too many to draw."""

    title: str
    boxes: list[Box] = field(default_factory=list)
    arrows: list[tuple[int, int]] = field(default_factory=list)
    left_out: int = 0

    @property
    def kinds(self) -> dict[str, int]:
        """Signatures by number, in the order in which they come."""
        return {kind: k for k, kind in enumerate(dict.fromkeys(box.kind for box in self.boxes))}

    def dot(self, name: str) -> str:
        """The picture in the language of Graphviz."""
        kinds = self.kinds
        lines = [
            f"digraph {name} {{",
            f'  label={quoted(self.title)}; labelloc=t; rankdir=TB; fontname="sans-serif";',
            '  node [shape=box, style="rounded,filled", fontname="sans-serif", fontsize=10];',
        ]
        for k, box in enumerate(self.boxes):
            text = "\n".join(part for part in (box.about, box.why, *(line.where for line in box.lines)) if part)
            colour = f"{hue(kinds[box.kind]) / 360:.3f} 0.25 0.95"
            label = quoted(box.name + "\n" + box.size)
            lines.append(f"  b{k} [label={label}, fillcolor={quoted(colour)}, tooltip={quoted(text)}];")
        for level in sorted({box.level for box in self.boxes}):
            row = "; ".join(f"b{k}" for k, box in enumerate(self.boxes) if box.level == level)
            lines.append(f"  {{ rank=same; {row}; }}")
        lines += [f"  b{a} -> b{b};" for a, b in self.arrows]
        if self.left_out:
            lines.append(f'  more [shape=plaintext, style="", label="and {self.left_out:,} more"];')
        return "\n".join([*lines, "}"])


def hue(number: int) -> float:
    """The colour of a signature, in degrees: neighbours in number are far apart."""
    return number * 137.508 % 360


def quoted(text: str) -> str:
    """A string of Graphviz."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def picture_of_launches(r: Inspected, number: int = 0, met: Iterable[str] = ()) -> Picture:
    """The launches of a recording; `met`: ops of earlier recordings."""
    sizes = np.diff(r.schedule.launch_of).tolist()
    picture = Picture(f"Recording {number + 1}: {counted(len(sizes), 'launch', 'launches')}, {r.status}")
    if r.unbatched:
        picture.title += ", one by one (batched=False)"
        return picture
    picture.left_out = max(len(sizes) - MOST, 0)
    above, arrows = _reads(r)
    picture.arrows = sorted((a, b) for a, b in arrows if b < MOST)
    levels = _levels(len(sizes), arrows)
    previous: dict[str, int] = {}
    forced = set(met)
    for k, size in enumerate(sizes[:MOST]):
        s = r.signatures[r.schedule.launch_sig[k]]
        nodes = r.schedule.nodes[r.schedule.launch_of[k] : r.schedule.launch_of[k + 1]].tolist()
        before = previous.get(s.name)
        why = "" if before is None else _why(r, before, k, nodes, above, arrows)
        if before is None and s.name in forced:
            why = f"not with the launches of an earlier recording: {FORCED}"
        previous[s.name] = k
        about = f"launch {k}: {counted(size, 'node', 'nodes')} of {s}"
        picture.boxes.append(
            Box(s.name, counted(size, "node", "nodes"), str(s), levels[k], about, why, _lines(r, nodes))
        )
    return picture


def _reads(r: Inspected) -> tuple[dict[int, int], set[tuple[int, int]]]:
    """Of each launched node the launches that it depends on, as bits; and which launch reads a result of which."""
    above: dict[int, int] = {}
    arrows: set[tuple[int, int]] = set()
    launch = r.launch
    for node in sorted(r.schedule.nodes.tolist()):
        bits = 0
        for source in r.sources(node):
            if source in above:
                bits |= above[source] | 1 << int(launch[source])
                arrows.add((int(launch[source]), int(launch[node])))
        above[node] = bits
    return above, arrows


def _levels(n: int, arrows: Iterable[tuple[int, int]]) -> list[int]:
    """The longest path of arrows that ends in each box; arrows lead from smaller numbers to larger ones."""
    levels = [0] * n
    for a, b in sorted(arrows, key=lambda arrow: arrow[1]):
        levels[b] = max(levels[b], levels[a] + 1)
    return levels


def _why(r: Inspected, before: int, k: int, nodes: list[int], above: dict[int, int], arrows: Any) -> str:
    """Why a launch was not one with an earlier launch of the same op."""
    a, b = (r.signatures[r.schedule.launch_sig[launch]] for launch in (before, k))
    found = [f"{what}{f', {values}' if values else ''}" for what, values in (differences(a, b) if a is not b else [])]
    below = sum(above[node] >> before & 1 for node in nodes)
    if below:
        which = "it needs" if below == len(nodes) else f"{below:,} of its {len(nodes):,} nodes need"
        found.append(f"{which} results of that launch")
    if not found:
        late = max((source for source, reader in arrows if reader == k), default=before)
        found.append(f"it reads results of launch {late}, which were not ready then")
    return f"not with launch {before}: {'; '.join(found)}"


def _lines(r: Inspected, nodes: Iterable[int]) -> tuple[Line, ...]:
    """The user's lines that recorded some nodes, the most frequent first."""
    places: dict[Any, int] = {}
    for node in nodes:
        place = r.recording.place(r.expansion.node(node))
        places[place] = places.get(place, 0) + 1
    found: dict[tuple[str, str], int] = {}
    for (code, instruction), count in places.items():
        if code is not None:
            line = _line(code, instruction)
            found[line] = found.get(line, 0) + count
    return tuple(Line(*line, count) for line, count in sorted(found.items(), key=lambda item: -item[1]))


def _line(code: CodeType, instruction: int) -> tuple[str, str]:
    """Where a line of the user's is, and its text."""
    return line_of(code, instruction), linecache.getline(code.co_filename, line_number(code, instruction)).strip()


def picture_of_tape(r: Inspected, number: int = 0) -> Picture:
    """The recorded nodes, before they are expanded."""
    tape, signatures = r.recorded, r.recording.signatures
    n = tape.sig.size
    picture = Picture(f"Recording {number + 1}: {counted(n, 'recorded node', 'recorded nodes')}, {r.status}")
    picture.left_out = max(n - MOST, 0)
    n = min(n, MOST)
    for node in range(n):
        args = tape.args[tape.arg_of[tape.slot_of[node]] : tape.arg_of[tape.slot_of[node + 1]]]
        picture.arrows += sorted({(int(source), node) for source in tape.node_of(args)})
    levels = _levels(n, picture.arrows)
    for node in range(n):
        s = signatures[tape.sig[node]]
        code, instruction = r.recording.place(node)
        lines = () if code is None else (Line(*_line(code, instruction)),)
        picture.boxes.append(Box(s.name, f"node {node}", str(s), levels[node], f"node {node}: {s}", "", lines))
    return picture


def picture_of_graph(title: str, graph: Graph) -> Picture:
    """The ops of a graph."""
    picture = Picture(title, left_out=max(len(graph.nodes) - MOST, 0))
    shown = graph.nodes[:MOST]
    picture.arrows = [(j, i) for i, node in enumerate(shown) for j in dict.fromkeys(node.inputs)]
    levels = _levels(len(shown), picture.arrows)
    for i, node in enumerate(shown):
        result = f" (result {graph.outputs.index(i)})" if i in graph.outputs else ""
        about = f"%{i} = {node}  {node.type}{result}"
        picture.boxes.append(Box(node.kind or node.op.name, f"{node.type}{result}", node.op.name, levels[i], about))
    return picture
