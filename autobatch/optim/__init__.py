"""Optimisers: change parameters by their gradients, all of them or, whatever happens, none."""

from __future__ import annotations

from .adam import Adam
from .clip import clip_grad_norm
from .optimizer import Optimizer
from .sgd import SGD

__all__ = ["SGD", "Adam", "Optimizer", "clip_grad_norm"]
