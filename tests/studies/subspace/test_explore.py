"""I and J in the rank plot: the ring stands where the frame says, and the note tells its row."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from moe_analysis.studies.subspace.explore import rank_figure, widget
from moe_analysis.studies.subspace.parameters import parameters_of_sizes
from moe_analysis.studies.subspace.span import rank_plot_frame
from tests.drawing.test_explorer import picture

KINDS = ("independent", "repeated")


@pytest.fixture(scope="module")
def frames():
    ranks = rank_plot_frame(3, KINDS)
    independent = ranks.loc[ranks["kind"] == "independent", ["I", "J", "measured"]]
    return ranks, parameters_of_sizes(list(independent.itertuples(index=False, name=None)), 16, 12)


def found(frames):
    return SimpleNamespace(ranks=frames[0], sizes=frames[1])


def row(ranks, num_down: int, num_up: int, kind: str):
    return ranks[(ranks["I"] == num_down) & (ranks["J"] == num_up) & (ranks["kind"] == kind)].iloc[0]


@pytest.mark.parametrize("kind", KINDS)
def test_every_size_tells_its_ranks_its_span_and_its_parameters(frames, kind):
    ranks, sizes = frames
    explorer = widget(found(frames), 1, 1, kind)
    for num_down, num_up in ((1, 3), (2, 3)):
        before = picture(explorer)
        explorer.controls["num_down"].value, explorer.controls["num_up"].value = num_down, num_up
        one = row(ranks, num_down, num_up, kind)
        predicted = one["rank_a"] * one["rank_b"]
        assert (
            f"rank(A) = {one['rank_a']}, rank(B) = {one['rank_b']}: predicted span {predicted}, measured "
            f"{one['measured']}."
        ) in explorer.note.value
        assert f"Parameters: {num_down * 16 + num_up * 12:,} in the factors" in explorer.note.value
        assert (picture(explorer) != before).any()


def test_the_mixture_beside_it_costs_no_more_factors(frames):
    explorer = widget(found(frames), 3, 3)  # 84 numbers, a rank-1 expert has 28
    assert "3 rank-1 experts, span 3" in explorer.note.value
    explorer.controls["num_down"].value = 1  # 52
    assert "1 rank-1 expert, span 1" in explorer.note.value


def test_the_ring_stands_at_the_size_in_both_plots(frames):
    ranks, _ = frames
    one = row(ranks, 3, 2, "repeated")
    left, right = rank_figure(ranks, one).axes
    assert left.lines[-1].get_xydata().tolist() == [[2, 1]]  # the third column and the second row
    assert right.lines[-1].get_xydata().tolist() == [[6, one["measured"]]]
    own = ranks[ranks["kind"] == "repeated"].sort_values(["J", "I"])["measured"]
    assert [text.get_text() for text in left.texts] == [str(value) for value in own]
    assert left.get_title(loc="left") == "(a) measured span, vectors: repeated"


def test_the_authors_size_is_ringed_first_where_there_is_one(frames):
    assert widget(found(frames)).values == (3, 3, "independent")


def test_sizes_and_kinds_that_were_not_measured_are_refused(frames):
    with pytest.raises(ValueError, match="num_up = 4 is not a whole number from 1 to 3"):
        widget(found(frames), 3, 4)
    with pytest.raises(ValueError, match="kind = 'narrow' is unknown; choose one of independent, repeated"):
        widget(found(frames), 3, 3, "narrow")
