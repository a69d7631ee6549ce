"""`njit` of the library: Numba's, with machine code cached by `disk`.

    @njit(nogil=True)
    def _total(x):
        return x.sum()

Invariants: a function is compiled when it is called, never when it is imported; a file holds one function for one
signature, and its name says all that the machine code depends on: Python, Numba and LLVM, the machine, the options, the
signature, and the code of the function and of all that it calls or reads, so that a file is never out of date. Ctrl-C
waits until one function is compiled or loaded: below Numba it would become another error, or get lost.

Compiling takes a third of a second for each function. What a first training step calls (`early`) is run by Python as
long as that is quicker: results are the same to the last bit, as these functions compute integers that fit into 32
bits, and floats that are neither reordered nor contracted.
"""

from __future__ import annotations

import functools
import gc
import hashlib
import os
import pickle
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType
from typing import Any

import llvmlite
import llvmlite.binding
import numba
import numba.core.compiler
import numba.core.config
import numba.core.runtime
import numba.core.serialize
import numba.core.sigutils
import numpy as np
from llvmlite import ir
from numba import types
from numba.core.registry import CPUDispatcher
from numba.np.numpy_support import from_dtype

from . import disk, progress
from .interrupts import uninterrupted

PATIENCE = 0.3
"""Seconds for which Python runs a function before it is compiled, which takes about as long."""

LITTLE = 1 << 15
"""Numbers of an array that Python goes through in less than PATIENCE."""

_LLVM_OPTION = "--runtime-memory-check-threshold=1000"
"""Loops read and write a dozen arrays; LLVM vectorises them only if it may compare all of their addresses first."""

llvmlite.binding.set_option("", _LLVM_OPTION)

_core: Any = numba.core
"""Parts of Numba that have no types, or not in each version."""

_PACKAGE = __name__.partition(".")[0]


_compiling = progress.Compiling()
_depth: list[Any] = []
"""The functions that are being compiled or loaded, each called by the one before."""

_in_python: set[int] = set()
"""Threads in which Python runs a function, and therefore all that this calls."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_python.clear)

BEGUN_EARLY: list[tuple[CompiledFunction, str]] = []
"""The library's own functions that a first training step calls, and for which arguments."""


class CompiledFunction(CPUDispatcher):
    """A function that is compiled for each signature it is called with, or loaded where that was done before.

    patience: seconds for which Python runs it meanwhile, see `njit`
    """

    def __init__(self, py_func: Any, locals: Any = None, targetoptions: Any = None, **more: Any) -> None:
        options = dict(targetoptions or {})
        noalias, self.early = options.pop("noalias", False), options.pop("early", "")
        self.patience = PATIENCE if self.early else 0.0
        super().__init__(py_func, locals or {}, options, **more)
        self._cache: Any = _Kept(self, noalias)
        if noalias:
            compiler = vars(self)["_compiler"]
            compiler._customize_flags = _without_aliases

    def compile(self, sig: Any) -> Any:
        """Compile it for a signature, or load it."""
        collects = gc.isenabled()
        with uninterrupted():
            _depth.append(self)
            gc.disable()  # Numba's graphs are alive until the end: looking through them takes a tenth of its time
            try:
                return super().compile(sig)
            finally:
                _depth.pop()
                if collects:
                    gc.enable()
                if not _depth:
                    _compiling.end()

    def _compile_for_args(self, *args: Any, **kws: Any) -> Any:
        """What Numba calls in place of machine code that is missing: that code, once it is made; or Python."""
        if threading.get_ident() in _in_python and self.is_python:
            return self.py_func
        if self.patience > 0 and self.is_python and _is_little(args) and not self._is_kept_for(args):
            return self._run_in_python
        base: Any = super()
        return base._compile_for_args(*args, **kws)

    @functools.cached_property
    def is_python(self) -> bool:
        """Whether Python can run it: nothing that it calls is written in machine code."""
        return _is_python(self, [])

    def _run_in_python(self, *args: Any) -> Any:
        """Run it as it is written, with results as compiled code returns them."""
        thread, start = threading.get_ident(), time.thread_time()
        with uninterrupted(), np.errstate(all="ignore"):  # compiled code is not interrupted, and does not warn
            _in_python.add(thread)
            try:
                found = self.py_func(*args)
            finally:
                _in_python.discard(thread)
        self.patience -= time.thread_time() - start
        results = [x.item() if isinstance(x, np.generic) else x for x in (found if type(found) is tuple else (found,))]
        return tuple(results) if type(found) is tuple else results[0]

    def _is_kept_for(self, args: tuple[Any, ...]) -> bool:
        return disk.is_kept(self._early_name) and self.is_kept(tuple(map(self.typeof_pyval, args)))

    @functools.cached_property
    def _early_name(self) -> str:
        return self._cache.name(argument_types(self.early))

    def is_kept(self, sig: Any) -> bool:
        """Whether it was compiled for a signature before, by this process or by another."""
        return _core.sigutils.normalize_signature(sig)[0] in self.overloads or disk.is_kept(self._cache.name(sig))


