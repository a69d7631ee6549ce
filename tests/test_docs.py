"""The documents: the tour runs, and what the page on the architecture names is there."""

from __future__ import annotations

import contextlib
import inspect
import io
import re
import runpy
import types
from pathlib import Path
from typing import Any

import pytest

import autobatch as ab
from autobatch.explain.explain import STAGES

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PACKAGE = ROOT / "autobatch"

_reference = runpy.run_path(str(DOCS / "reference.py"))
PARTS, public_names, page_of, markdown = (_reference[n] for n in ("PARTS", "public_names", "page", "markdown"))


def test_the_tour_runs_and_shows_every_stage(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(DOCS / "tour.py"), run_name="__main__")
    text = capsys.readouterr().out
    for heading in ("1. The model", "2. Recording", "3. Once per signature", "4. For every minibatch", "5. Values"):
        assert heading in text
    source = (DOCS / "tour.py").read_text(encoding="utf-8")
    shown = set(re.findall(r'stage="(\w+)"', source))
    assert shown == set(STAGES) - {"expand"}
    for part in (
        "return %",
        "def loop(",
        "Tape:",
        "scattered rows of pool 0",
        "not one launch:",
        "rows [0, 1, 2, 3, 4] of 5",
    ):
        assert part in text


def test_the_page_on_the_architecture_names_every_room() -> None:
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    for path in PACKAGE.iterdir():
        if path.name.startswith("__") or not (path.is_dir() or path.suffix == ".py"):
            continue
        name = f"{path.name}/" if path.is_dir() else path.name
        assert f"`{name}`" in text, f"docs/architecture.md does not say what {name} is"
    for name in re.findall(r"`([a-z_/]+(?:\.py|/))`", text):
        assert (PACKAGE / name).exists() or (ROOT / name).exists(), f"docs/architecture.md names {name}, which is gone"


PAGES = sorted(path.relative_to(ROOT).as_posix() for path in DOCS.rglob("*.md") if "_build" not in path.parts)
PAGES = [page for page in PAGES if not page.startswith("docs/reference/")]
CELL = re.compile(
    r"^```\{(?:code-cell\}|code-block\} python)[^\n]*\n((?::[^\n]*\n)*)(.*?)^```", re.MULTILINE | re.DOTALL
)
NOTEBOOKS = [page for page in PAGES if CELL.search((ROOT / page).read_text(encoding="utf-8"))]


def prose(page: Path) -> str:
    """A page without its code."""
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """What links can name in a page: its headings."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", ["README.md", *PAGES])
def test_links_lead_somewhere(page: str) -> None:
    public = {f"{named.module}.{named.name}" for part in PARTS for named in public_names(part)}
    for target, _, anchor in re.findall(r"\]\((?!https?:)([^)#]*)(#([^)]+))?\)", prose(ROOT / page)):
        path = (ROOT / page).parent / target if target else ROOT / page
        is_written_later = target == "reference/index.md"
        assert path.exists() or is_written_later, f"{page} links to {target}"
        if anchor and path.suffix == ".md":
            known = anchors(path) if target else anchors(path) | public  # whose page is found by the site
            assert anchor in known, f"{page} links to {target}#{anchor}"


def test_every_block_of_python_is_run_by_a_test() -> None:
    run_with_the_readme = {"docs/tutorials/overview.md", "docs/tutorials/own-data.md"}
    text = {page: (ROOT / page).read_text(encoding="utf-8") for page in PAGES}
    assert {page for page in PAGES if re.search(r"^```python", text[page], re.MULTILINE)} == run_with_the_readme
    others = r"^```\{(?!code-cell\}|code-block\} python|toctree\}|eval-rst\})"
    assert [page for page in PAGES if re.search(others, text[page], re.MULTILINE)] == []


@pytest.mark.parametrize("page", NOTEBOOKS)
def test_code_cells_run(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On NumPy, where nothing is compiled, and with few steps of training; the site is built with all of it."""
    monkeypatch.syspath_prepend(DOCS)
    text = (ROOT / page).read_text(encoding="utf-8")
    scope: dict[str, Any] = {"__name__": "page"}
    with ab.backend("numpy"), contextlib.redirect_stdout(io.StringIO()):
        for cell in CELL.finditer(text):
            code = re.sub(r"in range\(\d\d\):$", "in range(2):", cell[2], flags=re.MULTILINE)
            line = text[: cell.start(2)].count("\n")
            exec(compile("\n" * line + code, page, "exec"), scope)


def test_the_reference_has_every_public_name() -> None:
    assert {f"autobatch.{name}" for name in ab.__all__ if isinstance(getattr(ab, name), types.ModuleType)} <= set(PARTS)
    for part in PARTS:
        text = page_of(part)
        for named in public_names(part):
            assert re.search(rf"^`+\{{py:\w+\}} {named.name}(\(|$)", text, re.MULTILINE), f"{part}.{named.name}"
        assert text.count("{py:") >= len(public_names(part)) > 0


def test_names_stand_below_the_heading_of_what_they_are() -> None:
    """Also those that are wrapped. No place or name in the lists of headings is one of nothing."""
    group_of, groups, others = (_reference[n] for n in ("group_of", "GROUPS", "OTHERS"))
    names = public_names("autobatch")
    found = {named.name: group_of(named) for named in names}
    wanted = {
        "softmax": "Nonlinearities",
        "sum": "Reductions",
        "attention": "Products and matrices",
        "exp": "Elementwise",
    }
    wanted |= {
        "einsum": "Products and matrices",
        "hvp": "Derivatives",
        "gather": "Shapes and indices",
        "Tensor": "Values",
    }
    assert [name for name, heading in wanted.items() if not found[name].startswith(heading)] == []
    homes = {str(getattr(inspect.unwrap(x) if callable(x) else x, "__module__", "")) for _, _, x in names}
    used = {home.removeprefix("autobatch.") for home in homes}
    places = [place for listed in groups.values() for place in listed.split()]
    assert [p for p in places if not any(f"{home}.".startswith(f"{p}.") for home in used)] == []
    assert {name for listed in others.values() for name in listed.split()} <= set(found)


def test_docstrings_become_markdown() -> None:
    doc = """Sums `x` * y, of __all__.

    x: f32[n, d], rows
    y: data

    Raises `ValueError` for *none*:

        indented <text>

    >>> 1 + 1
    2
    """
    assert markdown(inspect.cleandoc(doc)).split("\n\n") == [
        r"Sums `x` \* y, of \_\_all\_\_.",
        "- x: f32\\[n, d\\], rows\n- y: data",
        r"Raises `ValueError` for \*none\*:",
        "```text\nindented <text>\n```",
        "```pycon\n>>> 1 + 1\n2\n```",
    ]
