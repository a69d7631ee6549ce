"""What bad input gets: the operation, what was expected, what came, this file's line, and the repair."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch import nn, optim
from autobatch.errors import CellError, OpIndexError, OpTypeError, RecordingError
from tests.requested import host, of_the_host


def vector(*numbers: float) -> Any:
    return ab.tensor(np.array(numbers, float))


def run_in_thread(action: Callable[[], Any]) -> Any:
    """The result of `action` in another thread; its exception is raised here."""
    results: list[Any] = []
    errors: list[BaseException] = []

    def target() -> None:
        try:
            results.append(action())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=target)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def line_here() -> int:
    """The caller's line."""
    return sys._getframe(1).f_lineno


def raised_at(error: type[Exception], action: Callable[[], Any]) -> str:
    """The message of what `action`, a function of one line, raises; it names that line of this file."""
    with pytest.raises(error) as caught:
        action()
    message = str(caught.value)
    code = action.__code__
    assert f"recorded at test_errors.py:{code.co_firstlineno} in {code.co_name}" in message, message
    return message


# Shapes, dtypes, ranks.


@pytest.mark.parametrize(
    ("action", "parts"),
    [
        (lambda: vector(1, 2) + vector(1, 2, 3), ["f32[2]", "f32[3]"]),
        (
            lambda: ab.ones((2, 3)) @ vector(1, 2),
            ["matmul: inner sizes differ", "expected f", "f32[2, 3] @ f32[2]", "repair: "],
        ),
        (lambda: vector(1, 2) @ 3.0, ["matmul", "rank 0"]),
        (lambda: vector(1, 2).reshape(3), ["reshape", "f32[2]"]),
        (lambda: ab.concat([vector(1), ab.ones((1, 1))]), ["concat"]),
        (lambda: ab.stack([vector(1), vector(1, 2)]), ["stack"]),
        (lambda: ab.sum([vector(1), vector(1, 2)]), ["sum", "f32[1]", "f32[2]"]),
        (lambda: ab.split(vector(1, 2, 3), 2), ["split: axis 0 does not"]),
        (lambda: ab.softmax(ab.tensor(1.0)), ["softmax"]),
        (lambda: ab.where(vector(1, 2), 1.0, 2.0), ["where", "bool[...], got f32[2]\n"]),
        (lambda: ab.where(1, vector(1, 2), 2.0), ["where", "bool[...], got i64[]\n"]),
        (lambda: ab.cross_entropy(ab.ones((2, 2)), 0), ["cross_entropy"]),
        (lambda: vector(1, 2) + "text", ["add", "str"]),
        (lambda: vector(1, 2)[0.5], ["index", "0.5"]),
        (lambda: vector(1, 2).sum(axis=1), ["sum", "1"]),
        (lambda: ab.ones((2, 2)).prod(axis=(0, -2)), ["prod: an axis is named twice", "got (0, -2)"]),
        (lambda: ab.tensor("text"), ["tensor"]),
        (lambda: ab.tensor(np.zeros(2, np.complex64)), ["complex64"]),
        (lambda: ab.dropout(vector(1.0), 1.5), ["dropout", "1.5"]),
        (lambda: ab.dropout(vector(1.0), "text"), ["dropout: the probability is not a number", "got 'text'"]),
        (lambda: ab.norm(vector(1, 2), "fro"), ["norm: ord is not a number", "got 'fro'"]),
        (lambda: ab.std(vector(1, 2), correction="a"), ["var: correction is not a number", "got 'a'"]),
        (lambda: ab.cross_entropy(vector(1, 2), 0, label_smoothing="a"), ["label_smoothing is not a number"]),
        (lambda: vector(1, 2) - [[1, 2], [3]], ["nested lists", "one length", "[[1, 2], [3]]"]),
        (lambda: vector(1, 2).astype(float) * [[1, 2], [3]], ["nested lists", "one length"]),
        (lambda: ab.seed("text"), ["seed", "text"]),
        (lambda: ab.sum([]), ["sum", "empty", "shape= or like="]),
        (lambda: ab.prod(vector(1, 2), axis=0, shape=(9,)), ["prod", "shape= and like= are for lists"]),
        (lambda: ab.sum([vector(1, 2)], shape=3), ["sum", "another shape", "expected (3,), got (2,)"]),
        (lambda: ab.sum([vector(1, 2), vector(1, 2)], like=vector(1)), ["sum", "another shape", "got (2,)"]),
        (lambda: ab.mean([]), ["mean", "empty"]),
        (lambda: ab.max([]), ["max", "empty"]),
        (lambda: ab.stack([]), ["stack", "empty"]),
        (lambda: ab.max(ab.zeros((0,))), ["max: axis 0 is empty"]),
        (lambda: nn.Linear(3, 2)(vector(1, 2)), ["matmul: inner sizes differ", "f32[2] @ f32[3, 2]"]),
        (lambda: ab.Parameter(np.array([1, 2])), ["Parameter", "int64"]),
    ],
)
def test_types_are_checked_at_the_line_that_records(action: Callable[[], Any], parts: list[str]) -> None:
    message = raised_at(OpTypeError, action)
    for part in parts:
        assert part in message, message


