"""Pictures and text as one HTML page, which loads nothing from elsewhere.

Input: `Picture`s and the text of a stage. Output: HTML. Levels are rows, from the first to the last; a box is a launch,
a node or an op, in the colour of its signature; what is said of it shows where the pointer is, and in a table.
"""

from __future__ import annotations

import html
from collections.abc import Sequence

from .picture import Box, Picture, hue

_WIDTH, _HEIGHT, _GAP, _ROW, _LEFT = 148, 40, 16, 76, 64
_IN_A_ROW = 8
"""Boxes side by side; a level of more has further rows."""

_STYLE = """
:root { color-scheme: light dark; --ink: #1c1e21; --faint: #6b7280; --page: #ffffff; --line: #c9ced6; --light: 84%; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e8eb; --faint: #9aa3af; --page: #15181c; --line: #3a414a; --light: 30%; }
}
body { margin: 1.5rem; background: var(--page); color: var(--ink); font: 14px/1.45 system-ui, sans-serif; }
h1 { font-size: 1.3rem; } h2 { font-size: 1.05rem; margin-top: 1.6rem; }
pre, code, td { font-family: ui-monospace, monospace; font-size: 12px; }
pre { overflow-x: auto; border: 1px solid var(--line); border-radius: 6px; padding: .8rem; }
.picture { overflow: auto; max-height: 80vh; border: 1px solid var(--line); border-radius: 6px; }
svg text { fill: var(--ink); font: 12px ui-monospace, monospace; pointer-events: none; }
svg .faint { fill: var(--faint); font-size: 11px; }
rect, .swatch { fill: hsl(var(--hue) 60% var(--light)); background: hsl(var(--hue) 60% var(--light)); }
rect { stroke: var(--faint); } rect.apart { stroke-dasharray: 4 3; }
path { fill: none; stroke: var(--line); stroke-width: 1.2; } path.on { stroke: var(--ink); stroke-width: 2; }
rect.on, rect:hover { stroke: var(--ink); stroke-width: 2.5; }
.about { position: sticky; bottom: 0; min-height: 5.5em; background: var(--page); white-space: pre-wrap; }
.legend span { display: inline-block; margin-right: 1.2em; }
.swatch { display: inline-block; width: .9em; height: .9em; border-radius: 3px; margin-right: .4em; }
table { border-collapse: collapse; width: 100%; } td, th { text-align: left; vertical-align: top; padding: .2rem .6rem;
  border-bottom: 1px solid var(--line); } .faint { color: var(--faint); } .scroll { overflow-x: auto; }
"""

_SCRIPT = """
for (const figure of document.querySelectorAll("figure")) {
  const about = figure.querySelector(".about"), usual = about.textContent;
  for (const box of figure.querySelectorAll("rect")) {
    const k = box.dataset.box;
    const near = figure.querySelectorAll(
      `path[data-from="${k}"], path[data-to="${k}"], rect[data-kind="${box.dataset.kind}"]`);
    const mark = on => near.forEach(x => x.classList.toggle("on", on));
    box.addEventListener("mouseenter", () => { mark(true); about.textContent = box.textContent; });
    box.addEventListener("mouseleave", () => { mark(false); about.textContent = usual; });
  }
}
"""


