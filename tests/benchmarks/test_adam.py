"""NumPy's Adam of the programs by hand is that of the formula."""

from __future__ import annotations

import numpy as np

from benchmarks.adam import Adam, merged_rows


def test_three_steps_are_those_of_the_formula() -> None:
    rng = np.random.default_rng(0)
    start = {name: rng.standard_normal(shape, np.float32) for name, shape in (("w", (200, 130)), ("t", (7, 3)))}
    adam = Adam(start, tables=("t",))
    expected = {name: [value.astype(float), 0.0, 0.0] for name, value in start.items()}
    seen = np.array([1, 4])
    for t in (1, 2, 3):
        gradients = {"w": rng.standard_normal((200, 130), np.float32), "t": np.zeros((7, 3), np.float32)}
        gradients["t"][seen] = rng.standard_normal((2, 3), np.float32)
        adam.gradients["w"][...] = gradients["w"]
        adam.step({"t": (seen, gradients["t"][seen])})
        for name, g in gradients.items():
            w, m, v = expected[name]
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g.astype(float) ** 2
            expected[name] = [w - 1e-3 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8), m, v]
    for name, (value, _, _) in expected.items():
        np.testing.assert_allclose(adam.weights[name], value, rtol=1e-5, atol=1e-6)
    assert "t" not in adam.gradients
    assert start["t"] is not adam.weights["t"]


def test_equal_rows_are_added() -> None:
    rows, gradients = merged_rows(np.array([5, 2, 5]), np.array([[1.0], [2.0], [4.0]], np.float32))
    assert rows.tolist() == [2, 5]
    assert gradients.tolist() == [[2.0], [5.0]]
