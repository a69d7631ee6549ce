"""Compiled functions of the library: what they are kept as, when they are compiled again, and what a signal does."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numba
import numpy as np
import pytest

from autobatch.base import disk, jit
from autobatch.base.jit import CompiledFunction, compiled, identity, njit
from autobatch.base.memory import word
from autobatch.compile.host import cache
from autobatch.errors import CacheWarning

INTEGERS = (numba.types.int64,)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AUTOBATCH_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "_loaded", {})
    for name in ("_trusted", "_temporary", "_warned", "_since_look"):
        monkeypatch.setattr(disk, name, type(getattr(disk, name))())
    return tmp_path / "cache"


def plus(n: int) -> Any:
    """A function of its own for each n."""
    return cache.load(f"from autobatch.base.jit import njit\n\n\n@njit\ndef loop(x):\n    return x + {n}\n")


def again(function: Any) -> Any:
    """The function as another process has it."""
    return njit(function.py_func, **{k: v for k, v in function.targetoptions.items() if k != "nopython"})


def hits(function: Any) -> tuple[int, int]:
    return sum(function.stats.cache_hits.values()), sum(function.stats.cache_misses.values())


def test_a_function_is_compiled_once_and_then_loaded(folder: Path) -> None:
    first = plus(1)
    assert not first.is_kept(INTEGERS) and not folder.exists()
    assert first(1) == 2
    assert [path.suffix for path in folder.iterdir()] == [".nbc"]
    second = again(first)
    assert second.is_kept(INTEGERS) and second(1) == 2
    assert (hits(first), hits(second)) == ((0, 1), (1, 0))
    assert first(1.5) == 2.5
    assert len(list(folder.iterdir())) == 2


def early() -> Any:
    """A function that Python runs at first: a number that wraps around, one that becomes a bool, and a helper."""
    text = """
@njit
def helper(x):
    return x - 1
@njit(early="uint64:1")
def f(x):
    x[0] = x[0] * np.uint64(2) + np.uint64(helper(x.size))
    return x[0], x[0] > 3, x
"""
    function: Any = made(text, np=np)
    jit.BEGUN_EARLY.remove((function, "uint64:1"))
    return function


def called(function: Any, n: int = 3) -> list[Any]:
    x = np.full(n, (1 << 63) + 7, np.uint64)
    results = function(x)
    assert results[2] is x
    return [(type(result), result) for result in results[:2]]


@pytest.mark.filterwarnings("error")
def test_python_runs_a_function_for_a_while(folder: Path) -> None:
    function = early()
    python = called(function)
    assert python == [(int, 16), (bool, True)]
    helper = function.py_func.__globals__["helper"]
    assert not function.signatures and not helper.signatures and not folder.exists()
    assert 0.0 < function.patience < jit.PATIENCE
    function.patience = 0.0
    assert called(function) == python
    assert len(function.signatures) == 1


def test_python_runs_no_function_that_is_on_disk_or_has_much_to_do(folder: Path) -> None:
    function = early()
    called(function, jit.LITTLE + 1)
    assert len(function.signatures) == 1 and function.patience == jit.PATIENCE
    other = early()
    called(other)
    assert hits(other) == (1, 0) and other.patience == jit.PATIENCE


CALLING = """
def plain(x):
    return word(x)
@njit
def g(x):
    return {}(x)
@njit
def f(x):
    return g(x) + f(x)
"""


def test_python_runs_nothing_that_calls_machine_code() -> None:
    found: list[Any] = [made(CALLING.format(name), word=word) for name in ("abs", "word", "plain")]
    assert [function.is_python for function in found] == [True, False, False]


LOADED = '''
import sys
from autobatch.compile.host import cache
text = """import math
from autobatch.base.jit import njit
@njit
def loop(x):
    return math.tanh(x) + len([x, x])
