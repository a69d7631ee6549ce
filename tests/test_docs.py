"""The documents: the tour runs, and what the page on the architecture names is there."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from autobatch.explain.explain import STAGES

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PACKAGE = ROOT / "autobatch"


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


@pytest.mark.parametrize(
    "page",
    ["README.md", "docs/architecture.md", "docs/cuda.md", "docs/tutorials/own-data.md", "docs/tutorials/overview.md"],
)
def test_links_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
        assert ((ROOT / page).parent / target).exists(), f"{page} links to {target}"
