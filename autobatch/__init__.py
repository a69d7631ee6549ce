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
from .ops.nonlinearities import (
    celu,
    elu,
    entmax,
    gelu,
    glu,
    hardsigmoid,
    hardswish,
    hardtanh,
    isru,
    leaky_relu,
    log_sigmoid,
    maxout,
    mish,
    prelu,
    relu6,
    selu,
    silu,
    softsign,
    sparsemax,
    swiglu,
)
from .ops.numbers import (
    ceil,
    clip,
    floor,
    isfinite,
    isinf,
    isnan,
    logical_and,
    logical_not,
    logical_or,
    logical_xor,
    nan_to_num,
    reciprocal,
    round,
    rsqrt,
    sign,
    square,
    trunc,
)
from .ops.special import digamma, erf, erfc, erfinv, expm1, lgamma, log1p, logaddexp, xlogy
from .ops.trigonometry import (
    arccos,
    arccosh,
    arcsin,
    arcsinh,
    arctan,
    arctan2,
    arctanh,
    cos,
    cosh,
    hypot,
    sin,
    sinh,
    tan,
)
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
    "arccos",
    "arccosh",
    "arcsin",
    "arcsinh",
    "arctan",
    "arctan2",
    "arctanh",
    "argmax",
    "argmin",
    "attention",
    "backend",
    "ceil",
    "cell",
    "celu",
    "check_finite",
    "clip",
    "concat",
    "constant",
    "conv1d",
    "cos",
    "cosh",
    "cross_entropy",
    "cumsum",
    "data",
    "digamma",
    "disable_cells",
    "dropout",
    "elu",
    "entmax",
    "erf",
    "erfc",
    "erfinv",
    "errors",
    "evaluate",
    "exp",
    "explain",
    "expm1",
    "floor",
    "forget",
    "full",
    "gelu",
    "get_num_threads",
    "glu",
    "grad",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "hypot",
    "isfinite",
    "isinf",
    "isnan",
    "isru",
    "layer_norm",
    "leaky_relu",
    "lgamma",
    "load",
    "log",
    "log1p",
    "log_sigmoid",
    "log_softmax",
    "logaddexp",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "logsumexp",
    "map",
    "matmul",
    "max",
    "maximum",
    "maxout",
    "mean",
    "min",
    "minimum",
    "mish",
    "nan_to_num",
    "nn",
    "no_grad",
    "normal",
    "ones",
    "optim",
    "pad",
    "power",
    "prelu",
    "prod",
    "products",
    "products_in_use",
    "profile",
    "random_state",
    "reciprocal",
    "relu",
    "relu6",
    "reshape",
    "rng",
    "round",
    "rsqrt",
    "save",
    "seed",
    "selu",
    "set_backend",
    "set_default_dtype",
    "set_num_threads",
    "set_products",
    "set_random_state",
    "set_schedule",
    "sigmoid",
    "sign",
    "silu",
    "sin",
    "sinh",
    "softmax",
    "softplus",
    "softsign",
    "sparsemax",
    "split",
    "sqrt",
    "square",
    "squared_error",
    "stack",
    "std",
    "sum",
    "swiglu",
    "tan",
    "tanh",
    "tensor",
    "transpose",
    "trunc",
    "uniform",
    "value_and_grad",
    "var",
    "where",
    "xlogy",
    "zeros",
]


def __dir__() -> list[str]:
    return __all__