def _is_little(args: tuple[Any, ...]) -> bool:
    """Whether Python goes through these arguments in a moment."""
    return all(getattr(x, "size", 0) <= LITTLE for x in args)


def _without_aliases(flags: Any) -> Any:
    """Compiler flags that promise `noalias`, or LLVM compares the addresses of all arrays for every row."""
    flags.noalias = True
    return flags


def njit(function: Callable[..., Any] | None = None, *, noalias: bool = False, early: str = "", **options: Any) -> Any:
    """Decorator of compiled functions that are kept on disk, with the options of `numba.njit`.

    noalias: what the function writes through one array it touches through no other
    early: arguments for which a first training step calls it, so that it can be compiled before (`argument_types`);
        until it is, Python runs it where it can, on arrays of up to LITTLE numbers, for PATIENCE in all

    >>> @njit
    ... def double(x):
    ...     return 2 * x
    >>> double(4)
    8
    """
    if function is None:
        return functools.partial(njit, noalias=noalias, early=early, **options)
    if is_disabled():
        return function
    made = CompiledFunction(function, targetoptions={"nopython": True, "noalias": noalias, "early": early, **options})
    if early:
        BEGUN_EARLY.append((made, early))
    return made


def is_disabled() -> bool:
    """Whether Numba is told to compile nothing, by NUMBA_DISABLE_JIT.

    >>> is_disabled()
    False
    """
    return bool(_core.config.DISABLE_JIT)


def argument_types(arguments: str) -> tuple[Any, ...]:
    """Numba's types of arguments: each "int" or "bool", or dtype and number of axes of a contiguous array, or several
    of these in a tuple; the same one several times.

    >>> argument_types("2xint bool float32:2 bool:1*2")[1:]
    (int64, bool, Array(float32, 2, 'C', False, aligned=True), UniTuple(Array(bool, 1, 'C', False, aligned=True), 2))
    """
    found: list[Any] = []
    for text in arguments.split():
        again, _, text = text.rpartition("x")
        one, _, times = text.partition("*")
        dtype, _, rank = one.partition(":")
        plain = types.boolean if dtype == "bool" else types.intp
        made = types.Array(from_dtype(np.dtype(dtype)), int(rank), "C") if rank else plain
        found += [_core.types.UniTuple(made, int(times)) if times else made] * int(again or 1)
    return tuple(found)


def compiled(function: Callable[..., Any], signature: Any, **options: Any) -> Any:
    """A function compiled for one signature, to which its arguments are then converted."""
    found = njit(function, **options)
    found.compile(signature)
    found.disable_compile()
    return found


class _Kept:
    """The cache of a compiled function, in Numba's interface."""

    def __init__(self, function: CompiledFunction, noalias: bool) -> None:
        self.function = function
        self.noalias = noalias

    @property
    def cache_path(self) -> str | None:
        return disk.chosen()

    def name(self, sig: Any) -> str:
        """The name of its file for a signature."""
        function = self.function
        arguments, result = _core.sigutils.normalize_signature(sig)
        options = sorted((name, _text(value)) for name, value in function.targetoptions.items())
        digest = hashlib.sha256(_environment())
        for part in (identity(function.py_func), options, self.noalias, [str(x) for x in arguments], str(result)):
            digest.update(f"{part}\0".encode())
        digest.update(repr(vars(function)["targetctx"].codegen().magic_tuple()).encode())
        return f"{function.py_func.__name__}-{digest.hexdigest()[:32]}.nbc"

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        # All that machine code calls; what compiles loads the rest itself.
        _core.runtime.rtsys.initialize(target_context)
        name = self.name(sig)
        data = disk.read(name)
        if data is None:
            _compiling.begin(self.function.py_func.__name__, disk.chosen())
            return None
        try:
            return _core.compiler.CompileResult._rebuild(target_context, *pickle.loads(data))
        except (MemoryError, RecursionError):
            raise
        except Exception as error:
            disk.report_damage(f"{name}: {error}")
            return None

    def save_overload(self, sig: Any, result: Any) -> None:
        if not result.lifted and not result.library.has_dynamic_globals:
            disk.write(self.name(sig), _core.serialize.dumps(result._reduce()))


