"""Packages that only the command line and its reports need: the extra `demo`."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from ..base.errors import MissingExtraError, message

__all__ = ["demo_package"]


def demo_package(name: str) -> ModuleType:
    """Import a module of a package that the extra `demo` brings.

    Raises:
        MissingExtraError: the package is not installed; the message says how to install it.

    >>> demo_package("rich.progress").__name__
    'rich.progress'
    """
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        package = name.partition(".")[0]
        if error.name is None or error.name.partition(".")[0] != package:
            raise  # the package is there, something that it needs is not
        repair = "pip install 'autobatch-compiler[demo]'"
        raise MissingExtraError(message(f"{package} is not installed", repair=repair)) from error
