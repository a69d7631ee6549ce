"""Write docs/ops.md, the table of ops, from their declarations: `python docs/make_ops.py`."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import autobatch as ab
from autobatch.ops import OPS, Op
from autobatch.ops.elementwise import no_gradient
from autobatch.ops.segments import SEGMENTS


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


NOT_OPS = _names(
    """
    backend cell check_finite checkpoint constant disable_cells evaluate explain forget from_dlpack get_num_threads grad
    hessian hvp jacobian jvp load map no_grad print products products_in_use profile random_state recorder rng save
    seed set_backend set_default_dtype set_num_threads set_products set_random_state set_schedule tensor
    value_and_grad vjp
    """
)
"""Public functions that compute no value from values by themselves."""

NUMPY = _names(
    """
    abs all any arange arccos arccosh arcsin arcsinh arctan arctan2 arctanh argmax argmin argsort broadcast_to ceil
    clip concat cos cosh count_nonzero cumprod cumsum diagonal dot einsum exp expand_dims expm1 eye flip floor full
    hypot isfinite isinf isnan kron linalg.cholesky linalg.det linalg.eigh linalg.qr linalg.slogdet linalg.solve
    linalg.svd linspace log log1p logaddexp logical_and logical_not logical_or logical_xor matmul max maximum mean
    median min minimum nan_to_num ones ones_like outer pad prod reciprocal repeat reshape roll round sign sin
    sinh sort sqrt square squeeze stack std sum take tan tanh tile trace transpose tril triu trunc var where
    zeros zeros_like
    """
)
"""What NumPy has by the same name, in its own namespace or one inside; `OTHER_NAMES` says what it calls more."""
TORCH = _names(
    """
    abs all any arange arccos arccosh arcsin arcsinh arctan arctan2 arctanh argmax argmin argsort bmm broadcast_to
    cdist ceil
    celu clip concat conv1d cos cosh cosine_similarity count_nonzero cumprod cumsum diagonal digamma dropout einsum
    erf erfc erfinv exp expm1 eye flip floor full gather hypot isfinite isinf isnan kron layer_norm lgamma
    linalg.cholesky linalg.det linalg.eigh linalg.qr linalg.slogdet linalg.solve linalg.svd linspace log log1p
    log_softmax logaddexp logical_and logical_not logical_or logical_xor logsumexp matmul maximum mean median
    minimum nan_to_num ones ones_like outer prelu prod reciprocal relu reshape roll round rsqrt scatter_add selu
    sigmoid sign sin sinh softmax sort sqrt square squeeze stack std sum take tan tanh tile topk trace tril triu
    trunc var where xlogy zeros zeros_like
    """
)
FUNCTIONAL = _names(
    """
    binary_cross_entropy binary_cross_entropy_with_logits cosine_embedding_loss cross_entropy elu gaussian_nll_loss
    gelu glu gumbel_softmax hardsigmoid hardswish hardtanh hinge_embedding_loss huber_loss kl_div leaky_relu
    margin_ranking_loss mish multi_margin_loss nll_loss one_hot pad poisson_nll_loss relu6 silu smooth_l1_loss
    soft_margin_loss softplus softsign triplet_margin_loss
    """
)
"""What PyTorch has by the same name, in `torch` and in `torch.nn.functional`."""
OTHER_NAMES = {
    "absolute_error": ("", "nn.functional.l1_loss"),
    "attention": ("", "nn.functional.scaled_dot_product_attention"),
    "focal_loss": ("", "ops.sigmoid_focal_loss (torchvision)"),
    "inverse": ("linalg.inv", "linalg.inv"),
    "log_sigmoid": ("", "nn.functional.logsigmoid"),
    "norm": ("linalg.vector_norm", "linalg.vector_norm"),
    "normal": ("random.Generator.standard_normal", "randn"),
    "power": ("power", "pow"),
    "segment_max": ("", "scatter_reduce"),
    "segment_mean": ("", "scatter_reduce"),
    "segment_min": ("", "scatter_reduce"),
    "segment_sum": ("", "index_add"),
    "split": ("split", "tensor_split"),
    "stop_gradient": ("", "Tensor.detach"),
    "triangular_solve": ("", "linalg.solve_triangular"),
    "uniform": ("random.Generator.random", "rand"),
}
OWN_NAMES = {name: f"{name}s" for name in SEGMENTS}
"""Functions whose op has another name."""


def namesakes(name: str) -> tuple[str, str]:
    """What NumPy and PyTorch call it."""
    if name in OTHER_NAMES:
        return OTHER_NAMES[name]
    spaces = ((NUMPY, ""), (NUMPY, "linalg.")), ((TORCH, ""), (TORCH, "linalg."), (FUNCTIONAL, "nn.functional."))
    found = []
    for places in spaces:
        own = [s + name for names, s in places if (s if s == "linalg." else "") + name in names]
        found.append(own[0] if own else "")
    return found[0], found[1]


def lengths(op: Op | None) -> str:
    """Along which axes numbers of rows that differ share a launch."""
    if op is None:
        return "as its parts"
    along = ["rows"] * (op.lead is not None or op.over_rows is not None)
    along += ["along the axis"] * (op.over_list is not None)
    return ", ".join(along) or ("any" if op.name.startswith("segment_") else "")


def derivatives(op: Op | None) -> str:
    """Of which orders there are derivatives."""
    if op is None:
        return "as its parts"
    if op.body is None:
        return "none" if op.vjp in (no_gradient, None) else "all"
    samples = op.samples(np.random.default_rng(0)) if op.samples else []
    return "all" if any(s.smooth for s in samples if s.error is None) else "none"


def functions() -> dict[str, Callable[..., Any]]:
    """The public functions that are ops, or made of them."""
    found = {name: getattr(ab, name) for name in ab.__all__ if name not in NOT_OPS}
    return {name: f for name, f in found.items() if callable(f) and not inspect.isclass(f)}


def table() -> str:
    """The page."""
    lines = [
        "# Ops",
        "",
        "Written by `python docs/make_ops.py` from the declarations of the ops; do not edit. All run on NumPy, Numba",
        "and CUDA. *Lengths* says where numbers of rows that differ from example to example share a launch: of rows",
        "that an op carries along, or along the axis that it works on. A function without an op of its own is made of",
        "others. Derivatives are written in ops, so they have derivatives, too; tests check them to second order.",
        "",
        "| `ab.` | | shapes | NumPy | PyTorch | lengths | derivatives |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, function in functions().items():
        text = inspect.getdoc(function) or ""
        first = text.split("\n")[0].replace("|", "\\|")
        shapes = dict.fromkeys(re.findall(r"`(\w+: \w+\[[^`]*\])`", text))
        op = OPS.get(OWN_NAMES.get(name, name))
        cells = [
            f"`{name}`",
            first,
            ", ".join(f"`{s}`" for s in shapes),
            *namesakes(name),
            lengths(op),
            derivatives(op),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    (Path(__file__).parent / "ops.md").write_text(table(), encoding="utf-8")
