"""The drawings of `ab.explain`: what the page and the graph hold, read by parsers."""

from __future__ import annotations

import linecache
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch.explain.explain import STAGES


class Reader(HTMLParser):
    """What stands in a page; raises where tags are not closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.boxes: list[dict[str, str | None]] = []
        self.titles: list[str] = []
        self.arrows: list[tuple[int, int]] = []
        self.sources: list[str] = []
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag == "rect":
            self.boxes.append(found)
        if tag not in {"meta", "br"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if "data-from" in found:
            self.arrows.append((int(found["data-from"] or ""), int(found["data-to"] or "")))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-2:] == ["rect", "title"]:
            self.titles.append(data)


@ab.cell
def compose(left: Any, right: Any) -> Any:
    return ab.tanh(left + right)


def program() -> Any:
    """Three trees of two shapes: two launches of compose, the second of a deeper tree."""
    leaf = ab.tensor([1.0, 2.0]) * ab.Parameter([1.0, 2.0])
    shallow = [compose(leaf, leaf) for _ in range(2)]
    deep = compose(shallow[0], leaf)
    return ab.sum([x.sum() for x in (*shallow, deep, ab.softmax(ab.tensor([1.0, 2.0, 3.0])))])


def test_the_page_shows_levels_launches_lines_and_reasons() -> None:
    x = program()
    page = ab.explain(x, format="html")
    read = Reader(page)
    launches = int(ab.explain(x).split()[0])
    assert len(read.boxes) == len(read.titles) == launches
    assert not read.sources and "http" not in page.replace("http-equiv", "")
    first, second = (k for k, title in enumerate(read.titles) if "of compose(" in title)
    assert read.boxes[first]["style"] == read.boxes[second]["style"]
    assert "it needs results of that launch" in read.titles[second]
    assert "test_page.py:" in read.titles[first] and "shallow = [compose(leaf, leaf)" in read.titles[first]
    assert read.boxes[first]["class"] == "" and read.boxes[second]["class"] == "apart"
    assert (first, second) in read.arrows
    assert float(read.boxes[first]["y"] or 0) < float(read.boxes[second]["y"] or 0)
    assert sum("sum(" in title and "operand 1 differs, f32[" in title for title in read.titles) == 1


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_has_a_page_and_a_graph_or_is_a_text(stage: str) -> None:
    x = program()
    read = Reader(ab.explain(x, stage, format="html"))
    is_drawn = stage not in ("split", "fuse", "lower")
    assert bool(read.boxes) == is_drawn
    if not is_drawn:
        with pytest.raises(ValueError, match="no drawing of this stage"):
            ab.explain(x, stage, format="dot")
        return
    dot = ab.explain(x, stage, format="dot")
    assert len(re.findall(r"^  b\d+ \[", dot, re.MULTILINE)) == len(read.boxes)
    assert len(re.findall(r"^  b\d+ -> b\d+;$", dot, re.MULTILINE)) == len(read.arrows)
    assert dot.count("{") == dot.count("}")


def test_text_of_the_user_is_escaped() -> None:
    code = "import autobatch as ab\ndef f(x):\n    return ab.tanh(x)  # <script>alert('&')</script>\n"
    linecache.cache["<b>cell</b>.py"] = (len(code), None, code.splitlines(keepends=True), "<b>cell</b>.py")
    scope: dict[str, Any] = {}
    exec(compile(code, "<b>cell</b>.py", "exec"), scope)
    x = scope["f"](ab.tensor([1.0]))
    page = ab.explain(x, format="html")
    assert page.count("<script>") == 1 and "<b>" not in page
    assert "<script>alert('&')</script>" in Reader(page).titles[0]
    assert '\\"' not in ab.explain(x, format="dot").replace("\\n", "")


def test_cells_and_values_forced_half_way_are_drawn() -> None:
    program()
    assert "tanh" in ab.explain(compose, "graph", format="dot")
    w = ab.Parameter(np.eye(2))
    h = ab.tanh(ab.tensor([1.0, 2.0]) @ w)
    bool(h.sum() > 0)
    titles = Reader(ab.explain(ab.tanh(h @ w).sum(), format="html")).titles
    assert sum("forced separately" in title for title in titles) == 2
    assert not Reader(ab.explain(w @ w, format="html")).boxes
    with pytest.raises(ValueError, match="no such format"):
        ab.explain(h, format="pdf")


def test_many_launches_are_counted_and_not_drawn() -> None:
    x = ab.tensor([1.0])
    for _ in range(410):
        x = ab.tanh(x)
    page = ab.explain(x, format="html")
    assert len(Reader(page).boxes) == 400
    assert "10 more are not drawn" in page


def test_a_browser_shows_what_the_pointer_is_at(tmp_path: Path) -> None:
    """In headless Chromium, where there is one: the script of the page runs, and no box lies outside of the drawing."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("there is no Chromium")
    try_out = """<script>
    const boxes = [...document.querySelectorAll("rect")], svg = document.querySelector("svg").getBoundingClientRect();
    boxes.find(b => b.classList.contains("apart")).dispatchEvent(new Event("mouseenter"));
    const inside = boxes.every(b => { const r = b.getBoundingClientRect();
      return r.width > 50 && r.left >= svg.left && r.right <= svg.right && r.bottom <= svg.bottom; });
    document.title = [inside, document.querySelectorAll("rect.on").length, document.querySelectorAll("path.on").length,
      document.querySelector(".about").textContent.split("\\n")[1]].join("|");
    </script></body>"""
    page = ab.explain(program(), format="html").replace("</body>", try_out)
    (tmp_path / "page.html").write_text(page, encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
    command = [browser, *options, (tmp_path / "page.html").as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    title = re.search("<title>([^<]*)</title>", shown)
    assert title is not None
    inside, alike, arrows, why = title[1].split("|")
    assert (inside, alike) == ("true", "2") and int(arrows) >= 2
    assert re.fullmatch(r"not with launch \d: it needs results of that launch", why)


def test_what_is_in_no_launch_is_not_drawn() -> None:
    with pytest.raises(ValueError, match=r"there is nothing to draw\n  got Constant.*in no launch"):
        ab.explain(ab.ones(3), format="dot")
