"""One claim for theorems and for measurements: declared, judged once, readable as JSON."""

from __future__ import annotations

import json

import numpy as np
import pytest

from moe_analysis.evidence import Claim, claims_frame, judged, whole_of
from moe_analysis.evidence.claim import described
from moe_analysis.evidence.effect import Effect
from moe_analysis.evidence.verdict import judge

CLEAR, NOTHING = Effect([0.02, 0.021, 0.019, 0.02]), Effect([0.001, -0.001, 0.0, 0.0])


def declared(name: str = "smore_table2_lora", **changes: object) -> Claim:
    values = {"source": "S'MoRE Table 2", "statement": "S'MoRE is more accurate than LoRA", "paper_effect": 0.02}
    values |= {"compares": "S'MoRE - LoRA, best of sweep", "endpoint": "acc"}
    return Claim(name, **{**values, **changes})


def test_a_claim_is_a_card_in_a_notebook_before_it_is_judged_too() -> None:
    html = declared(endpoint="acc < 1")._repr_html_()
    assert "not measured yet" in html and "acc &lt; 1" in html and "<svg" not in html
    found = declared().with_effect(CLEAR)._repr_html_()
    assert "✓</span> reproduced" in found and "<svg" in found
    whole = declared("smore_whole").with_parts([declared().with_effect(CLEAR), declared("b").with_effect(NOTHING)])
    assert "2 parts" in whole._repr_html_()


def test_a_measurement_is_declared_first_and_judged_by_the_rule() -> None:
    claim = declared()
    assert (claim.kind, claim.verdict, claim.measured, claim.smallest) == ("paper", "", None, 0.01)
    found, rule = claim.with_effect(CLEAR), judge(CLEAR, 0.01)
    assert (found.verdict, found.low, found.high) == ("reproduced", rule.low, rule.high)
    assert (found.measured, found.expected, found.over) == (pytest.approx(0.02), 0.02, "4 seeds")
    assert claim.verdict == "", "the declaration stays as it was"


def test_a_whole_has_a_smallest_effect_that_matters_only_if_its_parts_share_it() -> None:
    """Each part is judged by its own, which a reader of the whole must not take for another."""
    whole = declared("smore_whole", paper_effect=None, smallest=0.01)
    parts = [declared(f"part {least}", paper_effect=None, smallest=least).with_effect(CLEAR) for least in (0.01, 0.004)]
    assert whole.with_parts(parts[:1]).smallest == 0.01
    found = whole.with_parts(parts)
    assert found.smallest is None and "matters" not in described(found)["paper"]


def test_a_claim_is_measured_once() -> None:
    found = declared().with_effect(NOTHING)
    for call in (
        lambda: found.with_effect(CLEAR),
        lambda: found.untestable("no rows"),
        lambda: judged([found], {found.name: CLEAR}),
    ):
        with pytest.raises(ValueError, match="already has the verdict 'not reproduced'; declare a new claim"):
            call()


def test_a_precondition_that_fails_is_named() -> None:
    found = declared().untestable("every system is within guessing")
    assert (found.verdict, found.note, found.measured) == ("not testable here", "every system is within guessing", None)
    assert declared().with_effect(Effect([0.1])).note == "one seed has no spread"


def test_where_the_paper_only_draws_a_smallest_effect_is_declared() -> None:
    assert declared(paper_effect=None, smallest=0.005).with_effect(CLEAR).expected is None
    with pytest.raises(ValueError, match="declares no smallest effect that matters; pass paper_effect, or smallest"):
        declared(paper_effect=None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"paper_effect": -0.02}, "paper_effect = -0.02 must be above zero in the claimed direction; subtract"),
        ({"smallest": 0.0}, "smallest = 0.0 must be above zero"),
        ({"kind": "guess"}, "kind = 'guess' is unknown; choose one of exact, paper, reproduction, own"),
        ({"compares": ""}, "has neither holds nor compares"),
        ({"note": {1, 2}}, "note = .* is not a JSON value"),
    ],
)
def test_a_declaration_that_cannot_be_judged_is_refused(changes, message) -> None:
    with pytest.raises(ValueError, match=message):
        declared(**changes)


def test_a_theorem_is_judged_when_it_is_made_and_takes_no_effect() -> None:
    theorem = Claim("trex_lemma", "T-REX Lemma 4.1", "1 = 1", 1, 1, 0.0, True)
    assert (theorem.kind, theorem.verdict) == ("exact", "holds")
    assert Claim("trex_lemma", "T-REX Lemma 4.1", "1 = 2", 1, 2, 1.0, False).verdict == "fails"
    with pytest.raises(ValueError, match="declares no comparison"):
        theorem.with_effect(CLEAR)


