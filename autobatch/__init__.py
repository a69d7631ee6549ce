"""autobatch: write the model for one example; train on minibatches; no padding, no masks."""

from . import errors
from . import numpy_functions as _numpy_functions  # noqa: F401 (NumPy's functions on values)
from .backends import backend, set_backend
from .backends.products import products, products_in_use, set_products
from .backends.threads import get_num_threads, set_num_threads
from .cells import cell, disable_cells
from .engine import check_finite, evaluate
from .errors import AutobatchError
from .explain import explain
from .fast_ops import concat, cross_entropy, exp, log, relu, sigmoid, softplus, split, sqrt, tanh
from .grad import grad, value_and_grad
from .mapping import map
from .modes import no_grad
from .ops.composite import log_softmax, logsumexp, softmax, squared_error
from .ops.elementwise import absolute as abs
from .ops.elementwise import maximum, minimum, power, where
from .ops.linalg import matmul
from .ops.movement import reshape, transpose
from .ops.value import Tensor
from .parameter import Parameter
from .profile import profile
from .random import dropout, normal, random_state, rng, seed, set_random_state, uniform
from .reductions import max, mean, stack, sum
from .reuse.store import forget
from .shared import constant, full, ones, zeros
from .tensor import tensor
from .types import set_default_dtype

from . import data, nn, optim  # isort: skip
from .saving import load, save  # isort: skip

__all__ = [
    "AutobatchError",
    "Parameter",
    "Tensor",
    "abs",
    "backend",
    "cell",
    "check_finite",
    "concat",
    "constant",
    "cross_entropy",
    "data",
    "disable_cells",
    "dropout",
    "errors",
    "evaluate",
    "exp",
    "explain",
    "forget",
    "full",
    "get_num_threads",
    "grad",
    "load",
    "log",
    "log_softmax",
    "logsumexp",
    "map",
    "matmul",
    "max",
    "maximum",
    "mean",
    "minimum",
    "nn",
    "no_grad",
    "normal",
    "ones",
    "optim",
    "power",
    "products",
    "products_in_use",
    "profile",
    "random_state",
    "relu",
    "reshape",
    "rng",
    "save",
    "seed",
    "set_backend",
    "set_default_dtype",
    "set_num_threads",
    "set_products",
    "set_random_state",
    "sigmoid",
    "softmax",
    "softplus",
    "split",
    "sqrt",
    "squared_error",
    "stack",
    "sum",
    "tanh",
    "tensor",
    "transpose",
    "uniform",
    "value_and_grad",
    "where",
    "zeros",
]
