"""Layer, seed and step of the routers' paths, on runs of random walks."""

from __future__ import annotations

import numpy as np
import pytest

from moe_analysis.studies.router_paths.explore import FRAMES, THIN, PathExplorer
from moe_analysis.studies.router_paths.paths import path_axes, router_paths
from tests.studies.fake_runs import MODULES, fake_run, walk


@pytest.fixture(scope="module")
def runs():
    """Two methods of two seeds, 11 records two steps apart, two layers."""
    rng = np.random.default_rng(0)
    weights = {
        (method, seed): np.stack([walk(rng, 10, experts, 6, drift=0.5) for _ in MODULES], axis=1)
        for method, experts in (("LoRA-MoE", 4), ("T-REX", 6))
        for seed in (0, 1)
    }
    return [fake_run(values, method, seed, stride=2) for (method, seed), values in weights.items()]


@pytest.fixture
def made(runs):
    axes = path_axes(runs, MODULES[0])
    paths = router_paths(runs, MODULES[0], axes)
    return PathExplorer(runs, paths, axes), paths, axes


def distance(paths, method: str, seed: int, step: int) -> float:
    rows = paths[(paths["method"] == method) & (paths["seed"] == seed) & (paths["step"] == step)]
    return rows["distance"].mean()


def ends(explorer) -> list[np.ndarray]:
    """Of every trace the first coordinate, without what is not drawn."""
    return [np.asarray(trace.x)[np.isfinite(np.asarray(trace.x, float))] for trace in explorer.figure.data]


def test_the_step_cuts_the_paths_and_tells_the_distance_there(made):
    explorer, paths, _ = made
    assert "Record at step 20 of 20" in explorer.note.value
    whole = ends(explorer)
    explorer.controls["step"].value = 7  # between the records at 6 and 8
    assert "Record at step 6 of 20" in explorer.note.value
    for method in ("LoRA-MoE", "T-REX"):
        assert f"{method}: {distance(paths, method, 0, 6):.3g} from the start" in explorer.note.value
    # four of eleven points of every expert: three of lowest rank, and the others
    assert [len(one) for one in ends(explorer)] == [12, 4, 12, 12] and [len(one) for one in whole] == [33, 11, 33, 33]
    explorer.controls["step"].value = 20
    assert all(np.array_equal(one, other) for one, other in zip(ends(explorer), whole))


def test_scale_and_view_stay_while_the_step_moves(made):
    explorer, _, _ = made
    before = explorer.figure.layout.scene.to_plotly_json()
    explorer.controls["step"].value = 6
    assert explorer.figure.layout.scene.to_plotly_json() == before and before["uirevision"] == "kept"
    assert {trace.legendgroup for trace in explorer.figure.data} == {"LoRA-MoE", "T-REX"}


def test_another_layer_is_read_from_the_runs_on_its_own_axes(made, runs):
    explorer, _, _ = made
    before = ends(explorer)
    explorer.controls["module"].value = MODULES[1]
    other = router_paths(runs, MODULES[1])
    assert f"T-REX: {distance(other, 'T-REX', 0, 20):.3g} from the start" in explorer.note.value
    assert MODULES[1] in explorer.figure.layout.title.text
    assert all((one != old).any() for one, old in zip(ends(explorer), before))


def test_a_layer_that_cannot_be_read_is_told_and_the_paths_stay(made):
    explorer, _, _ = made

    def refuse(module: str):
        raise ValueError("the record is damaged; train the run again")

    before = ends(explorer)
    explorer.of_module = refuse
    explorer.controls["module"].value = MODULES[1]
    assert "the record is damaged" in explorer.message.value
    assert all(np.array_equal(one, old) for one, old in zip(ends(explorer), before))


def test_another_seed_is_another_run(made):
    explorer, paths, _ = made
    explorer.controls["seed"].value = 1
    assert f"LoRA-MoE: {distance(paths, 'LoRA-MoE', 1, 20):.3g} from the start" in explorer.note.value


def test_the_play_button_moves_the_slider_over_the_whole_path(made):
    explorer, _, _ = made
    (*_, play, step) = explorer.children[0].children
    assert step is explorer.controls["step"]
    assert (play.min, play.max) == (step.min, step.max) == (2, 20)
    assert explorer.link.source == (play, "value") and explorer.link.target == (step, "value")


def test_starts_that_the_runs_do_not_have_are_refused(runs):
    axes = path_axes(runs, MODULES[0])
    paths = router_paths(runs, MODULES[0], axes)
    with pytest.raises(ValueError, match="step = 99 is not a whole number from 2 to 20"):
        PathExplorer(runs, paths, axes, step=99)
    with pytest.raises(ValueError, match="seed = 5 is unknown; choose one of 0, 1"):
        PathExplorer(runs, paths, axes, seed=5)
    with pytest.raises(ValueError, match=r"paths has the steps \[0\], but a path needs two records"):
        PathExplorer(runs, paths[paths["step"] == 0], axes)


def test_a_long_path_is_drawn_at_as_many_records_as_are_played(runs):
    rng = np.random.default_rng(1)
    long = [fake_run(np.stack([walk(rng, 300, 4, 6, drift=0.5)] * len(MODULES), axis=1), "T-REX")]
    axes = path_axes(long, MODULES[0])
    explorer = PathExplorer(long, router_paths(long, MODULES[0], axes), axes)
    thick, thin = (np.unique(trace.customdata[:, 1]) for trace in explorer.figure.data)
    assert len(thick) == FRAMES + 1 and len(thin) == FRAMES // THIN + 1
    assert all((steps[0], steps[-1]) == (0, 300) for steps in (thick, thin))
    sent = sum(np.asarray(trace[name]).nbytes for trace in explorer.figure.data for name in "xyz")
    assert sent == 4 * 3 * (3 * (FRAMES + 2) + FRAMES // THIN + 2)  # bytes, coordinates, experts with points and a gap


def test_experts_that_go_together_are_one_thin_line():
    rng = np.random.default_rng(2)
    two_ways = walk(rng, 10, 2, 6, drift=0.5).repeat(4, axis=-2)  # eight experts on two ways
    run = fake_run(np.stack([two_ways] * len(MODULES), axis=1), "mix-and-match")
    axes = path_axes([run], MODULES[0])
    explorer = PathExplorer([run], router_paths([run], MODULES[0], axes), axes)
    drawn = {int(expert) for trace in explorer.figure.data for expert in trace.customdata[:-1, 0]}
    assert len(drawn) < 8 and "only 2 paths" in explorer.figure.data[0].name
    lines = [trace for trace in explorer.figure.data if trace.opacity < 1]
    assert all(len(set(trace.customdata[:-1, 0])) <= 2 for trace in lines)
