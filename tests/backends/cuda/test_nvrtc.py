"""The compiler that the tests of kernels rely on compiles, and refuses."""

from __future__ import annotations

import pytest

from tests import nvrtc

pytestmark = pytest.mark.skipif(bool(nvrtc.MISSING), reason=nvrtc.MISSING)
KERNEL = 'extern "C" __global__ void twice(long long n, float* x) {{ {body} }}'


def test_a_kernel_becomes_machine_code() -> None:
    code = nvrtc.compiled(KERNEL.format(body="if (threadIdx.x < n) x[threadIdx.x] *= 2.0f;"))
    assert code.startswith(b"\x7fELF") and b"twice" in code


def test_a_wrong_kernel_is_refused() -> None:
    with pytest.raises(nvrtc.CompileError, match=r"program\.cu\(1\): error: identifier \"y\" is undefined"):
        nvrtc.compiled(KERNEL.format(body="y = 1;"))
