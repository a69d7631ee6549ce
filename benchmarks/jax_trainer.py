"""What the JAX programs by hand share: one thread of the CPU, Adam, a compiled step. Importing this module imports jax.

JAX comes with the extra `bench-jax`. It makes its threads with its first array: while that is made, this process may
use one core only.
"""

from __future__ import annotations

import itertools
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from benchmarks.adam import BETA1, BETA2, EPSILON, LEARNING_RATE
from benchmarks.workload import Parameters

_ONE_THREAD = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_ONE_THREAD}".strip()

try:
    import jax
    import jax.numpy as jnp
except ImportError as error:
    raise ImportError('JAX is not installed: pip install "autobatch-compiler[bench-jax]"') from error

Arrays = Mapping[str, Any]
"""Arrays by name."""


def _one_thread() -> None:
    jax.config.update("jax_platforms", "cpu")
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set[int]()
    if cores:
        os.sched_setaffinity(0, {min(cores)})
    jnp.zeros(1).block_until_ready()
    if cores:
        os.sched_setaffinity(0, cores)


_one_thread()


class JaxTrainer(ABC):
    """One training program; see `benchmarks.workload.Trainer`. Of `table` the rows of a minibatch alone are updated.

    A program says what the arrays of a minibatch are, `arrays`, and computes the loss from the vectors of its rows of
    the table, `loss`; both may have more rows than the minibatch, so that few shapes are compiled.
    """

    name = "jax"

    def __init__(self, parameters: Parameters) -> None:
        self.weights = {name: jnp.asarray(value) for name, value in parameters.items()}
        self.moments = [{name: jnp.zeros_like(value) for name, value in self.weights.items()} for _ in range(2)]
        self.n_steps = 0
        self._step = jax.jit(self._trained, donate_argnums=(0, 1), static_argnums=4)
        self._gradients = jax.jit(self._differentiated, static_argnums=2)

    @abstractmethod
    def arrays(self, examples: Sequence[Any]) -> tuple[dict[str, np.ndarray], Any]:
        """Arrays of a minibatch, `rows` of the table among them, each once, those beyond its end are none; and what
        the compiled program depends on."""

    @abstractmethod
    def loss(self, weights: Arrays, vectors: Any, arrays: Arrays, shape: Any) -> Any:
        """The summed loss. `vectors` are the rows of the table."""

    def step(self, examples: Sequence[Any]) -> float:
        """One training step. Returns the summed loss before the update."""
        arrays, shape = self.arrays(examples)
        self.n_steps += 1
        loss, self.weights, self.moments = self._step(self.weights, self.moments, arrays, float(self.n_steps), shape)
        return float(loss)

    def loss_and_gradients(self, examples: Sequence[Any]) -> tuple[float, Parameters]:
        """The summed loss and its dense gradients under the names of the workload; nothing is updated."""
        arrays, shape = self.arrays(examples)
        loss, gradients, of_rows = self._gradients(self.weights, arrays, shape)
        dense = np.zeros(self.weights["table"].shape, np.float32)
        inside = arrays["rows"] < len(dense)
        dense[arrays["rows"][inside]] = np.asarray(of_rows)[inside]
        return float(loss), {name: np.asarray(g) for name, g in gradients.items()} | {"table": dense}

    def _differentiated(self, weights: Arrays, arrays: Arrays, shape: Any) -> tuple[Any, Any, Any]:
        dense = {name: value for name, value in weights.items() if name != "table"}
        vectors = jnp.take(weights["table"], arrays["rows"], axis=0, mode="clip")
        loss, found = jax.value_and_grad(self.loss, (0, 1))(dense, vectors, arrays, shape)
        return loss, *found

    def _trained(self, weights: Arrays, moments: Any, arrays: Arrays, n_steps: Any, shape: Any) -> tuple[Any, Any, Any]:
        loss, gradients, of_rows = self._differentiated(weights, arrays, shape)
        rows, changed, first, second = arrays["rows"], dict[str, Any](), dict[str, Any](), dict[str, Any]()
        for name, w in weights.items():
            m, v = moments[0][name], moments[1][name]
            if name == "table":
                parts = [jnp.take(x, rows, axis=0, mode="clip") for x in (w, m, v)]
                updated = _adam(n_steps, *parts, of_rows)
                changed[name], first[name], second[name] = (
                    x.at[rows].set(part, mode="drop") for x, part in zip((w, m, v), updated, strict=True)
                )
            else:
                changed[name], first[name], second[name] = _adam(n_steps, w, m, v, gradients[name])
        return loss, changed, [first, second]


