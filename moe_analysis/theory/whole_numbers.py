"""Whole numbers in floating point, whose sums and products are exact: what counting without a tolerance needs.

Additions and multiplications of whole numbers are exact in any order as long as every result is at most 2^53 in float64
(2^24 in float32). Equal then means equal on every processor, however it orders its sums. Any other numbers are rounded,
and whether two of them are equal bit for bit is a question about the machine.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Int

LARGEST = 2**53  # of the whole numbers that float64 holds without a gap


def whole_numbers(values: Any) -> Int[np.ndarray, "..."]:
    """The same numbers as int64, of the same shape.

    Args:
        values: A tensor or an array of any shape, of integers or of floating point.

    Raises:
        ValueError: For an entry that is not finite, not whole, or beyond the whole numbers that the type holds.

    >>> whole_numbers(np.array([[1.0, -0.0], [3.0, 2.0**53]])).tolist()
    [[1, 0], [3, 9007199254740992]]
    """
    found = np.asarray(values)
    if found.dtype.kind in "iub":
        return found.astype(np.int64)
    largest = min(LARGEST, int(2 / np.finfo(found.dtype).eps))
    exact = np.isfinite(found) & (np.abs(found) <= largest) & (found == np.round(found))
    if not exact.all():
        wrong = found[~exact].flat[0]
        raise ValueError(
            f"{int((~exact).sum())} of {found.size} values are not whole numbers of at most {largest}; the "
            f"first is {wrong!r}: in {found.dtype} only whole numbers are counted exactly; give the "
            "factors, biases and inputs whole numbers, in float64 where they are large"
        )
    return found.astype(np.int64)
