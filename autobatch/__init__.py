"""autobatch: write the model for one example; train on minibatches; no padding, no masks."""

# In the order of the rooms, from the ground up.
from . import errors
from .base.types import set_default_dtype
from .errors import AutobatchError
from .ops.composite import layer_norm, log_softmax, logsumexp, softmax, squared_error
from .ops.elementwise import absolute as abs
from .ops.elementwise import maximum, minimum, where
from .ops.functions import power
from .ops.linalg import matmul
from .ops.movement import transpose
from .ops.scan import cumsum
from .ops.value import Tensor, TensorLike
from .backends import backend, set_backend
from .backends.host.matmul import products, products_in_use, set_products
from .backends.host.threads import get_num_threads, set_num_threads
from .schedule.policies import set_schedule
from .record import numpy_functions as _numpy_functions  # noqa: F401 (NumPy's functions on tensors)
from .record.attention import attention
from .record.cells.cell import cell, disable_cells
from .record.convolution import conv1d, pad
from .record.creation import constant, full, ones, zeros
from .record.grad import grad, value_and_grad
from .record.modes import no_grad
from .record.ops import concat, cross_entropy, exp, log, relu, sigmoid, softplus, split, sqrt, tanh
from .record.parameter import Parameter
from .record.random import dropout, normal, random_state, rng, seed, set_random_state, uniform
from .record.reductions import argmax, argmin, max, mean, min, prod, std, sum, var
from .record.recorder import tensor
from .record.view_paths import reshape, stack
from .engine import backward as _backward  # noqa: F401 (fills the hooks of `record.forcing`)
from .engine.values import check_finite, evaluate
from .map.map import map
from .map.store import forget
from .explain.explain import explain
from .explain.profile import profile
from . import data, nn, optim
from .nn.saving import load, save

__all__ = [
    "AutobatchError",
    "Parameter",
    "Tensor",
    "TensorLike",
    "abs",
    "argmax",
    "argmin",
    "attention",
    "backend",
    "cell",
    "check_finite",
    "concat",
    "constant",
    "conv1d",
    "cross_entropy",
    "cumsum",
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
    "layer_norm",
    "load",
    "log",
    "log_softmax",
    "logsumexp",
    "map",
    "matmul",
    "max",
    "maximum",
    "mean",
    "min",
    "minimum",
    "nn",
    "no_grad",
    "normal",
    "ones",
    "optim",
    "pad",
    "power",
    "prod",
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
    "set_schedule",
    "sigmoid",
    "softmax",
    "softplus",
    "split",
    "sqrt",
    "squared_error",
    "stack",
    "std",
    "sum",
    "tanh",
    "tensor",
    "transpose",
    "uniform",
    "value_and_grad",
    "var",
    "where",
    "zeros",
]


def __dir__() -> list[str]:
    return __all__