@functools.cache
def _environment() -> bytes:
    """What any compiled function depends on."""
    switches = ("OPT", "BOUNDSCHECK", "DEBUGINFO_DEFAULT", "LOOP_VECTORIZE", "SLP_VECTORIZE", "ENABLE_AVX")
    texts = (
        _LLVM_OPTION,
        sys.version,
        getattr(sys, "abiflags", ""),
        numba.__version__,
        llvmlite.__version__,
        np.__version__,
        *(str(getattr(_core.config, name, None)) for name in switches),
    )
    return "\0".join(texts).encode()


def identity(function: Any) -> str:
    """A digest of the code of a function and of all that it calls or reads.

    >>> identity(lambda x: x + 1) == identity(lambda x: x + 2)
    False
    """
    digest = hashlib.sha256()
    for text in _texts(function, []):
        digest.update(text.encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()


def _texts(function: Any, seen: list[Any]) -> Iterator[str]:
    """Code, options and values that make a function what it is; of one that is not compiled also the code of its file,
    where Numba may have been told what takes its place."""
    if any(function is x for x in seen):
        return
    seen.append(function)
    plain = _plain(function)
    options = getattr(function, "targetoptions", None)
    yield f"{plain.__module__}.{plain.__qualname__} {_text(options)} {_text(plain.__defaults__)}"
    yield from _code(plain.__code__)
    if plain is function is not seen[0]:
        for value in plain.__globals__.values():
            if isinstance(value, FunctionType) and value.__globals__ is plain.__globals__:
                yield from _code(value.__code__)
    for value in _values(plain):
        if _is_followed(value):
            yield from _texts(value, seen)
        else:
            yield _text(value)


def _is_python(function: Any, seen: list[Any]) -> bool:
    if any(function is x for x in seen):
        return True
    seen.append(function)
    own = isinstance(function, (FunctionType, CompiledFunction))
    return own and all(_is_python(value, seen) for value in _values(_plain(function)) if _is_followed(value))


def _values(plain: Any) -> list[Any]:
    """What a function reads that is not its own."""
    found = [cell.cell_contents for cell in plain.__closure__ or ()]
    return found + [plain.__globals__[name] for name in _names(plain.__code__) if name in plain.__globals__]


def _plain(function: Any) -> Any:
    """The Python function of a compiled one, or of one that writes its own machine code."""
    return getattr(function, "__wrapped__", function)


def _is_followed(value: Any) -> bool:
    plain = _plain(value)
    return isinstance(plain, FunctionType) and (plain is not value or plain.__module__.startswith(_PACKAGE))


def _code(code: CodeType) -> Iterator[str]:
    yield f"{code.co_argcount} {code.co_flags} {code.co_names} {code.co_varnames} {code.co_freevars} {code.co_cellvars}"
    yield code.co_code.hex()
    for value in code.co_consts:
        yield _text(value)


def _names(code: CodeType) -> Iterator[str]:
    """Names of globals that code reads, and functions inside it."""
    yield from code.co_names
    for value in code.co_consts:
        if isinstance(value, CodeType):
            yield from _names(value)


def _text(value: Any) -> str:
    """A value as text that is the same in every process."""
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes, np.generic)):
        return repr(value)
    if isinstance(value, (tuple, list)):
        return f"({','.join(map(_text, value))})"
    if isinstance(value, (set, frozenset)):
        return f"{{{','.join(sorted(map(_text, value)))}}}"
    if isinstance(value, dict):
        return _text(sorted((_text(key), _text(x)) for key, x in value.items()))
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape} {hashlib.sha256(value.tobytes()).hexdigest()}"
    if isinstance(value, CodeType):
        return " ".join(_code(value))
    if isinstance(value, (types.Type, ir.Type)):
        return str(value)
    named = value if hasattr(value, "__name__") else type(value)
    return f"{getattr(named, '__module__', '')}.{getattr(named, '__qualname__', named.__name__)}"