@pytest.mark.parametrize(
    "action",
    [
        lambda: vector(1, 2)[2],
        lambda: vector(1, 2)[-3],
        lambda: ab.ones((2, 2))[2],
        lambda: (ab.ones((2, 2)) * vector(1, 2))[2],
        lambda: vector(1, 2)[0, 0],
        lambda: nn.Embedding(3, 2)[3],
        lambda: ab.cross_entropy(vector(1, 2), 2),
    ],
)
def test_an_index_out_of_range_is_found_at_the_line_that_records(action: Callable[[], Any]) -> None:
    assert "2" in raised_at(OpIndexError, action) or "3" in raised_at(OpIndexError, action)


def test_an_index_that_is_computed_is_checked_when_it_runs() -> None:
    index = ab.tensor(np.array([1, 5])) + 1
    rows = ab.ones((3, 2))[index]
    with pytest.raises(OpIndexError, match=r"index 6 is out of range for an axis of 3[\s\S]*test_errors\.py"):
        rows.numpy()


def test_the_format_of_an_error() -> None:
    with pytest.raises(OpTypeError) as caught:
        ab.ones((7, 64)) @ vector(*range(32))
    assert str(caught.value).splitlines() == [
        "matmul: inner sizes differ",
        "  expected f[n, m] @ f[m], got f32[7, 64] @ f32[32]",
        f"  recorded at test_errors.py:{line_here() - 4} in test_the_format_of_an_error",
        "  repair: pass w.T, or check the width of the input",
    ]


def test_an_error_in_a_cell_names_the_line_in_the_cell() -> None:
    line = line_here() + 4

    @ab.cell
    def faulty(x: Any) -> Any:
        return x + ab.ones(5)

    with pytest.raises(OpTypeError, match="f32") as caught:
        faulty(vector(1, 2))
    assert f"test_errors.py:{line} in faulty" in str(caught.value)
    assert ab.tanh(vector(0)).numpy() == [0]  # nothing of the trace is left over


def test_an_index_passed_to_a_cell_is_checked_on_every_call() -> None:
    table = ab.Parameter(np.ones((3, 2)))

    @ab.cell
    def look(index: int) -> Any:
        return table[index] * 2.0

    for _ in range(3):
        assert look(-3).shape == (2,)
        with pytest.raises(OpIndexError, match=rf"index 3 is out of range[\s\S]*test_errors.py:{line_here() + 1}"):
            look(3)


# Cells.


def test_a_value_forced_in_a_cell() -> None:
    @ab.cell
    def decide(x: Any) -> Any:
        return x if x.sum() > 0 else -x

    @ab.cell
    def number(x: Any) -> Any:
        return x * float(x.sum())

    @ab.cell
    def array(x: Any) -> Any:
        return x * x.numpy()

    for cell in (decide, number, array):
        with pytest.raises(CellError, match=r"forced inside a cell[\s\S]*test_errors.py") as caught:
            cell(vector(1, 2))
        assert "repair: " in str(caught.value)


def test_a_tensor_from_outside_used_in_a_cell() -> None:
    outside = vector(1.0, 2.0) * 2

    @ab.cell
    def read() -> Any:
        return ab.ones(2) * _kept[0]

    _kept[:] = [outside]
    outside.numpy()
    with pytest.raises(OpTypeError, match=r"neither argument nor closure[\s\S]*pass it as an argument"):
        read()


_kept: list[Any] = []