def page(title: str, pictures: Sequence[Picture], text: str) -> str:
    """The page: a figure and a table for each picture, and the text."""
    parts = [
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{html.escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>",
        f"<h1>{html.escape(title)}</h1>",
    ]
    for number, picture in enumerate(pictures):
        parts += [f"<h2>{html.escape(picture.title)}</h2>", *_figure(picture, number), *_table(picture)]
    parts += [f"<h2>As text</h2>\n<pre>{html.escape(text)}</pre>"]
    return "\n".join([*parts, f"<script>{_SCRIPT}</script>\n</body>\n</html>\n"])


def _figure(picture: Picture, number: int) -> list[str]:
    if not picture.boxes:
        return []
    places, labels, height = _places(picture.boxes)
    width = _LEFT + min(_IN_A_ROW, max(x for x, _ in places) + 1) * (_WIDTH + _GAP)
    kinds = picture.kinds
    marker = f"arrow{number}"
    parts = [
        f'<figure style="margin:0"><div class="picture"><svg width="{width}" height="{height}" role="img" '
        f'aria-label="{html.escape(picture.title)}">',
        f'<defs><marker id="{marker}" viewBox="0 0 6 6" refX="5" refY="3" markerWidth="6" markerHeight="6" '
        'orient="auto"><path d="M0 0L6 3L0 6" /></marker></defs>',
    ]
    corner = [(_LEFT + x * (_WIDTH + _GAP), 12 + y * _ROW) for x, y in places]
    for a, b in picture.arrows:
        (ax, ay), (bx, by) = corner[a], corner[b]
        x1, y1, x2, y2 = ax + _WIDTH // 2, ay + _HEIGHT, bx + _WIDTH // 2, by
        bend = max((y2 - y1) // 2, 12)
        parts.append(
            f'<path data-from="{a}" data-to="{b}" marker-end="url(#{marker})" '
            f'd="M{x1} {y1}C{x1} {y1 + bend} {x2} {y2 - bend} {x2} {y2}" />'
        )
    for level, y in labels:
        parts.append(f'<text class="faint" x="8" y="{12 + y * _ROW + 24}">level {level}</text>')
    for k, (box, (x, top)) in enumerate(zip(picture.boxes, corner, strict=True)):
        kind = kinds[box.kind]
        parts.append(
            f'<g><rect data-box="{k}" data-kind="{kind}" class="{"apart" if box.why else ""}" x="{x}" y="{top}" '
            f'width="{_WIDTH}" height="{_HEIGHT}" rx="6" style="--hue:{hue(kind):.0f}">'
            f"<title>{html.escape(_said(box))}</title></rect>"
            f'<text x="{x + 8}" y="{top + 17}">{html.escape(_short(box.name))}</text>'
            f'<text class="faint" x="{x + 8}" y="{top + 32}">{html.escape(_short(box.size))}</text></g>'
        )
    more = f" {picture.left_out:,} more are not drawn." if picture.left_out else ""
    usual = f"Point at a box to see what it is, and why it was not a part of an earlier one (dashed).{more}"
    return [*parts, "</svg></div>", f'<pre class="about">{usual}</pre>', _legend(kinds), "</figure>"]


def _places(boxes: Sequence[Box]) -> tuple[list[tuple[int, int]], list[tuple[int, int]], int]:
    """Column and row of each box; (level, its first row); the height of all."""
    places: dict[int, tuple[int, int]] = {}
    labels: list[tuple[int, int]] = []
    row = 0
    for level in sorted({box.level for box in boxes}):
        members = [k for k, box in enumerate(boxes) if box.level == level]
        labels.append((level, row))
        for at, k in enumerate(members):
            places[k] = at % _IN_A_ROW, row + at // _IN_A_ROW
        row += -(-len(members) // _IN_A_ROW)
    return [places[k] for k in range(len(boxes))], labels, 12 + row * _ROW


def _legend(kinds: dict[str, int]) -> str:
    swatches = [
        f'<span><i class="swatch" style="--hue:{hue(k):.0f}"></i><code>{html.escape(kind)}</code></span>'
        for kind, k in kinds.items()
    ]
    return f'<p class="legend">{" ".join(swatches)}</p>'


def _table(picture: Picture) -> list[str]:
    rows = []
    for k, box in enumerate(picture.boxes):
        lines = "<br>".join(
            f'{html.escape(line.where)} <span class="faint">{html.escape(line.text)}'
            f"{f' ({line.count:,} nodes)' if len(box.lines) > 1 else ''}</span>"
            for line in box.lines
        )
        cells = [str(k), str(box.level), html.escape(box.about), lines, html.escape(box.why)]
        rows.append(f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    if not rows:
        return []
    heads = "".join(f"<th>{head}</th>" for head in ("number", "level", "what", "recorded at", "why not earlier"))
    return [f'<div class="scroll"><table><tr>{heads}</tr>', *rows, "</table></div>"]


def _said(box: Box) -> str:
    lines = [f"{line.where}: {line.text}" if line.text else line.where for line in box.lines]
    return "\n".join(part for part in (box.about, box.why, *lines) if part)


def _short(text: str, width: int = 19) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
