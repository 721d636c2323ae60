"""gR's figures from a table of results that is whole, half done, or only begun."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from moe_analysis.campaigns.table import PER_DATASET, ResultsError, write_rows
from moe_analysis.studies.optimizers import measure_pretrained, measure_table
from moe_analysis.studies.optimizers.claims import one_grid
from tests.campaigns.made_up import made_up
from tests.studies.drawn_texts import outside, overlaps

EIGHT = tuple(form + name for name in ("SGD", "AdamW") for form in ("", "R", "g", "gR"))
OWN = {"SGD": 0.2, "gSGD": 0.2, "RSGD": 0.02, "gRSGD": 0.02} | dict.fromkeys(EIGHT[4:], 1e-3)
MULTIPLES = (0.1, 0.3, 1.0, 3.0, 10.0)
COUNTS = {"add_small": 10, "where_is": 10, "count_kind": 10}


def row(method: str, stage: str, seed: int, multiple: float, loss: float) -> dict:
    """A run of so many steps whose training and test losses are near `loss`."""
    rng = np.random.default_rng([seed, EIGHT.index(method)])
    lr = multiple * OWN[method]
    steps = 200 if stage == "tune" else 500
    made = made_up(seed, method, configuration=f"{stage} {method} {lr}", stage=stage, counts=COUNTS, points=40)
    config = {"suite": "embedded", "seed": seed, "lr": lr, "router_lr": 1e-4, "steps": steps, "name": method}
    return {
        **made,
        "run": f"{method}-{stage}-{lr}-{seed}",
        "config": json.dumps(config),
        "steps": steps,
        "curve_steps": np.linspace(1, steps, 40).astype(int).tolist(),
        "curve_loss": (loss + np.linspace(1, 0, 40) + 0.005 * rng.standard_normal(40)).tolist(),
        "losses": (loss + 0.005 * rng.standard_normal(3)).tolist(),
    }


def changed(row: dict, **fields: object) -> dict:
    """The row with another configuration."""
    return {**row, "config": json.dumps({**json.loads(row["config"]), **fields})}


def tuning(best: float = 1.0, methods: tuple[str, ...] = EIGHT, multiples: tuple[float, ...] = MULTIPLES) -> list[dict]:
    """Every cell; the loss is least at `best` times the method's own rate."""
    return [
        row(method, "tune", 100, multiple, 1.0 + abs(np.log10(multiple / best)))
        for multiple in multiples
        for method in methods
    ]


def finals(seeds: tuple[int, ...], gap: float, methods: tuple[str, ...] = EIGHT, multiple: float = 1.0) -> list[dict]:
    """R and g each lower the loss by `gap`."""
    return [
        row(method, "final", seed, multiple, 2.0 - gap * sum(letter in method[:-3] for letter in "Rg"))
        for seed in seeds
        for method in methods
    ]


@pytest.fixture
def table(tmp_path: Path):
    def written(*rows: list[dict]) -> Path:
        write_rows(tmp_path / "optimizers.parquet", [one for part in rows for one in part])
        return tmp_path / "optimizers.parquet"

    return written


@pytest.mark.parametrize(
    "gap, word, own",
    [
        (0.5, "reproduced", "supported"),
        (0.0, "not reproduced", "not supported"),
        (-0.5, "contradicted", "not supported"),
    ],
)
def test_a_whole_table_orders_the_optimizers_at_their_own_best_rates(table, gap, word, own):
    found = measure_table(table(tuning(), finals((0, 1, 2), gap)))
    assert found.chosen["end"].eq("").all() and found.chosen["seeds"].eq(3).all()
    assert found.chosen.set_index("method")["lr"].to_dict() == pytest.approx(OWN)
    assert [claim.name for claim in found.judged] == [
        "gr_fig3_SGD",
        "own_gr_fig3_AdamW",
        "own_gr_test_SGD",
        "own_gr_test_AdamW",
    ]
    for claim in found.judged:
        assert [part.verdict for part in claim.parts] == [word if claim.name.startswith("gr_fig3") else own] * 3
        assert max(part.confidence for part in claim.parts) == pytest.approx(1 - 0.05 / 3)  # one family
    assert found.judged[0].parts[0].over == "3 seeds" and found.judged[2].parts[0].over == "3 tasks and 3 seeds"
    assert found.stored == "optimizers.parquet"
    assert found.origin.startswith(
        "40 tuning runs of 1 seed, 200 steps; 24 final runs of 3 seeds, 500 steps; drawn from"
    )


