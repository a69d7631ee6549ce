"""A wheel, installed without extras, does what the README begins with: `python .ci/smoke.py`, away from a checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

with tempfile.TemporaryDirectory() as folder:
    os.chdir(folder)
    sys.path[:] = [path for path in sys.path if path != str(Path(__file__).parent)]
    import autobatch as ab

    assert ab.__version__ in subprocess.check_output([sys.executable, "-m", "autobatch", "--version"], text=True)
    assert Path(ab.__file__).with_name("py.typed").exists()
    for command in ("train trees --dim 8 --epochs 1 --backend numpy --out run", "predict run trees.txt"):
        Path("trees.txt").write_text("(2 (2 good) (2 film))\n")
        subprocess.run([sys.executable, "-m", "autobatch", *command.split()], check=True)
    weight = ab.Parameter([[1.0, -1.0], [0.5, 2.0]])
    inputs = [[1.0, 2.0], [3.0, 4.0]]
    losses = ab.map(lambda x: ab.sum(ab.tanh(ab.tensor(x) @ weight)), inputs)
    ab.mean(losses).backward()  # compiles two loops
    assert weight.grad is not None
    print(f"autobatch {ab.__version__}: the {ab.recorder} recorder, backend numba")
