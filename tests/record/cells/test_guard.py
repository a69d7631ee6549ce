"""What traced cells and replayed recordings notice: whatever the user's code read, anywhere, by one mechanism."""

from __future__ import annotations

import contextvars
import enum
import functools
import operator
import os
import types
import weakref
from array import array
from collections import ChainMap, UserDict, UserList, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch import nn
from autobatch.record.cells.guard import guard
from tests import other_user_module
from tests.other_user_module import scaled


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    with ab.backend("numpy"):
        ab.forget()
        yield
        ab.forget()


SCALE = 2.0
NESTED = {"k": [1.0, (2.0, {"deep": 3.0})]}
QUEUE = deque([1.0, 2.0])
NUMBERS = array("d", [1.0, 2.0])
TABLE = np.array([1.0, 2.0])
OBJECTS = np.array([1.0, None], dtype=object)
CHOSEN = {"a", "b"}
STEPS: list[float] = [1.0]
WEIGHT = ab.Parameter(np.array([1.0]))
SPACE = types.SimpleNamespace(k=2.0)


class Mode(enum.Enum):
    PLUS = 1
    MINUS = 2


MODE = Mode.PLUS


@dataclass
class Inner:
    k: float = 2.0


@dataclass
class Config:
    k: float = 2.0
    inner: Inner | None = None


CONFIG = Config(inner=Inner())


class Base:
    factor = 2.0
    count = 0

    def scale(self, x: Any) -> Any:
        return x * self.factor

    @property
    def shift(self) -> float:
        return 1.0

    @staticmethod
    def doubled(x: Any) -> Any:
        return x * 2.0

    @classmethod
    def tripled(cls, x: Any) -> Any:
        return x * 3.0

    def __call__(self, x: Any) -> Any:
        return self.scale(x) + self.shift


class Derived(Base):
    pass


THING = Derived()


class Slotted:
    __slots__ = ("k",)

    def __init__(self) -> None:
        self.k = 2.0


SLOTTED = Slotted()


def by_default(x: Any, factor: float = 2.0, *, shift: float = 0.0) -> Any:
    return x * factor + shift


def helper(x: Any) -> Any:
    return x * SCALE


def twice(fn: Callable[[Any], Any]) -> Callable[[Any], Any]:
    @functools.wraps(fn)
    def wrapped(x: Any) -> Any:
        return fn(fn(x))

    return wrapped


@twice
def decorated(x: Any) -> Any:
    return helper(x)


@functools.cache
def cached_number() -> float:
    return 3.0


def even(x: Any, n: int) -> Any:
    return x if n == 0 else odd(x * 1.5, n - 1)


def odd(x: Any, n: int) -> Any:
    return even(x, n - 1)


def outer(x: Any) -> Any:
    def inner(y: Any) -> Any:
        return sum(helper(y) for _ in STEPS)

    return inner(x)


negative = lambda x: -x  # noqa: E731
partial = functools.partial(by_default, factor=3.0)


@ab.cell
def inner_cell(x: Any) -> Any:
    return helper(x)


def put(where: Any, name: str, value: Any) -> Callable[[], None]:
    return lambda: where.__setitem__(name, value) if isinstance(where, dict) else setattr(where, name, value)


