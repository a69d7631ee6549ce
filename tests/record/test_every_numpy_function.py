"""Every function of NumPy that dispatches records the right values and gradients, or raises and names what is near."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import overrides

import autobatch as ab
from autobatch.errors import OpTypeError
from autobatch.record import forcing
from autobatch.record.numpy_compositions import COMPOSED
from autobatch.record.numpy_functions import TABLE
from tests.nested import leaves

pytestmark = pytest.mark.usefixtures("numpy_in_float64")

Call = Callable[..., Any]

X, Y = np.array([[0.3, -1.2, 2.5], [1.1, 0.4, -0.7]]), np.array([[1.5, 0.6, -2.0], [0.9, 1.3, 0.2]])
ALONG = np.array([[0.9, -0.4, 0.7], [-1.1, 0.6, 1.3]])

FORMS: tuple[Call, ...] = (
    lambda f, x, y: f(x),
    lambda f, x, y: f(x, y),
    lambda f, x, y: f(x, 2),
    lambda f, x, y: f([x, y]),
    lambda f, x, y: f(x[0]),
    lambda f, x, y: f(x[:, :2]),
    lambda f, x, y: f(x, y, x),
    lambda f, x, y: f(x[0], y[0], 2),
    lambda f, x, y: f(x > 0, x),
    lambda f, x, y: f([x > 0], [y]),
    lambda f, x, y: f(x[None], 1),
    lambda f, x, y: f(x > 0, x > 1),
    lambda f, x, y: f("ij,kj->ik", x, y),
    lambda f, x, y: f(lambda v: v * 2.0, 0, x),
    lambda f, x, y: f(2, like=x),
    lambda f, x, y: f((2, 2), 1.0, like=x),
    lambda f, x, y: f(lambda i: i, (2,), like=x),
    lambda f, x, y: f("1 2", like=x),
)
"""Ways to call a function; the first that NumPy takes with arrays is the one."""

OWN: dict[Any, tuple[Call, ...]] = {
    **dict.fromkeys((np.matvec,), (lambda f, x, y: f(x, y[0]),)),
    **dict.fromkeys((np.vecmat,), (lambda f, x, y: f(x[0], y.T),)),
    **dict.fromkeys((np.arccosh,), (lambda f, x, y: f(x * x + 1.1),)),
    **dict.fromkeys((np.log, np.log2, np.log10, np.log1p, np.sqrt), (lambda f, x, y: f(x * x),)),
    **dict.fromkeys((np.arcsin, np.arccos, np.arctanh), (lambda f, x, y: f(x * 0.3),)),
    np.power: (lambda f, x, y: f(x * x, y), lambda f, x, y: f(x, 3)),
    np.matmul: (lambda f, x, y: f(x, y.T),),
    np.linalg.matmul: (lambda f, x, y: f(x, y.T),),
    np.outer: (lambda f, x, y: f(x, y),),
    np.linalg.outer: (lambda f, x, y: f(x[0], y[1]),),
    np.linalg.matrix_power: (lambda f, x, y: f(x.T @ y, 5), lambda f, x, y: f(x.T @ y, 2)),
    np.linalg.multi_dot: (lambda f, x, y: f([x, y.T, x]),),
    np.linalg.norm: (
        lambda f, x, y: f(x),
        lambda f, x, y: f(x, 1),
        lambda f, x, y: f(x, np.inf, keepdims=True),
        lambda f, x, y: f(x, -np.inf, axis=(1, 0)),
        lambda f, x, y: f(x, 3, axis=1),
        lambda f, x, y: f(x[0], 2, keepdims=True),
        lambda f, x, y: f(x, "fro", axis=(0, 1)),
    ),
    np.linalg.vector_norm: tuple(
        (lambda f, x, y, ord=ord: f(x, axis=1, keepdims=True, ord=ord)) for ord in (0, 1, 2, 3.5, np.inf, -np.inf)
    ),
    np.linalg.matrix_norm: (lambda f, x, y: f(x), lambda f, x, y: f(x, ord=-1, keepdims=True)),
    np.average: (
        lambda f, x, y: f(x),
        lambda f, x, y: f(x, 1, y * y),
        lambda f, x, y: f(x, axis=0, weights=[1.0, 3.0], keepdims=True),
        lambda f, x, y: f(x, weights=y * y),
    ),
    np.diff: (lambda f, x, y: f(x), lambda f, x, y: f(x, 2), lambda f, x, y: f(x, axis=0)),
    np.trapezoid: (
        lambda f, x, y: f(x),
        lambda f, x, y: f(x, y, axis=0),
        lambda f, x, y: f(x, y[0]),
        lambda f, x, y: f(x, dx=0.1, axis=0),
    ),
    np.cumulative_sum: (lambda f, x, y: f(x, axis=1), lambda f, x, y: f(x[0], include_initial=True)),
    np.tensordot: (
        lambda f, x, y: f(x, y),
        lambda f, x, y: f(x, y.T, 1),
        lambda f, x, y: f(x[None], y, ([1], [0])),
        lambda f, x, y: f(x, y, 0),
    ),
    np.inner: (lambda f, x, y: f(x, y), lambda f, x, y: f(x, 2.0)),
    np.kron: (lambda f, x, y: f(x, y), lambda f, x, y: f(x[0], y)),
    np.select: (lambda f, x, y: f([x > 1, x > 0], [y, x], 2.0),),
    np.meshgrid: (lambda f, x, y: f(x[0], y[0]), lambda f, x, y: f(x[0], y[0], [1.0], indexing="ij", sparse=True)),
    np.rot90: tuple((lambda f, x, y, k=k: f(x, k)) for k in range(-1, 4)),
    np.rollaxis: (lambda f, x, y: f(x[None], 2), lambda f, x, y: f(x[None], 1, 3)),
    np.tile: (lambda f, x, y: f(x, 2), lambda f, x, y: f(x, (2, 1, 3))),
    np.append: (lambda f, x, y: f(x, y), lambda f, x, y: f(x, y, axis=0)),
    np.array_split: (lambda f, x, y: f(x, 2, axis=1), lambda f, x, y: f(x, [1], 1)),
    np.hsplit: (lambda f, x, y: f(x, 3), lambda f, x, y: f(x[0], [1])),
    np.dsplit: (lambda f, x, y: f(x[None], 3),),
    np.vander: (lambda f, x, y: f(x[0]), lambda f, x, y: f(x[0], 2, increasing=True)),
    np.polyval: (lambda f, x, y: f(x[0], y),),
    np.cross: (lambda f, x, y: f(x, y), lambda f, x, y: f(x.T, y.T, axis=0)),
    np.isclose: (lambda f, x, y: f(x, x + 1e-7), lambda f, x, y: f(x / 0.0 * 0.0, x / 0.0 * 0.0, equal_nan=True)),
    np.astype: (lambda f, x, y: f(x, np.int64),),
    np.heaviside: (lambda f, x, y: f(x, 0.3), lambda f, x, y: f(x - x, 0.3)),
    **dict.fromkeys((np.fmod, np.around), (lambda f, x, y: f(x * 0.97, 1),)),
    **dict.fromkeys(
        (np.array, np.asarray, np.asanyarray, np.ascontiguousarray, np.asfortranarray, np.require),
        (lambda f, x, y: f([1.0], like=x),),
    ),
    **dict.fromkeys((np.save, np.savetxt, np.savez, np.savez_compressed), (lambda f, x, y: f(io.BytesIO(), x),)),
    np.frombuffer: (lambda f, x, y: f(b"12345678", like=x),),
    **dict.fromkeys((np.is_busday, np.busday_count, np.busday_offset), (lambda f, x, y: f(x, x, x),)),
    np.dot: (lambda f, x, y: f(x, y.T), lambda f, x, y: f(x, 2.0), lambda f, x, y: f(x[0], y[1])),
    **dict.fromkeys(
        (np.sort, np.argsort), (lambda f, x, y: f(x), lambda f, x, y: f(x, 0), lambda f, x, y: f(x, axis=None))
    ),
    np.median: (lambda f, x, y: f(x), lambda f, x, y: f(x, axis=0, keepdims=True)),
    np.take: (lambda f, x, y: f(x, [0, -1, 0]), lambda f, x, y: f(x, [[1, 0]], axis=1)),
    np.take_along_axis: (
        lambda f, x, y: f(x, np.array([[2, 0], [1, 1]]), 1),
        lambda f, x, y: f(x, np.array([3, 0]), None),
    ),
    np.cumprod: (lambda f, x, y: f(x), lambda f, x, y: f(x, axis=0)),
    np.cumulative_prod: (lambda f, x, y: f(x, axis=1), lambda f, x, y: f(x[0], include_initial=True)),
    np.einsum: (lambda f, x, y: f("ij,kj->ik", x, y), lambda f, x, y: f("ij,ij->j", x, y, optimize=True)),
    np.trace: (lambda f, x, y: f(x), lambda f, x, y: f(x[None]), lambda f, x, y: f(x[None], -1, 2, 1)),
    np.diagonal: (lambda f, x, y: f(x), lambda f, x, y: f(x[None], -1, 2, 1)),
    np.diag: (
        lambda f, x, y: f(x, 1),
        lambda f, x, y: f(x[0]),
        lambda f, x, y: f(x[0], -2),
        lambda f, x, y: f(x[0], 1),
    ),
    np.linalg.cholesky: (lambda f, x, y: f(x @ x.T + np.eye(2)), lambda f, x, y: f(x @ x.T, upper=True)),
    **dict.fromkeys((np.linalg.det, np.linalg.slogdet, np.linalg.inv), (lambda f, x, y: f(x @ y.T),)),
    np.linalg.solve: (lambda f, x, y: f(x @ y.T, y), lambda f, x, y: f(x @ y.T, y[:, 0])),
    np.linalg.eigh: (lambda f, x, y: f(x @ y.T)[0], lambda f, x, y: f(x @ y.T, "U")[0]),
    np.linalg.eigvalsh: (lambda f, x, y: f(x @ y.T),),
    np.linalg.svd: (lambda f, x, y: f(x, full_matrices=False)[1], lambda f, x, y: f(x, compute_uv=False)),
    np.linalg.qr: (lambda f, x, y: f(x, mode="r"), lambda f, x, y: f(x.T)[1]),
    np.unstack: (lambda f, x, y: f(x), lambda f, x, y: f(x, axis=1)),
    **{
        fn: (lambda f, x, y: f(np.where(x > 1, np.nan, x)), lambda f, x, y: f(np.where(x > 1, np.nan, x), axis=1))
        for fn in (np.nansum, np.nanprod, np.nanmax, np.nanmin, np.nanmean)
    },
}

OF_TYPES = {
    np.shape, np.ndim, np.size, np.allclose, np.array_equal, np.result_type, np.common_type, np.iscomplexobj,
    np.isrealobj,
}  # fmt: skip
"""Functions whose results are no values: of shapes and types, and two that are Python's True or False."""


