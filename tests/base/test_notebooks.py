"""What notebooks show, and how lines of their cells are named."""

from __future__ import annotations

import sys
import types
from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch.base.notebooks import array_table


def run_cell(shell: Any, number: int, code: str, scope: dict[str, Any]) -> None:
    """As ipykernel does: the file of a cell is named by a hash of its text."""
    file = f"/tmp/ipykernel_7/{hash(code) & 0xFFFF}.py"
    shell.names[file] = f"In[{number}]"
    exec(compile(code, file, "exec"), scope)


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch) -> Any:
    """IPython's part that names cells."""
    names: dict[str, str] = {}
    compiler = types.SimpleNamespace(
        format_code_name=lambda file: ("Cell", names[file]) if file in names else None, names=names
    )
    module: Any = types.ModuleType("IPython")
    module.get_ipython = lambda: types.SimpleNamespace(compile=compiler)
    monkeypatch.setitem(sys.modules, "IPython", module)
    return compiler


def test_lines_of_cells_are_named_by_their_number(shell: Any) -> None:
    scope: dict[str, Any] = {"ab": ab}
    run_cell(shell, 5, "\n\nx = ab.tanh(ab.tensor([1.0]))", scope)
    assert "recorded at In [5]:3 in <module>" in repr(scope["x"])
    with pytest.raises(ab.errors.OpTypeError, match=r"recorded at In \[6\]:1 in <module>"):
        run_cell(shell, 6, "x @ ab.ones(3)", scope)


def test_cells_that_are_run_again_are_traced_again_where_they_changed(shell: Any) -> None:
    scope: dict[str, Any] = {"ab": ab}
    code = "@ab.cell\ndef double(x):\n    return x * factor\ny = float(double(ab.tensor(1.0)))"
    for number, factor in enumerate((2.0, 2.0, 3.0)):
        scope["factor"] = factor
        run_cell(shell, number, code, scope)
        assert scope["y"] == factor
    run_cell(shell, 9, code.replace("* factor", "+ factor"), scope)
    assert scope["y"] == 4.0


def test_tensors_modules_and_parameters_show_themselves_and_run_nothing() -> None:
    with ab.profile() as profile:
        x: Any = ab.tanh(ab.tensor([[0.0, 0.0]]))
        assert "pending" in x._repr_html_() and "f32[1, 2]" in x._repr_html_()
        assert profile.launches == 0
    ab.evaluate(x)
    assert x._repr_html_().count("<td") == 2
    page = ab.nn.Linear(2, 3)._repr_html_()
    assert "weight" in page and "9 numbers are trained" in page
    assert ab.Parameter([1.0, 2.0])._repr_html_().count("<td") == 2


def test_large_arrays_are_cut_and_others_are_text() -> None:
    assert array_table(np.zeros((100, 100))).count("<tr>") == 9
    assert array_table(np.zeros((2, 2, 2))).startswith("<pre>")
    assert "<pre>" in array_table(np.float32(1.0).reshape(()))
