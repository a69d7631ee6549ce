"""Where parameters lie, and what moves them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import autobatch as ab
from autobatch import nn, optim
from autobatch.backends.transfer import is_on_device
from autobatch.errors import BackendError
from tests.run.device.reader import SENTENCES, Reader, agree, gradients, numbers
from tests.stand_in.device import StandIn


def test_new_parameters_lie_where_the_backend_runs(device: StandIn) -> None:
    assert is_on_device(ab.Parameter([1.0]).value) and is_on_device(nn.Buffer([1.0]).value)
    with ab.backend("numba"):
        assert not is_on_device(ab.Parameter([1.0]).value)


def test_a_number_keeps_its_shape(device: StandIn) -> None:
    p = ab.Parameter(2.0)
    assert p.value.shape == () and p.numpy().shape == ()
    (p * p).backward()
    assert p.grad.shape == () and float(p.grad) == 4.0
    y = ab.sum(ab.map(lambda x: p * x, [1.0, 2.0]))
    p.grad = None
    y.backward()
    assert p.grad.shape == () and float(p.grad) == 3.0


def test_a_parameter_is_read_and_replaced(device: StandIn) -> None:
    p = ab.Parameter([1.0, 2.0])
    assert p.value.get().tolist() == p.numpy().tolist() == [1.0, 2.0]  # type: ignore[attr-defined]
    p.value = [3.0, 4.0]
    assert is_on_device(p.value) and p.numpy().tolist() == [3.0, 4.0]
    p.value = p.value * 2
    assert p.numpy().tolist() == [6.0, 8.0]
    p.grad = np.array([1.0, 1.0])
    assert is_on_device(p.grad)
    with pytest.raises(TypeError, match="implicit conversion"):
        np.asarray(p.value)


def test_a_model_moves_with_its_gradients_and_back(device: StandIn) -> None:
    ab.set_backend("numba")
    model = Reader()
    ab.mean(ab.map(model.loss, SENTENCES)).backward()
    before, wanted = model.state_dict(), gradients(model)
    assert model.to("cupy") is model
    assert all(is_on_device(p.value) for p in model.parameters())
    agree(model.state_dict(), before, 0)
    agree(gradients(model), wanted, 0)
    ab.set_backend("cupy")
    ab.mean(ab.map(model.loss, SENTENCES)).backward()
    model.to("numpy")
    assert not any(is_on_device(p.value) for p in model.parameters())
    agree(gradients(model), {name: 2 * g for name, g in wanted.items()})


@pytest.mark.parametrize("here, there", [("cupy", "numba"), ("numba", "cupy")])
def test_mixing_places_names_the_repair(device: StandIn, here: str, there: str) -> None:
    ab.set_backend(here)
    model = Reader()
    ab.set_backend(there)
    loss = ab.mean(ab.map(model.loss, SENTENCES))
    with pytest.raises(BackendError, match=rf'is on [\s\S]*model.to\("{there}"\)'):
        loss.backward()
    model.to(there)
    ab.mean(ab.map(model.loss, SENTENCES)).backward()


def test_expressions_of_parameters_in_two_places(device: StandIn) -> None:
    v = ab.Parameter([1.0])
    with ab.backend("numba"):
        w = ab.Parameter([1.0])
    with pytest.raises(BackendError, match=r"two places[\s\S]*model\.to"):
        (v + w).numpy()


def test_an_unknown_backend(device: StandIn) -> None:
    with pytest.raises(BackendError, match="no backend is called 'gpu'"):
        ab.Parameter([1.0]).to("gpu")


def test_what_is_pending_runs_before_parameters_move(device: StandIn) -> None:
    model = Reader()
    wanted = float(ab.mean(ab.map(model.loss, SENTENCES)))
    loss = ab.mean(ab.map(model.loss, SENTENCES))
    model.to("numba")
    assert float(loss) == wanted


def test_state_dicts_and_files_are_those_of_the_host(device: StandIn, tmp_path: Path) -> None:
    model = Reader()
    state = model.state_dict()
    assert all(type(array) is np.ndarray for array in state.values())
    ab.save(tmp_path / "model", model)
    with ab.backend("numba"):
        other = Reader()
        other.load_state_dict(ab.load(tmp_path / "model"))
    agree(other.state_dict(), state, 0)
    model.load_state_dict({name: array + 1 for name, array in other.state_dict().items()})
    assert all(is_on_device(p.value) for p in model.parameters())
    agree(model.state_dict(), {name: array + 1 for name, array in state.items()}, 0)


def test_the_state_of_an_optimiser_follows_and_is_that_of_the_host(device: StandIn) -> None:
    with ab.backend("numba"):
        model = Reader()
        optimizer = optim.Adam(model.parameters())
    model.to("cupy")
    ab.mean(ab.map(model.loss, SENTENCES)).backward()
    optimizer.step()
    state = optimizer.state_dict()
    assert all(type(array) is np.ndarray for array in state.values())
    assert all(array.any() for name, array in state.items() if name.endswith("exp_avg"))
    optimizer.load_state_dict(state)
    model.to("numba")
    ab.set_backend("numba")
    optimizer.zero_grad()
    ab.mean(ab.map(model.loss, SENTENCES)).backward()
    optimizer.step()
    assert not np.array_equal(optimizer.state_dict()["0.exp_avg"], state["0.exp_avg"])


def test_gradients_in_two_places_are_not_clipped(device: StandIn) -> None:
    v = ab.Parameter([1.0])
    with ab.backend("numba"):
        w = ab.Parameter([1.0])
    v.grad, w.grad = np.ones(1), np.ones(1)
    with pytest.raises(BackendError, match=r"two places[\s\S]*model\.to"):
        optim.clip_grad_norm([v, w], 1.0)


def test_sparse_gradients_keep_their_row_numbers_on_the_host(device: StandIn) -> None:
    model = Reader()
    ab.mean(ab.map(model.loss, SENTENCES[:2])).backward()
    g = model.embed.weight.grad
    assert isinstance(g.rows, np.ndarray) and g.rows.tolist() == [1, 2, 3, 4] and is_on_device(g.values)
    assert numbers(g).shape == (7, 3)