def forms_of(function: Any) -> list[Call]:
    """Calls that NumPy takes with arrays."""
    if function in OWN:
        return list(OWN[function])
    for form in FORMS:
        try:
            with np.errstate(all="ignore"):
                form(function, X.copy(), Y.copy())
        except Exception:
            continue
        return [form]
    return []


def in_numpy(form: Call, function: Any, x: Any) -> list[Any]:
    with np.errstate(all="ignore"):
        return leaves(form(function, x, Y))


def check(form: Call, function: Any) -> None:
    """Values and gradients of a call."""
    wanted = in_numpy(form, function, X)
    if function in OF_TYPES:
        assert leaves(form(function, ab.tensor(X) * 1.0, ab.tensor(Y))) == wanted
        return
    weights = [np.linspace(0.5, 1.5, np.size(w)).reshape(np.shape(w)) for w in wanted]
    with np.errstate(all="ignore"):
        got = leaves(form(function, ab.tensor(X) * 1.0, ab.tensor(Y)))
    assert len(got) == len(wanted)
    for g, w in zip(got, wanted, strict=True):
        assert isinstance(g, ab.Tensor), type(g)
        assert (g.shape, g.dtype) == (np.shape(w), np.asarray(w).dtype), (g, w)
        np.testing.assert_allclose(g.numpy(), w, rtol=1e-12, atol=1e-12)
    floating = [k for k, w in enumerate(wanted) if np.asarray(w).dtype.kind == "f"]
    if not floating:
        return

    def total(x: Any) -> Any:
        parts = leaves(form(function, x, ab.tensor(Y)))
        return ab.sum([(parts[k] * weights[k]).sum() for k in floating])

    def plain(x: Any) -> float:
        parts = in_numpy(form, function, x)
        return sum(float(np.sum(parts[k] * weights[k])) for k in floating)

    h = 1e-6
    expected = (plain(X + h * ALONG) - plain(X - h * ALONG)) / (2 * h)
    np.testing.assert_allclose((ab.grad(total)(X).numpy() * ALONG).sum(), expected, rtol=1e-5, atol=1e-7)