"""
assert cache.load(text)(0.0) == 2.0
print("numba.np.linalg" in sys.modules)
'''


def test_what_is_loaded_does_not_load_the_compiler(folder: Path) -> None:
    runs = [subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True) for _ in "12"]
    assert [done.stdout for done in runs] == ["True\n", "False\n"]


def test_a_function_of_one_signature_converts_its_arguments() -> None:
    assert compiled(plus(1).py_func, numba.types.float64(numba.types.float64))(1) == 2.0


def test_files_that_are_swapped_are_noticed(folder: Path) -> None:
    one, two = plus(1), plus(2)
    assert (one(0), two(0)) == (1, 2)
    first, second = sorted(folder.iterdir())
    first.rename(folder / "between")
    second.rename(first)
    (folder / "between").rename(second)
    with pytest.warns(CacheWarning, match="rebuilt"):
        assert (again(one)(0), again(two)(0)) == (1, 2)
    assert hits(again(one)) == (0, 0)
    one = again(one)
    assert one(0) == 1 and hits(one) == (1, 0)


@pytest.mark.parametrize("content", [b"no pickle", pickle.dumps((1, 2)), pickle.dumps(None), b""])
def test_what_numba_cannot_read_is_made_anew(folder: Path, content: bytes) -> None:
    one = plus(1)
    disk.write(one._cache.name(INTEGERS), content)
    with pytest.warns(CacheWarning, match="rebuilt"):
        assert one(0) == 1
    one = again(one)
    assert one(0) == 1 and hits(one) == (1, 0)


class Planted:
    """Does something when it is read."""

    def __reduce__(self) -> Any:
        return os.mkdir, (os.environ["PLANTED"],)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("what", ["file", "folder"])
def test_what_another_user_planted_is_not_run(
    folder: Path, tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLANTED", str(tmp_path / "done"))
    one = plus(1)
    name = one._cache.name(INTEGERS)
    disk.write(name, pickle.dumps(Planted()))
    os.chown(folder / name if what == "file" else folder, 54321, -1)
    disk._trusted.clear()
    with pytest.warns(CacheWarning):
        assert one(0) == 1
    assert not (tmp_path / "done").exists()
    os.chown(folder / name if what == "file" else folder, 0, -1)  # the twin that is this user's own is read
    disk.write(name, pickle.dumps(Planted()))
    disk._trusted.clear()
    disk._temporary.clear()
    disk._warned.clear()
    with pytest.warns(CacheWarning):
        assert again(one)(0) == 1
    assert (tmp_path / "done").exists()


def made(text: str, **names: Any) -> Callable[..., Any]:
    """The function `f` of a text, in a module of its own."""
    scope = {"njit": njit, "numba": numba, "__name__": "autobatch_made", **names}
    exec(text, scope)
    found: Callable[..., Any] = scope["f"]
    return found


def enclosing(n: int) -> Callable[[int], int]:
    return lambda x: x + n


CALLS = "@njit\ndef g(x):\n    return x + {n}\n@njit\ndef f(x):\n    return g(x) * {m}\n"
PLAIN = "def helper(x):\n    return x + {n}\ndef g(x):\n    return helper(x)\ndef f(x):\n    return g(x)\n"
NESTED = "def f(x):\n    return sum([y * K for y in x])\n"


def test_an_identity_says_all_that_a_function_is() -> None:
    def identities() -> Iterator[str]:
        yield identity(made("def f(x):\n    return x\n"))
        yield identity(made("def f(y):\n    return y\n"))
        yield identity(made("def f(x, k=1):\n    return x\n"))
        yield identity(made("def f(x, k=2):\n    return x\n"))
        for k in (1, 1.0, True, -0.0, 0.0, "1", (1, 2), (1, (2,)), None, numba.types.int64, numba.types.int32):
            yield identity(made("def f(x):\n    return K\n", K=k))
        for n, m in ((1, 1), (1, 2), (2, 1)):
            yield identity(made(CALLS.format(n=n, m=m)))
        for n in (1, 2):
            yield identity(made(PLAIN.format(n=n)))
            yield identity(made(NESTED, K=n))
            yield identity(enclosing(n))
        yield identity(made(CALLS.format(n=1, m=1).replace("@njit", "@njit(fastmath=True)", 1)))

    first, second = list(identities()), list(identities())
    assert first == second
    assert len(set(first)) == len(first)


def test_options_and_signatures_have_files_of_their_own() -> None:
    function = plus(1).py_func
    variants: list[dict[str, Any]] = [{}, {"nogil": True}, {"fastmath": {"nsz"}}, {"fastmath": {"nsz", "afn"}}]
    variants += [{"noalias": True}, {"error_model": "numpy"}]
    names = [njit(function, **options)._cache.name(INTEGERS) for options in variants]
    names += [njit(function)._cache.name(sig) for sig in ((numba.types.int32,), numba.types.float64(*INTEGERS))]
    assert len(set(names)) == len(names)


IDENTITIES = """
import importlib, pkgutil, sys
import autobatch
from autobatch.base.jit import CompiledFunction, identity
for found in pkgutil.walk_packages(autobatch.__path__, "autobatch."):
    if found.name not in ("autobatch.__main__", "autobatch.demo.cli") and ".models" not in found.name:
        importlib.import_module(found.name)