def test_both_rows_are_drawn_with_rings_at_the_chosen_rates(table):
    found = measure_table(table(tuning(), finals((0, 1), 0.3)))
    figure = found.plot()
    assert len(figure.axes) == 4 and overlaps(figure) == [] and outside(figure) == []
    for panel, methods in zip(figure.axes, (EIGHT[:4], EIGHT[4:])):
        rings = [line.get_xdata()[0] for line in panel.lines if line.get_markerfacecolor() == "none"]
        assert rings == pytest.approx([OWN[method] for method in methods])
        named = [line for line in panel.lines if not line.get_label().startswith("_")]
        assert [line.get_label() for line in named] == list(methods)
        np.testing.assert_allclose(named[0].get_xdata(), np.multiply(MULTIPLES, OWN[methods[0]]))
    assert figure.axes[2].lines[0].get_label() == "SGD, lr 0.2"
    assert "No chosen rate is at an end" in figure.get_supxlabel().replace("\n", " ")
    twin = found.interactive()
    assert {trace.xaxis for trace in twin.data} == {"x", "x2"} and all(trace.visible for trace in twin.data)


def test_a_choice_at_an_end_of_its_grid_is_said_and_decides_nothing(table):
    found = measure_table(table(tuning(best=10.0), finals((0, 1), 0.5, multiple=10.0)))
    assert found.chosen["end"].eq("most").all() and "SGD (most), RSGD (most)" in found.plot().get_supxlabel()
    notes = [part.note for claim in found.judged for part in claim.parts]
    assert all(note.endswith("an end of the grid; rates beyond it would decide it") for note in notes)


def test_a_table_with_tuning_alone_is_drawn_and_claims_say_what_is_missing(table):
    found = measure_table(table(tuning()))
    figure = found.plot()
    assert isinstance(figure, Figure) and len(figure.axes) == 2 and found.interactive().data
    assert {part.verdict for claim in found.judged for part in claim.parts} == {"not testable here"}
    assert found.judged[0].parts[0].note == "no final run of gRSGD and RSGD; at least two seeds of each would decide it"
    with pytest.raises(ValueError, match="no final run of RSGD and gRSGD yet; let the campaign finish"):
        _ = found.rescaling


def test_a_tuning_that_has_only_begun_is_drawn(table):
    found = measure_table(table(tuning(methods=EIGHT[:3], multiples=MULTIPLES[:2])))
    assert isinstance(found.plot(), Figure) and found.interactive().data and found.forms == {"SGD": list(EIGHT[:3])}
    notes = [part.note for part in found.judged[0].parts]
    assert notes[0] == "no run of gRSGD" and "RSGD ran at 2 rates from 0.002 to 0.006" in notes[1]


def test_final_runs_of_one_seed_are_drawn_and_claims_ask_for_another(table):
    found = measure_table(table(tuning(), finals((0,), 0.5)))
    assert len(found.plot().axes) == 4
    note = "final runs of gRSGD and RSGD have only seed 0 in common; at least two seeds would decide it"
    assert found.judged[0].parts[0].note == note == found.judged[2].parts[0].note


def test_some_systems_trained_already_are_judged_and_the_others_waited_for(table):
    found = measure_table(table(tuning(), finals((0, 1, 2), 0.5, EIGHT[:2])))
    assert [part.verdict for part in found.judged[0].parts] == ["not testable here", "reproduced", "not testable here"]
    assert isinstance(found.plot(), Figure)


