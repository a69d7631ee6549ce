"""Under `no_grad` no result has a gradient: also where an op gives its operand as it is."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch.record.numpy_functions import TABLE

Call = Callable[[Any], Any]

START = np.array([1.0, 2.0])
ARGUMENTS: tuple[tuple[Any, ...], ...] = ((), (0,), (1,), ((2,),))
MORE: dict[str, Call] = {
    "x.T": lambda x: x.T,
    "x[...]": lambda x: x[...],
    "x[:]": lambda x: x[:],
    "x[0:2]": lambda x: x[0:2],
    "x[None, :][0]": lambda x: x[None][0],
    "astype": lambda x: x.astype(x.dtype),
    "no axes": lambda x: ab.sum(x, axis=()),
    "mean of no axes": lambda x: x.mean(axis=()),
    "dropout in eval mode": lambda x: ab.dropout(x, 0.5, training=False),
    "nn.Dropout": ab.nn.Dropout().eval(),
    "roll of all": lambda x: ab.roll(x, 2, 0),
    "a part of a stack": lambda x: ab.stack([x])[0],
    "several": lambda x: ab.reshape(ab.concat([x[:], x[2:]]), (2,)),
    "a cell that returns what it takes": ab.cell(lambda x: x[:]),
}


def public() -> Iterator[tuple[str, Callable[..., Any]]]:
    """All public functions that give values, and NumPy's."""
    for name in ab.__all__:
        fn = getattr(ab, name)
        if not inspect.isclass(fn) and "Tensor" in str(getattr(fn, "__annotations__", {}).get("return", "")):
            yield f"ab.{name}", fn
    for name in dir(ab.Tensor):
        method = inspect.getattr_static(ab.Tensor, name)
        if isinstance(method, property):
            yield f"Tensor.{name}", method.__get__
        elif "Tensor" in str(getattr(method, "__annotations__", {}).get("return", "")):
            yield f"Tensor.{name}", lambda x, *args, name=name: getattr(x, name)(*args)
    for fn in TABLE:
        yield f"np.{fn.__name__}", fn


def same(y: Any, x: Any) -> bool:
    return y is x or (isinstance(y, list | tuple) and len(y) == 1 and y[0] is x)


@cache
def calls() -> dict[str, Call]:
    """The calls that give a vector as it is."""
    found = dict(MORE)
    x = ab.Parameter(START) * 3.0  # some functions need the numbers, and those of a shared value cost little
    for name, fn in public():
        for is_list in (False, True):
            for args in ARGUMENTS[: 1 if is_list else None]:
                try:
                    with np.errstate(all="ignore"), warnings.catch_warnings():
                        warnings.simplefilter("ignore", DeprecationWarning)  # numpy.fix, in later versions
                        y = fn([x] if is_list else x, *args)
                except (TypeError, ValueError, AttributeError, IndexError):
                    continue
                if same(y, x):
                    found[f"{name}({'[x]' if is_list else 'x'}, {args})"] = lambda x, fn=fn, args=args, a=is_list: fn(
                        [x] if a else x, *args
                    )
    return found


@pytest.fixture(autouse=True)
def plain() -> Iterator[None]:
    ab.set_default_dtype("float64")
    with ab.backend("numpy"):
        yield


def total(values: list[Any], weights: Sequence[Any]) -> Any:
    ys = [y[0] if isinstance(y, list | tuple) else y for y in values]
    return ab.sum([(y * w).sum() for y, w in zip(ys, weights, strict=True)])


def constant(x: Any) -> list[Any]:
    with ab.no_grad():
        return [fn(x) for fn in calls().values()]


def test_what_gives_its_operand_as_it_is_is_found() -> None:
    assert {name.split("(")[0] for name in calls()} >= {
        *("ab.clip", "ab.concat", "ab.max", "ab.pad", "ab.power", "ab.prod", "ab.reshape", "ab.roll", "ab.split"),
        *("ab.squeeze", "ab.sum", "ab.tensor", "ab.transpose", "ab.dropout", "Tensor.__pos__"),
        *("Tensor.__pow__", "Tensor.reshape", "np.copy", "np.positive", "np.ravel", "np.hstack"),
    }


KINDS: dict[str, Callable[[Any], Any]] = {
    "parameter": lambda w: w,
    "expression": lambda w: w * 3.0,
    "value": lambda w: ab.tensor([3.0, 3.0]) * w,
    "row": lambda w: ab.tensor([[3.0, 3.0]]) * w,
}


@pytest.mark.parametrize("place", ["map", "loop", "outside", "forced before", "cell"])
@pytest.mark.parametrize("kind", KINDS)
def test_no_gradient_flows_through_a_result_that_is_the_operand(kind: str, place: str) -> None:
    weights = tuple(ab.Parameter(START) for _ in calls())

    def example(_: int) -> Any:
        ys = []
        for w, fn in zip(weights, calls().values(), strict=True):
            x = KINDS[kind](w)
            if place == "forced before":
                x.numpy()
            x = x[0] if kind == "row" else x
            with ab.no_grad():
                y = fn(x)
            assert (y[0] if isinstance(y, list) else y) is not x
            ys.append(y)
        return total(ys, weights)

    if place in ("map", "loop"):
        loss = ab.sum(ab.map(example, [0], batched=place == "map"))
    else:
        loss = (ab.cell(example) if place == "cell" else example)(0)
    loss.backward()
    for name, w in zip(calls(), weights, strict=True):
        np.testing.assert_allclose(w.grad, START * (1.0 if kind == "parameter" else 3.0), err_msg=name)


def test_derivatives_by_what_went_through_no_grad_are_0() -> None:
    def fn(x: Any) -> Any:
        ys = constant(x)
        return total(ys, [1.0] * len(ys)) + (x * 0.0).sum()

    w = ab.Parameter(START)
    for x in (ab.tensor(START), w, w * 2.0):
        np.testing.assert_array_equal(ab.grad(fn)(x).numpy(), [0.0, 0.0])


def test_no_result_of_any_function_of_a_parameter_has_a_gradient() -> None:
    w = ab.Parameter(START)
    with ab.no_grad():
        for name, fn in public():
            for args in ARGUMENTS:
                try:
                    y = fn(w, *args)
                except (TypeError, ValueError, AttributeError, IndexError):
                    continue
                for part in y if isinstance(y, list | tuple) else [y]:
                    assert not (isinstance(part, ab.Tensor) and part._carries_gradient()), (name, args)


def test_what_was_recorded_inside_is_given_as_it_is() -> None:
    """It is constant already: nothing is recorded twice."""
    w = ab.Parameter(START)
    with ab.no_grad():
        x = ab.tensor([3.0, 3.0]) * w
        integers = ab.tensor([1, 2])
        for name, fn in calls().items():
            if "cell" not in name and "stack" not in name and "several" not in name and "None" not in name:
                assert same(fn(x), x), name
        assert +integers is integers
    with ab.no_grad():
        assert +x is not x
