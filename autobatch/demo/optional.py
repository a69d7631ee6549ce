"""Packages of the extra `demo`: the command works without them, and says what it then leaves out."""

from __future__ import annotations

from ..base.extras import NOT_INSTALLED, fault

__all__ = ["left_out"]

_USES = {
    "rich": "progress bar",
    "matplotlib": "picture of the learning curve",
    "sklearn": "baselines",
    "threadpoolctl": "limit of the threads of NumPy's BLAS",
}
_DISTRIBUTIONS = {"sklearn": "scikit-learn"}


def left_out(packages: tuple[str, ...]) -> str:
    """A line that says what is not there for want of packages; empty if all of them can be imported.

    >>> left_out(("numpy",))
    ''
    """
    faults = {name: why for name in packages if (why := fault(name))}
    if not faults:
        return ""
    shown = {name: _DISTRIBUTIONS.get(name, name) for name in faults}
    shown |= {name: f"{shown[name]}: {why}" for name, why in faults.items() if why != NOT_INSTALLED}
    listed = ", ".join(f"{_USES[name]} ({text})" for name, text in shown.items())
    return f"left out: {listed}; pip install 'autobatch-compiler[demo]'"
