"""Exact and numerical rank."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from moe_analysis.theory.rank import degenerate_matrix, exact_rank, integer_matrix, numerical_rank

small_integers = arrays(np.int64, array_shapes(min_dims=2, max_dims=2, max_side=6), elements=st.integers(-3, 3))


@settings(max_examples=100, deadline=None)
@given(small_integers)
def test_exact_rank_agrees_with_singular_values_on_small_integers(matrix):
    assert exact_rank(matrix) == np.linalg.matrix_rank(matrix) == exact_rank(matrix.T)


@settings(max_examples=50, deadline=None)
@given(small_integers)
def test_stacking_combinations_of_the_rows_adds_no_rank(matrix):
    assert exact_rank(np.concatenate([matrix, matrix.sum(0, keepdims=True), 2 * matrix])) == exact_rank(matrix)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 8), st.integers(1, 8), st.data())
def test_a_matrix_built_for_a_rank_has_it(rows, columns, data):
    rank = data.draw(st.integers(0, min(rows, columns)))
    matrix = integer_matrix(rows, columns, rank, np.random.default_rng(data.draw(st.integers(0, 99))))
    assert matrix.shape == (rows, columns)
    assert exact_rank(matrix) == rank


@pytest.mark.parametrize("kind", ["independent", "dependent", "repeated", "zero", "null"])
@pytest.mark.parametrize(("rows", "columns"), [(1, 4), (5, 9), (8, 3)])
def test_a_degenerate_matrix_has_the_rank_that_is_claimed_for_it(kind, rows, columns):
    matrix, rank = degenerate_matrix(rows, columns, kind, np.random.default_rng(0))
    assert matrix.shape == (rows, columns)
    assert exact_rank(matrix) == rank
    if kind in ("dependent", "repeated", "zero") and rows > 1:
        assert rank < min(rows, columns)


def test_exact_rank_sees_a_difference_that_singular_values_lose():
    large = 2.0**40
    matrix = np.array([[large, large], [large, large + 1]])
    assert numerical_rank(matrix, 1e-10) == 1
    assert exact_rank(matrix) == 2


def test_exact_rank_refuses_what_is_no_exact_integer():
    for entry in (0.5, np.nan, 2.0**60):
        with pytest.raises(ValueError, match="not an exact integer; use numerical_rank"):
            exact_rank(np.array([[1.0, entry]]))
    with pytest.raises(ValueError, match="two dimensions"):
        exact_rank(np.ones(3))


def test_an_impossible_rank_and_an_unknown_kind_are_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="rank = 4 is impossible for 3 x 5"):
        integer_matrix(3, 5, 4, rng)
    with pytest.raises(ValueError, match="kind = 'odd' is unknown"):
        degenerate_matrix(3, 5, "odd", rng)


def test_numerical_rank_counts_directions_above_the_tolerance():
    matrix = np.diag([1.0, 1e-3, 1e-9])
    assert [numerical_rank(matrix, tolerance) for tolerance in (1e-2, 1e-4, 1e-12)] == [1, 2, 3]
    assert numerical_rank(np.zeros((2, 2))) == 0
