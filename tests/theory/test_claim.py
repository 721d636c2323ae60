"""What a claim may hold, and how the registry runs checks."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch

from moe_analysis.cards.whose import whose
from moe_analysis.places import shipped
from moe_analysis.theory import CHECKS, checked
from moe_analysis.theory import claim as claims
from moe_analysis.theory.claim import Claim, claim_check, verify


def make(name: str = "one", **changes: object) -> Claim:
    values = {
        "source": "T-REX Lemma 4.1",
        "statement": "1 = 1",
        "measured": 1,
        "expected": 1,
        "residual": 0.0,
        "holds": True,
    }
    return Claim(name, **{**values, **changes})


def broken(seed: int) -> Claim:
    """Division always works."""
    raise ZeroDivisionError("by zero")


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> dict:
    empty: dict = {}
    monkeypatch.setattr(claims, "CHECKS", empty)
    monkeypatch.setattr(claims, "SOURCES", {})
    return empty


def test_a_claim_survives_json_with_numpy_values():
    claim = make(measured=np.arange(3), expected=[np.float32(0.5)], residual=np.float64(0.5), holds=np.bool_(True))
    assert json.loads(json.dumps(claim.to_dict(), allow_nan=False)) == claim.to_dict()
    assert claim.measured == [0, 1, 2] and claim.holds is True


def test_a_claim_refuses_values_that_json_cannot_hold():
    with pytest.raises(ValueError, match=r"one\.measured .* not a JSON value"):
        make(measured={1, 2})


def test_a_claim_with_an_undecided_verdict_is_refused():
    with pytest.raises(ValueError, match="must be True or False"):
        make(holds="yes")


def test_a_claim_cannot_hold_with_a_residual_that_is_no_number():
    with pytest.raises(ValueError, match="must be finite for a claim that holds"):
        make(residual=math.nan)


def test_verify_gives_a_row_a_check_with_the_fields_as_columns(registry):
    @claim_check("T-REX Lemma 4.1")
    def one(seed: int = 0) -> Claim:
        return make("one", measured=seed)

    @claim_check("T-REX Lemma 4.1")
    def two(seed: int = 0) -> Claim:
        return make("two", holds=False)

    table = verify(seed=5)
    assert list(table.columns) == ["name", "source", "statement", "measured", "expected", "residual", "holds"]
    assert list(table["name"]) == ["one", "two"]
    assert list(table["holds"]) == [True, False]
    assert table.loc[0, "measured"] == 5


def test_verify_runs_only_the_checks_that_are_named_or_match(registry):
    for name in ("trex_a", "trex_b", "smore_a"):
        registry[name] = lambda seed, name=name: make(name)
    assert list(verify("trex_*")["name"]) == ["trex_a", "trex_b"]
    assert list(verify(["smore_a", "trex_b"])["name"]) == ["trex_b", "smore_a"]


def test_an_unknown_name_is_refused_before_anything_runs(registry):
    ran = []
    registry["one"] = lambda seed: ran.append(seed) or make("one")
    with pytest.raises(ValueError, match="'tow' matches no claim; known claims: one"):
        verify(["one", "tow"])
    assert ran == []


@pytest.mark.parametrize("only", [[], ()])
def test_naming_no_claim_is_refused_as_it_would_hold(registry, only):
    with pytest.raises(ValueError, match="names no claim; pass a name or a pattern, or None for all"):
        verify(only)


@pytest.mark.parametrize("seed", [-1, 2**32, 1.5, "0", True, None])
def test_a_seed_that_is_none_is_refused_and_no_verdict_on_a_theorem(registry, seed):
    registry["one"] = lambda seed: pytest.fail("ran")
    with pytest.raises(ValueError, match="must be a whole number from 0 to 4294967295"):
        verify(seed=seed)


def test_a_check_that_raises_is_a_failing_row_and_hides_no_other(registry):
    registry["broken"], registry["one"] = broken, lambda seed: make("one")
    table = verify().set_index("name")
    assert list(table["holds"]) == [False, True]
    assert table.loc["broken", "measured"] == "raised ZeroDivisionError: by zero"
    assert table.loc["broken", "statement"] == "Division always works."


def test_two_checks_of_one_name_are_refused(registry):
    registry["one"] = lambda seed: make("one")

    def one(seed: int = 0) -> Claim:
        return make("one")

    with pytest.raises(ValueError, match="'one' is registered twice"):
        claim_check("T-REX Lemma 4.1")(one)


def test_a_check_without_a_source_or_with_another_than_its_claim_is_refused(registry):
    with pytest.raises(ValueError, match="source = .* is not text"):
        claim_check(broken)
    claim_check("another paper")(lambda_named("one"))
    with pytest.raises(ValueError, match="registered with source = 'another paper', .* 'T-REX Lemma 4.1'"):
        verify("one")
    claim_check("T-REX Lemma 4.1", reading=True)(lambda_named("two"))
    with pytest.raises(ValueError, match="reading = True"):
        verify("two")


def lambda_named(name: str):
    def check(seed: int = 0) -> Claim:
        return make(name)

    check.__name__ = name
    return check


@pytest.mark.parametrize("name", CHECKS)
def test_a_check_that_raises_is_a_claim_of_the_same_one_as_when_it_works(name, monkeypatch):
    stored = pd.read_csv(shipped("figures") / "verify.csv").set_index("name").loc[name]
    monkeypatch.setitem(CHECKS, name, broken)
    (claim,) = checked(name)
    assert claim.source == stored["source"] and not claim.holds
    assert whose(claim.kind, claim.source, claim.statement) == whose("exact", stored["source"], stored["statement"])


def test_a_check_that_returns_another_claims_name_is_refused(registry):
    registry["one"] = lambda seed: make("two")
    with pytest.raises(ValueError, match="'one' returned a claim named 'two'"):
        verify()


def test_a_check_draws_by_its_seed_and_leaves_the_callers_generator_as_it_was(registry):
    @claim_check("T-REX Lemma 4.1")
    def drawn(seed: int = 0) -> Claim:
        return make("drawn", measured=torch.rand(1).item())

    torch.manual_seed(5)
    state = torch.get_rng_state()
    first, again, other = (verify(seed=seed)["measured"].item() for seed in (0, 0, 1))
    assert first == again != other
    assert torch.equal(torch.get_rng_state(), state)