@pytest.mark.parametrize("use", ["range", "if", "while", "list", "shape", "slice", "axis"])
def test_a_number_used_as_structure_names_static(use: str) -> None:
    table = [1.0, 2.0, 3.0]
    uses: dict[str, Callable[[Any, Any], Any]] = {
        "range": lambda x, k: ab.sum([x for _ in range(k)]),
        "if": lambda x, k: x if k else -x,
        "while": lambda x, k: x if k > 0 else -x,
        "list": lambda x, k: x * table[k],
        "shape": lambda x, k: x.reshape((k, 1)),
        "slice": lambda x, k: x[:k],
        "axis": lambda x, k: ab.stack([x, x]).sum(axis=k),
    }

    def body(x: Any, k: int) -> Any:
        return _use[0](x, k)

    _use[:] = [uses[use]]
    with pytest.raises((CellError, OpTypeError), match=r"static=[\s\S]*") as caught:
        ab.cell(body)(vector(1, 2), 1)
    assert "test_errors.py" in str(caught.value)
    k = 2 if use == "shape" else 1
    made = ab.cell(static=("k",))(body)(vector(1, 2), k)
    np.testing.assert_array_equal(made.numpy(), body(vector(1, 2), k).numpy())


_use: list[Callable[[Any, Any], Any]] = []


def test_a_static_name_that_is_no_argument() -> None:
    with pytest.raises(TypeError, match="static"):
        ab.cell(static=("n",))(lambda x: x)


def test_a_tensor_from_outside_forced_in_a_cell() -> None:
    @ab.cell
    def read() -> Any:
        return ab.ones(2) * float(_kept[0])

    _kept[:] = [vector(1.0, 2.0).sum()]
    with pytest.raises(CellError, match=r"forced inside a cell[\s\S]*test_errors.py"):
        read()


def test_a_tensor_that_reaches_a_cell_by_a_global() -> None:
    @ab.cell
    def use(x: Any) -> Any:
        return x + _kept[0]

    _kept[:] = [vector(1.0, 2.0)]
    with pytest.raises(OpTypeError, match=r"neither argument nor closure[\s\S]*pass it as an argument"):
        use(vector(1, 2))


def test_what_is_not_possible_in_a_cell() -> None:
    weight = ab.Parameter(np.ones(2))

    @ab.cell
    def inner_map(x: Any) -> Any:
        return ab.sum(ab.map(ab.tanh, [x]))

    @ab.cell
    def inner_backward(x: Any) -> Any:
        weight.sum().backward()
        return x

    @ab.cell
    def inner_rng(x: Any) -> Any:
        return x * float(ab.rng().normal())

    for cell in (inner_map, inner_rng, inner_backward):
        with pytest.raises((CellError, RecordingError), match="cell"):
            cell(vector(1, 2))
    assert weight.grad is None


# backward.


def test_backward_of_what_is_no_floating_scalar() -> None:
    weight = ab.Parameter(np.ones(2))
    y = weight * vector(1, 2)
    assert "repair: reduce it" in raised_at(OpTypeError, lambda: y.backward())
    assert "f32[2]" in raised_at(OpTypeError, lambda: (weight * 2.0).backward())
    raised_at(OpTypeError, lambda: ab.tensor(1).backward())
    assert weight.grad is None
    y.sum().backward()
    np.testing.assert_array_equal(host(weight.grad), [1, 2])


def test_a_second_backward_needs_retain() -> None:
    weight = ab.Parameter(np.ones(2))
    loss = (weight * vector(1, 2)).sum()
    loss.backward()
    assert "retain=True" in raised_at(RecordingError, lambda: loss.backward())
    np.testing.assert_array_equal(host(weight.grad), [1, 2])


@pytest.mark.parametrize("batched", [True, False])
def test_retain_adds(batched: bool) -> None:
    weight = ab.Parameter(np.ones(2))
    losses = ab.map(lambda x: (weight * vector(x, 2)).sum(), [1, 3], batched=batched)
    loss = ab.sum(losses)
    loss.backward(retain=True)
    np.testing.assert_array_equal(host(weight.grad), [4, 4])
    loss.backward(retain=True)
    np.testing.assert_array_equal(host(weight.grad), [8, 8])
    losses[0].backward()
    np.testing.assert_array_equal(host(weight.grad), [9, 10])
    with pytest.raises(RecordingError, match="retain"):
        loss.backward()


def test_backward_inside_map() -> None:
    weight = ab.Parameter(np.ones(2))

    def fn(x: float) -> Any:
        loss = (weight * vector(x, 2)).sum()
        loss.backward()
        return loss

    for batched in (True, False):
        with pytest.raises(RecordingError, match=r"ab\.map[\s\S]*test_errors.py[\s\S]*ab\.grad"):
            ab.map(fn, [1.0, 2.0], batched=batched)
    assert weight.grad is None
    with pytest.raises(RecordingError, match=r"ab\.map"):
        ab.map(lambda _: (weight * weight).sum().backward(), [1])
    (weight * vector(1, 2)).sum().backward()  # outside again
    np.testing.assert_array_equal(host(weight.grad), [1, 2])


