"""Einstein's summation convention: pairs of operands become matrix products, or elementwise ones."""

from __future__ import annotations

import math
import string
from collections.abc import Container, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..base.errors import op_error
from .declare import Attrs, Sample, apply, declare, lifted_all
from .elementwise import MUL
from .linalg import PRODUCT, matmul
from .matrices import diagonal
from .movement import reshape, transpose
from .reduce import SUM

if TYPE_CHECKING:
    from .value import Tensor, TensorLike


def _fault(what: str, subscripts: str, shapes: Sequence[Any], repair: str = "") -> Exception:
    return op_error("einsum", what, got=f"{subscripts!r} of {', '.join(map(str, shapes))}", repair=repair)


def _parsed(subscripts: str, shapes: Sequence[tuple[int, ...]]) -> tuple[tuple[str, ...], str]:
    """The labels of the axes of each operand, and of the result, without `...`."""
    if not isinstance(subscripts, str):
        raise op_error(
            "einsum",
            "the first argument says which axes",
            expected="'ij,jk->ik'",
            got=repr(subscripts),
            repair="write the labels first: ab.einsum('ij,jk->ik', a, b)",
        )
    text = subscripts.replace(" ", "")
    left, arrow, output = text.partition("->")
    terms = left.split(",")
    if len(terms) != len(shapes):
        raise _fault(f"{len(terms)} terms for {len(shapes)} operands", subscripts, shapes)
    free = [c for c in string.ascii_letters if c not in text]
    hidden = [len(s) - len(t.replace("...", "")) if "..." in t else 0 for t, s in zip(terms, shapes, strict=True)]
    if min(hidden) < 0 or max(hidden) > len(free):
        raise _fault("an operand has fewer axes than its term", subscripts, shapes)
    dots = "".join(free[: max(hidden)])
    terms = [t.replace("...", dots[len(dots) - n :]) for t, n in zip(terms, hidden, strict=True)]
    everything = "".join(terms)
    if arrow:
        output = output.replace("...", dots)
    else:
        output = dots + "".join(sorted(c for c in set(everything) - set(dots) if everything.count(c) == 1))
    sizes: dict[str, int] = {}
    for term, shape in zip(terms, shapes, strict=True):
        if not all(c in string.ascii_letters for c in term):
            raise _fault("labels are letters", subscripts, shapes)
        if len(term) != len(shape):
            raise _fault(f"{len(term)} labels for an operand of rank {len(shape)}", subscripts, shapes)
        for label, n in zip(term, shape, strict=True):
            if sizes.setdefault(label, n) != n:
                raise _fault(f"axis {label!r} has two extents, {sizes[label]} and {n}", subscripts, shapes)
    if len(set(output)) < len(output) or not set(output) <= set(everything):
        what = "a label of the result is there twice, or in no operand"
        raise _fault(what, subscripts, shapes, "the result has labels of the operands, each once")
    return tuple(terms), output


def _without_repeats(labels: str, x: Any) -> tuple[str, Any]:
    """Diagonals in place of axes that have one label."""
    for label in dict.fromkeys(labels):
        while labels.count(label) > 1:
            first, second = labels.index(label), labels.rindex(label)
            rest = [a for a in range(len(labels)) if a not in (first, second)]
            x = diagonal(transpose(x, (*rest, first, second)))
            labels = "".join(labels[a] for a in rest) + label
    return labels, x


def _summed(labels: str, x: Any, kept: set[str]) -> tuple[str, Any]:
    """Sums over the axes that nothing else reads."""
    axes = tuple(a - len(labels) for a, c in enumerate(labels) if c not in kept)
    return ("".join(c for c in labels if c in kept), apply(SUM, (x,), (axes, False))) if axes else (labels, x)


def _arranged(labels: str, x: Any, order: str) -> Any:
    return transpose(x, tuple(labels.index(c) for c in order))


def _roles(a: str, b: str, kept: Container[str]) -> tuple[str, str, str, str]:
    """The labels of both operands, kept or summed over, and those of the left one and of the right one alone."""
    both = [c for c in a if c in b]
    batch, inner = ("".join(c for c in both if (c in kept) == is_kept) for is_kept in (True, False))
    left, right = ("".join(c for c in one if c not in both) for one in (a, b))
    return batch, inner, left, right


def _product(a: tuple[str, Any], b: tuple[str, Any], kept: set[str]) -> tuple[str, Any]:
    """The product of two operands, summed over the labels of both that are not kept."""
    (la, x), (lb, y) = _summed(*a, kept | set(b[0])), _summed(*b, kept | set(a[0]))
    sizes = {**dict(zip(la, x.shape, strict=True)), **dict(zip(lb, y.shape, strict=True))}
    batch, inner, left, right = _roles(la, lb, kept)

    def shape(labels: str) -> tuple[int, ...]:
        return tuple(sizes[c] for c in labels)

    def size(labels: str) -> int:
        return math.prod(shape(labels))

    if not inner:
        x = reshape(_arranged(la, x, batch + left), (*shape(batch + left), *(1,) * len(right)))
        y = reshape(_arranged(lb, y, batch + right), (*shape(batch), *(1,) * len(left), *shape(right)))
        return batch + left + right, apply(MUL, (x, y))
    lead = (size(batch),) if batch else ()
    x = reshape(_arranged(la, x, batch + left + inner), (*lead, size(left), size(inner)))
    y = reshape(_arranged(lb, y, batch + inner + right), (*lead, size(inner), size(right)))
    labels = batch + left + right
    return labels, reshape(apply(PRODUCT, (x, y)), shape(labels))


