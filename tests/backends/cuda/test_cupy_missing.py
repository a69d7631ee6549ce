"""Choosing "cupy" where something is missing: the message says what, and how to get it; what was chosen stays.

The fakes raise what CuPy 14 raises: `CUDARuntimeError`, a `RuntimeError` whose message begins with the error's name.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from autobatch.backends.cuda.cupy_missing import require_cupy
from autobatch.errors import BackendError, MissingExtraError
from tests import conftest


class CUDARuntimeError(RuntimeError):
    pass


def fake_cupy(
    count: int | Exception, driver: int = 13000, runtime: int = 12090, cublas: Any = None, nvrtc: Any = (12, 9)
) -> ModuleType:
    """A module `cupy` of a machine: what counting GPUs gives, which CUDA the driver and CuPy are for, libraries."""

    def given(value: Any) -> Any:
        if isinstance(value, Exception):
            raise value
        return value

    class Cuda:
        def __init__(self) -> None:
            self.runtime = SimpleNamespace(
                getDeviceCount=lambda: given(count),
                driverGetVersion=lambda: driver,
                runtimeGetVersion=lambda: runtime,
            )
            self.nvrtc = SimpleNamespace(getVersion=lambda: given(nvrtc))

        @property
        def cublas(self) -> Any:
            return given(cublas)

    module = ModuleType("cupy")
    module.cuda = Cuda()  # type: ignore[attr-defined]
    return module


def test_no_cupy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(MissingExtraError) as caught:
        require_cupy()
    assert str(caught.value) == (
        'backend "cupy": CuPy is not installed\n'
        "  repair: pip install 'autobatch-compiler[cuda13]' (driver 580 or newer), "
        "or 'autobatch-compiler[cuda12]' (driver 525 or newer)"
    )


def test_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    said = "cudaErrorInsufficientDriver: CUDA driver version is insufficient for CUDA runtime version"
    monkeypatch.setitem(sys.modules, "cupy", fake_cupy(CUDARuntimeError(said), driver=0))
    with pytest.raises(BackendError) as caught:
        require_cupy()
    assert str(caught.value) == (
        f'backend "cupy": there is no driver of NVIDIA\'s ({said})\n'
        "  repair: install the driver of the GPU, until `nvidia-smi` answers; a container needs --gpus all"
    )


def test_a_driver_too_old_for_this_cupy(monkeypatch: pytest.MonkeyPatch) -> None:
    said = CUDARuntimeError("cudaErrorInsufficientDriver: CUDA driver version is insufficient for CUDA runtime version")
    monkeypatch.setitem(sys.modules, "cupy", fake_cupy(said, driver=12020, runtime=13010))
    with pytest.raises(
        BackendError, match=r"expected a driver for CUDA 13\.1, got one for CUDA 12\.2 .*\n.*\[cuda12\]"
    ):
        require_cupy()


@pytest.mark.parametrize("count", [0, CUDARuntimeError("cudaErrorNoDevice: no CUDA-capable device is detected")])
def test_no_gpu(monkeypatch: pytest.MonkeyPatch, count: Any) -> None:
    monkeypatch.setitem(sys.modules, "cupy", fake_cupy(count))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(BackendError) as caught:
        require_cupy()
    assert str(caught.value) == (
        "backend \"cupy\": there is no GPU: the driver knows of none, CUDA_VISIBLE_DEVICES is ''\n"
        "  repair: run where `nvidia-smi` lists a GPU, and leave it visible; a container needs --gpus all"
    )


@pytest.mark.parametrize(
    "machine",
    [
        {"cublas": ImportError('Failure finding "libcublasLt.so.13"')},
        {"nvrtc": RuntimeError("CuPy failed to load libnvrtc.so.12")},
    ],
)
def test_no_libraries(monkeypatch: pytest.MonkeyPatch, machine: Any) -> None:
    monkeypatch.setitem(sys.modules, "cupy", fake_cupy(1, **machine))
    with pytest.raises(MissingExtraError, match=r"(?s)libraries of CUDA are missing \(.*lib.*repair: pip.*\[cuda13\]"):
        require_cupy()


@pytest.mark.parametrize(
    "source, said",
    [
        ("import not_there_at_all", "not_there_at_all"),
        ("raise ImportError('\\n=====\\nFailed to import CuPy.\\n=====')", "Failed to import CuPy"),
    ],
)
def test_a_cupy_that_does_not_load(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, source: Any, said: Any) -> None:
    tmp_path.joinpath("cupy.py").write_text(source, encoding="utf-8")
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(BackendError, match=rf"does not load \(.*{said}.*\)\n  repair: pip uninstall"):
        require_cupy()


def test_a_machine_that_has_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    cupy = fake_cupy(1)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    assert require_cupy() is cupy


def test_a_requested_backend_that_is_missing_fails_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(pytest.UsageError, match=r"--backend cupy: .*CuPy is not installed"):
        conftest.pytest_configure(SimpleNamespace(getoption=lambda name: {"backend": "cupy", "deep": False}[name]))
