"""Memory of the device: steady from step to step, and free when nothing holds it, without the cycle collector."""

from __future__ import annotations

import gc
from typing import Any

import autobatch as ab
from autobatch import optim
from tests.run.device.reader import SENTENCES, Reader
from tests.stand_in.device import StandIn


def test_memory_is_steady_without_the_cycle_collector(device: StandIn) -> None:
    model = Reader()
    w = ab.Parameter([0.1, 0.2])
    optimizer = optim.Adam([*model.parameters(), w])

    @ab.cell
    def scaled(x: Any, scale: float) -> Any:  # the gradient of w reads a number of each node
        return ab.sum(x * w * scale)

    def step() -> None:
        optimizer.zero_grad()
        rows = [scaled(ab.tensor([1.0, 2.0]), float(k)) for k in range(4)]
        losses = ab.map(model.loss, SENTENCES)
        loss = ab.mean([*losses, *rows])
        loss.backward()
        optimizer.step()

    step()
    gc.collect()
    gc.disable()
    try:
        used = []
        for _ in range(3):
            step()
            used.append(device.used)
        optimizer.zero_grad()
        n_bytes = sum(p.value.nbytes for p in optimizer.params)
        constants = device.used - 3 * n_bytes  # parameters and two moments of each
    finally:
        gc.enable()
    assert used[0] == used[1] == used[2]
    assert 0 <= constants < 200
