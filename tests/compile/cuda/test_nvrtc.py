"""Samples of every op compile for a GPU: NVRTC, from its wheel, makes code for sm_90 of all of their kernels.

`test_samples` runs the source of all samples on the processor, for all choices of shared operands. Here three samples
of each op and one choice do, and float64 for the first: the others differ in where a number is read.
"""

from __future__ import annotations

import pytest

from autobatch.backends.cuda import HEADER
from tests import nvrtc
from tests.compile.cuda.test_samples import SAMPLES, Whole
from tests.ops.checks import default, masks
from tests.stand_in import kernels

pytestmark = pytest.mark.skipif(bool(nvrtc.MISSING), reason=nvrtc.MISSING)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_samples_compile_for_a_gpu(dtype: str) -> None:
    sources = []
    with default(dtype):
        for case in SAMPLES:
            if case.number < (3 if dtype == "float32" else 1):
                programs = Whole(case, masks(case.sample)[0], dtype).programs.values()
                sources += [agreement.program.source for agreement in programs]
    _, texts = kernels.distinct(sources)
    code = nvrtc.compiled("\n".join([HEADER, *texts.values()]), nvrtc.FAST)
    assert len(texts) > 100
    assert all(f".text.{name}\0".encode() in code for name in texts)
