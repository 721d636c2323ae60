"""What every result offers, shown on the one of T-REX's Fig. 2 measured on made-up runs."""

from __future__ import annotations

import ast
import base64
import json
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from moe_analysis import studies
from moe_analysis.studies import router_paths
from moe_analysis.studies.records import layer_of, shared_modules
from moe_analysis.studies.result import Result, origin_of
from tests.studies.fake_runs import fake_run, walk

FOLDER = Path(studies.__file__).parent
METHODS = {"LoRA-MoE": 4, "mix-and-match": 6, "T-REX": 6}
TASKS = ["add_small", "add_small_one_over"]


@pytest.fixture(scope="module")
def found() -> Result:
    rng = np.random.default_rng(0)
    evaluation = pd.DataFrame({"dataset": TASKS, "accuracy": [0.5, 0.6], "loss": [1.0, 0.9], "rows": 4})
    runs = [
        fake_run(walk(rng, 8, experts, 16, drift=1.0), method, seed, evaluation=evaluation)
        for method, experts in METHODS.items()
        for seed in (0, 1, 2)
    ]
    for run in runs:
        run.config = SimpleNamespace(**vars(run.config), suite="embedded", form="options", backbone="compact", steps=8)
    return router_paths.measure(runs)


def test_the_line_below_every_picture_begins_with_what_was_measured():
    others = {}
    for path in FOLDER.rglob("draw*.py"):
        for call in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(call, ast.Call) and ast.unparse(call.func) == "note_below":
                text = ast.unparse(call.args[1])
                if not text.startswith("found.note("):
                    others[f"{path.parent.name}/{path.stem}"] = text
    # a count without runs; and a text that says itself whether there is a model to name
    assert others.keys() == {"subspace/draw_systems", "routing/draw_tokens"}
    assert "exact, without seeds" in others["subspace/draw_systems"] and others["routing/draw_tokens"].startswith(
        "note("
    )


def test_a_result_is_one_line_in_a_terminal(found):
    told = (
        "RouterPaths(trex_fig2: 9 runs of 3 seeds, 8 steps each, backbone compact, suite embedded, prompt form options)"
    )
    assert repr(found) == told
    for name in studies.STUDIES:
        members = vars(import_module(f"{studies.__name__}.{name}")).values()
        assert all(
            one.__repr__ is Result.__repr__ for one in members if isinstance(one, type) and issubclass(one, Result)
        )


def test_a_result_draws_itself_twice_and_has_a_widget(found):
    assert isinstance(found.plot(), Figure)
    assert found.interactive().data and found.widget().controls


def test_a_layer_is_chosen_by_its_number_or_a_part_of_its_name(found):
    for module in shared_modules(found.runs):
        layer = layer_of(module)
        number = int(layer.rpartition(".")[2])
        assert router_paths.measure(found.runs, module).module == module
        assert layer_of(router_paths.measure(found.runs, number).module) == layer
        assert layer_of(router_paths.measure(found.runs, layer).module) == layer
    with pytest.raises(ValueError, match="module = 99 matches no module; pass a layer's number"):
        router_paths.measure(found.runs, 99)


def test_axes_are_refused_where_there_are_several_panels(found):
    with pytest.raises(ValueError, match="ax = .* trex_fig2 has several"):
        found.plot(Figure().subplots())


def test_tables_are_the_fields_that_are_tables(found):
    assert set(found.tables) == {
        "paths",
        "smooth",
        "converged",
        "bands",
        "distinct",
        "noise",
        "entropy",
        "accuracy",
        "by_dataset",
    }
    assert found.tables["smooth"] is found.smooth


def test_claims_are_one_table_with_parts_behind_their_claim(found):
    assert found.claims["claim"].tolist()[:2] == ["trex_fig2_smoother", "trex_fig2_smoother_tortuosity_mix-and-match"]
    assert found.verdicts.startswith("2 claims: ")


def test_the_same_result_saves_the_same_bytes(found, tmp_path):
    first, second = (replace(found).save(tmp_path / name) for name in ("a", "b"))  # each draws for itself
    assert sorted(first) == ["html", "json", "pdf", "png"]
    assert {kind: path.read_bytes() for kind, path in first.items()} == {
        kind: path.read_bytes() for kind, path in second.items()
    }
    record = json.loads(first["json"].read_text())
    assert record["caption"]["origin"].startswith("9 runs of 3 seeds, 8 steps each")
    assert record["claims"][0]["parts"][0]["low"] is not None


def test_a_notebook_shows_the_figure_its_origin_and_its_claims(found):
    page = found._repr_html_()
    assert "data:image/png" in page and "9 runs of 3 seeds" in page and "smoother path" in page


def test_the_picture_that_is_shown_is_the_one_that_is_saved_and_plot_draws_another(found, tmp_path, monkeypatch):
    module = import_module("moe_analysis.studies.router_paths.draw")
    fresh, drawn = replace(found), []
    monkeypatch.setattr(module, "plot", lambda result, plot=module.plot: drawn.append(plot(result)) or drawn[-1])
    page = fresh._repr_html_()
    saved = fresh.save(tmp_path)["png"].read_bytes()
    assert len(drawn) == 1 and base64.b64encode(saved).decode() in page
    assert fresh.plot() is not drawn[0] and len(drawn) == 2


def test_the_interactive_figure_is_drawn_once_and_what_a_user_adds_stays_the_users(found, tmp_path, monkeypatch):
    module = import_module("moe_analysis.studies.router_paths.draw")
    fresh, drawn = replace(found), []
    monkeypatch.setattr(
        module, "interactive", lambda result, draw=module.interactive: drawn.append(draw(result)) or drawn[-1]
    )
    mine = fresh.interactive()
    traces, title = len(mine.data), mine.layout.title.text
    mine.update_layout(title_text="changed by hand").add_scatter(y=[1, 2], name="added by hand")
    page = fresh.save(tmp_path)["html"].read_text("utf-8")
    again = fresh.interactive()
    assert len(again.data) == traces and again.layout.title.text == title and "by hand" not in page
    assert len(drawn) == 1


def test_an_origin_lists_what_differs_and_no_path_of_a_machine():
    runs = [
        SimpleNamespace(config=SimpleNamespace(seed=0, steps=steps, backbone="/home/me/model", suite="a", form="cloze"))
        for steps in (5, 9)
    ]
    assert origin_of(runs) == "2 runs of 1 seed, 5, 9 steps each, backbone model, suite a, prompt form cloze"
    assert origin_of([]) == "exact, without training"
