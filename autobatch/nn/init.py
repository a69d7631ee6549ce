"""Initial values of parameters, drawn from the generator that `ab.seed` starts.

First what layers are made with: new parameters of PyTorch's default distributions. Then PyTorch's functions, under its
names, which fill parameters that are there; to fill all those of a model:

    for name, p in model.named_parameters():
        init.zeros_(p) if name.endswith("bias") else init.xavier_uniform_(p)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from ..base.errors import message
from ..record.parameter import Buffer, Parameter
from ..record.random import initial_generator

Array = np.ndarray[Any, Any]
T = TypeVar("T", Parameter, Buffer)


def uniform(shape: tuple[int, ...], bound: float) -> Parameter:
    """Parameter of `shape`, drawn from U(−bound, bound).

    >>> from autobatch.nn import init
    >>> ab.seed(0)
    >>> p = init.uniform((2, 3), 0.5)
    >>> p.shape, bool((abs(p.value) <= 0.5).all())
    ((2, 3), True)
    """
    return Parameter(initial_generator().uniform(-bound, bound, shape))


def uniform_by_width(shape: tuple[int, ...], width: int) -> Parameter:
    """Parameter drawn from U(−1/√width, 1/√width): PyTorch's linear layers by their input, cells by their hidden width.

    For a weight of shape (n, width) this is "Kaiming uniform" with a = √5 (He et al., "Delving deep into rectifiers",
    2015): bound √(6 / ((1 + a²) width)).

    >>> from autobatch.nn import init
    >>> p = init.uniform_by_width((3, 4), 4)
    >>> bool((abs(p.value) <= 0.5).all())
    True
    """
    return uniform(shape, 1 / math.sqrt(width) if width > 0 else 0.0)


def normal(shape: tuple[int, ...], deviation: float = 1.0) -> Parameter:
    """Parameter of `shape`, drawn from the normal distribution of mean 0 and this standard `deviation`.

    >>> from autobatch.nn import init
    >>> p = init.normal((3, 4), 0.1)
    >>> p.shape
    (3, 4)
    """
    return Parameter(initial_generator().normal(0.0, deviation, shape))


def zeros(shape: tuple[int, ...]) -> Parameter:
    """Parameter of zeros, of `shape`.

    >>> from autobatch.nn import init
    >>> p = init.zeros((2,))
    >>> p.value
    array([0., 0.], dtype=float32)
    """
    return Parameter(np.zeros(shape))


def ones(shape: tuple[int, ...]) -> Parameter:
    """Parameter of ones, of `shape`.

    >>> from autobatch.nn import init
    >>> p = init.ones((2,))
    >>> p.value
    array([1., 1.], dtype=float32)
    """
    return Parameter(np.ones(shape))


# PyTorch's functions, which draw anew what a parameter holds.


def uniform_(tensor: T, a: float = 0.0, b: float = 1.0) -> T:
    """Fill with draws from U(a, b).

    Arguments:
        tensor: a parameter or a buffer, of any shape; so in all functions of this kind, which return it.

    Raises TypeError for what is neither parameter nor buffer.

    >>> from autobatch.nn import init
    >>> p = init.uniform_(ab.Parameter(np.zeros(4)), 1.0, 2.0)
    >>> bool(((p.value >= 1) & (p.value <= 2)).all())
    True
    """
    return _filled("uniform_", tensor, lambda shape: initial_generator().uniform(a, b, shape))


def normal_(tensor: T, mean: float = 0.0, std: float = 1.0) -> T:
    """Fill `tensor` with draws from N(mean, std²). Raises TypeError for what is neither parameter nor buffer.

    >>> from autobatch.nn import init
    >>> p = init.normal_(ab.Parameter(np.zeros(4)), std=0.0)
    >>> p.value
    array([0., 0., 0., 0.], dtype=float32)
    """
    return _filled("normal_", tensor, lambda shape: initial_generator().normal(mean, std, shape))


def trunc_normal_(tensor: T, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0) -> T:
    """Fill `tensor` with draws from N(mean, std²) under the condition that they are from a to b.

    Raises ValueError unless a < b and std > 0.

    >>> from autobatch.nn import init
    >>> p = init.trunc_normal_(ab.Parameter(np.zeros((3, 2))), std=0.02, a=-0.04, b=0.04)
    >>> bool((abs(p.value) <= 0.04).all())
    True
    """
    if not (a < b and std > 0):
        raise ValueError(
            message("trunc_normal_: no such distribution", expected="a < b, std > 0", got=f"{a=}, {b=}, {std=}")
        )
    return _filled("trunc_normal_", tensor, lambda shape: _truncated(shape, mean, std, a, b))


def constant_(tensor: T, val: float) -> T:
    """Fill `tensor` with the number `val`. Raises TypeError for what is neither parameter nor buffer.

    >>> from autobatch.nn import init
    >>> init.constant_(ab.Parameter([1.0, 2.0]), 0.5).value
    array([0.5, 0.5], dtype=float32)
    """
    return _filled("constant_", tensor, lambda shape: np.full(shape, val))


def ones_(tensor: T) -> T:
    """Fill `tensor` with ones. Raises TypeError for what is neither parameter nor buffer.

    >>> from autobatch.nn import init
    >>> p = init.ones_(ab.Parameter([0.5, 2.0]))
    >>> p.value
    array([1., 1.], dtype=float32)
    """
    return constant_(tensor, 1.0)


def zeros_(tensor: T) -> T:
    """Fill `tensor` with zeros. Raises TypeError for what is neither parameter nor buffer.

    >>> from autobatch.nn import init
    >>> p = init.zeros_(ab.Parameter([0.5, 2.0]))
    >>> p.value
    array([0., 0.], dtype=float32)
    """
    return constant_(tensor, 0.0)


def eye_(tensor: T) -> T:
    """Fill `tensor`, a matrix, with the identity, of as many rows and columns as there are.

    Raises TypeError for what is neither parameter nor buffer.

    >>> from autobatch.nn import init
    >>> init.eye_(ab.Parameter(np.zeros((2, 3)))).value
    array([[1., 0., 0.],
           [0., 1., 0.]], dtype=float32)
    """
    return _filled("eye_", tensor, lambda shape: np.eye(shape[0], shape[1]), rank=2)


def xavier_uniform_(tensor: T, gain: float = 1.0) -> T:
    """Fill with draws from U(−a, a), a = gain √(6 / (fan_in + fan_out)) (Glorot & Bengio, "Understanding the difficulty
    of training deep feedforward neural networks", 2010, eq. 16).

    Arguments:
        tensor: f[out, in, ...]; fan_in is in, and fan_out is out, times the further axes.
        gain: see `calculate_gain`.

    >>> from autobatch.nn import init
    >>> p = init.xavier_uniform_(ab.Parameter(np.zeros((4, 2))))
    >>> bool((abs(p.value) <= 1).all())
    True
    """
    bound = gain * math.sqrt(6 / sum(_fans("xavier_uniform_", tensor)))
    return uniform_(tensor, -bound, bound)


def xavier_normal_(tensor: T, gain: float = 1.0) -> T:
    """Fill with draws from N(0, 2 gain² / (fan_in + fan_out)); as `xavier_uniform_`.

    Raises TypeError for what is neither parameter nor buffer.

    >>> from autobatch.nn import init
    >>> p = init.xavier_normal_(ab.Parameter(np.zeros((4, 2))))
    >>> bool(p.value.any())
    True
    """
    return normal_(tensor, 0.0, gain * math.sqrt(2 / sum(_fans("xavier_normal_", tensor))))


def kaiming_uniform_(tensor: T, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu") -> T:
    """Fill with draws from U(−b, b), b = gain √(3 / fan) (He et al., "Delving deep into rectifiers", 2015, eq. 10).

    Arguments:
        tensor: f[out, in, ...].
        a: slope of a leaky_relu below 0.
        mode: "fan_in" keeps the variance of the forward pass, "fan_out" that of the backward pass.
        nonlinearity: what comes after the layer; see `calculate_gain`.

    >>> from autobatch.nn import init
    >>> p = init.kaiming_uniform_(ab.Parameter(np.zeros((4, 6))), nonlinearity="relu")
    >>> bool((abs(p.value) <= 1).all())
    True
    """
    bound = math.sqrt(3.0) * _he("kaiming_uniform_", tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound)


def kaiming_normal_(tensor: T, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu") -> T:
    """Fill with draws from N(0, gain² / fan); as `kaiming_uniform_`.

    Raises TypeError for what is neither parameter nor buffer.

    >>> from autobatch.nn import init
    >>> p = init.kaiming_normal_(ab.Parameter(np.zeros((4, 2))), nonlinearity="relu")
    >>> bool(p.value.any())
    True
    """
    return normal_(tensor, 0.0, _he("kaiming_normal_", tensor, a, mode, nonlinearity))


def lecun_normal_(tensor: T) -> T:
    """Fill `tensor` with draws from N(0, 1 / fan_in), normal/√n (LeCun et al., "Efficient backprop", 1998, eq. 16).

    Raises TypeError for what is neither parameter nor buffer.

    >>> from autobatch.nn import init
    >>> p = init.lecun_normal_(ab.Parameter(np.zeros((4, 2))))
    >>> bool(p.value.any())
    True
    """
    return kaiming_normal_(tensor, nonlinearity="linear")


def orthogonal_(tensor: T, gain: float = 1.0) -> T:
    """Fill with an orthogonal matrix times `gain`, drawn evenly among all (Saxe, McClelland & Ganguli, "Exact solutions
    to the nonlinear dynamics of learning in deep linear neural networks", 2014).

    Arguments:
        tensor: f[out, in, ...], taken as f[out, in · ...]; rows or columns, whichever are fewer, become orthonormal.

    Raises TypeError for what is neither parameter nor buffer.

    >>> from autobatch.nn import init
    >>> w = init.orthogonal_(ab.Parameter(np.zeros((3, 3)))).value
    >>> bool(np.allclose(w @ w.T, np.eye(3), atol=1e-6))
    True
    """

    def draw(shape: tuple[int, ...]) -> Array:
        rows, columns = shape[0], math.prod(shape[1:])
        q, r = np.linalg.qr(initial_generator().normal(size=(max(rows, columns), min(rows, columns))))
        q = q * np.sign(np.diag(r))
        return gain * (q if rows >= columns else q.T).reshape(shape)

    _fans("orthogonal_", tensor)
    return _filled("orthogonal_", tensor, draw)


def sparse_(tensor: T, sparsity: float, std: float = 0.01) -> T:
    """Fill `tensor`, a matrix, with draws from N(0, std²), and of each column the share `sparsity`, rounded up, with
    zeros (Martens, "Deep learning via Hessian-free optimization", 2010, section 5).

    Raises ValueError unless 0 ≤ sparsity ≤ 1.

    >>> from autobatch.nn import init
    >>> w = init.sparse_(ab.Parameter(np.zeros((4, 3))), sparsity=0.75).value
    >>> (w != 0).sum(axis=0)
    array([1, 1, 1])
    """
    if not 0 <= sparsity <= 1:
        raise ValueError(message("sparse_: sparsity out of range", expected="0 <= sparsity <= 1", got=f"{sparsity}"))

    def draw(shape: tuple[int, ...]) -> Array:
        generator = initial_generator()
        drawn = generator.normal(0.0, std, shape)
        places = np.argsort(generator.random(shape), axis=0)[: math.ceil(sparsity * shape[0])]
        np.put_along_axis(drawn, places, 0.0, axis=0)
        return drawn

    return _filled("sparse_", tensor, draw, rank=2)


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """By what a nonlinearity has to be made up for: 1 for "linear", "sigmoid" and convolutions, 5/3 for "tanh", √2 for
    "relu", √(2 / (1 + param²)) for "leaky_relu" (param 0.01 unless given), 3/4 for "selu", as in PyTorch.

    Raises ValueError for any other name.

    >>> from autobatch.nn import init
    >>> init.calculate_gain("leaky_relu", 1.0)
    1.0
    """
    slope = 0.01 if param is None else param
    gains = {"tanh": 5 / 3, "relu": math.sqrt(2), "leaky_relu": math.sqrt(2 / (1 + slope * slope)), "selu": 0.75}
    gains |= dict.fromkeys(("linear", "sigmoid", "conv1d", "conv2d", "conv3d"), 1.0)
    if nonlinearity not in gains:
        what = "calculate_gain: unknown nonlinearity"
        raise ValueError(message(what, expected=", ".join(sorted(gains)), got=repr(nonlinearity)))
    return gains[nonlinearity]


def _filled(name: str, tensor: T, draw: Callable[[tuple[int, ...]], Array], rank: int | None = None) -> T:
    """The parameter with new numbers, once all is checked."""
    if not isinstance(tensor, (Parameter, Buffer)):
        what = f"{name}: it fills what modules hold"
        raise TypeError(message(what, expected="ab.Parameter or nn.Buffer", got=type(tensor).__name__))
    if rank is not None and len(tensor.shape) != rank:
        raise ValueError(message(f"{name}: it fills a matrix", expected="f[n, m]", got=f"shape {tensor.shape}"))
    tensor.value = draw(tensor.shape)
    return tensor


def _fans(name: str, tensor: Parameter | Buffer) -> tuple[int, int]:
    """How many numbers an output is made of, and how many outputs one goes into."""
    shape = tensor.shape
    if len(shape) < 2 or not math.prod(shape):
        what = f"{name}: it goes by the widths of a layer"
        raise ValueError(message(what, expected="f[out, in, ...], none of them 0", got=f"shape {shape}"))
    return shape[1] * math.prod(shape[2:]), shape[0] * math.prod(shape[2:])


def _he(name: str, tensor: Parameter | Buffer, a: float, mode: str, nonlinearity: str) -> float:
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(message(f"{name}: unknown mode", expected="'fan_in' or 'fan_out'", got=repr(mode)))
    fan_in, fan_out = _fans(name, tensor)
    return calculate_gain(nonlinearity, a) / math.sqrt(fan_in if mode == "fan_in" else fan_out)


def _truncated(shape: tuple[int, ...], mean: float, std: float, a: float, b: float) -> Array:
    """By rejection: of normal draws where many are inside, otherwise of even ones."""
    generator = initial_generator()
    low, high = (a - mean) / std, (b - mean) / std
    inside = (math.erf(high / math.sqrt(2)) - math.erf(low / math.sqrt(2))) / 2
    nearest = min(max(low, 0.0), high)
    drawn = np.empty(math.prod(shape))
    missing = np.arange(drawn.size)
    while missing.size:
        if inside > 0.1:
            x = generator.normal(size=missing.size)
            is_taken = (low <= x) & (x <= high)
        else:
            x = generator.uniform(low, high, missing.size)
            is_taken = generator.random(missing.size) <= np.exp((nearest * nearest - x * x) / 2)
        drawn[missing[is_taken]] = x[is_taken]
        missing = missing[~is_taken]
    return mean + std * drawn.reshape(shape)