# Parameters that change.


def test_a_retained_recording_meets_a_step() -> None:
    weight = ab.Parameter(np.ones(2))
    optimizer = optim.SGD([weight], 0.1)
    loss = (weight * weight * vector(1, 2)).sum()
    loss.backward(retain=True)
    optimizer.step()
    before = host(weight.grad).copy()
    assert "record again" in raised_at(RecordingError, lambda: loss.backward())
    np.testing.assert_array_equal(host(weight.grad), before)


def test_another_thread_changes_a_parameter() -> None:
    weight = ab.Parameter(np.ones(2))
    y = weight * vector(1, 2)
    run_in_thread(lambda: setattr(weight, "value", np.zeros(2)))
    with pytest.raises(RecordingError, match="changed"):
        y.numpy()
    np.testing.assert_array_equal((weight * vector(1, 2)).numpy(), [0, 0])


def test_another_thread_changes_a_buffer() -> None:
    buffer = nn.Buffer(np.ones(2))
    y = buffer * vector(1, 2)
    run_in_thread(lambda: setattr(buffer, "value", np.zeros(2)))
    with pytest.raises(RecordingError, match="changed"):
        y.numpy()


def test_a_recording_that_is_still_empty_minds_no_change() -> None:
    weight = ab.Parameter(np.ones(2))
    with pytest.raises(OpTypeError):
        ab.stack([1.0, "text"])
    with pytest.raises(OpTypeError):
        ab.cell(lambda x: x)(object())
    weight.value = np.zeros(2)
    np.testing.assert_array_equal((weight * vector(1, 2)).numpy(), [0, 0])


# Threads.


def test_tensors_of_two_threads_meet() -> None:
    mine = vector(1, 2)

    def elsewhere() -> Any:
        other = vector(3, 4)
        return raised_at(RecordingError, lambda: mine + other), raised_at(RecordingError, lambda: other + mine)

    for message in run_in_thread(elsewhere):
        assert "another thread" in message
        assert ".detach()" in message
    np.testing.assert_array_equal((mine + 1).numpy(), [2, 3])


def test_a_pending_tensor_of_another_thread_cannot_be_forced() -> None:
    mine = vector(1, 2)
    with pytest.raises(RecordingError, match="thread"):
        run_in_thread(lambda: mine.numpy())
    np.testing.assert_array_equal(mine.numpy(), [1, 2])


def test_a_forced_tensor_of_another_thread_is_no_silent_constant() -> None:
    weight = ab.Parameter(np.ones(2))
    mine = weight * vector(1, 2)
    constant = mine.detach()
    mine.numpy()
    with pytest.raises(RecordingError, match=r"another thread[\s\S]*\.detach\(\)"):
        run_in_thread(lambda: mine + 1)
    np.testing.assert_array_equal(run_in_thread(lambda: (constant + 1).numpy()), [2, 3])


# ab.map and lists.


def test_sequences_of_unequal_length() -> None:
    calls: list[Any] = []
    assert "2, 3" in raised_at(OpTypeError, lambda: ab.map(lambda x, y: calls.append((x, y)), [1, 2], [1, 2, 3]))
    assert not calls
    assert ab.map(lambda x: x, []) == []
    assert ab.map(lambda x, y: x, [], []) == []
    raised_at(OpTypeError, lambda: ab.map(lambda: None))


def test_an_empty_sum_takes_a_shape() -> None:
    np.testing.assert_array_equal(ab.sum([], shape=(2,)).numpy(), [0, 0])
    np.testing.assert_array_equal(ab.sum([], like=vector(1, 2)).numpy(), [0, 0])
    assert ab.sum([], like=ab.tensor(np.zeros(2), np.float64)).dtype == np.float64
    np.testing.assert_array_equal(ab.sum([vector(1, 2)], like=vector(1, 2)).numpy(), [1, 2])
    assert ab.sum([ab.ones(2), ab.ones(2)], shape=2).shape == (2,)
    assert ab.sum([ab.ones(())] * 2, shape=()).shape == ()


def test_a_mixed_list_is_refused() -> None:
    cell = ab.cell(lambda xs: ab.sum(xs))
    assert "differ" in raised_at(OpTypeError, lambda: cell([vector(1), vector(1, 2)]))
    raised_at(OpTypeError, lambda: cell([vector(1), "text"]))
    raised_at(OpTypeError, lambda: cell([(vector(1), vector(2)), (vector(1),)]))


