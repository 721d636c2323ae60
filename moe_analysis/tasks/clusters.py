"""Semantic clusters of the training prompts, and a sample's closeness to each: T-REX's intuition."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ..atomic import replacing

UNIT_TOLERANCE = 1e-3


class ClusterError(ValueError):
    """Embeddings that cannot be clustered or compared, or a file that contains no clusters.

    >>> ma.cluster(np.eye(3), k=5)
    Traceback (most recent call last):
        ...
    moe_analysis.tasks.clusters.ClusterError: k = 5 but there are only 3 embeddings; use k of at most 3
    """


@dataclass(frozen=True, eq=False)
class Clusters:
    """k-means centers of embeddings (T-REX, section 4.3: "intuition").

    `centroids` (k, d) float32, the plain means; `labels` (n,), the cluster of each clustered row; `inertia`,
    the sum of squared distances of the rows to their centroids; `seed`, what made the random start.

    >>> clusters = ma.cluster(embeddings, k=4, seed=0)
    >>> scores = clusters.intuition(embeddings)
    >>> clusters.k, scores.shape, float(scores.max()) <= 1
    (4, (60, 4), True)
    >>> Clusters.load(clusters.save(folder / "clusters.npz")).k
    4
    """

    centroids: np.ndarray
    labels: np.ndarray
    seed: int
    inertia: float

    def __repr__(self) -> str:
        width = self.centroids.shape[1]
        return f"Clusters(k={self.k}, width={width}, rows={len(self.labels)}, seed={self.seed}, inertia={self.inertia:.4g})"

    def _repr_html_(self) -> str:
        """For a notebook: the sizes of the clusters."""
        from ..cards.charts import bars
        from ..cards.templates import cell_html

        sizes = np.bincount(self.labels, minlength=self.k)
        even = len(self.labels) / self.k
        drawn = bars(np.sort(sizes)[::-1].tolist(), even, "rows of each cluster, the largest first")
        facts = {
            "clusters": self.k,
            "width of an embedding": self.centroids.shape[1],
            "rows that were clustered": len(self.labels),
            "rows of a cluster": f"{sizes.min()} to {sizes.max()}",
            "inertia": f"{self.inertia:.4g}",
            "seed": self.seed,
        }
        return cell_html(
            "facts.html", title="Clusters", facts=facts, drawn=drawn, note="Rows of each cluster; dashed: equal"
        )

    @property
    def k(self) -> int:
        """The number of clusters."""
        return len(self.centroids)

    @cached_property
    def directions(self) -> np.ndarray:
        """(k, d) float32: the centroids scaled to length 1.

        Raises:
            ClusterError: For one of length 0.
        """
        lengths = np.linalg.norm(self.centroids, axis=1)  # (k,)
        if (lengths < 1e-9).any():
            raise ClusterError(
                f"centroid {int(np.argmin(lengths))} has length 0 and so no direction; cluster with another k or seed"
            )
        return (self.centroids / lengths[:, None]).astype(np.float32)

    def intuition(self, embeddings: np.ndarray) -> np.ndarray:
        """Cosines of embeddings (n, d), rows of length 1, with the centroids: (n, k) float32 in [-1, 1].

        T-REX's `C e`.

        Raises:
            ClusterError: For another width, a row of another length, or NaN.
        """
        rows = _matrix(embeddings)
        width = self.centroids.shape[1]
        if rows.shape[1] != width:
            raise ClusterError(
                f"embeddings are {rows.shape[1]} wide but the clusters were made from embeddings {width} wide; "
                "embed with the model that made the clusters"
            )
        lengths = np.linalg.norm(rows, axis=1)  # (n,)
        off = np.flatnonzero(np.abs(lengths - 1) > UNIT_TOLERANCE)
        if off.size:
            raise ClusterError(
                f"embeddings[{off[0]}] has length {lengths[off[0]]:.4g}; rows must have length 1: "
                "use embed(), or divide each row by its length"
            )
        return np.clip(rows @ self.directions.T, -1, 1)  # (n, k)

    def save(self, path: str | Path) -> Path:
        """Write the clusters to a .npz file, whole or not at all, and return its path."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as fresh, fresh.open("wb") as file:
            np.savez(file, centroids=self.centroids, labels=self.labels, seed=self.seed, inertia=self.inertia)
        return path

    @classmethod
    def load(cls, path: str | Path) -> Clusters:
        """The clusters that `save` wrote.

        Raises:
            ClusterError: For a missing, damaged or foreign file.
        """
        if Path(path).exists() and not Path(path).is_file():  # a pipe would be waited for
            raise ClusterError(f"{path} is not a file; cluster again and save the result")
        try:
            with np.load(path, allow_pickle=False) as stored:
                loaded = cls(
                    # of an entry that is no array numpy hands out the bytes
                    centroids=np.asarray(stored["centroids"]),
                    labels=np.asarray(stored["labels"]),
                    seed=int(stored["seed"]),
                    inertia=float(stored["inertia"]),
                )
        except FileNotFoundError as error:
            raise ClusterError(f"{path} does not exist; write it with Clusters.save") from error
        except Exception as error:  # zip, zlib and the array header each fail in their own way on damaged bytes
            raise ClusterError(
                f"{path} contains no clusters ({type(error).__name__}: {error}); cluster again and save the result"
            ) from error
        shapes = loaded.centroids.shape, loaded.labels.shape
        sound = (
            len(shapes[0]) == 2
            and len(shapes[1]) == 1
            and 0 not in shapes[0]
            and loaded.centroids.dtype.kind == "f"
            and loaded.labels.dtype.kind == "i"
            and np.isfinite(loaded.centroids).all()
            and ((loaded.labels >= 0) & (loaded.labels < loaded.k)).all()
        )
        if not sound:
            raise ClusterError(
                f"{path} holds arrays of shapes {shapes} that are not clusters; cluster again and save the result"
            )
        return loaded