def _body(*args: Any) -> Any:
    """An operand that lacks its first axis is a row of one whose rows are carried along."""
    *values, terms, output = args
    are_rows = [len(x.shape) < len(term) for x, term in zip(values, terms, strict=True)]
    if any(are_rows):
        terms = [term[1:] if is_row else term for term, is_row in zip(terms, are_rows, strict=True)]
        output = output[1:]
    waiting = [_without_repeats(term, x) for term, x in zip(terms, values, strict=True)]
    done = waiting.pop(0)
    while waiting:
        kept = set(output).union(*(labels for labels, _ in waiting[1:]))
        done = _product(done, waiting.pop(0), kept)
    return _arranged(*_summed(*done, set(output)), output)


def _lead(ndims: Sequence[int], shared: Sequence[bool], attrs: Attrs) -> tuple[bool, ...] | None:
    """Whether the first axis of the result is that of operands, which no other has, and all others are shared."""
    terms, output = attrs
    if not output:
        return None
    has_it = [term[:1] == output[0] for term in terms]
    carried = all(term.count(output[0]) == int(has) for term, has in zip(terms, has_it, strict=True))
    is_right = carried and all(has != flag for has, flag in zip(has_it, shared, strict=True))
    return tuple(has_it) if is_right else None


def _samples(rng: np.random.Generator) -> list[Sample]:
    def sample(subscripts: str, *shapes: tuple[int, ...], **more: Any) -> Sample:
        return Sample(tuple(rng.normal(size=shape) for shape in shapes), _parsed(subscripts, shapes), **more)

    return [
        sample("ij,jk->ik", (3, 2), (2, 4)),
        sample("bij,bkj->bik", (2, 3, 2), (2, 4, 2)),
        sample("ii->i", (3, 3)),
        sample("ij,i,kj->k", (2, 3), (2,), (4, 3)),
        sample("i,j->ji", (2,), (3,)),
        sample("iji->j", (2, 3, 2)),
    ]


EINSUM = declare("einsum", "sums of products of elements, by Einstein's convention", body=_body, lead=_lead,
                 samples=_samples)  # fmt: skip


def einsum(subscripts: str, *operands: TensorLike) -> Tensor:
    """Sums of products of `operands`, as `numpy.einsum`: `subscripts` "ij,jk->ik" is a matrix product.

    Labels are letters; `...` stands for the axes that have none; without "->" the result has the labels that are there
    once, in order. Operands are multiplied from the left to the right. Raises `OpTypeError` for extents that differ.

    >>> ab.einsum("ij,j->i", ab.ones((2, 3)), ab.tensor([1.0, 2.0, 3.0])).numpy()
    array([6., 6.], dtype=float32)
    """
    if not operands:
        raise op_error("einsum", "there are no operands", got=repr(subscripts), repair="pass them after the labels")
    values = lifted_all(*operands)
    terms, output = _parsed(subscripts, [x.shape for x in values])
    found: Tensor | None = _simple(values, terms, output)
    return apply(EINSUM, values, (terms, output)) if found is None else found


def _simple(values: Sequence[Any], terms: Sequence[str], output: str) -> Any:
    """What is a sum, a product of elements or one of matrices, as that: any axis may be that of rows whose number
    varies. None where it is something else."""
    if any(len(set(term)) < len(term) for term in terms):
        return None
    if len(terms) == 1:
        return _arranged(*_summed(terms[0], values[0], set(output)), output)
    if len(terms) > 2:
        return None
    if terms[0] == terms[1]:
        is_sum = all(x.dtype.kind == "f" for x in values) and terms[0][:1] not in output
        return _simple([apply(MUL, tuple(values))], terms[:1], output) if is_sum else None
    if len(terms[0]) == len(terms[1]) == 1:
        if len(output) < 2:
            return None
        n, m = (x.shape[0] for x in values)
        spread = apply(MUL, (reshape(values[0], (n, 1)), reshape(values[1], (1, m))))
        return _arranged("".join(terms), spread, output)
    return _matrix_product(values, terms, output)


def _matrix_product(values: Sequence[Any], terms: Sequence[str], output: str) -> Any:
    """A product of two matrices, or of one and a vector, or of as many matrices each; None where it is none."""
    batch, inner, left, right = _roles(terms[0], terms[1], output)
    if len(inner) != 1 or max(map(len, (batch, left, right))) > 1 or set(output) != set(batch + left + right):
        return None
    if batch and not (left and right):
        return None
    if not left and right:  # the matrix stands on the left: its rows may be those
        return _matrix_product(values[::-1], terms[::-1], output)
    x = _arranged(terms[0], values[0], batch + left + inner)
    y = _arranged(terms[1], values[1], batch + inner + right)
    return _arranged(batch + left + right, matmul(x, y), output)
