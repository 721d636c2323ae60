"""Clusters as areas of a map, and names that do not overlap: plane geometry without any drawing."""

from __future__ import annotations

import numpy as np
import pandas as pd

KEPT = 0.9  # share of a cluster's points that are in its hull, those nearest to its middle
MARGIN = 0.02  # of the map's width, around them
CORNERS = 24  # of the circle that makes the margin
ROUNDS = 400  # of pushing names apart


def hulls(points: pd.DataFrame, kept: float = KEPT) -> dict[int, np.ndarray]:
    """{cluster: corners (m, 2) of a convex area}, which holds the points nearest to the cluster's middle.

    A cluster of one point has a circle. The middle is the median, so that outliers on the far side of a map, which every
    clustering of embeddings has, do not stretch the area.

    Args:
        points: x, y and cluster.
        kept: the share of each cluster's points in its area, in (0, 1].

    Raises:
        ValueError: for another share, or no points.

    Example:
        >>> square = pd.DataFrame({"x": [0, 0, 1, 1], "y": [0, 1, 0, 1], "cluster": 3})
        >>> area = hulls(square, kept=1)[3]
        >>> area.min(axis=0).round(2).tolist(), area.max(axis=0).round(2).tolist()
        ([-0.02, -0.02], [1.02, 1.02])
    """
    from scipy.spatial import ConvexHull

    if not 0 < kept <= 1:
        raise ValueError(f"kept = {kept} is not a share; give a number above 0 and up to 1")
    if points.empty:
        raise ValueError("points is empty; a map needs at least one")
    turn = np.linspace(0, 2 * np.pi, CORNERS, endpoint=False)
    circle = np.stack([np.cos(turn), np.sin(turn)], axis=1) * MARGIN * extent(points)  # (corners, 2)
    found = {}
    for cluster, part in points.groupby("cluster"):
        inside = nearest_to_middle(part[["x", "y"]].to_numpy(float), kept)  # (m, 2)
        grown = (inside[:, None] + circle).reshape(-1, 2)
        found[int(cluster)] = grown[ConvexHull(grown).vertices]
    return found


def extent(points: pd.DataFrame) -> float:
    """The longer side of the map; 1 if all points are the same."""
    return float(np.ptp(points[["x", "y"]].to_numpy(float), axis=0).max()) or 1.0


def nearest_to_middle(places: np.ndarray, kept: float) -> np.ndarray:
    """(n, 2) -> (⌈kept·n⌉, 2), those nearest to the median."""
    far = np.linalg.norm(places - np.median(places, axis=0), axis=1)  # (n,)
    return places[np.argsort(far, kind="stable")[: int(np.ceil(kept * len(places)))]]


def middles(points: pd.DataFrame, column: str) -> pd.DataFrame:
    """x and y of the median of every class of a column, in order of appearance; the index is the class."""
    return points.groupby(column, sort=False)[["x", "y"]].median()


def apart(places: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Middles of boxes, moved until no two boxes overlap, for at most `ROUNDS` rounds.

    Args:
        places: (n, 2), the best places of the boxes.
        sizes: (n, 2), their widths and heights.

    Returns:
        (n, 2), the same bits for the same input.

    Example:
        >>> apart(np.zeros((2, 2)), np.array([[4.0, 1.0], [4.0, 1.0]])).round(2).tolist()
        [[0.0, -0.5], [0.0, 0.5]]
    """
    moved = np.array(places, dtype=float)
    for _ in range(ROUNDS):
        still = True
        for one in range(len(moved)):
            for other in range(one + 1, len(moved)):
                gap = moved[other] - moved[one]
                overlap = (sizes[one] + sizes[other]) / 2 - np.abs(gap)  # (2,)
                if (overlap <= 1e-9).any():
                    continue
                axis = int(np.argmin(overlap))  # the shorter way out
                push = overlap[axis] / 2 * (1 if gap[axis] >= 0 else -1)
                moved[one, axis] -= push
                moved[other, axis] += push
                still = False
        if still:
            break
    return moved


def name_places(places: pd.DataFrame, names: list[str], letter: float) -> np.ndarray:
    """Places for names near `places` (x, y): (n, 2), so that no two overlap.

    Args:
        places: n rows.
        names: n texts, whose lines are separated by newlines.
        letter: the height of a letter in units of the map.
    """
    lines = [name.split("\n") for name in names]
    sizes = np.array([[0.62 * letter * max(map(len, line)), 1.3 * letter * len(line)] for line in lines])
    return apart(places[["x", "y"]].to_numpy(float), sizes)
