"""Random draws whose key is the example, not the batch: seed, stream, number of the draw in the stream, element.

A stream is the path of (map call, index) pairs that led to the example; outside any map it is the thread's own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ..base.errors import op_error, user_error
from ..base.interrupts import run_whole
from ..base.types import ELEMENTS, Array, default_dtype, is_float, value_dtype
from ..ops.composite import softmax
from ..ops.declare import Op, apply, as_value, check_number, unchanged
from ..ops.elementwise import cast, equal, float_dtype, maximum
from ..ops.functions import log
from ..ops.index import ARANGE
from ..ops.movement import extents, negative_axis, reshape, whole
from ..ops.random import DROPOUT, NORMAL, ROWS, UNIFORM
from ..ops.reduce import ARGMAX, position
from ..ops.value import ShapeLike, Tensor, TensorLike
from .context import refuse_if_kept
from .lengths import varies
from .links import lift
from .op_signatures import signatures
from .tape import current_tape, refuse_inside, state

_MASK = (1 << 64) - 1
_seed = [0, 0]  # seed, and how often it was set
_threads = threading.local()
_OUTSIDE = "call it between maps: each example has a stream of its own there"


def mixed(z: int) -> int:
    """SplitMix64's finaliser on a Python int."""
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)


def map_stream(parent: int, call: int) -> int:
    """The stream of map call `call` made in stream `parent`."""
    return mixed((parent + (call + 1) * 0x9E3779B97F4A7C15) & _MASK)


def example_stream(whole: int, index: int) -> int:
    """The stream of example `index` of a map call whose stream is `whole`."""
    return mixed((whole + (index + 1) * 0xD1B54A32D192ED03) & _MASK)


def signed(key: int) -> int:
    """A 64-bit key as int64."""
    return key - (1 << 64) if key >> 63 else key


def seed(n: int) -> None:
    """Start all random streams over, as the `n`-th ones: draws of values, masks, shuffles and initial parameters.

    >>> ab.seed(1); a = ab.normal(3).numpy(); ab.seed(1); bool((ab.normal(3).numpy() == a).all())
    True
    """
    _seed[0] = whole("seed", n, None) & _MASK
    _seed[1] += 1
    _threads.generator = None
    sync()


def sync() -> None:
    """Bring this thread's own stream in line with the last seed."""
    if getattr(_threads, "epoch", -1) != _seed[1] and not state.depth:
        thread = threading.current_thread()
        own = 0 if thread is threading.main_thread() else sum(thread.name.encode())
        _threads.generator = None
        state.stream = mixed((_seed[0] + own * 0x9E3779B97F4A7C15) & _MASK)
        state.draws = 0
        state.maps = 0
        _threads.epoch = _seed[1]


def random_state() -> dict[str, Array]:
    """Where the random streams of this thread are, as small arrays by name, in the flat form that `ab.save` takes.

    Draws of values, masks, maps of examples, `rng` and initial parameters go on after `set_random_state` as they would
    have here. Orders of `ab.data.minibatches` have a state of their own. Raises `RecordingError` inside `ab.map`.

    >>> before = ab.random_state()
    >>> a = ab.normal(3).numpy(); ab.set_random_state(before); bool((ab.normal(3).numpy() == a).all())
    True
    """
    refuse_inside("random_state", _OUTSIDE)
    sync()
    generator = initial_generator().bit_generator.state
    words = [generator["state"]["state"], generator["state"]["inc"]]
    numbers = [part for word in words for part in (word & _MASK, word >> 64)]
    return {
        "seed": np.array(_seed[0], np.uint64),
        "stream": np.array(state.stream, np.uint64),
        "draws": np.array(state.draws, np.int64),
        "maps": np.array(state.maps, np.int64),
        "generator": np.array([*numbers, generator["has_uint32"], generator["uinteger"]], np.uint64),
    }


def set_random_state(saved: Mapping[str, Any]) -> None:
    """Take the random streams of this thread to where `random_state` found them; those of other threads start over.

    Arguments:
        saved: what `random_state` gave, its arrays as such, as lists or as numbers.

    Raises ValueError where it is none, and changes nothing then; `RecordingError` inside `ab.map`.

    >>> before = ab.random_state()
    >>> a = ab.normal(2).tolist()
    >>> ab.set_random_state(before)
    >>> ab.normal(2).tolist() == a
    True
    """
    refuse_inside("set_random_state", _OUTSIDE)
    try:
        seed, stream, draws, maps = (int(saved[name]) for name in ("seed", "stream", "draws", "maps"))
        low, high, inc_low, inc_high, has_uint32, uinteger = map(int, saved["generator"])
        generator = np.random.default_rng()
        generator.bit_generator.state = {
            "bit_generator": "PCG64",
            "state": {"state": low + (high << 64), "inc": inc_low + (inc_high << 64)},
            "has_uint32": has_uint32,
            "uinteger": uinteger,
        }
    except (KeyError, TypeError, ValueError, OverflowError) as fault:
        what = "set_random_state: this is no state of the random streams"
        raise user_error(ValueError, what, got=f"{fault.__class__.__name__}: {fault}") from None

    def change() -> None:
        _seed[0] = seed & _MASK
        _seed[1] += 1
        _threads.epoch, _threads.generator = _seed[1], generator
        state.stream, state.draws, state.maps = stream & _MASK, draws, maps

    run_whole(change)


