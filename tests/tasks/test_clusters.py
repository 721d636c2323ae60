"""k-means and intuition: their definition, their invariances and their errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moe_analysis.tasks.clusters import ClusterError, Clusters, cluster


def unit_rows(n: int, width: int, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(n, width)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    return unit_rows(120, 8)


@pytest.fixture(scope="module")
def clusters(rows: np.ndarray) -> Clusters:
    return cluster(rows, k=5, seed=3)


def test_clusters_show_their_sizes_in_a_notebook_and_a_terminal(clusters: Clusters) -> None:
    assert repr(clusters).startswith("Clusters(k=5, width=8, rows=120, seed=3, inertia=")
    html = clusters._repr_html_()
    assert html.count("<rect") == 5 and "rows that were clustered</th><td>120" in html
    sizes = np.bincount(clusters.labels)
    assert f"{sizes.min()} to {sizes.max()}" in html
    assert "0 to 0" in Clusters(clusters.centroids, np.zeros(0, int), 0, 0.0)._repr_html_()


def test_centroids_are_the_means_of_their_rows(rows: np.ndarray, clusters: Clusters) -> None:
    means = np.stack([rows[clusters.labels == index].mean(axis=0) for index in range(5)])
    np.testing.assert_allclose(clusters.centroids, means, atol=1e-6)


def test_every_row_belongs_to_its_nearest_centroid(rows: np.ndarray, clusters: Clusters) -> None:
    distance = np.linalg.norm(rows[:, None] - clusters.centroids, axis=2)  # (n, k)
    assert (clusters.labels == distance.argmin(axis=1)).all()
    assert clusters.inertia == pytest.approx((distance.min(axis=1) ** 2).sum(), rel=1e-5)


def test_well_separated_groups_are_found() -> None:
    truth = np.repeat(np.arange(4), 10)
    rows = np.eye(4)[truth] + 0.01 * np.random.default_rng(0).normal(size=(40, 4))
    labels = cluster(rows, k=4).labels
    assert len({(a, b) for a, b in zip(truth, labels, strict=True)}) == 4


def test_the_same_seed_gives_the_same_bits(rows: np.ndarray, clusters: Clusters) -> None:
    again = cluster(rows, k=5, seed=3)
    assert again.centroids.tobytes() == clusters.centroids.tobytes()
    assert (again.labels == clusters.labels).all()


def test_the_result_knows_its_k_and_seed(clusters: Clusters) -> None:
    assert (clusters.k, clusters.seed, clusters.centroids.shape) == (5, 3, (5, 8))


def test_one_cluster_and_as_many_as_rows_are_allowed(rows: np.ndarray) -> None:
    assert cluster(rows, k=1).labels.max() == 0
    assert cluster(rows[:6], k=6).inertia == pytest.approx(0, abs=1e-9)


def test_intuition_is_the_cosine_with_each_centroid(rows: np.ndarray, clusters: Clusters) -> None:
    scores = clusters.intuition(rows[:7])
    assert scores.shape == (7, 5) and scores.dtype == np.float32
    for n in range(7):
        for k in range(5):
            centroid = clusters.centroids[k].astype(float)
            assert scores[n, k] == pytest.approx(rows[n] @ centroid / np.sqrt(centroid @ centroid), abs=1e-6)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), width=st.integers(2, 12))
def test_intuition_does_not_change_when_the_space_is_rotated(seed: int, width: int) -> None:
    rows = unit_rows(20, width, seed)
    turn = np.linalg.qr(np.random.default_rng(seed).normal(size=(width, width)))[0]
    centres = np.random.default_rng(seed + 1).normal(size=(3, width))
    here = Clusters(centres, np.zeros(20, int), 0, 0.0).intuition(rows)
    there = Clusters(centres @ turn, np.zeros(20, int), 0, 0.0).intuition(rows @ turn)
    np.testing.assert_allclose(here, there, atol=1e-5)
    assert (np.abs(here) <= 1).all()


def test_intuition_of_another_width_names_both_widths(clusters: Clusters) -> None:
    with pytest.raises(ClusterError, match=r"384 wide .* 8 wide"):
        clusters.intuition(unit_rows(2, 384))


def test_intuition_of_a_row_that_is_not_of_length_one_names_it(rows: np.ndarray, clusters: Clusters) -> None:
    bent = rows[:4].copy()
    bent[2] *= 2.5
    with pytest.raises(ClusterError, match=r"embeddings\[2\] has length 2\.5"):
        clusters.intuition(bent)


def test_intuition_of_one_vector_asks_for_a_matrix(rows: np.ndarray, clusters: Clusters) -> None:
    with pytest.raises(ClusterError, match=r"shape \(8,\)"):
        clusters.intuition(rows[0])


def test_a_centroid_without_direction_is_named() -> None:
    opposite = np.array([[1.0, 0.0], [-1.0, 0.0]])
    with pytest.raises(ClusterError, match="centroid 0 has length 0"):
        cluster(opposite, k=1).intuition(opposite)


def test_more_clusters_than_rows_is_refused(rows: np.ndarray) -> None:
    with pytest.raises(ClusterError, match="k = 32 but there are only 10 embeddings"):
        cluster(rows[:10], k=32)


def test_more_clusters_than_distinct_rows_is_refused(rows: np.ndarray) -> None:
    with pytest.raises(ClusterError, match="k = 4 but only 3 of the 30 embeddings are distinct"):
        cluster(np.repeat(rows[:3], 10, axis=0), k=4)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_row_that_is_not_finite_is_named(bad: float, rows: np.ndarray, clusters: Clusters) -> None:
    broken = rows.copy()
    broken[17, 3] = bad
    for act in (cluster, clusters.intuition):
        with pytest.raises(ClusterError, match=r"embeddings\[17\]"):
            act(broken)


@pytest.mark.parametrize(
    ("name", "value"), [("k", 0), ("k", 2.5), ("k", True), ("n_init", 0), ("seed", -1), ("seed", 2**32)]
)
def test_an_argument_out_of_range_is_named(name: str, value: object, rows: np.ndarray) -> None:
    with pytest.raises(ClusterError, match=f"{name} = {value}"):
        cluster(rows, **{name: value})


def test_saved_clusters_load_bit_for_bit(clusters: Clusters, tmp_path: Path) -> None:
    loaded = Clusters.load(clusters.save(tmp_path / "deep" / "clusters.npz"))
    assert loaded.centroids.tobytes() == clusters.centroids.tobytes()
    assert (loaded.labels == clusters.labels).all()
    assert (loaded.seed, loaded.inertia) == (clusters.seed, clusters.inertia)


def test_a_save_that_fails_leaves_the_old_file_and_no_other(
    clusters: Clusters, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = clusters.save(tmp_path / "clusters.npz")
    before = path.read_bytes()

    def full_disk(*arrays, **named) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(np, "savez", full_disk)
    with pytest.raises(OSError, match="no space"):
        clusters.save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_file_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="does not exist"):
        Clusters.load(tmp_path / "none.npz")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=st.floats(0, 1, exclude_max=True), cut=st.booleans())
def test_a_damaged_file_is_refused_or_harmless(where: float, cut: bool, clusters: Clusters, tmp_path: Path) -> None:
    path = clusters.save(tmp_path / "clusters.npz")
    content = bytearray(path.read_bytes())
    position = int(where * len(content))
    content[position] ^= 0xFF
    path.write_bytes(content[:position] if cut else content)
    try:
        loaded = Clusters.load(path)
    except ClusterError as error:
        assert "clusters.npz" in str(error)
    else:
        assert loaded.centroids.tobytes() == clusters.centroids.tobytes()
        assert (loaded.labels == clusters.labels).all() and loaded.inertia == clusters.inertia