# Arrays are copied when they are handed over.


def test_inputs_may_change_after_recording() -> None:
    x, y, z, i, c = (np.array([1.0, 2.0], np.float32) for _ in range(5))
    numbers = np.array([1, 0])
    table = np.arange(6, dtype=np.float32).reshape(3, 2)
    names = [1.0, 2.0]

    @ab.cell
    def cell(a: Any, b: Any, more: Any) -> Any:
        return a + b["key"] + ab.sum(more)

    caught = np.array([1.0, 2.0], np.float32)

    @ab.cell
    def closed(a: Any) -> Any:
        return a * caught

    constant = ab.constant(c)
    parameter = ab.Parameter(z)
    buffer = nn.Buffer(z)

    def record() -> list[Any]:
        return [
            ab.tensor(x) * 2,
            ab.ones(2) + x,
            vector(1, 2) * y,
            constant * vector(1, 2),
            parameter * vector(1, 2),
            buffer + vector(1, 2),
            cell(x, {"key": y}, [x, y]),
            closed(vector(1, 2)),
            ab.tensor(table)[numbers],
            ab.constant(table)[numbers],
            ab.stack([x, vector(3, 4)]),
            ab.concat([x, y]),
            ab.where(ab.tensor(numbers) == 1, x, y),
            ab.tensor(names) + names,
            ab.sum([x, y]),
            ab.tensor(x, np.float64),
            ab.matmul(table, x),
        ]

    expected = [np.array(t.numpy()) for t in record()]
    pending = record()
    for array in (x, y, z, i, c, table, caught):
        array[:] = -7.0
    numbers[:] = 2
    names[:] = [9.0, 9.0]
    for t, want in zip(pending, expected, strict=True):
        np.testing.assert_array_equal(t.numpy(), want)


def test_results_are_copies() -> None:
    t = vector(1, 2) * 2
    t.numpy()[:] = 0
    np.asarray(t)[:] = 0
    np.testing.assert_array_equal(t.numpy(), [2, 4])


@of_the_host("a device array is not read-only")
def test_the_numbers_of_a_parameter_are_not_written_to() -> None:
    with pytest.raises(ValueError, match="read-only"):
        ab.Parameter(np.ones(2)).value[0] = 2


# Recursion.


def test_a_recursion_that_is_too_deep_names_the_limit_and_the_way_out() -> None:
    def chain(n: int) -> Any:
        return ab.tensor(1.0) if n == 0 else ab.tanh(chain(n - 1))

    assert len(ab.map(chain, [20, 30])) == 2
    with pytest.raises(RecursionError) as caught:
        ab.map(lambda ns: ab.map(chain, ns), [[3], [20, 10**6]])
    example, way_out, outer = caught.value.__notes__
    assert (example, outer) == ("in example 1 of ab.map", "in example 1 of ab.map")
    assert f"limit is {sys.getrecursionlimit():,}" in way_out and "calls deep" in way_out
    assert "sys.setrecursionlimit" in way_out
    assert "loop" in way_out


# Values forced inside a cell.


@pytest.mark.parametrize(
    "force",
    [
        lambda x, w: float(x[0]),
        lambda x, w: 1.0 if x.sum() > 0 else 2.0,
        lambda x, w: ab.evaluate(x),
        lambda x, w: float(w[0]),
        lambda x, w: 1.0 if w.sum() > 0 else 2.0,
        lambda x, w: w.numpy(),
        lambda x, w: host(w.value),
        lambda x, w: ab.evaluate(w * 2.0),
        lambda x, w: float((w * 2.0).sum()),
        lambda x, w: setattr(w, "value", np.zeros(2)),
    ],
)
def test_a_value_forced_inside_a_cell_raises(force: Callable[[Any, Any], Any]) -> None:
    """Also one of parameters alone, which would be what it was at the time of the trace ever after."""
    w = ab.Parameter([1.0, 2.0])
    model = SimpleNamespace(w=w)

    @ab.cell
    def scaled(x: Any) -> Any:
        return x * force(x, model.w)

    with pytest.raises(CellError, match=r"forced inside a cell[\s\S]*test_errors.py:\d+ in[\s\S]*repair:"):
        scaled(vector(1, 2))
    assert host(w.value).tolist() == [1.0, 2.0]
    assert float(w.sum()) == 3.0
    if "setattr" not in force.__code__.co_names:
        with ab.disable_cells():
            assert scaled(vector(1, 2)).shape == (2,)