HERE = globals()
VARIABLE = decorated.__closure__[0]
CASES: dict[str, tuple[Callable[[Any], Any], Callable[[], None]]] = {
    "global number": (lambda x: x * SCALE, put(HERE, "SCALE", 3.0)),
    "nested container": (lambda x: x * NESTED["k"][1][1]["deep"], lambda: NESTED["k"][1][1].update(deep=5.0)),
    "list appended": (lambda x: x * sum(STEPS), lambda: STEPS.append(4.0)),
    "deque": (lambda x: x * QUEUE[0], lambda: QUEUE.rotate(1)),
    "array.array": (lambda x: x * NUMBERS[0], lambda: NUMBERS.__setitem__(0, 7.0)),
    "array in place": (lambda x: x * TABLE[0], lambda: TABLE.__setitem__(0, 7.0)),
    "object array": (lambda x: x * OBJECTS[0], lambda: OBJECTS.__setitem__(0, 7.0)),
    "set": (lambda x: x * len(CHOSEN), lambda: CHOSEN.add("c")),
    "parameter replaced": (lambda x: x * WEIGHT, put(HERE, "WEIGHT", ab.Parameter(np.array([5.0])))),
    "namespace": (lambda x: x * SPACE.k, put(SPACE, "k", 3.0)),
    "enum": (lambda x: x * (2.0 if MODE is Mode.PLUS else 3.0), put(HERE, "MODE", Mode.MINUS)),
    "dataclass": (lambda x: x * CONFIG.k, put(CONFIG, "k", 3.0)),
    "dataclass in a dataclass": (lambda x: x * CONFIG.inner.k, put(CONFIG.inner, "k", 3.0)),
    "class attribute": (lambda x: x * Base.factor, put(Base, "factor", 3.0)),
    "class attribute of a base": (lambda x: x * THING.factor, put(Base, "factor", 3.0)),
    "class attribute hidden by a derived class": (lambda x: x * THING.factor, put(Derived, "factor", 5.0)),
    "instance attribute that hides one": (lambda x: x * THING.factor, put(THING, "factor", 5.0)),
    "method": (lambda x: THING.scale(x), put(Base, "scale", lambda self, x: x * 9.0)),
    "method of the instance": (lambda x: THING.scale(x), put(THING, "scale", lambda x: x * 9.0)),
    "what a method reads": (lambda x: THING.scale(x), put(Base, "factor", 9.0)),
    "property": (lambda x: x * THING.shift, put(Base, "shift", property(lambda self: 9.0))),
    "static method": (lambda x: THING.doubled(x), put(Base, "doubled", staticmethod(lambda x: x * 9.0))),
    "class method": (lambda x: Base.tripled(x), put(Base, "tripled", classmethod(lambda cls, x: x * 9.0))),
    "what a callable object reads": (lambda x: THING(x), put(Base, "factor", 9.0)),
    "slots": (lambda x: x * SLOTTED.k, put(SLOTTED, "k", 9.0)),
    "helper": (lambda x: helper(x), put(HERE, "helper", lambda x: x * 9.0)),
    "what a helper reads": (lambda x: helper(x), put(HERE, "SCALE", 9.0)),
    "what a helper's helper reads": (lambda x: outer(x), put(HERE, "SCALE", 9.0)),
    "code of a helper": (lambda x: helper(x), put(helper, "__code__", (lambda x: x * 9.0).__code__)),
    "defaults": (lambda x: by_default(x), put(by_default, "__defaults__", (9.0,))),
    "keyword defaults": (lambda x: by_default(x), put(by_default, "__kwdefaults__", {"shift": 9.0})),
    "keyword defaults in place": (lambda x: by_default(x), lambda: by_default.__kwdefaults__.update(shift=9.0)),
    "decorated helper": (lambda x: decorated(x), put(HERE, "SCALE", 9.0)),
    "closure of a decorator": (lambda x: decorated(x), put(VARIABLE, "cell_contents", negative)),
    "cached helper": (lambda x: x * cached_number(), put(HERE, "cached_number", lambda: 9.0)),
    "helpers that call each other": (lambda x: even(x, 4), put(HERE, "odd", lambda x, n: even(x * 9.0, n - 1))),
    "lambda": (lambda x: negative(x), put(HERE, "negative", lambda x: x * 9.0)),
    "partial": (lambda x: partial(x), put(HERE, "partial", functools.partial(by_default, factor=9.0))),
    "other module, by name": (lambda x: scaled(x), put(other_user_module, "FACTOR", 9.0)),
    "other module, by name, a list": (lambda x: scaled(x), lambda: other_user_module.LIST.__setitem__(0, 9.0)),
    "other module, attribute": (lambda x: x * other_user_module.FACTOR, put(other_user_module, "FACTOR", 9.0)),
    "other module, its function": (
        lambda x: other_user_module.scaled(x),
        put(other_user_module, "scaled", lambda x: x * 9.0),
    ),
    "builtin hidden by a global": (lambda x: x * abs(-2.0), put(HERE, "abs", lambda x: 9.0)),
    "cell called in it": (lambda x: inner_cell(x), put(HERE, "SCALE", 9.0)),
}  # fmt: skip


