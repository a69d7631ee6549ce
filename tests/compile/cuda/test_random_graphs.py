"""Random batched graphs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from autobatch.ir.graph import INPUT, Graph
from tests import requested
from tests.compile.cuda.agreement import Agreement, Sizes, build_all, resolve
from tests.compile.host import test_lower_random as cases
from tests.stand_in import kernels

SEEDS = range(requested.fewer(40))
pytestmark = pytest.mark.skipif(bool(kernels.MISSING), reason=kernels.MISSING)


@pytest.fixture(scope="module")
def agreements() -> dict[tuple[int, bool], Agreement]:
    """The programs of all seeds, that add to rows and that store to them."""
    made = {}
    for seed in SEEDS:
        graph, accumulate = cases.RandomGraph(seed).build()
        for add in (True, False) if any(accumulate) else (True,):
            made[seed, add] = Agreement(graph, accumulate, add)
    build_all(list(made.values()))
    return made


def operands(graph: Graph, seed: int) -> Any:
    """Random operands."""
    types = {node.attrs: node.type for node in graph.nodes if node.op is INPUT}

    def operand(kind: str, k: int, sizes: Sizes) -> Any:
        rng = np.random.default_rng([seed, len(kind), k])
        shape = resolve(types[kind, k].shape, sizes)
        return np.sort(rng.integers(0, max(sizes[0], 1), shape)) if kind == "segments" else rng.normal(size=shape)

    return operand


@pytest.mark.parametrize("block", range(4))
def test_random_graphs(agreements: dict[tuple[int, bool], Agreement], block: int) -> None:
    for (seed, _), agreement in agreements.items():
        if seed % 4 == block:
            for sizes in ((0, 0), (1, 5), (3, 5)):
                agreement.check(sizes, operands(agreement.graph, seed), seed, block % 2 == 0)
                agreement.check(sizes, operands(agreement.graph, seed), seed, block % 2 == 1, apart=True)
