"""Where DyNet is installed, and how it gets there.

DyNet needs an environment of its own: its wheels, `dyNET38` on the package index, are made for Linux on x86-64 and some
versions of Python only.

    python -m benchmarks.dynet_peer install           # into .bench-dynet/ in the root of the repository
    AUTOBATCH_DYNET_PYTHON=/path/to/bin/python ...    # or: an interpreter that has it
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

VARIABLE = "AUTOBATCH_DYNET_PYTHON"
DIRECTORY = Path(__file__).parents[2] / ".bench-dynet"
REQUIREMENT = "dyNET38==2.2"
VERSIONS = ("3.11", "3.12", "3.13", "3.10")
"""Versions of Python that have wheels and can run `server.py`, the preferred first."""


class DynetMissing(ImportError):
    """There is no environment with DyNet. Repair: `python -m benchmarks.dynet_peer install`."""


def interpreter() -> Path:
    """The Python that has DyNet: the one that is asked for, or the one in `.bench-dynet/`.

    Raises DynetMissing if there is none, and FileNotFoundError if the one that is asked for does not exist.
    """
    asked = os.environ.get(VARIABLE)
    if asked:
        if shutil.which(asked) is None:
            raise FileNotFoundError(f"{VARIABLE}: no such interpreter\n  got {asked}\n  repair: correct or unset it")
        return Path(asked)
    path = DIRECTORY / "bin" / "python"
    if not path.exists():
        raise DynetMissing(
            f"DyNet: not installed\n  expected an environment at {DIRECTORY}\n"
            f"  repair: python -m benchmarks.dynet_peer install, or set {VARIABLE} to an interpreter that has it"
        )
    return path


def install(directory: Path = DIRECTORY) -> Path:
    """Make an environment with DyNet. Returns its interpreter; raises DynetMissing, which says what is missing."""
    base = next(_fitting_pythons(), None)
    if base is None:
        raise DynetMissing(
            f"DyNet: no fitting Python\n  expected one of the versions {', '.join(VERSIONS)}, for which {REQUIREMENT} "
            f"has wheels\n  repair: install one of them so that, say, python{VERSIONS[0]} is found on the PATH"
        )
    python = directory / "bin" / "python"
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:"]
    for command in ([base, "-m", "venv", "--clear", str(directory)], [*pip, REQUIREMENT]):
        print("$", *command, flush=True)
        if subprocess.run(command, check=False).returncode != 0:
            raise DynetMissing(
                f"DyNet: could not be installed\n  failed: {' '.join(command)}\n  expected Linux on x86-64, the module "
                "venv, and a package index\n  repair: see the output above"
            )
    check = subprocess.run([str(python), "-c", "import dynet"], capture_output=True, text=True, check=False)
    if check.returncode != 0:
        raise DynetMissing(f"DyNet: installed in {directory}, but it does not load\n{check.stderr}")
    return python


def _fitting_pythons() -> Iterator[str]:
    """Interpreters of a fitting version: this one, those on the path, and those of pyenv."""
    candidates = [sys.executable, *(f"python{version}" for version in VERSIONS)]
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates += [str(path) for version in VERSIONS for path in sorted(pyenv.glob(f"{version}.*/bin/python"))]
    for candidate in candidates:
        command = [candidate, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
        try:
            found = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
        except FileNotFoundError:
            continue
        if found in VERSIONS:
            yield candidate
