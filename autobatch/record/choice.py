"""Which recorder runs: the compiled one where it was built, else the one in Python; both record the same.

AUTOBATCH_RECORDER=python or =compiled chooses; with the latter a missing one is an error.
"""

from __future__ import annotations

import importlib
import os
import sysconfig
from typing import Any

from ..base.errors import BackendError, message

INTERFACE = 4
"""What the compiled recorder has, too, where it and the Python around it expect the same of each other."""


def choose() -> Any:
    """The module of the compiled recorder where it is to run; else None."""
    wanted = os.environ.get("AUTOBATCH_RECORDER", "")
    if wanted not in ("", "python", "compiled"):
        raise BackendError(message("AUTOBATCH_RECORDER: no such recorder", expected="python or compiled", got=wanted))
    if wanted == "python":
        return None
    reason = "this Python has no global interpreter lock"
    if not sysconfig.get_config_var("Py_GIL_DISABLED"):
        try:
            built = importlib.import_module(".compiled", __package__)
            if getattr(built, "INTERFACE", None) == INTERFACE:
                return built
            reason = "it was built from other sources; python setup.py build_ext --inplace builds it anew"
        except ImportError as error:
            reason = str(error)
    if wanted == "compiled":
        what = f"AUTOBATCH_RECORDER: the compiled recorder cannot be used ({reason})"
        raise BackendError(message(what, repair="install autobatch where there is a C compiler, or leave it unset"))
    return None


compiled: Any = choose()
"""The module of the compiled recorder; None where the one in Python runs."""

recorder = "python" if compiled is None else "compiled"
"""Which recorder runs, "compiled" or "python"."""
