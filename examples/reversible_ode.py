"""The adjoint of an integrator that runs backwards: gradients through any number of steps in the memory of one.

    python examples/reversible_ode.py

Leapfrog takes a pendulum from angle and momentum at time 0 to those at time T; with the sign of the step changed it
goes back the same way. The adjoint walks back with it, a `vjp` a step. The gradient by the start and by the length of
the pendulum is that of a tape that stores every step.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import autobatch as ab

Array = np.ndarray[Any, Any]


def energy(q: Any, length: Any) -> Any:
    """The potential energy of a pendulum; forces are its derivative."""
    return -(length * ab.cos(q)).sum()


def leapfrog(q: Any, p: Any, length: Any, h: float) -> tuple[Any, Any]:
    """One step of kick, drift and kick."""
    force = ab.grad(lambda q: -energy(q, length))
    p = p + 0.5 * h * force(q)
    q = q + h * p / length**2
    return q, p + 0.5 * h * force(q)


def by_adjoint(q: Array, p: Array, length: float, h: float, n: int) -> tuple[float, list[Array], float]:
    """The last angle, its gradient by (q, p, length), and how far the walk back ends from where it began."""
    first = q
    for _ in range(n):
        q, p = ab.evaluate(leapfrog(ab.tensor(q), ab.tensor(p), length, h))
    last, found = float(q.sum()), [np.ones_like(q), np.zeros_like(p), np.zeros(())]
    for _ in range(n):
        q, p = ab.evaluate(leapfrog(ab.tensor(q), ab.tensor(p), length, -h))
        _, pull = ab.vjp(lambda q, p, a: leapfrog(q, p, a, h), ab.tensor(q), ab.tensor(p), ab.tensor(length))
        parts = ab.evaluate(pull((found[0], found[1])))
        found = [parts[0], parts[1], found[2] + parts[2]]
    return last, found, float(np.abs(q - first).max())


def by_tape(q: Array, p: Array, length: float, h: float, n: int) -> list[Array]:
    """The same gradient of a recording of all steps."""

    def last(q: Any, p: Any, length: Any) -> Any:
        for _ in range(n):
            q, p = leapfrog(q, p, length, h)
        return q.sum()

    found: list[Array] = ab.evaluate(list(ab.grad(last, (0, 1, 2))(ab.tensor(q), ab.tensor(p), ab.tensor(length))))
    return found


def main() -> None:
    ab.set_default_dtype("float64")
    arguments = np.array([1.0]), np.array([0.0]), 1.3, 0.05, 100
    last, found, error = by_adjoint(*arguments)
    print(f"angle {last:.6f}; back at the start to {error:.1e}")
    for name, mine, other in zip(("angle", "momentum", "length"), found, by_tape(*arguments), strict=True):
        print(f"d / d {name}: {float(mine.sum()):.9f}, by the tape {float(other.sum()):.9f}")


if __name__ == "__main__":
    main()
