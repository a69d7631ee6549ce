"""Functions that write the same nodes on all arguments of the same kinds: how they are written is kept.

A function finds its axes and attributes, checks them, and then writes one node or a few. Which these are depends on the
types of its values, on shared values, and on numbers, words and tuples of integers as they are. The compiled recorder
keeps them by these, for all recordings, and writes them without calling the function; with the recorder in Python the
functions are as they were declared.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

from ..ops import composite, nonlinearities
from ..ops.elementwise import absolute as _absolute
from ..ops.index import LOOKUP
from ..ops.movement import transpose as _transpose
from ..ops.scan import cumsum as _cumsum
from ..ops.value import Tensor
from . import attention as _attention
from . import ops, reductions, view_paths
from .choice import compiled
from .tensor import RecordedTensor

F = TypeVar("F", bound=Callable[..., Any])


def known_call(fn: F) -> F:
    """The function, whose nodes are kept."""
    if compiled is None:
        return fn
    made = compiled.known_call(fn)
    functools.update_wrapper(made, fn)
    made.__module__ = __name__  # where pickle finds it by its name
    return cast(F, made)


layer_norm = known_call(composite.layer_norm)
log_softmax = known_call(composite.log_softmax)
logsumexp = known_call(composite.logsumexp)
softmax = known_call(composite.softmax)
celu = known_call(nonlinearities.celu)
elu = known_call(nonlinearities.elu)
gelu = known_call(nonlinearities.gelu)
glu = known_call(nonlinearities.glu)
leaky_relu = known_call(nonlinearities.leaky_relu)
log_sigmoid = known_call(nonlinearities.log_sigmoid)
mish = known_call(nonlinearities.mish)
silu = known_call(nonlinearities.silu)
swiglu = known_call(nonlinearities.swiglu)
absolute = known_call(_absolute)
transpose = known_call(_transpose)
cumsum = known_call(_cumsum)
attention = known_call(_attention.attention)
concat = known_call(ops.concat)
split = known_call(ops.split)
reshape = known_call(view_paths.reshape)
argmax = known_call(reductions.argmax)
argmin = known_call(reductions.argmin)
max = known_call(reductions.max)
mean = known_call(reductions.mean)
min = known_call(reductions.min)
prod = known_call(reductions.prod)
std = known_call(reductions.std)
sum = known_call(reductions.sum)
var = known_call(reductions.var)

if compiled is not None:
    for _name in ("argmax", "argmin", "cumsum", "max", "mean", "min", "prod", "reshape", "std", "sum", "var"):
        setattr(RecordedTensor, _name, known_call(getattr(RecordedTensor, _name)))
    _indexed = RecordedTensor.__getitem__
    _fast = functools.update_wrapper(compiled.part_of_vector(LOOKUP, _indexed), _indexed)
    RecordedTensor.__getitem__ = _fast  # type: ignore[method-assign]
    for _name in ("T", "mT"):
        setattr(RecordedTensor, _name, property(known_call(getattr(Tensor, _name).fget)))
