"""Ranks: exact ones of integer matrices, numerical ones with a stated tolerance."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Shaped

from .whole_numbers import whole_numbers


def exact_rank(matrix: Shaped[np.ndarray, "row column"]) -> int:
    """Rank over the rationals of a matrix of integers, stored as integers or as float64.

    Fraction-free elimination (Bareiss 1968) in Python's unbounded integers: no rounding, no tolerance.

    Raises:
        ValueError: For an entry that is not an integer or too large to be an exact float64.
    """
    values = np.asarray(matrix)
    if values.ndim != 2:
        raise ValueError(f"matrix has shape {values.shape}; exact_rank needs two dimensions")
    try:
        values = whole_numbers(values)
    except ValueError as error:
        raise ValueError(
            "matrix has an entry that is not an exact integer; use numerical_rank for real matrices"
        ) from error
    work = (values.T if values.shape[0] > values.shape[1] else values).astype(object)
    previous, rank = 1, 0
    for column in range(work.shape[1]):
        below = np.flatnonzero(work[rank:, column])
        if below.size == 0:
            continue
        work[[rank, rank + below[0]]] = work[[rank + below[0], rank]]
        pivot, rest = work[rank, column], np.s_[rank + 1 :, column + 1 :]
        work[rest] = (pivot * work[rest] - np.outer(work[rank + 1 :, column], work[rank, column + 1 :])) // previous
        previous, rank = pivot, rank + 1
        if rank == work.shape[0]:
            break
    return rank


def numerical_rank(matrix: Shaped[np.ndarray, "row column"], tolerance: float | None = None) -> int:
    """Number of singular values above tolerance × the largest; None means max(shape) × float64 epsilon."""
    values = np.asarray(matrix, dtype=np.float64)
    if values.size == 0 or not values.any():
        return 0
    singular = np.linalg.svd(values, compute_uv=False)
    relative = max(values.shape) * np.finfo(np.float64).eps if tolerance is None else tolerance
    return int((singular > relative * singular[0]).sum())


def integer_matrix(rows: int, columns: int, rank: int, rng: np.random.Generator) -> Float[np.ndarray, "row column"]:
    """A float64 matrix of small integers whose rank is `rank` by construction.

    A product of a unit lower-trapezoidal and a unit upper-trapezoidal matrix, whose rows and columns are then permuted.

    Raises:
        ValueError: For a rank that no matrix of this shape has.
    """
    if not 0 <= rank <= min(rows, columns):
        raise ValueError(f"rank = {rank} is impossible for {rows} x {columns}; choose 0 to {min(rows, columns)}")
    left = np.tril(rng.integers(-1, 2, (rows, rank)), -1) + np.eye(rows, rank, dtype=np.int64)
    right = np.triu(rng.integers(-1, 2, (rank, columns)), 1) + np.eye(rank, columns, dtype=np.int64)
    product = left @ right  # (rows, columns)
    return product[rng.permutation(rows)][:, rng.permutation(columns)].astype(np.float64)


def degenerate_matrix(
    rows: int, columns: int, kind: str, rng: np.random.Generator
) -> tuple[Float[np.ndarray, "row column"], int]:
    """(matrix, its rank): `rows` vectors that are "independent", "dependent", "repeated", some "zero", or all "null".

    "independent" means as independent as the shape allows: rank min(rows, columns).
    """
    most = min(rows, columns)
    fewer = int(rng.integers(1, most)) if most > 1 else 1
    if kind == "independent":
        return integer_matrix(rows, columns, most, rng), most
    if kind == "dependent":
        return integer_matrix(rows, columns, fewer, rng), fewer
    if kind == "null":
        return np.zeros((rows, columns)), 0
    distinct = integer_matrix(fewer, columns, fewer, rng)
    if kind == "repeated":
        copies = rng.integers(0, fewer, rows - fewer)
        return np.concatenate([distinct, distinct[copies]])[rng.permutation(rows)], fewer
    if kind == "zero":
        padded = np.concatenate([distinct, np.zeros((rows - fewer, columns))])
        return padded[rng.permutation(rows)], fewer
    raise ValueError(f"kind = {kind!r} is unknown; choose independent, dependent, repeated, zero or null")