def next_key() -> tuple[Any, Any]:
    """Stream and number of the next draw; inside a cell both are operands of the cell."""
    if state.builder is not None:
        return state.builder.draw()
    sync()
    number = state.draws
    state.draws = number + 1
    return signed(state.stream), number


def in_mode(training: bool, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call `fn`; `dropout` inside follows `training`."""
    before = state.training
    if before is training:
        return fn(*args, **kwargs)
    try:
        try:
            state.training = training
            return fn(*args, **kwargs)
        finally:
            state.training = before
    finally:
        state.training = before  # again: Ctrl-C may have come before


def initial_generator() -> np.random.Generator:
    """The generator that initial parameters are drawn from, started over by `seed`."""
    sync()
    if getattr(_threads, "generator", None) is None:
        _threads.generator = np.random.default_rng([_seed[0] & 0xFFFFFFFF, _seed[0] >> 32, 7])
    generator: np.random.Generator = _threads.generator
    return generator


def rng() -> np.random.Generator:
    """A NumPy generator of the current example's own; each call gives a fresh one, drawn from the example's stream.

    >>> ab.seed(0); int(ab.rng().integers(10)) in range(10)
    True
    """
    refuse_inside("rng", "draw outside the cell and pass the number as an argument", of_maps=False)
    refuse_if_kept("a NumPy generator is asked for")
    stream, number = next_key()
    return np.random.default_rng([stream & 0xFFFFFFFF, (stream >> 32) & 0xFFFFFFFF, number])


def _drawn(op: Op, shape: Any, dtype: Any) -> Any:
    wanted = value_dtype(op.name, dtype or default_dtype())
    if not is_float(wanted):
        raise op_error(op.name, "draws are floats", got=str(wanted), repair="convert the draw by .astype")
    sizes = tuple(whole(op.name, n) for n in extents(shape))
    if sizes and state.builder is None and varies(signatures, (op, wanted, sizes[1:]), sizes[0]):
        one = sizes[:1] if len(sizes) == 1 else (sizes[0], 1)
        like = lift(np.zeros(one, wanted), current_tape(), ELEMENTS)
        drawn = apply(ROWS[op], (like, *next_key()), (sizes[1:], wanted))
    else:
        drawn = apply(op, next_key(), (sizes, wanted))
    return drawn if dtype is None else cast(drawn, dtype)


def uniform(shape: ShapeLike = (), dtype: DTypeLike | None = None) -> Tensor:
    """Draws `dtype[shape]` from [0, 1) for the current example; they do not depend on batch, schedule or backend.

    Raises `OpTypeError` for a dtype that is no float.

    >>> ab.uniform((2, 3)).shape
    (2, 3)
    """
    return _drawn(UNIFORM, shape, dtype)


def normal(shape: ShapeLike = (), dtype: DTypeLike | None = None) -> Tensor:
    """Standard normal draws `dtype[shape]` for the current example (Box & Muller 1958).

    Raises `OpTypeError` for a dtype that is no float.

    >>> ab.normal(4).shape
    (4,)
    """
    return _drawn(NORMAL, shape, dtype)


def dropout(x: Tensor, p: float = 0.5, training: bool | None = None) -> Tensor:
    """Set elements of `x: f[...]` to 0 with probability `p`, divide the others by 1 - p (Srivastava et al. 2014).

    Does nothing in evaluation mode: that of the module whose method, cell or `forward` is running, else training;
    `training` decides where it is given.

    Raises `OpTypeError` for a probability outside [0, 1].

    >>> sorted(set(ab.dropout(ab.ones(100), 0.5).numpy().tolist()))
    [0.0, 2.0]
    """
    check_number("dropout", "the probability", p)
    if not 0.0 <= p <= 1.0:
        raise op_error("dropout", "the probability is outside [0, 1]", got=str(p), repair="pass a number from 0 to 1")
    if p == 0.0 or not (state.training if training is None else training):
        return unchanged(as_value(x))
    if p == 1.0:
        return x * 0.0
    return apply(DROPOUT, (x, *next_key()), (float(p),))


def gumbel_softmax(logits: TensorLike, tau: float = 1.0, hard: bool = False, axis: int = -1) -> Tensor:
    """softmax((logits + g) / tau) along an axis, with draws g of the Gumbel distribution.

    Source: Jang, Gu & Poole 2017, eq. 2. With `hard` 1 for the largest and 0 elsewhere, with the gradient of the
    soft one, as PyTorch's. `logits: f[...]`. Raises `OpTypeError` for a `tau` that is not above 0.

    >>> float(ab.gumbel_softmax(ab.zeros(3), hard=True).sum())
    1.0
    """
    logits = as_value(logits)
    check_number("gumbel_softmax", "tau", tau)
    if isinstance(tau, int | float) and not tau > 0.0:
        raise op_error("gumbel_softmax", "the temperature is not above 0", got=str(tau), repair="pass tau=1.0")
    dtype = float_dtype(logits.dtype)
    drawn = maximum(_drawn(UNIFORM, logits.shape, dtype), 2.0**-25)  # log(0) would leave the softmax no sum
    soft = softmax((logits - log(-log(drawn))) / tau, axis)
    if not hard:
        return soft
    place = position(ARGMAX, soft, axis, True)
    n, at = soft.shape[axis], negative_axis("gumbel_softmax", axis, len(soft.shape))
    classes = reshape(apply(ARANGE, (soft,), (n,)), (n, *(1,) * (-1 - at)))
    return cast(equal(place, classes), dtype) + (soft - soft.detach())
