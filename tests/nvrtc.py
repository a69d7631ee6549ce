"""CUDA C → machine code of an H100 or H200 by NVRTC from its wheel; neither a driver nor a GPU is needed.

Reference: "NVRTC", NVIDIA, 12.9: nvrtcCreateProgram, nvrtcCompileProgram, nvrtcGetProgramLog, nvrtcGetCUBIN.
"""

from __future__ import annotations

import ctypes
import importlib.util
from functools import cache
from pathlib import Path

ARCHITECTURE = "sm_90"
OPTIONS = (f"--gpu-architecture={ARCHITECTURE}", "--std=c++17")
FAST = (*OPTIONS, "--Ofast-compile=max")
"""Options that take a sixth of the time, for many kernels; what is refused is the same."""


class CompileError(Exception):
    """What NVRTC says of a source that it does not take."""


@cache
def _library() -> ctypes.CDLL | None:
    spec = importlib.util.find_spec("nvidia")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for path in sorted(Path(folder).glob("*/lib/libnvrtc.so.1?")):
            return ctypes.CDLL(str(path))
    return None


MISSING = "" if _library() else "there is no NVRTC (pip install nvidia-cuda-nvrtc-cu12) to compile kernels with"
"""Why nothing can be compiled here, or an empty string."""


def compiled(source: str, options: tuple[str, ...] = OPTIONS) -> bytes:
    """The machine code of a program, as CuPy would get it. Raises `CompileError`."""
    nvrtc = _library()
    assert nvrtc is not None, MISSING
    program = ctypes.c_void_p()
    assert nvrtc.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"program.cu", 0, None, None) == 0
    try:
        given = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
        if nvrtc.nvrtcCompileProgram(program, len(options), given):
            raise CompileError(_text(nvrtc, program, "ProgramLog").decode())
        return _text(nvrtc, program, "CUBIN")
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))


def _text(nvrtc: ctypes.CDLL, program: ctypes.c_void_p, what: str) -> bytes:
    size = ctypes.c_size_t()
    assert getattr(nvrtc, f"nvrtcGet{what}Size")(program, ctypes.byref(size)) == 0
    buffer = ctypes.create_string_buffer(size.value)
    assert getattr(nvrtc, f"nvrtcGet{what}")(program, buffer) == 0
    return buffer.raw