def test_two_seeds_that_differ_are_undecided_and_say_what_would_do(table):
    rows = [
        row(method, "final", seed, 1.0, 2.0 - 0.6 * (seed == 0) * (method == "RSGD"))
        for seed in (0, 1)
        for method in EIGHT
    ]
    part = measure_table(table(tuning(), rows)).judged[0].parts[1]
    assert part.verdict == "undecided" and "seeds would see 0.05" in part.note


def test_a_seed_that_diverged_leaves_its_pair_undecided(table):
    rows = finals((0, 1), 0.5)
    lost = next(one for one in rows if one["system"] == "RSGD")
    lost["losses"], lost["curve_loss"] = [float("nan")] * 3, [float("nan")] * 40
    found = measure_table(table(tuning(), rows))
    assert found.judged[0].parts[1].note == "training diverged at 1 of 2 seeds"
    assert found.judged[2].parts[1].verdict == "not testable here"
    assert found.finals.query("method == 'RSGD' and seed == 0")["loss"].item() == np.inf
    assert isinstance(found.plot(), Figure)


def test_final_runs_of_a_former_choice_are_left_out_and_named(table):
    found = measure_table(table(tuning(best=3.0), finals((0, 1), 0.5), finals((0, 1), 0.5, multiple=3.0)))
    assert len(found.finals) == 16 and found.finals["lr"].tolist() == pytest.approx([3 * OWN[m] for m in EIGHT] * 2)
    assert "16 final runs of configurations that the tuning did not choose left out (of SGD, RSGD, " in found.origin


def test_figure_2_is_that_of_the_pair_at_one_rate(table):
    found = measure_table(table(tuning(), finals((0, 1, 2), 0.5))).rescaling
    assert found.outcomes["method"].unique().tolist() == ["RSGD", "gRSGD"]
    losses = [claim.verdict for claim in found.judged[:2]]
    assert losses == ["reproduced"] * 2 and len(found.plot().axes) == 3 and found.interactive().data


def test_grids_of_multiples_are_one_grid_and_others_are_not():
    assert one_grid((0.1, 0.3, 1.0), (0.02, 0.06, 0.2))
    assert not one_grid((0.1, 0.3, 1.0), (0.02, 0.06, 0.4)) and not one_grid((0.1, 0.3), (0.1, 0.3, 1.0))


@pytest.mark.parametrize(
    "rows, match",
    [
        ([made_up(0, "LoRA")], "has no run of AdamW, RAdamW"),
        (
            [*tuning(), {**tuning()[0], "configuration": "another"}],
            "stage tune of .* holds more than one run of 'SGD' with seed 100 at lr 0.02",
        ),
        (
            [*tuning(), *finals((0,), 0.1), changed(finals((1,), 0.1)[0], steps=9)],
            "stage final of .* holds runs of 9, 500 steps",
        ),
    ],
)
def test_tables_that_cannot_be_compared_are_refused(table, rows, match):
    with pytest.raises(ValueError, match=match):
        measure_table(table(rows))


def test_a_run_that_ended_early_because_it_diverged_is_a_rate_at_which_training_diverges(table):
    lost = {"curve_steps": [], "curve_loss": [], "curve_norm": [], "steps": 3, "losses": [np.nan] * 3}
    rows = [made | lost if made["run"] == f"SGD-tune-{10 * OWN['SGD']}-100" else made for made in tuning()]
    found = measure_table(table(rows))
    sgd = found.outcomes[found.outcomes["method"] == "SGD"].set_index("lr")
    last = sgd.loc[10 * OWN["SGD"]]
    assert np.isinf(last[["mean_loss", "loss"]].astype(float)).all() and np.isnan(last["accuracy"])
    assert found.chosen.set_index("method").loc["SGD", ["lr", "trials"]].tolist() == [OWN["SGD"], 5]
    assert found.sample == "40 tuning runs of 1 seed, 200 steps" and found.plot().axes