def cluster(embeddings: np.ndarray, k: int = 32, seed: int = 0, n_init: int = 4) -> Clusters:
    """k-means of embeddings (n, d): the best of `n_init` starts drawn from `seed`.

    The same input gives the same bits, whatever the number of threads.

    Raises:
        ClusterError: When k is not between 1 and the number of distinct rows, or when an entry is not finite.

    Example:
        >>> corners = np.repeat(np.eye(3), 4, axis=0)  # twelve rows at three places
        >>> found = ma.cluster(corners, k=3, seed=0)
        >>> np.bincount(found.labels).tolist(), round(found.inertia, 3)
        ([4, 4, 4], 0.0)
    """
    rows = _matrix(embeddings)
    for name, value, least in (("k", k, 1), ("n_init", n_init, 1), ("seed", seed, 0)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
            raise ClusterError(f"{name} = {value!r}; give a whole number of at least {least}")
    if seed >= 2**32:  # numpy's generators take no more
        raise ClusterError(f"seed = {seed}; give a whole number below 2**32 = {2**32}")
    if k > len(rows):
        raise ClusterError(f"k = {k} but there are only {len(rows)} embeddings; use k of at most {len(rows)}")
    distinct = len({row.tobytes() for row in rows + 0.0})  # adding 0 makes -0 and 0 the same bytes
    if k > distinct:
        raise ClusterError(f"k = {k} but only {distinct} of the {len(rows)} embeddings are distinct; lower k")
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    # Several threads add their partial sums in the order they finish, which changes the last bits.
    with threadpool_limits(limits=1):
        fitted = KMeans(k, random_state=int(seed), n_init=int(n_init)).fit(rows)
    return Clusters(
        centroids=fitted.cluster_centers_.astype(np.float32),
        labels=fitted.labels_.astype(np.int64),
        seed=int(seed),
        inertia=float(fitted.inertia_),
    )


def _matrix(embeddings: np.ndarray) -> np.ndarray:
    rows = np.asarray(embeddings)
    if rows.ndim != 2 or 0 in rows.shape or rows.dtype.kind not in "fiu":
        raise ClusterError(
            f"embeddings have shape {rows.shape} and type {rows.dtype}; give numbers of shape (texts, width)"
        )
    rows = np.ascontiguousarray(rows, dtype=np.float32)
    if not np.isfinite(rows).all():
        index = int(np.flatnonzero(~np.isfinite(rows).all(axis=1))[0])
        raise ClusterError(f"embeddings[{index}] holds NaN or infinity; embed that text again or drop it")
    return rows