def _adam(n_steps: Any, w: Any, m: Any, v: Any, g: Any) -> tuple[Any, Any, Any]:
    m = BETA1 * m + (1.0 - BETA1) * g
    v = BETA2 * v + (1.0 - BETA2) * g * g
    rate = LEARNING_RATE / (1.0 - BETA1**n_steps)
    return w - rate * m / (jnp.sqrt(v / (1.0 - BETA2**n_steps)) + EPSILON), m, v


def distinct_rows(words: np.ndarray, n_rows: int, multiple: int = 1024) -> tuple[np.ndarray, np.ndarray]:
    """The different ones among words, padded by a row that the table has not; and the place there of each word.

    >>> [x.tolist() for x in distinct_rows(np.array([5, 2, 5]), 9, multiple=4)]
    [[2, 5, 9, 9], [1, 0, 1]]
    """
    found, places = np.unique(words, return_inverse=True)
    padded = np.full(-(-len(found) // multiple) * multiple, n_rows, np.int32)
    padded[: len(found)] = found
    return padded, places.astype(np.int32)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def packed_lstm(bounds: tuple[int, ...], x: Any, ih: Any, hh: Any, b: Any) -> Any:
    """Hidden states (n, H) of an LSTM over sequences packed by step, x (n, n_in), from a state of zeros; gates stand in
    the order i, f, g, o. Step t has the rows bounds[t]:bounds[t + 1], never more than the step before it.

    The program has one part for each step: no row of padding but at the ends of steps. The backward pass is by hand:
    gradients of weights and inputs are one product over all steps.
    """
    return _packed_forward(bounds, x, ih, hh, b)[0]


def _packed_forward(bounds: tuple[int, ...], x: Any, ih: Any, hh: Any, b: Any) -> tuple[Any, Any]:
    dim = hh.shape[1]
    inputs = x @ ih.T + b
    steps: list[tuple[Any, ...]] = []
    for start, stop in itertools.pairwise(bounds):
        n, z = stop - start, inputs[start:stop]
        if steps:
            z = z + steps[-1][0][:n] @ hh.T
        i, f, o = (jax.nn.sigmoid(z[:, k * dim : (k + 1) * dim]) for k in (0, 1, 3))
        g = jnp.tanh(z[:, 2 * dim : 3 * dim])
        c = i * g + (f * steps[-1][1][:n] if steps else 0.0)
        tanh_c = jnp.tanh(c)
        steps.append((o * tanh_c, c, tanh_c, i, f, g, o))
    states = jnp.concatenate([step[0] for step in steps])
    return states, (x, ih, hh, steps)


def _packed_backward(bounds: tuple[int, ...], kept: Any, d_states: Any) -> tuple[Any, ...]:
    x, ih, hh, steps = kept
    d_h = d_c = None
    d_gates = []
    for t in range(len(steps) - 1, -1, -1):
        _, _, tanh_c, i, f, g, o = steps[t]
        dh = d_states[bounds[t] : bounds[t + 1]]
        if d_h is not None:
            dh = dh + _as_long(d_h, len(dh))
        dc = dh * o * (1.0 - tanh_c * tanh_c)
        if d_c is not None:
            dc = dc + _as_long(d_c, len(dh))
        before = steps[t - 1][1][: len(dh)] if t else jnp.zeros_like(dc)
        parts = (
            dc * g * i * (1.0 - i),
            dc * before * f * (1.0 - f),
            dc * i * (1.0 - g * g),
            dh * tanh_c * o * (1.0 - o),
        )
        d_gates.append(jnp.concatenate(parts, axis=1))
        d_h, d_c = d_gates[-1] @ hh, dc * f
    dz = jnp.concatenate(d_gates[::-1])
    widths = [stop - start for start, stop in itertools.pairwise(bounds[1:])]
    previous = [step[0][:n] for step, n in zip(steps, widths, strict=False)]
    d_hh = dz[bounds[1] :].T @ jnp.concatenate(previous) if previous else jnp.zeros_like(hh)
    return dz @ ih, dz.T @ x, d_hh, dz.sum(0)


def _as_long(x: Any, n: int) -> Any:
    return jnp.pad(x, ((0, n - len(x)), (0, 0)))


packed_lstm.defvjp(_packed_forward, _packed_backward)