def test_no_table_is_refused_by_name(tmp_path):
    with pytest.raises(ResultsError, match="has no table"):
        measure_table(tmp_path / "optimizers.parquet")


FOUR = ("RSGD", "gRSGD", "AdamW", "gRAdamW")


@pytest.mark.parametrize(
    "gap, word, own",
    [
        (0.5, "reproduced", "supported"),
        (0.0, "not reproduced", "not supported"),
        (-0.5, "contradicted", "not supported"),
    ],
)
def test_on_a_pretrained_model_rescaling_is_held_against_each_rule_and_all_against_adamw(table, gap, word, own):
    lower = {"RSGD": 1, "gRSGD": 2, "AdamW": 0, "gRAdamW": 1}
    runs = [row(name, "final", seed, 1.0, 2.0 - gap * lower[name]) for seed in (0, 1, 2) for name in FOUR]
    found = measure_pretrained(table(tuning(methods=FOUR), runs))
    told = {claim.name: claim for claim in found.judged}
    assert list(told) == [
        "gr_pretrained_gRSGD_RSGD",
        "own_gr_pretrained_gRAdamW_AdamW",
        "gr_pretrained_accuracy",
        "own_gr_pretrained_test",
    ]
    assert [told[name].verdict for name in list(told)[:2]] == [word, own]
    assert [part.verdict for part in told["own_gr_pretrained_test"].parts] == [own] * 3
    assert all("on a pretrained model" in claim.source for claim in told.values())
    assert found.item == "gr_fig3_pretrained" and len(found.plot().axes) == 4


def test_runs_on_the_compact_backbone_are_no_pretrained_ones(table):
    rows = [changed(one, backbone="compact") for one in tuning(methods=FOUR)]
    with pytest.raises(
        ValueError, match="holds runs on the backbone 'compact'.*use ma.studies.optimizers.measure_table"
    ):
        measure_pretrained(table(rows))


def test_test_losses_of_one_data_set_are_compared_by_seed(table):
    runs = [*tuning(methods=FOUR), *(row(name, "final", seed, 1.0, 2.0) for seed in (0, 1, 2) for name in FOUR)]
    alone = [{**one, **{name: one[name][:1] for name in PER_DATASET}} for one in runs]
    told = {claim.name: claim for claim in measure_pretrained(table(alone, [])).judged}["own_gr_pretrained_test"]
    assert {part.over for part in told.parts} == {"3 seeds on one data set"}
    assert told.verdict == "not supported"


def test_an_accuracy_is_compared_by_seed_and_a_run_that_diverged_is_not_left_out(table):
    def measured(**changes: object):
        runs = finals((0, 1, 2), 0.1, FOUR)
        runs = [{**one, **changes} if one["system"] == "gRSGD" and one["seed"] == 1 else one for one in runs]
        found = measure_pretrained(table(tuning(methods=FOUR), runs))
        return {claim.name: claim for claim in found.judged}["gr_pretrained_accuracy"]

    assert measured().over == "3 seeds"
    lost = measured(losses=[float("nan")] * 3)
    assert lost.verdict == "not testable here" and "training diverged at 1 of 3 seeds" in lost.note


def test_a_campaign_on_a_pretrained_model_that_only_tuned_so_far_says_what_is_missing(table):
    found = measure_pretrained(table(tuning(methods=FOUR)))
    notes = [part.note for claim in found.judged for part in (claim.parts or (claim,))]
    assert len(notes) == 6 and all("no final run of" in note for note in notes) and len(found.plot().axes) == 2


def test_a_form_without_final_runs_has_no_empty_panel(table):
    figure = measure_pretrained(table(tuning(methods=FOUR), finals((0,), 0.1, FOUR[:2]))).plot()
    assert [panel.axison for panel in figure.axes] == [True, True, True, False] and outside(figure) == []
