"""Training: a loop to use, to read and to leave, and what is usually wanted around it.

In reading order: `run` (the state), `loop` (`fit`), `arguments` (what it is given is checked), `evaluation` (and
prediction), `metrics`; callbacks: `callback` (base class, early stopping), `progress`, `checkpoint` (saving and going
on), `curve` (CSV, JSON, picture, TensorBoard).
Built on the public names of the library. A checkpoint is one safetensors file with JSON in its header.

    model = TreeLSTM(len(words), 128, 5)
    optimizer = optim.Adam(model.parameters(), lr=1e-3)
    batches = ab.data.minibatches(trees, batch_size=64, shuffle=True)
    run = ab.train.fit(model, batches, optimizer, epochs=10, callbacks=[ab.train.Checkpoint("runs/trees")])
"""

from __future__ import annotations

from .callback import Callback, EarlyStopping
from .checkpoint import Checkpoint, load_model, save_model, settings_of
from .curve import Curve, TensorBoard
from .evaluation import evaluate, predict
from .loop import fit
from .metrics import accuracy
from .progress import Progress
from .run import Run

__all__ = [
    "Callback",
    "Checkpoint",
    "Curve",
    "EarlyStopping",
    "Progress",
    "Run",
    "TensorBoard",
    "accuracy",
    "evaluate",
    "fit",
    "load_model",
    "predict",
    "save_model",
    "settings_of",
]
