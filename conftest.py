"""Imports the library whole before any of its modules is collected for doctests, whose examples assume these imports:

import autobatch as ab
import numpy as np
from autobatch import nn, optim
"""

from typing import Any

import numpy as np
import pytest

import autobatch as ab


@pytest.fixture(autouse=True)
def usual_imports(doctest_namespace: dict[str, Any]) -> None:
    doctest_namespace.update(ab=ab, np=np, nn=ab.nn, optim=ab.optim)
