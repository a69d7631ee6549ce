"""Scaled dot-product attention between two lists of any lengths, and its derivatives of every order, by two primitives.

Queries i and keys j of a node have scores s_ij = scale q_i·k_j + bias_ij, and a query has the logarithm l_i of the sum
of its exponentials. With the weights p_ij = exp(s_ij - l_i) there are

    ATTENTION       Σ_j p_ij v_j, and l_i as one more column
    ATTENTION_SUM   sums of a_ij = p_ij Π_r w_ij^r: Σ_j a_ij z_j, Σ_i a_ij z_i, or a_ij itself

where each w^r is a product x_i·y_j, or given for each pair. Derivatives of such sums are such sums with one more factor
(Dao et al. 2022, "FlashAttention", appendix B, has the first ones), so nothing but l_i is kept for the backward pass,
and no array of pairs is made but for a bias that has a gradient; what runs makes a block of some queries at a time.

Where x_i has one number more than y_j, that is added to the product; a sum over keys may have Σ_j a_ij as one more
column: its cotangent then is such an x_i.

A query that no key is left for has l_i = inf, so that its weights, its result and its gradients are 0, as in PyTorch.

A value for each query is f[h, d] in a single graph, and f[n, h, d] in a batched one, where the numbers of the nodes of
queries, keys and pairs come after the operands. Pairs f[h] or f[1] are query by query, each with all keys of its node.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..base.types import Type, tensor_type
from .composite import safe_max
from .declare import Attrs, Sample, apply, declare
from .elementwise import equal, where
from .functions import exp
from .linalg import MATMUL
from .movement import concat, reshape, slice_axis, swapped, transpose
from .reduce import SUM

QUERIES, KEYS, PAIRS = 0, 1, 2
"""What an operand or result has values for."""

N_BLOCK = 256
"""Queries at a time, in the reference."""


def sides(op_attrs: Attrs) -> list[int]:
    """What each operand of an attention op has values for, before the numbers of nodes."""
    _, _, _, biased, *rest = op_attrs
    found = [QUERIES, KEYS, QUERIES if rest else KEYS, *[PAIRS] * biased]
    if rest:
        n_products, n_given, side, _ = rest
        found += [QUERIES, KEYS] * n_products + [PAIRS] * n_given
        found += {QUERIES: [KEYS], KEYS: [QUERIES], PAIRS: []}[side]
    return found


def result_side(op_attrs: Attrs) -> int:
    """What the result of an attention op has values for."""
    return int(op_attrs[6]) if len(op_attrs) > 4 else QUERIES


@dataclass(frozen=True, slots=True)
class Sum:
    """Operands and attributes of an ATTENTION_SUM.

    side: which index is left; total: whether Σ_j a_ij is one more column
    """

    q: Any
    k: Any
    lse: Any
    bias: tuple[Any, ...]
    products: tuple[tuple[Any, Any], ...]
    given: tuple[Any, ...]
    z: tuple[Any, ...]
    nodes: tuple[Any, ...]
    first: Attrs  # the attributes of ATTENTION
    side: int
    total: bool

    def value(self) -> Any:
        """The sum, recorded."""
        pairs = tuple(x for pair in self.products for x in pair)
        operands = (self.q, self.k, self.lse, *self.bias, *pairs, *self.given, *self.z, *self.nodes)
        attrs = (*self.first, len(self.products), len(self.given), self.side, self.total)
        return apply(ATTENTION_SUM, operands, attrs)

    def over_keys(self, z: Any, total: bool = False) -> Any:
        """Σ_j a_ij z_j."""
        return replace(self, z=(z,), side=QUERIES, total=total).value()

    def over_queries(self, z: Any) -> Any:
        """Σ_i a_ij z_i."""
        return replace(self, z=(z,), side=KEYS, total=False).value()

    def of_pairs(self) -> Any:
        """a_ij."""
        return replace(self, z=(), side=PAIRS, total=False).value()

    def times(self, x: Any, y: Any) -> Sum:
        """With x_i·y_j as one more factor."""
        return replace(self, products=(*self.products, (x, y)))

    def times_given(self, w: Any) -> Sum:
        """With w_ij as one more factor."""
        return replace(self, given=(*self.given, w))

    def without_product(self, r: int) -> Sum:
        """Without product r."""
        return replace(self, products=(*self.products[:r], *self.products[r + 1 :]))

    def without_given(self, r: int) -> Sum:
        """Without given factor r."""
        return replace(self, given=(*self.given[:r], *self.given[r + 1 :]))


def parsed(x: Sequence[Any], attrs: Attrs) -> Sum:
    """The operands and attributes of an ATTENTION_SUM by name."""
    biased, n_products, n_given, side, total = attrs[3:]
    rest = iter(x[3:])
    bias = tuple(next(rest) for _ in range(biased))
    products = tuple((next(rest), next(rest)) for _ in range(n_products))
    given = tuple(next(rest) for _ in range(n_given))
    z = () if side == PAIRS else (next(rest),)
    q, k, lse = x[:3]
    return Sum(q, k, lse, bias, products, given, z, tuple(rest), attrs[:4], side, total)


# Derivatives.


def _attention_vjp(g: Any, y: Any, x: tuple[Any, ...], attrs: Attrs) -> tuple[Any, ...]:
    biased, scale = attrs[3], attrs[2]
    q, k, v, *rest = x
    e = v.shape[-1]
    lse, g_out = slice_axis(y, -1, e, 1), slice_axis(g, -1, 0, e)
    of_lse = slice_axis(g, -1, e, 1) - apply(SUM, (g_out * slice_axis(y, -1, 0, e),), ((-1,), True))
    bias, nodes = tuple(rest[:biased]), tuple(rest[biased:])
    plain = Sum(q, k, lse, bias, (), (), (), nodes, attrs[:4], QUERIES, False)
    slope = plain.times(concat([g_out, of_lse], -1), v)
    found = [slope.over_keys(k) * scale, slope.over_queries(q) * scale, plain.over_queries(g_out)]
    return *found, *([slope.of_pairs()] if biased else []), *[None] * len(nodes)


def _sum_vjp(g: Any, y: Any, x: tuple[Any, ...], attrs: Attrs) -> tuple[Any, ...]:
    s, scale = parsed(x, attrs), attrs[2]
    own: tuple[Any, Any] | None = None
    if s.side == PAIRS:
        slope = s.times_given(g)
    else:
        own = (g, s.z[0]) if s.side == QUERIES else (s.z[0], g)
        slope = s.times(*own)

    def times_own(rest: Sum) -> Sum:
        return rest.times_given(g) if own is None else rest.times(*own)

    e = s.k.shape[-1]
    both = slope.over_keys(s.k, total=True)
    found = [slice_axis(both, -1, 0, e) * scale, slope.over_queries(s.q) * scale, -slice_axis(both, -1, e, 1)]
    if s.bias:
        found.append(slope.of_pairs())
    for r, (a, b) in enumerate(s.products):
        others = times_own(s.without_product(r))
        width = b.shape[-1]
        found.append(others.over_keys(b, total=a.shape[-1] > width))
        found.append(others.over_queries(slice_axis(a, -1, 0, width)))
    found += [times_own(s.without_given(r)).of_pairs() for r in range(len(s.given))]
    if s.side == QUERIES:
        found.append(s.over_queries(slice_axis(g, -1, 0, s.z[0].shape[-1])))
    elif s.side == KEYS:
        found.append(s.over_keys(g))
    return *found, *[None] * len(s.nodes)


# Types and references.


def _infer_attention(types: Sequence[Type], attrs: Attrs) -> Type:
    q, _, v, *_ = types
    return tensor_type(q.dtype, (*q.shape[:-1], v.shape[-1] + 1))


def _infer_sum(types: Sequence[Type], attrs: Attrs) -> Type:
    s = parsed(types, attrs)
    if s.side == PAIRS:
        lead = (*s.bias, *s.given)[0].shape[:-1]
        return tensor_type(s.q.dtype, (*lead, s.q.shape[-2]))
    lead = (s.q if s.side == QUERIES else s.k).shape[:-1]
    return tensor_type(s.q.dtype, (*lead, s.z[0].shape[-1] + s.total))


def _blocks(nodes: Sequence[Any]) -> Iterator[tuple[slice, slice, slice, int]]:
    """Some queries of one node, its keys, their pairs, and the number of the first query among those of the node."""
    of_queries, of_keys = nodes[:2]
    pair = 0
    for node in np.unique(of_queries):
        i0, i1 = np.searchsorted(of_queries, [node, node + 1])
        j0, j1 = np.searchsorted(of_keys, [node, node + 1])
        for i in range(i0, i1, N_BLOCK):
            end = min(i + N_BLOCK, i1)
            n_pairs = (end - i) * (j1 - j0)
            yield slice(i, end), slice(j0, j1), slice(pair, pair + n_pairs), i - i0
            pair += n_pairs


def _of_pairs(x: Any, pairs: slice, i: slice, j: slice) -> Any:
    """Numbers of pairs as [heads, queries, keys]."""
    return x[pairs].reshape(i.stop - i.start, j.stop - j.start, x.shape[-1]).transpose(2, 0, 1)


def _scores(q: Any, k: Any, bias: Any, causal: bool, scale: float, first: int) -> Any:
    s = np.einsum("ihd,jhd->hij", q, k) * q.dtype.type(scale)
    if bias is not None:
        s = s + bias
    if causal:
        s = np.where(np.arange(len(k)) <= first + np.arange(len(q))[:, None], s, q.dtype.type(-np.inf))
    return s


def _attention(*args: Any) -> Any:
    q, k, v, *rest = args[:-4]
    _, causal, scale, biased = args[-4:]
    bias, nodes = rest[:biased], rest[biased:]
    result = np.zeros((*q.shape[:-1], v.shape[-1] + 1), q.dtype)
    result[..., -1] = np.inf
    for i, j, pairs, first in _blocks(nodes):
        if j.start == j.stop:
            continue
        s = _scores(q[i], k[j], _of_pairs(bias[0], pairs, i, j) if biased else None, causal, scale, first)
        top = s.max(-1, keepdims=True)
        top = np.where(top == -np.inf, q.dtype.type(0), top)
        weights = np.exp(s - top)
        total = weights.sum(-1, keepdims=True)
        weights /= np.where(total == 0, q.dtype.type(1), total)
        result[i, :, :-1] = np.einsum("hij,jhe->ihe", weights, v[j])
        result[i, :, -1] = np.where(total == 0, q.dtype.type(np.inf), top + np.log(total))[..., 0].T
    return result


def _attention_sum(*args: Any) -> Any:
    attrs = args[-8:]
    s = parsed(args[:-8], attrs)
    _, causal, scale, _ = s.first
    type = _infer_sum([tensor_type(x.dtype, x.shape) for x in args[:-8]], attrs)
    result = np.zeros(type.shape, type.dtype)
    for i, j, pairs, first in _blocks(s.nodes):
        bias = _of_pairs(s.bias[0], pairs, i, j) if s.bias else None
        a = np.exp(_scores(s.q[i], s.k[j], bias, causal, scale, first) - s.lse[i].transpose(1, 0, 2))
        for x, y in s.products:
            width = y.shape[-1]
            w = np.einsum("ihd,jhd->hij", x[i, :, :width], y[j])
            a = a * (w + x[i, :, width:].transpose(1, 0, 2) if x.shape[-1] > width else w)
        for w in s.given:
            a = a * _of_pairs(w, pairs, i, j)
        if s.side == PAIRS:
            result[pairs] = a.transpose(1, 2, 0).reshape(-1, result.shape[-1])
        elif s.side == KEYS:
            result[j] += np.einsum("hij,ihe->jhe", a, s.z[0][i])
        else:
            width = s.z[0].shape[-1]
            result[i, :, :width] = np.einsum("hij,jhe->ihe", a, s.z[0][j])
            if s.total:
                result[i, :, width] = a.sum(-1).T
    return result


# Samples, as a batched graph has them: two nodes, with two queries and three keys, and one of each.

_NODES = np.array([0, 0, 1]), np.array([0, 0, 0, 1])
_OF_PAIRS = np.array([0] * 6 + [1])


def _attention_samples(rng: np.random.Generator) -> list[Sample]:
    q, k, v = rng.normal(size=(3, 2, 2)), rng.normal(size=(4, 2, 2)), rng.normal(size=(4, 2, 3))
    nothing = np.full((7, 1), -np.inf)
    return [
        Sample((q, k, v, *_NODES), (None, False, 0.7, 0)),
        Sample((q, k, v, *_NODES), (None, True, 0.7, 0)),
        Sample((q, k, v, rng.normal(size=(7, 1)), *_NODES, _OF_PAIRS), (None, False, 0.7, 1)),
        Sample((q, k, v, rng.normal(size=(7, 2)), *_NODES, _OF_PAIRS), (None, True, 0.7, 1)),
        Sample((q, k, v, nothing, *_NODES, _OF_PAIRS), (None, False, 0.7, 1), smooth=False),
    ]


def _sum_samples(rng: np.random.Generator) -> list[Sample]:
    def queries(width: int) -> Any:
        return rng.normal(size=(3, 2, width))

    def keys(width: int) -> Any:
        return rng.normal(size=(4, 2, width))

    def pairs() -> Any:
        return rng.normal(size=(7, 2))

    start = queries(2), keys(2), queries(1)
    return [
        Sample((*start, keys(2), *_NODES), (None, False, 0.7, 0, 0, 0, QUERIES, True)),
        Sample((*start, queries(3), keys(2), keys(2), *_NODES), (None, True, 0.7, 0, 1, 0, QUERIES, False)),
        Sample((*start, queries(2), keys(2), queries(2), *_NODES), (None, False, 0.7, 0, 1, 0, KEYS, False)),
        Sample((*start, pairs(), pairs(), *_NODES, _OF_PAIRS), (None, False, 0.7, 1, 0, 1, PAIRS, False)),
        Sample((*start, pairs(), pairs(), queries(1), *_NODES, _OF_PAIRS), (None, False, 0.7, 1, 0, 1, KEYS, False)),
    ]


ATTENTION = declare(
    "attention",
    "sums of values weighted by the softmax of scaled products of queries and keys; and the softmax's denominator, "
    "as a logarithm",
    _infer_attention,
    _attention,
    _attention_vjp,
    "segments",
    samples=_attention_samples,
    dtypes="keep",
)
ATTENTION_SUM = declare(
    "attention_sum",
    "sums over keys or queries, or none, of the weights of an attention, times products of vectors of both",
    _infer_sum,
    _attention_sum,
    _sum_vjp,
    "segments",
    samples=_sum_samples,
    dtypes="keep",
)


def fixed_attention(
    causal: bool, scale: float, q: Any, k: Any, v: Any, bias: Any = None, change: Callable[[Any], Any] | None = None
) -> Any:
    """The attention of values of fixed shape, f[n, h, d] or f[n, d] or one query f[d], by matrix products; the bias
    broadcasts to f[h, n, m], which the weights are that are changed."""
    flat, one = len(k.shape) == 2, len(q.shape) < len(k.shape)
    if one:
        q = reshape(q, (1, *q.shape))
    if not flat:
        q, k, v = (transpose(x, (1, 0, 2)) for x in (q, k, v))
    s = apply(MATMUL, (q * scale, swapped(k)))
    if bias is not None:
        s = s + bias
    if causal:
        s = s + np.where(np.tri(*s.shape[-2:]) > 0, 0, -np.inf).astype(s.dtype)
    e = exp(s - safe_max(s, -1))
    total = apply(SUM, (e,), ((-1,), True))
    weights = e / where(equal(total, 0.0), 1.0, total)
    y = apply(MATMUL, (weights if change is None else change(weights), v))
    y = y if flat else transpose(y, (1, 0, 2))
    return reshape(y, y.shape[1:]) if one else y


def attended(lists: tuple[int, ...], causal: bool, scale: float, q: Any, k: Any, v: Any, bias: Any = None) -> Any:
    """The attention of values of a single graph: of each query f[h, d] or f[d] in list `lists[0]` (0: the node has
    one), keys and values in `lists[1]`, and a bias f[h], f[1] or f[] of pairs in `lists[2]`."""
    flat = len(q.shape) == 1
    if flat:
        q, k, v = (reshape(x, (1, *x.shape)) for x in (q, k, v))
    pairs = () if bias is None else (reshape(bias, (1,)) if not bias.shape else bias,)
    y = slice_axis(apply(ATTENTION, (q, k, v, *pairs), (lists, causal, scale, len(pairs))), -1, 0, v.shape[-1])
    return reshape(y, y.shape[1:]) if flat else y
