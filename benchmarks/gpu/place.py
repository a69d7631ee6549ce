"""Where the measurements run: a GPU with its clocks, or the host, for the tests of the benchmark itself.

A clock marks moments in the device's stream and tells the milliseconds between two of them; CuPy and PyTorch put their
work into the same stream. `hold` keeps the device busy for a while, so that what the host launches meanwhile waits in
the queue and then runs without gaps: the device's own time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from autobatch.backends.cuda.cupy_missing import require_cupy

_SPIN = """
extern "C" __global__ void spin(long long cycles) {
    long long start = clock64();
    while (clock64() - start < cycles) {}
}
"""


USUAL_KILOHERTZ = 2_000_000
"""Of a GPU that does not say."""


class Clock(Protocol):
    """Moments on a device."""

    def mark(self) -> Any:
        """This moment: when all that was launched before it has run."""

    def milliseconds(self, start: Any, end: Any) -> float:
        """Between two moments that are over."""

    def hold(self, milliseconds: float) -> None:
        """Keep the device busy for about so long."""

    def synchronize(self) -> None:
        """Wait until all that was launched has run."""


class HostClock:
    """Moments of the host, where a call returns when its work is done."""

    def mark(self) -> float:
        return time.perf_counter()

    def milliseconds(self, start: float, end: float) -> float:
        return 1e3 * (end - start)

    def hold(self, milliseconds: float) -> None:
        """Nothing: there is no queue."""

    def synchronize(self) -> None:
        """Nothing is pending."""


class DeviceClock:
    """Events of CUDA, through CuPy."""

    def __init__(self) -> None:
        self._cupy = require_cupy()
        self._spin = self._cupy.RawKernel(_SPIN, "spin")
        self._kilohertz = int(self._cupy.cuda.Device().attributes.get("ClockRate") or USUAL_KILOHERTZ)

    def mark(self) -> Any:
        event = self._cupy.cuda.Event()
        event.record()
        return event

    def milliseconds(self, start: Any, end: Any) -> float:
        return float(self._cupy.cuda.get_elapsed_time(start, end))

    def hold(self, milliseconds: float) -> None:
        self._spin((1,), (1,), (int(milliseconds * self._kilohertz),))

    def synchronize(self) -> None:
        self._cupy.cuda.Device().synchronize()


@dataclass(frozen=True, slots=True)
class Place:
    """Where to measure.

    clock: of the device; torch_device: where the programs by hand run, empty where they cannot
    about: what the figures depend on, for the report
    """

    clock: Clock
    torch_device: str
    about: dict[str, str]

    @property
    def graphs(self) -> bool:
        """Whether there are CUDA graphs."""
        return self.torch_device == "cuda"


def _said(ask: Callable[[Any], str], cupy: Any) -> str:
    """What is known of the machine; that it cannot be asked is no reason not to measure."""
    try:
        return ask(cupy)
    except Exception as error:
        return f"unknown ({type(error).__name__}: {error})"


def _card(cupy: Any) -> str:
    found = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)
    memory, processors = found["totalGlobalMem"] / 2**30, found["multiProcessorCount"]
    return f"{found['name'].decode()}, {memory:.0f} GiB, {processors} multiprocessors"


def _versions(cupy: Any) -> str:
    runtime, driver = cupy.cuda.runtime.runtimeGetVersion(), cupy.cuda.runtime.driverGetVersion()
    cublas = cupy.cuda.cublas.getVersion(cupy.cuda.Device().cublas_handle)
    return f"runtime {runtime}, driver {driver}, cuBLAS {cublas}"


def gpu() -> Place:
    """The GPU of this machine. Raises `BackendError` or `MissingExtraError` where there is none."""
    cupy = require_cupy()
    about = {"gpu": _said(_card, cupy), "cuda": _said(_versions, cupy), "cupy": str(cupy.__version__)}
    torch_device = ""
    try:
        import torch

        if torch.cuda.is_available():
            torch_device = "cuda"
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
            about["pytorch"] = f"{torch.__version__}, cuDNN {torch.backends.cudnn.version()}, float32 without TF32"
        else:
            about["pytorch"] = f"{torch.__version__}, which sees no GPU: its programs are left out"
    except ImportError:
        about["pytorch"] = "absent: its programs are left out"
    return Place(DeviceClock(), torch_device, about)
