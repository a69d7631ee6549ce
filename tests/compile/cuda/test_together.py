"""Kernels that do the work of several launches: built as C++ they give the same bits, and NVRTC compiles them."""

from __future__ import annotations

import numpy as np
import pytest

from autobatch.backends.cuda import HEADER
from autobatch.compile.cuda.together import together
from tests import nvrtc
from tests.compile.cuda.test_samples import SAMPLES, Whole
from tests.ops.checks import default, masks
from tests.stand_in import kernels
from tests.stand_in.device import StandIn

MEMBERS = 3
OPS = {
    "bounded", "concat", "cross_entropy", "dropout", "list_max", "list_sum", "lookup", "matmul", "normal",
    "scatter_add", "softmax", "sum", "window",
}  # fmt: skip
"""At least one for each kind of kernel."""


@pytest.fixture(scope="module")
def wholes() -> list[Whole]:
    """The first sample of these ops, its launches in step with others. Programs that sort never run so."""
    found = []
    with default("float32"):
        for case in SAMPLES:
            if case.number == 0 and case.op.name in OPS:
                whole = Whole(case, masks(case.sample)[0], "float32")
                for agreement in whole.programs.values():
                    agreement.members = 1 if agreement.program.sorts else MEMBERS
                found.append(whole)
    return found


def sources(wholes: list[Whole]) -> list[str]:
    """The kernels of all of them, for several launches."""
    programs = [agreement.program for whole in wholes for agreement in whole.programs.values()]
    return [together(program.source, MEMBERS) for program in programs if not program.sorts]


@pytest.mark.skipif(bool(kernels.MISSING), reason=kernels.MISSING)
def test_launches_in_step_give_the_same_bits(wholes: list[Whole]) -> None:
    alone = [agreement.program.source for whole in wholes for agreement in whole.programs.values()]
    kernels.build_together([*alone, *sources(wholes)])
    for whole in wholes:
        whole.check(7)


@pytest.mark.skipif(bool(nvrtc.MISSING), reason=nvrtc.MISSING)
def test_they_compile_for_a_gpu(wholes: list[Whole]) -> None:
    _, texts = kernels.distinct(sources(wholes))
    code = nvrtc.compiled("\n".join([HEADER, *texts.values()]), nvrtc.FAST)
    assert len(texts) > 30
    assert all(f".text.{name}\0".encode() in code for name in texts)


@pytest.mark.skipif(bool(kernels.MISSING), reason=kernels.MISSING)
def test_each_block_finds_its_member() -> None:
    text = "AB_KERNEL fill(i64 n, int* to, i64 x) {\n    AB_THREADS AB_EACH(t, n) to[t] += (int)(x + t);\n}\n"
    source = HEADER + text
    device = StandIn()
    results = [np.zeros(n, np.int32) for n in (300, 5, 900)]
    arguments = [(n, result.ctypes.data, 1000 * n) for n, result in zip((300, 5, 900), results, strict=True)]
    kernel = device.kernel(together(source, 3), "fill")
    for ends in ([2, 3, 7], [1, 2, 3]):  # a thread for each number, and threads that take several
        for result in results:
            result[:] = 0
        device.launch(kernel, ends[-1], 256, (*ends[:-1], *(x for own in arguments for x in own)))
        for n, result in zip((300, 5, 900), results, strict=True):
            assert result.tolist() == [1000 * n + t for t in range(n)]
