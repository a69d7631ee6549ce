"""Reductions of rows by the number of the segment that each belongs to, as messages are brought to nodes of a graph.

Each is written once, by what brings rows to segments and what gives rows what their segment has. On values of a known
number of rows and segments these are scatters and lookups. Where both numbers are data of a node they go between two
of its lists, of segments and of rows (`record.segments`), and nodes of all sizes share a launch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..base.errors import OpIndexError, op_error, user_error
from ..base.types import Type
from .composite import finite_max
from .declare import Attrs, Op, Sample, apply, declare, lifted
from .elementwise import cast, equal, float_dtype, where
from .functions import exp, log
from .index import BOUNDED, TAKE, UNNAMED
from .movement import reshape, whole
from .pairs import COLUMNS, ROWS
from .reduce import MAX, MIN, SUM, Slope, chosen, spread_to

if TYPE_CHECKING:
    from .value import Tensor, TensorLike

# Between two lists of a node: of segments (ROWS) and of rows that each belong to one (COLUMNS).


def _of_first(types: Sequence[Type], attrs: Attrs) -> Type:
    return types[0]


def _never(*args: Any) -> Any:
    raise TypeError("it is between lists: `ir.interpret` computes it")


LIST_TAKE: Op = declare(
    "list_take",
    "for each row what its segment has",
    _of_first,
    _never,
    lambda g, y, x, a: (apply(LIST_SCATTERS["sum"], (g, x[1]), (ROWS,)), None),
    "between",
    dtypes="keep",
    samples=lambda rng: [],
)


def _scatter(extreme: Op, slope: Slope) -> Op:
    """Declare the reduction of the rows of each segment."""

    def vjp(g: Any, y: Any, x: tuple[Any, ...], attrs: Attrs) -> tuple[Any, ...]:
        def reduce(op: Op, z: Any) -> Any:
            return apply(LIST_SCATTERS[op.name], (z, x[1]), attrs)

        return slope(g, y, x[0], lambda z: apply(LIST_TAKE, (z, x[1]), (COLUMNS,)), reduce), None

    name = f"list_scatter_{extreme.name}"
    doc = f"{extreme.name} of the rows of each segment"
    of_rows = extreme.over_list.over_segments  # type: ignore[union-attr]
    return declare(name, doc, _of_first, _never, vjp, "between", dtypes="keep", over_segments=of_rows,
                   combine=extreme.combine, identity=extreme.identity, samples=lambda rng: [])  # fmt: skip


LIST_SCATTERS: dict[str, Op] = {
    op.name: _scatter(op, slope) for op, slope in ((SUM, spread_to), (MAX, chosen), (MIN, chosen))
}


@dataclass(frozen=True, slots=True)
class Between:
    """How rows reach segments, and what segments have the rows.

    scatter: (SUM, MAX or MIN, rows) → segments; take: segments → rows
    ones: for each row 1, in a shape that broadcasts to it
    """

    scatter: Callable[[Op, Any], Any]
    take: Callable[[Any], Any]
    ones: Callable[[Any], Any]


def between_lists(index: Any) -> Between:
    """Where rows and segments are lists of a node, and the index is an element of the list of rows."""
    return Between(
        lambda op, x: apply(LIST_SCATTERS[op.name], (x, index), (ROWS,)),
        lambda z: apply(LIST_TAKE, (z, index), (COLUMNS,)),
        lambda x: cast(equal(index, index), x.dtype),
    )


def _between_axes(index: Any, n: int) -> Between:
    """Where their numbers are those of leading axes."""
    return Between(
        lambda op, x: apply(op.over_list.over_segments, (x, index), (n,)),  # type: ignore[arg-type, union-attr]
        lambda z: apply(TAKE, (z, index)),
        lambda x: reshape(cast(equal(index, index), x.dtype), (x.shape[0], *(1,) * (len(x.shape) - 1))),
    )


# What is computed.


def _mean(x: Any, to: Between) -> Any:
    x = cast(x, float_dtype(x.dtype))
    count = to.scatter(SUM, to.ones(x))
    return to.scatter(SUM, x) / where(equal(count, 0.0), 1.0, count)


def _softmax(x: Any, to: Between) -> Any:
    x = cast(x, float_dtype(x.dtype))
    e = exp(x - to.take(finite_max(x, to.scatter)))
    return e / to.take(to.scatter(SUM, e))


def _logsumexp(x: Any, to: Between) -> Any:
    x = cast(x, float_dtype(x.dtype))
    top = finite_max(x, to.scatter)
    return log(to.scatter(SUM, exp(x - to.take(top)))) + top


FORMULAS: dict[str, Callable[[Any, Between], Any]] = {
    "segment_sum": lambda x, to: to.scatter(SUM, x),
    "segment_max": lambda x, to: to.scatter(MAX, x),
    "segment_min": lambda x, to: to.scatter(MIN, x),
    "segment_mean": _mean,
    "segment_softmax": _softmax,
    "segment_logsumexp": _logsumexp,
}
PER_ROW = "segment_softmax"
"""The one that has a value for each row, not for each segment."""


def within(index: Any, n: Any) -> Any:
    """An index between two lists that is known to be from 0 to below n, a number of the node; else it raises."""
    checked = apply(BOUNDED, (where(index < 0, 0, index - n),), (0, UNNAMED))
    return checked + n


def _declare(name: str) -> Op:
    def body(x: Any, index: Any, n: int) -> Any:
        return FORMULAS[name](x, _between_axes(apply(BOUNDED, (index,), (n, 0)), n))

    def samples(rng: np.random.Generator) -> list[Sample]:
        index = np.array([1, 0, 1, 1])
        return [
            Sample((rng.normal(size=(4, 2)), index), (2,)),
            Sample((rng.normal(size=4), index * 2), (4,), smooth=name in ("segment_sum", "segment_mean", PER_ROW)),
            Sample((rng.normal(size=(4, 2)), index), (1,), error=OpIndexError),
        ]

    return declare(f"{name}s", f"{name.removeprefix('segment_')} of the rows of each segment", body=body,
                   dtypes="keep", samples=samples)  # fmt: skip


SEGMENTS: dict[str, Op] = {name: _declare(name) for name in FORMULAS}


def _apply(name: str, x: Any, segment_ids: Any, num_segments: Any) -> Any:
    """Check what is known where it is written, and record."""
    x = lifted(x)
    index = segment_ids
    if not hasattr(index, "_record"):
        index = np.asarray(index)
        index = index.astype(np.int64) if index.dtype.kind in "iu" or not index.size else index
    if index.dtype.kind not in "iu":
        raise op_error(name, "segment_ids holds integers", got=str(index.dtype), repair="convert them by .astype(int)")
    if not x.shape or index.shape != x.shape[:1]:
        what = "segment_ids has not one number for each row"
        raise op_error(name, what, expected="x[n, ...], i64[n]", got=f"{x._type}, {tuple(index.shape)}",
                       repair="the first axis of x is that of the rows")  # fmt: skip
    is_known = isinstance(index, np.ndarray)
    if num_segments is None and not is_known:
        what = "how many segments there are is not known where it is recorded"
        raise op_error(name, what, got=str(index._type), repair="pass num_segments=")
    n = whole(name, num_segments if num_segments is not None else int(index.max(initial=-1)) + 1)
    if is_known and index.size and (index.min() < 0 or index.max() >= n):
        bad = int(index.min() if index.min() < 0 else index.max())
        raise user_error(
            OpIndexError,
            f"{name}: segment {bad} is out of range for {n} segments",
            repair="pass a larger num_segments=",
        )
    return apply(SEGMENTS[name], (x, index), (n,))


def segment_sum(x: TensorLike, segment_ids: TensorLike, num_segments: int | None = None) -> Tensor:
    """Sums of the rows of `x` that have one number in `segment_ids`: x[n, ...], i64[n] → [num_segments, ...].

    As `jax.ops.segment_sum`; the numbers need not be sorted, and a segment without rows is 0. `num_segments` may be
    left out where the numbers are known: it is the largest, and one more. Raises `OpIndexError` for a number out of
    range. Examples of all numbers of rows and segments share a launch.

    >>> ab.segment_sum(ab.tensor([[1.0], [2.0], [4.0]]), [1, 0, 1]).tolist()
    [[2.0], [5.0]]
    """
    found: Tensor = _apply("segment_sum", x, segment_ids, num_segments)
    return found


def segment_mean(x: TensorLike, segment_ids: TensorLike, num_segments: int | None = None) -> Tensor:
    """Means of the rows of each segment, as `segment_sum`, in floats; 0 for a segment without rows.

    >>> ab.segment_mean(ab.tensor([1.0, 2.0, 4.0]), [1, 0, 1]).tolist()
    [2.0, 2.5]
    """
    found: Tensor = _apply("segment_mean", x, segment_ids, num_segments)
    return found


def segment_max(x: TensorLike, segment_ids: TensorLike, num_segments: int | None = None) -> Tensor:
    """Largest elements of the rows of each segment, as `segment_sum`; -inf, or the lowest integer, for one without.

    Equal elements share the derivative.

    >>> ab.segment_max(ab.tensor([1.0, 2.0, 4.0]), [1, 0, 1]).tolist()
    [2.0, 4.0]
    """
    found: Tensor = _apply("segment_max", x, segment_ids, num_segments)
    return found


def segment_min(x: TensorLike, segment_ids: TensorLike, num_segments: int | None = None) -> Tensor:
    """Smallest elements of the rows of each segment, as `segment_sum`; inf, or the highest integer, for one without.

    >>> ab.segment_min(ab.tensor([1.0, 2.0, 4.0]), [1, 0, 1]).tolist()
    [2.0, 1.0]
    """
    found: Tensor = _apply("segment_min", x, segment_ids, num_segments)
    return found


def segment_softmax(x: TensorLike, segment_ids: TensorLike, num_segments: int | None = None) -> Tensor:
    """exp(x) divided by its sum over the rows of the same segment, as of `segment_sum`; of the shape of `x`.

    >>> ab.segment_softmax(ab.zeros(3), [1, 0, 1]).tolist()
    [0.5, 1.0, 0.5]
    """
    found: Tensor = _apply("segment_softmax", x, segment_ids, num_segments)
    return found


def segment_logsumexp(x: TensorLike, segment_ids: TensorLike, num_segments: int | None = None) -> Tensor:
    """log(sum(exp(x))) of the rows of each segment, without overflow, as `segment_sum`; -inf where there are none.

    >>> [round(y, 4) for y in ab.segment_logsumexp(ab.zeros(3), [1, 0, 1]).tolist()]
    [0.0, 0.6931]
    """
    found: Tensor = _apply("segment_logsumexp", x, segment_ids, num_segments)
    return found
