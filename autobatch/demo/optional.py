"""Packages of the extra `demo`: the command works without them, and says what it then leaves out."""

from __future__ import annotations

from importlib.util import find_spec

__all__ = ["installed", "left_out"]

_USES = {
    "rich": "progress bar",
    "matplotlib": "picture of the learning curve",
    "sklearn": "baselines",
    "threadpoolctl": "limit of the threads of NumPy's BLAS",
}
_DISTRIBUTIONS = {"sklearn": "scikit-learn"}


def installed(package: str) -> bool:
    """Whether a package can be imported.

    >>> installed("numpy")
    True
    """
    return find_spec(package) is not None


def left_out(packages: tuple[str, ...]) -> str:
    """A line that says what is not there for want of packages; empty if all of them are installed.

    >>> left_out(("numpy",))
    ''
    """
    missing = [f"{_USES[name]} ({_DISTRIBUTIONS.get(name, name)})" for name in packages if not installed(name)]
    return f"left out: {', '.join(missing)}; pip install 'autobatch-compiler[demo]'" if missing else ""