@pytest.fixture
def restored() -> Iterator[None]:
    """Everything that the cases change, as it was."""
    bound = dict(HERE)
    objects = [CONFIG, CONFIG.inner, THING, SPACE, other_user_module]
    attributes = [dict(vars(x)) for x in objects]
    classes = [dict(vars(c)) for c in (Base, Derived)]
    functions = [(f, f.__code__, f.__defaults__, dict(f.__kwdefaults__ or {})) for f in (helper, by_default)]
    wrapped = VARIABLE.cell_contents
    yield
    for name in [name for name in HERE if name not in bound]:
        del HERE[name]
    HERE.update(bound)
    for x, before in zip(objects, attributes, strict=True):
        for name in [name for name in vars(x) if name not in before]:
            delattr(x, name)
        vars(x).update(before)
    for c, before in zip((Base, Derived), classes, strict=True):
        for name in [name for name in vars(c) if name not in before]:
            delattr(c, name)
        for name, value in before.items():
            if not name.startswith("__"):
                setattr(c, name, value)
    for f, code, defaults, keywords in functions:
        f.__code__, f.__defaults__, f.__kwdefaults__ = code, defaults, keywords or None
    VARIABLE.cell_contents = wrapped
    NESTED["k"][1][1]["deep"] = 3.0
    STEPS[:] = [1.0]
    QUEUE.clear()
    QUEUE.extend([1.0, 2.0])
    NUMBERS[0] = TABLE[0] = OBJECTS[0] = 1.0
    CHOSEN.discard("c")
    SLOTTED.k = 2.0
    other_user_module.LIST[0] = 1.0


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize("name", CASES)
def test_a_cell_notices_within_one_recording(name: str) -> None:
    fn, change = CASES[name]
    cell = ab.cell(fn)
    x = ab.tensor([1.0])
    before = [cell(x), cell(x), cell(x)]
    want_before = fn(x)
    count = cell.cell.traces  # type: ignore[attr-defined]
    change()
    after = [cell(x), cell(x), cell(x)]
    want_after = fn(x)
    assert float(want_before) != float(want_after)
    assert [float(y) for y in before] == pytest.approx([float(want_before)] * 3)
    assert [float(y) for y in after] == pytest.approx([float(want_after)] * 3)
    assert (count, cell.cell.traces) == (1, 2)  # type: ignore[attr-defined]
    assert float(cell(x)) == pytest.approx(float(want_after))  # another recording
    assert cell.cell.traces == 2  # type: ignore[attr-defined]


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize("name", CASES)
def test_a_replay_notices(name: str) -> None:
    fn, change = CASES[name]
    called: list[Any] = []

    class Example:
        number = 1.0

    def noted(example: Example) -> Any:
        return fn(ab.tensor([example.number]))

    def run() -> float:
        results = ab.map(noted, examples, reuse=True)
        with ab.profile() as profile:
            again = ab.map(noted, examples, reuse=True)
        called.append(profile.replayed)
        assert float(again[0]) == float(results[0])
        return float(results[0])

    examples = [Example()]
    before = run()
    change()
    after = run()
    want = float(ab.map(noted, examples, batched=False)[0])
    assert before != after == pytest.approx(want)
    assert called == [1, 1]


def test_variables_of_a_called_closure() -> None:
    factor = 2.0

    def score(x: Any) -> Any:
        return x * factor

    holder = {"score": score}
    cell = ab.cell(lambda x: score(x))
    x = ab.tensor([1.0])
    got = [float(cell(x)), float(ab.map(lambda k: holder["score"](ab.tensor(k)), [1.0], reuse=True)[0])]
    factor = 5.0
    got += [float(cell(x)), float(ab.map(lambda k: holder["score"](ab.tensor(k)), [1.0], reuse=True)[0])]
    assert got == [2.0, 2.0, 5.0, 5.0]


class Flagged(nn.Module):
    flag = True
    calls = 0

    def __init__(self) -> None:
        self.weight = ab.Parameter(np.ones(2))
        self.queue = deque([2.0])
        self.numbers = array("d", [3.0])
        self.objects = np.array([5.0], dtype=object)

    def part(self, x: Any) -> Any:
        return x * self.weight if self.flag else x * 7.0

    @ab.cell
    def run(self, x: Any) -> Any:
        Flagged.calls += 1
        return (self.part(x) * self.queue[0] * self.numbers[0] * self.objects[0]).sum()


class Below(Flagged):
    pass


def test_class_attributes_of_modules_and_unusual_containers_in_them() -> None:
    model = Below()
    x = ab.tensor([1.0, 2.0])
    changes: list[Callable[[], Any]] = [
        lambda: setattr(Flagged, "flag", False),
        lambda: setattr(Below, "flag", True),
        lambda: delattr(Below, "flag"),
        lambda: setattr(Below, "part", lambda self, x: x * 11.0),
        lambda: delattr(Below, "part"),
        lambda: model.queue.append(3.0),
        lambda: model.queue.popleft(),
        lambda: model.numbers.__setitem__(0, 4.0),
        lambda: model.objects.__setitem__(0, 6.0),
    ]
    try:
        for change in (lambda: None, *changes):
            change()
            got, again = model.run(x), model.run(x)
            want = Flagged.run.__wrapped__(model, x)  # type: ignore[attr-defined]
            assert float(got) == float(again) == float(want)
    finally:
        Flagged.flag = True


