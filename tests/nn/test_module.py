"""What a module finds in itself, saves, loads and says about itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import autobatch as ab
from autobatch import nn
from autobatch.base import module_epoch as guards
from tests.instructions import interrupted
from tests.requested import of_the_host


class Leaf(nn.Module):
    def __init__(self, value: float = 0.0) -> None:
        self.weight = ab.Parameter(np.full(2, value))


class Everything(nn.Module):
    """One of each place where a parameter can be."""

    def __init__(self) -> None:
        self.own = ab.Parameter(np.zeros(3))
        self.child = Leaf()
        self.listed = [Leaf(), ab.Parameter(np.zeros(1)), (Leaf(), "text")]
        self.keyed = {"a": Leaf(), 7: ab.Parameter(np.zeros(4))}
        self.statistics = nn.Buffer(np.array([1, 2, 3]))
        self.number, self.name, self.nothing, self.function = 3, "x", None, len


EVERYTHING = [
    "own",
    "child.weight",
    "listed.0.weight",
    "listed.1",
    "listed.2.0.weight",
    "keyed.a.weight",
    "keyed.7",
]


def test_parameters_are_found_in_attributes_and_containers_in_the_order_set() -> None:
    model = Everything()
    assert [name for name, _ in model.named_parameters()] == EVERYTHING
    assert [name for name, _ in model.named_buffers()] == ["statistics"]
    names = ["", "child", "listed.0", "listed.2.0", "keyed.a"]
    assert [name for name, _ in model.named_modules()] == names
    assert next(model.modules()) is model
    assert all(held is model.statistics for held in model.buffers())
    assert list(model.state_dict()) == [*EVERYTHING, "statistics"]


def test_a_subclass_need_not_call_super_init_and_calls_go_to_forward() -> None:
    class Doubling(nn.Module):
        def forward(self, x: float, *, times: int = 2) -> float:
            return x * times

    assert Doubling()(4) == 8
    assert Doubling()(4, times=3) == 12
    assert Doubling().training
    assert list(Doubling().parameters()) == []


def test_a_module_without_forward_says_so() -> None:
    with pytest.raises(TypeError, match=r"Leaf cannot be called: it has no forward\n  repair: define Leaf.forward"):
        Leaf()(1)


def test_tied_parameters_are_one_parameter_known_by_its_first_name() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            self.embed = nn.Embedding(5, 3)
            self.out = nn.Linear(3, 5, bias=False)
            self.out.weight = self.embed.weight
            self.again = self.embed

    model = Tied()
    assert [name for name, _ in model.named_parameters()] == ["embed.weight"]
    assert len(list(model.modules())) == 3
    # In a state dict under every name, as in PyTorch.
    state = model.state_dict()
    assert list(state) == ["embed.weight", "out.weight", "again.weight"]
    other = Tied()
    other.load_state_dict(state)
    np.testing.assert_array_equal(other.embed.weight.numpy(), model.embed.weight.numpy())
    # One name is enough, but names that disagree are an error.
    assert other.load_state_dict({"out.weight": np.ones((5, 3))}) == ([], [])
    assert (other.embed.weight.numpy() == 1).all()
    with pytest.raises(ValueError, match=r"out.weight: tied to embed.weight, but their values differ"):
        other.load_state_dict({"embed.weight": np.ones((5, 3)), "out.weight": np.zeros((5, 3))})
    assert (other.embed.weight.numpy() == 1).all()


def test_cycles_are_tolerated() -> None:
    class Child(Leaf):
        def __init__(self, parent: nn.Module) -> None:
            super().__init__()
            self.parent = parent

    class Parent(nn.Module):
        def __init__(self) -> None:
            self.children = [Child(self), Child(self)]
            self.children.append(self.children)

    model = Parent()
    names = ["children.0.weight", "children.1.weight"]
    assert [name for name, _ in model.named_parameters()] == names
    assert list(model.state_dict()) == names
    assert model.eval() is model
    assert not model.children[1].training
    assert "(children.1): Child(" in repr(model)
    assert "(parent): Parent(...)" in repr(model)


def test_a_doubly_linked_chain_has_one_name_for_each_parameter() -> None:
    class Link(Leaf):
        before: Any = None
        after: Any = None

    class Chain(nn.Module):
        def __init__(self, n: int) -> None:
            self.links = [Link() for _ in range(n)]
            for left, right in zip(self.links, self.links[1:], strict=False):
                left.after, right.before = right, left

    model = Chain(200)
    assert len(list(model.parameters())) == 200
    # A second name leads into the cycle; from there nothing is named again.
    assert 200 <= len(model.state_dict()) < 400


def test_deep_nesting_needs_no_recursion() -> None:
    model: Any = Leaf()
    for _ in range(3000):
        outer = nn.Module()
        outer.inner = model  # type: ignore[attr-defined]
        model = outer
    assert len(list(model.modules())) == 3001
    assert len(model.state_dict()) == 1


def test_two_parameters_of_one_name_are_an_error() -> None:
    model = nn.Module()
    model.keyed = {1: ab.Parameter(np.zeros(1)), "1": ab.Parameter(np.zeros(1))}  # type: ignore[attr-defined]
    assert len(list(model.parameters())) == 2
    with pytest.raises(ValueError, match=r"two parameters of Module have the name 'keyed.1'"):
        model.state_dict()


def test_train_and_eval_reach_every_module() -> None:
    model = Everything()
    model.train(False)
    assert not any(module.training for module in model.modules())
    assert model.train() is model
    assert all(module.training is True for module in model.modules())


def test_zero_grad_forgets_every_gradient() -> None:
    model = Everything()
    for parameter in model.parameters():
        parameter.grad = np.ones(parameter.shape)
    model.zero_grad()
    assert all(parameter.grad is None for parameter in model.parameters())


def test_every_write_and_delete_of_an_attribute_is_noticed() -> None:
    model = Leaf()
    before = guards.epoch[0]
    model.flag = True  # type: ignore[attr-defined]
    after_write = guards.epoch[0]
    del model.flag  # type: ignore[attr-defined]
    after_delete = guards.epoch[0]
    model.eval()
    assert before != after_write != after_delete != guards.epoch[0]
    with pytest.raises(AttributeError):
        del model.flag  # type: ignore[attr-defined]


def test_state_dict_gives_copies() -> None:
    model = Leaf(1.0)
    model.state_dict()["weight"][...] = 5
    assert (model.weight.numpy() == 1).all()


def test_load_state_dict_takes_over_parameters_and_buffers() -> None:
    model, other = Everything(), Everything()
    state = {name: np.arange(array.size).reshape(array.shape) for name, array in model.state_dict().items()}
    assert model.load_state_dict(state) == ([], [])
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, state[name])
    assert model.statistics.dtype == np.int64
    other.load_state_dict(model.state_dict())
    np.testing.assert_array_equal(other.own.numpy(), [0, 1, 2])


def test_load_state_dict_copies_what_it_is_given() -> None:
    model, value = Leaf(), np.ones(2)
    model.load_state_dict({"weight": value})
    value[:] = 7
    assert (model.weight.numpy() == 1).all()


def test_load_state_dict_rounds_to_the_dtype_of_the_parameter() -> None:
    model = nn.Module()
    model.weight = ab.Parameter(np.zeros(1), dtype=np.float32)  # type: ignore[attr-defined]
    model.load_state_dict({"weight": np.array([0.1])})
    assert model.weight.dtype == np.float32  # type: ignore[attr-defined]
    assert model.weight.numpy()[0] == np.float32(0.1)  # type: ignore[attr-defined]


def test_load_state_dict_lists_everything_that_does_not_fit_and_changes_nothing() -> None:
    model = Everything()
    state = model.state_dict()
    state["own"] = np.ones(3)
    state["child.weight"] = np.zeros((2, 2))
    state["statistics"] = np.array([0.5, 1.5, 2.5])
    state["extra"] = np.zeros(1)
    del state["keyed.7"]
    with pytest.raises(ValueError) as caught:
        model.load_state_dict(state)
    assert str(caught.value).splitlines() == [
        "load_state_dict: the state does not fit Everything",
        "  child.weight: expected shape (2,), got (2, 2)",
        "  statistics: expected dtype int64, got float64",
        "  keyed.7: missing",
        "  extra: unexpected",
    ]
    assert (model.own.numpy() == 0).all()


def test_load_state_dict_without_strict_takes_what_is_there() -> None:
    model = Everything()
    report = model.load_state_dict({"own": np.ones(3), "extra": np.zeros(1)}, strict=False)
    assert report.unexpected == ["extra"]
    assert report.missing == [*EVERYTHING[1:], "statistics"]
    assert (model.own.numpy() == 1).all()
    with pytest.raises(ValueError, match="own: expected shape"):
        model.load_state_dict({"own": np.ones(4)}, strict=False)


def test_load_state_dict_takes_pytorch_tensors() -> None:
    torch = pytest.importorskip("torch")
    theirs, ours = torch.nn.Linear(3, 2), nn.Linear(3, 2)
    ours.load_state_dict(theirs.state_dict())
    np.testing.assert_array_equal(ours.weight.numpy(), theirs.weight.detach().numpy())
    theirs.load_state_dict({name: torch.from_numpy(array) for name, array in ours.state_dict().items()})


@of_the_host("the lines that are interrupted would be the stand-in's")
def test_load_state_dict_under_ctrl_c_changes_all_or_nothing() -> None:
    model = nn.Module()
    model.weights = [ab.Parameter(np.zeros(2)) for _ in range(3)]  # type: ignore[attr-defined]
    state = {name: np.ones(2) for name in model.state_dict()}
    outcomes = set()
    for line in range(100_000):
        lines, stopped = interrupted(lambda: model.load_state_dict(state), line + 1)
        if lines <= line:
            break
        sums = {float(parameter.numpy().sum()) for parameter in model.parameters()}
        assert len(sums) == 1, f"only some parameters were loaded at line {line}"
        outcomes |= {(stopped, *sums)}
        for parameter in model.parameters():
            parameter.value = np.zeros(2)
    assert {(True, 0.0), (True, 2.0)} <= outcomes


def test_repr_names_parts_and_shapes() -> None:
    assert repr(Leaf()) == "Leaf(\n  (weight): Parameter(float64[2])\n)"
    assert repr(nn.Module()) == "Module()"
    text = repr(Everything())
    assert "  (listed.2.0): Leaf(\n    (weight): Parameter(float64[2])\n  )" in text
    assert "  (statistics): Buffer(int64[3])" in text
    layers = [
        (nn.Embedding(5, 3), "Embedding(n=5, dim=3)"),
        (nn.Dropout(0.25), "Dropout(p=0.25)"),
        (nn.LayerNorm(4), "LayerNorm(dim=4, eps=1e-05)"),
        (nn.LSTMCell(3, 4), "LSTMCell(input_size=3, hidden_size=4, bias=True)"),
        (nn.GRUCell(3, 4, bias=False), "GRUCell(input_size=3, hidden_size=4, bias=False)"),
        (nn.TreeLSTMLeaf(3, 4), "TreeLSTMLeaf(input_size=3, hidden_size=4)"),
        (nn.BinaryTreeLSTMCell(4), "BinaryTreeLSTMCell(hidden_size=4)"),
        (nn.ChildSumTreeLSTMCell(3, 4), "ChildSumTreeLSTMCell(input_size=3, hidden_size=4)"),
    ]
    assert [repr(layer) for layer, _ in layers] == [text for _, text in layers]


class Slotted(nn.Module):
    __slots__ = ("__hidden", "child", "unset")

    def __init__(self) -> None:
        self.plain = ab.Parameter(np.zeros(1))
        self.child = Leaf()
        self.__hidden = nn.Buffer(np.zeros(2))

    def forward(self, x: Any) -> Any:
        return x * self.child.weight + self.__hidden


class SlottedMore(Slotted):
    __slots__ = "more"

    def __init__(self) -> None:
        super().__init__()
        self.more = [Leaf()]


def test_slots_are_attributes() -> None:
    model = SlottedMore()
    names = ["child.weight", "more.0.weight", "plain"]
    assert [name for name, _ in model.named_parameters()] == names
    assert list(model.state_dict()) == ["_Slotted__hidden", "child.weight", "more.0.weight", "plain"]
    model.eval()
    assert not model.child.training and not model.more[0].training
    other = SlottedMore()
    other.load_state_dict({name: value + 1 for name, value in model.state_dict().items()})
    assert all((p.value == 1).all() for p in other.parameters())
    assert "(more.0): Leaf" in repr(other)
    model(ab.ones(2)).sum().backward()
    model.zero_grad()
    assert model.child.weight.grad is None
