"""What the backend "cupy" needs of the machine, and which of it is missing: CuPy, a driver, a GPU, CUDA's libraries.

`require_cupy()` is asked wherever the backend is chosen. It takes some microseconds once CuPy is loaded, and leaves the
choice of the backend as it is when it raises.

Sources: "CUDA Compatibility", NVIDIA, table 2 (which driver runs which CUDA); CuPy's installation guide.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any, TypeVar

from ...base.errors import BackendError, MissingExtraError, message

E = TypeVar("E", BackendError, MissingExtraError)

_CUDA_13_DRIVER, _CUDA_12_DRIVER = 580, 525
INSTALL = (
    f"pip install 'autobatch-compiler[cuda13]' (driver {_CUDA_13_DRIVER} or newer), "
    f"or 'autobatch-compiler[cuda12]' (driver {_CUDA_12_DRIVER} or newer)"
)


def require_cupy() -> Any:
    """The module `cupy`, with a GPU that it can use.

    Raises:
        MissingExtraError: CuPy is not installed, or the libraries of CUDA that it loads are not.
        BackendError: CuPy does not load; there is no driver, or one too old for this CuPy; there is no GPU.
    """
    cupy = _loaded()
    _require_device(cupy.cuda.runtime)
    _require_libraries(cupy.cuda)
    return cupy


def _loaded() -> Any:
    try:
        return import_module("cupy")
    except ModuleNotFoundError as error:
        if error.name != "cupy":  # it is there, something that it needs is not
            raise _does_not_load(error) from error
        raise _error(MissingExtraError, "CuPy is not installed", INSTALL) from error
    except ImportError as error:
        raise _does_not_load(error) from error


def _does_not_load(error: ImportError) -> BackendError:
    what = f"CuPy is installed and does not load ({_first_line(error)})"
    return _error(BackendError, what, f"pip uninstall every package cupy*, then {INSTALL}")


def _require_device(runtime: Any) -> None:
    try:
        n_devices = runtime.getDeviceCount()
    except RuntimeError as error:  # CUDARuntimeError, whose message begins with the name of the error
        said = _first_line(error)
        if "cudaErrorNoDevice" not in said:
            raise _no_driver(runtime, said) from error
        n_devices = 0
    if n_devices == 0:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        hidden = "" if visible is None else f", CUDA_VISIBLE_DEVICES is {visible!r}"
        repair = "run where `nvidia-smi` lists a GPU, and leave it visible; a container needs --gpus all"
        raise _error(BackendError, f"there is no GPU: the driver knows of none{hidden}", repair)


def _no_driver(runtime: Any, said: str) -> BackendError:
    """The driver is missing, or cannot run what this CuPy was built for."""
    newest, needed = runtime.driverGetVersion(), runtime.runtimeGetVersion()
    if newest == 0:
        repair = "install the driver of the GPU, until `nvidia-smi` answers; a container needs --gpus all"
        return _error(BackendError, f"there is no driver of NVIDIA's ({said})", repair)
    return _error(
        BackendError,
        "the driver does not run this CuPy",
        f"a newer driver, or the CuPy for this one: {INSTALL}",
        expected=f"a driver for CUDA {_version(needed)}",
        got=f"one for CUDA {_version(newest)} ({said})",
    )


def _require_libraries(cuda: Any) -> None:
    """cuBLAS and NVRTC, which CuPy looks for when they are first asked for (asking its lower modules would not)."""
    try:
        _ = cuda.cublas
        cuda.nvrtc.getVersion()
    except (ImportError, RuntimeError) as error:
        what = f"the libraries of CUDA are missing ({_first_line(error)})"
        raise _error(MissingExtraError, what, f"{INSTALL}, which brings them") from error


def _error(kind: type[E], what: str, repair: str, **more: str) -> E:
    return kind(message(f'backend "cupy": {what}', repair=repair, **more))


def _version(number: int) -> str:
    """12090 → 12.9."""
    return f"{number // 1000}.{number % 1000 // 10}"


def _first_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip("= ")]
    return lines[0].strip() if lines else type(error).__name__