def test_a_number_that_code_counts_up_in_a_class_does_not_trace_for_ever() -> None:
    model, x = Flagged(), ab.tensor([1.0, 2.0])
    for _ in range(5):
        model.run(x)
        Flagged.calls += 1
    before = Flagged.run.cell.traces  # type: ignore[attr-defined]
    model.run(x)
    assert Flagged.run.cell.traces == before  # type: ignore[attr-defined]


def test_what_code_does_not_read_does_not_trace_again() -> None:
    @ab.cell
    def step(x: Any) -> Any:
        return helper(x) * CONFIG.k

    x = ab.tensor([1.0])
    step(x)
    HERE["UNRELATED"] = 1.0
    THING.unrelated = 3.0  # type: ignore[attr-defined]
    HERE["SCALE"] = 1.0 + 1.0  # an equal number, another object
    try:
        step(x)
        assert step.cell.traces == 1  # type: ignore[attr-defined]
    finally:
        del HERE["UNRELATED"], THING.unrelated  # type: ignore[attr-defined]


def test_long_containers_are_looked_at_in_every_recording_and_their_length_at_every_call() -> None:
    numbers = {"all": [float(k) for k in range(100)]}

    class Reader:
        def __init__(self) -> None:
            self.numbers = numbers["all"]

        @ab.cell
        def step(self, x: Any) -> Any:
            return x * self.numbers[-1]

    reader, x = Reader(), ab.tensor([1.0])
    assert float(reader.step(x)) == 99.0
    numbers["all"][-1] = 5.0
    assert float(reader.step(x)) == 5.0
    first = reader.step(x)
    numbers["all"].append(7.0)
    assert (float(reader.step(x)), float(first)) == (7.0, 5.0)
    for number in (8.0, 9.0):
        numbers["all"][-1] = number
        other = x + 1.0  # which the recording begins with
        assert (float(reader.step(x)), float(other)) == (number, 2.0)


def test_a_large_array_is_named_when_a_cell_reads_it() -> None:
    class Reader:
        def __init__(self) -> None:
            self.table = np.ones((200, 100))

        @ab.cell
        def step(self, x: Any) -> Any:
            return x * self.table[0, 0]

    with pytest.warns(RuntimeWarning, match=r"step reads an array of shape \(200, 100\)"):
        Reader().step(ab.tensor([1.0]))


def test_modules_may_be_abstract_and_follow_protocols() -> None:
    import abc
    from typing import Protocol

    class Scores(Protocol):
        def score(self, x: Any) -> Any: ...

    class Abstract(nn.Module, abc.ABC):  # type: ignore[metaclass]
        pass

    class Both(Abstract, Scores):
        def score(self, x: Any) -> Any:
            return x

    assert isinstance(Both(), nn.Module)
    assert not isinstance(3, nn.Module)


def test_guards_that_hold_are_cheap_to_check() -> None:
    read = guard((CASES["what a helper reads"][0],))
    assert [fact.text.format(h="h", v="v") for fact in read.lasting] == [
        "h.__code__ is not v",
        "h['helper'] is not v",
        "h.__code__ is not v",
        "h['SCALE'] is not v",
    ]
    assert not read.facts
    assert not read.contents
    assert read.unchanged()


