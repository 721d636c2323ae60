"""Where figures go: a folder for each preset and suite, and over the shipped ones only what is as large."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from moe_analysis import places
from moe_analysis.backbones import BackboneError
from moe_analysis.commands import figures
from moe_analysis.commands.figures import checked_backbone, checked_suite, shipped_folder, suite_label
from moe_analysis.figures import choose
from moe_analysis.places import computed_figures, figures_home
from tests.tasks.suites import free_row, write


@pytest.mark.parametrize("named", [".", "../mine", "../mine/", "{}"])
def test_figures_of_a_suite_go_to_its_own_folder_however_it_is_called(named: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(write(tmp_path / "mine", "a.jsonl", free_row()))
    suite = checked_suite(named.format(tmp_path / "mine"))
    assert suite == str(tmp_path / "mine")
    assert computed_figures("quick", suite_label(suite)) == figures_home() / "quick" / "mine"


@pytest.mark.parametrize("preset", ["tiny", "quick", "long", "full"])
def test_what_is_computed_never_lands_among_the_shipped_figures(preset: str) -> None:
    assert computed_figures(preset) == computed_figures(preset, "embedded") == figures_home() / preset


def test_an_installed_package_writes_where_it_was_started(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(places, "IN_CLONE", False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MOE_ANALYSIS_RUNS", raising=False)
    here = tmp_path.resolve()
    assert (computed_figures("quick"), places.runs_home()) == (here / "figures" / "quick", here / "runs")


def test_nothing_is_written_inside_an_installed_package(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(places, "IN_CLONE", False)
    monkeypatch.setattr(places, "PACKAGE", tmp_path.resolve())
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    with pytest.raises(ValueError, match="belongs to the installed package; copy the notebook"):
        computed_figures("quick")


@pytest.fixture
def long_figures(tmp_path: Path, monkeypatch) -> Path:
    """Shipped figures, of which notebook 08 made one with the long preset."""
    monkeypatch.setattr(figures, "figures_home", lambda: tmp_path)
    record = {"numbers": {}, "claims": [], "runs": [], "seeds": [], "versions": {}}
    for item, preset in {"smore_fig4": "long", "smore_table7": "quick", "trex_fig2": "quick"}.items():
        content = record | {"item": item, "preset": {"preset": preset}}
        (tmp_path / f"{item}.json").write_text(json.dumps(content))
    return tmp_path


@pytest.mark.parametrize("preset", ["tiny", "quick"])
def test_a_shipped_figure_does_not_go_back_to_a_smaller_preset(long_figures: Path, preset: str) -> None:
    # the notebook of Table 7 writes Fig. 4 too
    with pytest.raises(ValueError, match=rf"preset = '{preset}' is smaller .*: smore_fig4 \(long\)"):
        shipped_folder(choose(["smore_table7"]), preset, None, None)


def test_shipped_figures_are_replaced_by_those_of_a_preset_that_is_as_large(long_figures: Path) -> None:
    assert shipped_folder(choose(["smore_fig4"]), "long", None, None) == long_figures
    assert shipped_folder(choose(["trex_fig2"]), "quick", "embedded", None) == long_figures


def test_a_shipped_figure_does_not_go_back_to_fewer_seeds(long_figures: Path) -> None:
    path = long_figures / "trex_fig2.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"preset": {"preset": "quick", "seeds": "8"}}))
    for seeds in (None, 7):
        with pytest.raises(ValueError, match=r"trex_fig2 \(quick, 8 seeds\); pass a larger --preset or --seeds"):
            shipped_folder(choose(["trex_fig2"]), "quick", None, None, seeds)
    assert shipped_folder(choose(["trex_fig2"]), "quick", None, None, 8) == long_figures
    # of studies that have more seeds than their preset, the record says how many
    path.write_text(json.dumps(content | {"preset": {"preset": "quick"}, "seeds": [0, 1, 2, 3, 4]}))
    assert shipped_folder(choose(["trex_fig2"]), "quick", None, None) == long_figures
    with pytest.raises(ValueError, match=r"preset = 'quick, 4 seeds' is smaller .* trex_fig2 \(quick\)"):
        shipped_folder(choose(["trex_fig2"]), "quick", None, None, 4)
    path.write_text(json.dumps(content | {"preset": {"preset": "of my own"}}))
    assert shipped_folder(choose(["trex_fig2"]), "quick", None, None) == long_figures
    path.write_text(json.dumps(content | {"preset": {"preset": "quick", "seeds": "8"}}))
    assert shipped_folder(choose(["trex_fig2"]), "long", None, None) == long_figures


def test_shipping_goes_with_no_other_folder_or_suite_and_needs_a_clone(long_figures: Path, monkeypatch) -> None:
    items = choose(["trex_fig2"])
    with pytest.raises(ValueError, match="not --out elsewhere"):
        shipped_folder(items, "quick", None, Path("elsewhere"))
    with pytest.raises(ValueError, match="not 'mine'"):
        shipped_folder(items, "quick", "mine", None)
    monkeypatch.setattr(figures, "IN_CLONE", False)
    with pytest.raises(ValueError, match="installed package"):
        shipped_folder(items, "quick", None, None)


def test_a_backbone_that_is_not_there_is_told_before_a_notebook_starts(tmp_path: Path) -> None:
    checked_backbone(None)
    checked_backbone("compact")
    with pytest.raises(BackboneError, match="cannot be loaded: it is neither"):
        checked_backbone(str(tmp_path / "nosuch"))
