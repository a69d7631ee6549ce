"""Initial values of parameters: PyTorch's default distributions, drawn from the generator that `ab.seed` starts."""

from __future__ import annotations

import math

import numpy as np

from ..record.parameter import Parameter
from ..record.random import initial_generator


def uniform(shape: tuple[int, ...], bound: float) -> Parameter:
    """Parameter drawn from U(−bound, bound).

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
    """
    return uniform(shape, 1 / math.sqrt(width) if width > 0 else 0.0)


def normal(shape: tuple[int, ...], deviation: float = 1.0) -> Parameter:
    """Parameter drawn from the normal distribution of mean 0 and the given standard deviation."""
    return Parameter(initial_generator().normal(0.0, deviation, shape))


def zeros(shape: tuple[int, ...]) -> Parameter:
    """Parameter of zeros."""
    return Parameter(np.zeros(shape))


def ones(shape: tuple[int, ...]) -> Parameter:
    """Parameter of ones."""
    return Parameter(np.ones(shape))