def _stale_cases() -> dict[str, Callable[[], tuple[Callable[[Any], Any], Callable[[], Any]]]]:
    """Makers of functions that double their argument, and of changes after which they triple it."""

    class One:
        k = 2.0

        def by(self, n: int, x: Any) -> Any:
            return x * self.k * n

        once = functools.partialmethod(by, 1)

    class Three:
        k = 3.0

    def numbers(made: Any, held: Any) -> Any:
        return (lambda x: x * made[0]), (lambda: held.__setitem__(0, 3))

    def named(made: Any, held: Any) -> Any:
        return (lambda x: x * made["k"]), (lambda: held.__setitem__("k", 3.0))

    def of_a_view() -> Any:
        held = bytearray([2])
        return numbers(memoryview(held), held)

    def of_a_bytearray() -> Any:
        held = bytearray([2])
        return numbers(held, held)

    def of_a_user_list() -> Any:
        held = UserList([2.0])
        return numbers(held, held)

    def of_a_user_dict() -> Any:
        held = UserDict(k=2.0)
        return named(held, held)

    def of_a_chain() -> Any:
        held = {"k": 2.0}
        return named(ChainMap({}, held), held)

    def of_a_proxy() -> Any:
        held = {"k": 2.0}
        return named(types.MappingProxyType(held), held)

    def of_a_function() -> Any:
        def helper(x: Any) -> Any:
            return x * helper.k  # type: ignore[attr-defined]

        helper.k = 2.0  # type: ignore[attr-defined]
        return helper, lambda: setattr(helper, "k", 3.0)

    def of_a_member() -> Any:
        Two = enum.Enum("Two", ["A"])
        Two.A.k = 2.0  # type: ignore[attr-defined]
        return (lambda x: x * Two.A.k), (lambda: setattr(Two.A, "k", 3.0))  # type: ignore[attr-defined]

    def of_a_metaclass() -> Any:
        class Meta(type):
            k = 2.0

        class Made(metaclass=Meta):
            pass

        return (lambda x: x * Made.k), (lambda: setattr(Meta, "k", 3.0))

    def another_class() -> Any:
        held = One()
        return (lambda x: x * held.k), (lambda: setattr(held, "__class__", Three))

    def of_a_method_of_parts() -> Any:
        class Two(One):
            pass

        held = Two()
        return (lambda x: held.once(x)), (lambda: setattr(Two, "k", 3.0))

    def behind_a_weak_reference() -> Any:
        held = One()
        weak = weakref.ref(held)
        return (lambda x: x * weak().k), (lambda held=held: setattr(held, "k", 3.0))

    def behind_a_getter() -> Any:
        held, get = One(), operator.attrgetter("k")
        return (lambda x: x * get(held)), (lambda: setattr(held, "k", 3.0))

    def of_a_context() -> Any:
        held = contextvars.ContextVar("held", default=2.0)
        return (lambda x: x * held.get()), (lambda: held.set(3.0))

    def a_variable_bound_later() -> Any:
        def f(x: Any) -> Any:
            try:
                return x * later
            except NameError:
                return x * 2.0

        def change() -> None:
            nonlocal later
            later = 3.0

        later: float
        return f, change

    def of_single_dispatch() -> Any:
        @functools.singledispatch
        def factor(_: Any) -> float:
            return 2.0

        return (lambda x: x * factor(1)), (lambda: factor.register(int, lambda _: 3.0))

    return {name: made for name, made in locals().items() if isinstance(made, types.FunctionType) and "_" in name}


@pytest.mark.parametrize("how", ["cell", "method", "reuse"])
@pytest.mark.parametrize("name", _stale_cases())
def test_what_is_read_by_other_ways_is_noticed(name: str, how: str) -> None:
    f, change = _stale_cases()[name]()
    cell = ab.cell(f)

    class Holder(nn.Module):
        @ab.cell
        def call(self, x: Any) -> Any:
            return f(x)

    holder = Holder()

    def value() -> float:
        if how == "reuse":
            return float(ab.map(lambda x: f(ab.tensor(x[0])), [(1.0,)], reuse=True)[0])
        return float((cell if how == "cell" else holder.call)(ab.tensor(1.0)))

    assert [value(), value()] == [2, 2]
    change()
    assert [value(), value()] == [3, 3]


@pytest.mark.parametrize("read", [lambda: os.environ["AB_K"], lambda: os.getenv("AB_K")])
def test_the_environment_is_noticed(read: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> None:
    f = ab.cell(lambda x: x * float(read()))
    for k in 2, 3:
        monkeypatch.setenv("AB_K", str(k))
        assert float(f(ab.tensor(1.0))) == k


def test_a_count_kept_in_a_function_is_not_guarded() -> None:
    def f(x: Any) -> Any:
        f.calls += 1  # type: ignore[attr-defined]
        return x * 2.0

    f.calls = 0  # type: ignore[attr-defined]
    cell = ab.cell(f)
    assert [float(cell(ab.tensor(1.0))) for _ in range(3)] == [2, 2, 2]
    assert cell.cell.traces == 1  # type: ignore[attr-defined]


class Mask:
    def __init__(self) -> None:
        self.factor = 2.0


class Masked(nn.Linear):
    """A layer of the library that reads its weight from a property."""

    mask = Mask()

    @property
    def weight(self) -> Any:
        return self.own * self.mask.factor

    @weight.setter
    def weight(self, value: Any) -> None:
        self.own = value


def test_a_property_that_a_layer_of_the_library_reads_is_followed() -> None:
    layer = Masked(2, 2, bias=False)
    step = ab.cell(lambda x: layer(x))
    x = np.ones(2, np.float32)
    for factor in (2.0, 0.5):
        Masked.mask.factor = factor
        for _ in range(2):
            found = ab.evaluate(ab.map(lambda x: step(ab.tensor(x)), [x, x]))
            np.testing.assert_allclose(found[0], factor * layer.own.value @ x, rtol=1e-6)
