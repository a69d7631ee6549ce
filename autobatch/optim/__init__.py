"""Optimisers: change parameters by their gradients, all of them or, whatever happens, none.

In reading order: `rules` are updates declared once for all backends, `moves` run them on arrays, `groups` are
parameters and their settings, `optimizer` is the step that all have in common. Each optimiser is a file; those that
evaluate the loss several times in a step have `full_batch` and `line_search` in common. `clip` and `clip_on_device`
bound gradients, `lr_scheduler` and `plateau` have schedules, `swa_utils` averages weights.
"""

from __future__ import annotations

from . import lr_scheduler, swa_utils
from .adadelta import Adadelta
from .adagrad import Adagrad
from .adam import Adam
from .adamw import AdamW
from .clip import clip_grad_norm, clip_grad_value
from .conjugate_gradient import ConjugateGradient
from .lbfgs import LBFGS
from .lion import Lion
from .nadam import NAdam
from .optimizer import Optimizer
from .radam import RAdam
from .rmsprop import RMSprop
from .sgd import SGD
from .swa_utils import AveragedModel

__all__ = [
    "LBFGS",
    "SGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "AveragedModel",
    "ConjugateGradient",
    "Lion",
    "NAdam",
    "Optimizer",
    "RAdam",
    "RMSprop",
    "clip_grad_norm",
    "clip_grad_value",
    "lr_scheduler",
    "swa_utils",
]
