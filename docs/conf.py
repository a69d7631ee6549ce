"""Sphinx: pages are Markdown, those with code cells are run, and the reference is written from the docstrings."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")])

import reference  # noqa: E402

project = "autobatch"
copyright = "the autobatch authors"
extensions = ["myst_nb"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "autobatch"
html_static_path = ["_static"]
html_css_files = ["site.css"]
myst_heading_anchors = 4
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 120
nb_merge_streams = True
suppress_warnings = ["myst-nb.lexer"]  # of cells that were not run


def setup(app: Any) -> None:
    """Write the pages of the reference before the others are read."""
    app.connect("builder-inited", lambda app: reference.write(HERE / "reference"))
