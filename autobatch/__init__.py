"""autobatch: write the model for one example; train on minibatches; no padding, no masks."""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING as _TYPE_CHECKING, Any as _Any

# In the order of the rooms, from the ground up.
from . import errors
from .base.types import set_default_dtype
from .errors import AutobatchError
from .ops.composite import squared_error
from .ops.decompositions import cholesky, det, eigh, inverse, qr, slogdet, solve, svd, triangular_solve
from .ops.einsum import einsum
from .ops.elementwise import maximum, minimum, where
from .ops.functions import power
from .ops.gathering import gather, scatter_add, take
from .ops.linalg import matmul
from .ops.matrices import (
    all,
    any,
    bmm,
    cdist,
    cosine_similarity,
    count_nonzero,
    diagonal,
    dot,
    flip_gradient,
    kron,
    norm,
    one_hot,
    outer,
    stop_gradient,
    trace,
    tril,
    triu,
)
from .ops.scan import cumprod
from .ops.losses import (
    absolute_error,
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    cosine_embedding_loss,
    epsilon_insensitive,
    expected_cost,
    focal_loss,
    gaussian_nll_loss,
    hinge_embedding_loss,
    hinge_loss,
    huber_loss,
    kl_div,
    log_cosh,
    margin_ranking_loss,
    multi_margin_loss,
    nll_loss,
    perceptron_loss,
    poisson_nll_loss,
    smooth_l1_loss,
    soft_margin_loss,
    softmax_margin_loss,
    triplet_margin_loss,
)
from .ops.nonlinearities import (
    entmax,
    hardsigmoid,
    hardswish,
    hardtanh,
    isru,
    maxout,
    prelu,
    relu6,
    selu,
    softsign,
    sparsemax,
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
from .ops.segments import (
    segment_logsumexp,
    segment_max,
    segment_mean,
    segment_min,
    segment_softmax,
    segment_sum,
)
from .ops.shapes import broadcast_to, expand_dims, flip, repeat, roll, squeeze, tile
from .ops.sorting import argsort, median, sort, topk
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
from .record import exchange as _exchange  # noqa: F401 (tensors among arrays of other libraries)
from .record.array_api import from_dlpack
from .record.calls import absolute as abs
from .record.calls import (
    argmax,
    argmin,
    attention,
    celu,
    concat,
    cumsum,
    elu,
    gelu,
    glu,
    layer_norm,
    leaky_relu,
    log_sigmoid,
    log_softmax,
    logsumexp,
    max,
    mean,
    min,
    mish,
    prod,
    reshape,
    silu,
    softmax,
    split,
    std,
    sum,
    swiglu,
    transpose,
    var,
)
from .record.cells.cell import cell, disable_cells
from .record.checkpoint import checkpoint
from .record.choice import recorder
from .record.convolution import conv1d, pad
from .record.creation import arange, constant, eye, full, linspace, ones, ones_like, zeros, zeros_like
from .record.custom_vjp import custom_vjp
from .record.grad import grad, value_and_grad
from .record.jacobians import hessian, hvp, jacobian, jvp, vjp
from .record.modes import no_grad
from .record.ops import cross_entropy, exp, log, relu, sigmoid, softplus, sqrt, tanh
from .record.parameter import Parameter
from .record.random import dropout, gumbel_softmax, normal, random_state, rng, seed, set_random_state, uniform
from .record.recorder import tensor
from .record.view_paths import stack
from .engine import backward as _backward  # noqa: F401 (fills the hooks of `record.forcing`)
from .engine.printing import print
from .engine.values import check_finite, evaluate
from .map.map import map
from .map.store import forget
from .explain.explain import explain
from .explain.profile import profile

if _TYPE_CHECKING:
    from . import data, nn, optim, structured, train
    from .nn.saving import load, save

__version__ = "0.1.0"

__all__ = [
    "AutobatchError",
    "Parameter",
    "Tensor",
    "TensorLike",
    "abs",
    "absolute_error",
    "all",
    "any",
    "arange",
    "arccos",
    "arccosh",
    "arcsin",
    "arcsinh",
    "arctan",
    "arctan2",
    "arctanh",
    "argmax",
    "argmin",
    "argsort",
    "attention",
    "backend",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "bmm",
    "broadcast_to",
    "cdist",
    "ceil",
    "cell",
    "celu",
    "check_finite",
    "checkpoint",
    "cholesky",
    "clip",
    "concat",
    "constant",
    "conv1d",
    "cos",
    "cosh",
    "cosine_embedding_loss",
    "cosine_similarity",
    "count_nonzero",
    "cross_entropy",
    "cumprod",
    "cumsum",
    "custom_vjp",
    "data",
    "det",
    "diagonal",
    "digamma",
    "disable_cells",
    "dot",
    "dropout",
    "eigh",
    "einsum",
    "elu",
    "entmax",
    "epsilon_insensitive",
    "erf",
    "erfc",
    "erfinv",
    "errors",
    "evaluate",
    "exp",
    "expand_dims",
    "expected_cost",
    "explain",
    "expm1",
    "eye",
    "flip",
    "flip_gradient",
    "floor",
    "focal_loss",
    "forget",
    "from_dlpack",
    "full",
    "gather",
    "gaussian_nll_loss",
    "gelu",
    "get_num_threads",
    "glu",
    "grad",
    "gumbel_softmax",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "hessian",
    "hinge_embedding_loss",
    "hinge_loss",
    "huber_loss",
    "hvp",
    "hypot",
    "inverse",
    "isfinite",
    "isinf",
    "isnan",
    "isru",
    "jacobian",
    "jvp",
    "kl_div",
    "kron",
    "layer_norm",
    "leaky_relu",
    "lgamma",
    "linspace",
    "load",
    "log",
    "log1p",
    "log_cosh",
    "log_sigmoid",
    "log_softmax",
    "logaddexp",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "logsumexp",
    "map",
    "margin_ranking_loss",
    "matmul",
    "max",
    "maximum",
    "maxout",
    "mean",
    "median",
    "min",
    "minimum",
    "mish",
    "multi_margin_loss",
    "nan_to_num",
    "nll_loss",
    "nn",
    "no_grad",
    "norm",
    "normal",
    "one_hot",
    "ones",
    "ones_like",
    "optim",
    "outer",
    "pad",
    "perceptron_loss",
    "poisson_nll_loss",
    "power",
    "prelu",
    "print",
    "prod",
    "products",
    "products_in_use",
    "profile",
    "qr",
    "random_state",
    "reciprocal",
    "recorder",
    "relu",
    "relu6",
    "repeat",
    "reshape",
    "rng",
    "roll",
    "round",
    "rsqrt",
    "save",
    "scatter_add",
    "seed",
    "segment_logsumexp",
    "segment_max",
    "segment_mean",
    "segment_min",
    "segment_softmax",
    "segment_sum",
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
    "slogdet",
    "smooth_l1_loss",
    "soft_margin_loss",
    "softmax",
    "softmax_margin_loss",
    "softplus",
    "softsign",
    "solve",
    "sort",
    "sparsemax",
    "split",
    "sqrt",
    "square",
    "squared_error",
    "squeeze",
    "stack",
    "std",
    "stop_gradient",
    "structured",
    "sum",
    "svd",
    "swiglu",
    "take",
    "tan",
    "tanh",
    "tensor",
    "tile",
    "topk",
    "trace",
    "train",
    "transpose",
    "triangular_solve",
    "tril",
    "triplet_margin_loss",
    "triu",
    "trunc",
    "uniform",
    "value_and_grad",
    "var",
    "vjp",
    "where",
    "xlogy",
    "zeros",
    "zeros_like",
]

_FIRST_READ = {
    "load": "nn.saving",
    "save": "nn.saving",
    **dict.fromkeys(("data", "nn", "optim", "structured", "train")),
}
"""What is imported when it is first read, as `import autobatch` is to take less long; of functions the module."""


def __getattr__(name: str) -> _Any:
    if name not in _FIRST_READ:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = _import_module(f"{__name__}.{_FIRST_READ[name] or name}")
    globals()[name] = found if _FIRST_READ[name] is None else getattr(found, name)
    return globals()[name]


def __dir__() -> list[str]:
    return __all__