seen = {}
for name, module in sorted(sys.modules.items()):
    if name.startswith("autobatch"):
        for value in vars(module).values():
            if isinstance(value, CompiledFunction):
                seen[f"{value.py_func.__module__}.{value.py_func.__name__}"] = identity(value)
print("\\n".join(f"{name} {text}" for name, text in sorted(seen.items())))
"""


def test_all_functions_of_the_library_are_the_same_in_every_process() -> None:
    texts = set()
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run(
            [sys.executable, "-c", IDENTITIES], capture_output=True, text=True, check=True, env=environment
        )
        texts.add(done.stdout)
    assert len(texts) == 1
    assert len(texts.pop().splitlines()) > 50


def test_no_function_of_the_library_reads_what_its_identity_does_not_say() -> None:
    package = str(Path(jit.__file__).parents[1])
    for module in list(sys.modules.values()):
        for value in vars(module).values() if str(getattr(module, "__file__", "")).startswith(package) else ():
            if isinstance(value, CompiledFunction):
                names = set(value.py_func.__code__.co_names)
                read = [value.py_func.__globals__.get(name) for name in names]
                modules = {x.__name__ for x in read if isinstance(x, ModuleType)}
                assert not any(name.startswith("autobatch") for name in modules), value


NOWHERE = """
import os, sys, warnings
warnings.simplefilter("always")
import autobatch as ab
from autobatch.base.jit import njit
print(njit(lambda x: x + 1)(1))
"""


def test_the_library_works_where_nothing_can_be_written(tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if k not in ("AUTOBATCH_CACHE_DIR", "XDG_CACHE_HOME")}
    environment |= {"HOME": "/proc/nobody", "TMPDIR": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-c", NOWHERE], capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stdout) == (0, "2\n"), done.stderr
    assert done.stderr.count("CacheWarning") == 1
    assert os.listdir(tmp_path) == []  # the temporary folder went with the process


INTERRUPTED = """
import os, signal, sys, threading, time
from autobatch.compile.host import cache
from autobatch.base.jit import njit
TEXT = '''from math import exp
from autobatch.base.jit import njit

@njit
def inner(x):
    return exp(x) + {n}

@njit
def loop(x):
    return inner(x) + sum([y * x for y in range(3)]) + {n}
'''
njit(lambda x: x)(0)  # what Numba does once
seconds = 0.2
for n in range(14):
    loop = cache.load(TEXT.format(n=n))
    start = time.perf_counter()
    timer = threading.Timer(seconds * n / 10, os.kill, (os.getpid(), signal.SIGINT))
    try:
        timer.start()
        loop(0.0)
        seconds = time.perf_counter() - start
        timer.join()
        time.sleep(30)
        print("nothing came")
    except KeyboardInterrupt:
        print("interrupted")
    except BaseException as error:
        print("became", repr(error))
    if loop(0.0) != 1.0 + 2 * n:
        print("wrong")
    if loop.overloads and not loop.is_kept(next(iter(loop.overloads))):
        print("not kept")
"""


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="signals of POSIX")
def test_ctrl_c_while_a_function_is_compiled_is_a_keyboard_interrupt_and_nothing_else(folder: Path) -> None:
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["interrupted"] * 14
    names = os.listdir(folder)
    assert len(names) == 29 and all(name.endswith(".nbc") for name in names)