def names_what_is_near(function: Any, form: Call) -> None:
    """It raises before anything is computed."""
    with pytest.raises(OpTypeError) as caught:
        form(function, ab.tensor(X) * 1.0, ab.tensor(Y) * 1.0)
    assert function.__name__ in str(caught.value)
    assert "the nearest that are" in str(caught.value), caught.value


def by_protocol(function: Any, x: Any, y: Any) -> Any:
    """A call of what takes other arguments than arrays, as NumPy dispatches it."""
    if isinstance(function, np.ufunc):
        return x.__array_ufunc__(function, "__call__", x, y)
    return x.__array_function__(function, (ab.Tensor,), (x, y), {})


def dispatching() -> list[Any]:
    names = {f: f"{f.__module__}.{f.__name__}" for f in overrides.get_overridable_numpy_array_functions()}
    ufuncs = [f for f in overrides.get_overridable_numpy_ufuncs() if getattr(np, f.__name__, None) is f]
    others = ("recfunctions", "strings", "char")  # of records and text
    return [*ufuncs, *(f for f, name in names.items() if not any(word in name.split(".") for word in others))]


@pytest.mark.unchecked
def test_every_function_records_or_raises(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    forced = 0
    compute = forcing.engine.compute

    def note(*args: Any) -> Any:
        nonlocal forced
        forced += 1
        return compute(*args)

    wrong = []
    functions = dispatching()
    for function in functions:
        forms = forms_of(function)
        try:
            if function in COMPOSED or (function in TABLE and function in OWN):
                for form in forms:
                    check(form, function)
            elif function not in TABLE:
                with monkeypatch.context() as patch:
                    patch.setattr(forcing.engine, "compute", note)
                    for form in forms or [by_protocol]:
                        names_what_is_near(function, form)
        except (Exception, pytest.fail.Exception) as error:
            wrong.append(f"{function.__module__}.{function.__name__}: {type(error).__name__} {str(error)[:300]}")
    assert not wrong, "\n\n".join(wrong)
    assert not forced
    assert not list(tmp_path.iterdir())
    assert set(TABLE) <= {*functions, np.amax, np.amin, np.divmod}
