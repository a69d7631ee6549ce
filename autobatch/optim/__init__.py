"""Optimisers: change parameters by their gradients, all of them or, whatever happens, none.

In reading order: `rules` are updates declared once for all backends, `moves` run them on arrays, `groups` are
parameters and their settings, `optimizer` is the step that all have in common. Each optimiser is a file. `clip` and
`clip_on_device` bound gradients.
"""

from __future__ import annotations

from .adadelta import Adadelta
from .adagrad import Adagrad
from .adam import Adam
from .adamw import AdamW
from .clip import clip_grad_norm, clip_grad_value
from .lion import Lion
from .nadam import NAdam
from .optimizer import Optimizer
from .radam import RAdam
from .rmsprop import RMSprop
from .sgd import SGD

__all__ = [
    "SGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Lion",
    "NAdam",
    "Optimizer",
    "RAdam",
    "RMSprop",
    "clip_grad_norm",
    "clip_grad_value",
]
