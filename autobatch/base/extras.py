"""Optional packages: whether they can be imported, and why not."""

from __future__ import annotations

from importlib import import_module

NOT_INSTALLED = "not installed"


def fault(module: str) -> str:
    """Why an optional module cannot be imported, in a line; empty where it can.

    It is imported: one that is there may fail, such as one that was built for another NumPy.

    >>> fault("numpy"), fault("no_such_package")
    ('', 'not installed')
    """
    try:
        import_module(module)
    except Exception as error:
        package = module.partition(".")[0]
        if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] == package:
            return NOT_INSTALLED
        return " ".join(f"{type(error).__name__}: {error}".split())
    return ""
