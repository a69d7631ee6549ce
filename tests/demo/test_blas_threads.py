"""Limiting the threads of matrix products, and giving them back."""

from __future__ import annotations

import pytest

import autobatch as ab
from autobatch.demo import blas_threads as module
from autobatch.demo.blas_threads import blas_threads


@pytest.mark.skipif(module._openblas() is None, reason="this NumPy does not bring its own OpenBLAS")
def test_the_count_holds_inside_the_block_only() -> None:
    get_count, _ = module._openblas()
    before = get_count()
    with pytest.raises(KeyError), blas_threads(1) as limited:
        assert limited and get_count() == 1
        raise KeyError
    assert get_count() == before


def test_the_count_of_the_librarys_own_products_holds_inside_the_block_only() -> None:
    before = ab.get_num_threads()
    with blas_threads(before + 2):
        assert ab.get_num_threads() == before + 2
    assert ab.get_num_threads() == before


def test_without_openblas_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_openblas", lambda: None)
    with blas_threads(1) as limited:
        assert not limited
