"""What the pages show beside text: drawings as SVG (trees by launch, rows of a pool, examples that wait), and pages.

Each function gives something that a notebook shows.
"""

from __future__ import annotations

import html
from typing import Any

COLOURS = ("#f2b8a8", "#a8d5f2", "#b9e3b0", "#ecd9a0", "#d6bdf0", "#9fe0d8", "#f0b6d4")


class page:
    """A page of HTML inside of another."""

    def __init__(self, text: str) -> None:
        self.text = text

    def _repr_html_(self) -> str:
        style = "width:100%;height:36rem;border:1px solid #8884"
        return f'<iframe srcdoc="{html.escape(self.text)}" style="{style}"></iframe>'


class Drawing:
    """SVG that a notebook shows; its text takes the colour of the page."""

    def __init__(self, width: int, height: int, parts: list[str]) -> None:
        self.svg = (
            f'<svg class="drawing" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
            f'font-family="system-ui, sans-serif" font-size="12">{"".join(parts)}</svg>'
        )

    def _repr_html_(self) -> str:
        return self.svg


def _text(x: float, y: float, text: object, anchor: str = "middle", ink: str = "currentColor") -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" fill="{ink}">{text}</text>'


def _box(x: float, y: float, width: float, height: float, colour: str, text: object = "") -> str:
    box = f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="4" fill="{colour}" stroke="#6b7280" />'
    return box + (_text(x + width / 2, y + height / 2 + 4, text, ink="#1c1e21") if text != "" else "")


def height_of(tree: Any) -> int:
    """Levels below the root of nested pairs."""
    return 0 if not isinstance(tree, tuple) else 1 + max(map(height_of, tree))


def trees(*examples: Any) -> Drawing:
    """Nested pairs, each node in the colour of the launch that computes it: its height."""
    parts: list[str] = []
    deepest = max(map(height_of, examples))
    left = 20.0

    def place(tree: Any, depth: int) -> tuple[float, float]:
        nonlocal left
        y = 24.0 + depth * 44
        if isinstance(tree, tuple):
            below = [place(child, depth + 1) for child in tree]
            x = sum(at for at, _ in below) / len(below)
            parts[:0] = [f'<line x1="{x}" y1="{y}" x2="{a}" y2="{b}" stroke="#6b7280" />' for a, b in below]
        else:
            x, left = left, left + 40
        number = height_of(tree)
        parts.append(f'<circle cx="{x}" cy="{y}" r="14" fill="{COLOURS[number % 7]}" stroke="#6b7280" />')
        parts.append(_text(x, y + 4, number, ink="#1c1e21"))
        return x, y

    for tree in examples:
        place(tree, 0)
        left += 30
    width, height = int(left), 60 + deepest * 44
    for number in range(deepest + 1):
        parts.append(_box(width + 10, 12 + number * 26, 18, 18, COLOURS[number % 7]))
        parts.append(_text(width + 36, 26 + number * 26, f"launch {number}", "start"))
    return Drawing(width + 120, max(height, 24 + 26 * (deepest + 1)), parts)


def pool(*lengths: int, width: int = 3) -> Drawing:
    """Matrices of some numbers of rows, and the pool in which their rows follow one another."""
    parts: list[str] = []
    cell, at = 22, 0.0
    for k, n in enumerate(lengths):
        parts.append(_text(at + width * cell / 2, 14, f"example {k}: {n} × {width}"))
        for row in range(n):
            parts += [_box(at + c * cell, 24 + row * cell, cell, cell, COLOURS[k % 7]) for c in range(width)]
        at += width * cell + 50
    parts.append(_text(at + width * cell / 2, 14, "one pool"))
    owners = [k for k, n in enumerate(lengths) for _ in range(n)]
    for row, k in enumerate(owners):
        parts += [_box(at + c * cell, 24 + row * cell, cell, cell, COLOURS[k % 7]) for c in range(width)]
        parts.append(_text(at + width * cell + 8, 24 + row * cell + 15, f"row {row}", "start"))
    return Drawing(int(at + width * cell + 70), 40 + len(owners) * cell, parts)


def phases(*forced: int) -> Drawing:
    """Examples that force so many values each: they record, wait, and run together, phase by phase."""
    parts: list[str] = []
    n_phases = max(forced) + 1
    width, run = 120, 30
    for k, n in enumerate(forced):
        y = 30 + k * 34
        parts.append(_text(4, y + 16, f"example {k}", "start"))
        for phase in range(n + 1):
            text = "decides" if phase < n else "ends"
            parts.append(_box(80 + phase * (width + run), y, width - 8, 24, COLOURS[1], f"records, {text}"))
    bottom = 30 + len(forced) * 34
    for phase in range(n_phases):
        x = 80 + phase * (width + run) + width - 4
        label = f"phase {phase + 1}" if phase + 1 < n_phases else "flush"
        parts.append(f'<rect x="{x}" y="24" width="{run - 4}" height="{bottom - 26}" rx="4" fill="{COLOURS[0]}" />')
        parts.append(_text(x + run / 2, 16, label))
    return Drawing(100 + n_phases * (width + run), bottom + 6, parts)