def test_parts_that_differ_give_in_part_and_stay_with_the_claim() -> None:
    parts = [declared("one").with_effect(CLEAR), declared("two").with_effect(NOTHING)]
    whole = declared("whole").with_parts(parts)
    assert (whole.verdict, whole.note) == ("in part", "1 reproduced, 1 not reproduced") and whole.parts == tuple(parts)
    assert claims_frame([whole])["claim"].tolist() == ["whole", "one", "two"]
    with pytest.raises(ValueError, match="whole has parts without a verdict: three; measure them first"):
        declared("whole").with_parts([*parts, declared("three")])


def test_numbers_of_a_frame_are_numbers_though_nothing_was_measured() -> None:
    ahead = Claim("toy", "a table", "A is ahead", compares="A - B", smallest=0.01)
    frame = claims_frame([ahead.untestable("one seed"), ahead.with_effect(Effect([0.1, 0.2]))])
    assert {str(frame[name].dtype) for name in ("paper_effect", "smallest", "effect", "low", "high")} == {"float64"}


def test_a_claim_of_parts_alone_is_exact_where_they_are_and_else_counts_what_they_compare() -> None:
    theorem = Claim("one", "arithmetic", "1 = 1", 1, 1, 0.0, True)
    exact = whole_of("both", "arithmetic", "all hold", [theorem, theorem])
    assert (exact.kind, exact.verdict, exact.compares) == ("exact", "holds", "")
    parts = [theorem, declared("two").with_effect(CLEAR)]
    mixed = whole_of("mixed", "beyond gR", "all of them", parts)
    assert (mixed.kind, mixed.verdict, mixed.compares) == ("own", "in part", "2 comparisons")
    assert mixed.parts == tuple(parts) and whole_of("mixed", "gR", "all", parts, kind="exact").compares == ""
    with pytest.raises(ValueError, match="mixed has parts without a verdict: two"):
        whole_of("mixed", "gR", "all of them", [declared("two")])


def test_a_family_is_corrected_for_all_that_was_declared() -> None:
    names = ["LoRA", "MixLoRA", "HydraLoRA"]
    claims = [declared(name, family="Table 2") for name in names] + [declared("alone")]
    effects = {"LoRA": CLEAR, "MixLoRA": NOTHING, "HydraLoRA": "cannot be run here", "alone": CLEAR}
    found = {claim.name: claim for claim in judged(claims, effects)}
    assert list(found) == [*names, "alone"]
    assert found["LoRA"].confidence == pytest.approx(1 - 0.05 / 3) and found["alone"].confidence == 0.95
    assert [found[name].verdict for name in names] == ["reproduced", "not reproduced", "not testable here"]
    assert found["HydraLoRA"].note == "cannot be run here"
    with pytest.raises(ValueError, match="claims and effects differ in HydraLoRA"):
        judged(claims, dict.fromkeys(("LoRA", "MixLoRA", "alone"), CLEAR))
    with pytest.raises(ValueError, match="family 'Table 2' has claims of several kinds, own, paper"):
        judged([claims[0], declared("MixLoRA", kind="own", family="Table 2")], {"LoRA": CLEAR, "MixLoRA": CLEAR})


def test_the_source_of_a_claim_says_whose_it_is() -> None:
    reproduced = declared(source="an independent reproduction of gR")
    assert (reproduced.kind, reproduced.whose) == ("reproduction", "reproduction")
    assert reproduced.with_effect(CLEAR).verdict == "reproduced"
    assert declared(source="beyond gR").whose == "own" and declared().whose == "paper"
    reading = Claim("toy", "gR Fig. 1", "our reading: it bends", 1, 1, 0.0, True)
    assert (reading.kind, reading.whose) == ("exact", "own")
    with pytest.raises(
        ValueError, match="kind = 'paper' but its source is 'an independent .* pass kind='reproduction'"
    ):
        declared(source="an independent reproduction of gR", kind="paper")


def test_hypotheses_of_our_own_have_their_words() -> None:
    assert declared(kind="own").with_effect(CLEAR).verdict == "supported"
    assert judged([declared(kind="own")], {"smore_table2_lora": NOTHING})[0].verdict == "not supported"


def test_declared_and_judged_claims_survive_json() -> None:
    whole = declared("whole").with_parts([declared("one").with_effect(CLEAR), declared("two").untestable("no rows")])
    for claim in (declared(), whole, Claim("a", "b", "c", np.arange(2), [0, 1], np.float64(0.0), np.bool_(True))):
        assert json.loads(json.dumps(claim.to_dict(), allow_nan=False)) == claim.to_dict()
