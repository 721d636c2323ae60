"""Verdicts on T-REX's Fig. 4, on embeddings of which it is known what lies together."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from moe_analysis.evidence import Claim
from moe_analysis.studies import semantic_map
from moe_analysis.studies.semantic_map.agreement import agreement, by_text, clusterings, seed_agreement
from moe_analysis.studies.semantic_map.claims import claims
from moe_analysis.studies.semantic_map.neighbors import neighbor_agreement, neighbor_shares
from tests.studies.fake_embeddings import EIGHT, around, suite, topics

SEEDS = (0, 1, 2)


def of(frame: pd.DataFrame, **texts: np.ndarray) -> semantic_map.SemanticMap:
    found = {text: clusterings(one, frame, (4,), SEEDS) for text, one in texts.items()}
    shares = by_text({text: neighbor_shares(one, frame) for text, one in texts.items()})
    empty = pd.DataFrame({"x": [], "y": []})
    return semantic_map.SemanticMap(
        prompts=frame,
        agreement=by_text({text: agreement(one, frame, 40) for text, one in found.items()}),
        by_seed=by_text({text: seed_agreement(one, frame, SEEDS) for text, one in found.items()}),
        neighbors=by_text({text: neighbor_agreement(part) for text, part in shares.groupby("text")}),
        by_dataset=shares,
        points=empty,
        embeddings=texts,
        clusters=None,
        names=pd.DataFrame(),
    )


def words(claim: Claim) -> list[str]:
    return [claim.verdict, *(part.verdict for part in claim.parts)]


def test_clusters_that_are_the_groups_contradict_the_claim_and_none_of_them_is_mixed():
    frame = suite(EIGHT)
    apart, follow = claims(of(frame, bare=around(frame["group"])))
    assert words(apart) == ["in part", "contradicted", "not reproduced", "contradicted"]
    assert follow.verdict == "supported" and follow.kind == "own"


def test_tasks_of_different_groups_that_lie_together_reproduce_every_part():
    frame = suite(EIGHT)
    partner = frame["dataset"].str[1].astype(int) % 4  # d0 with d4, d1 with d5: never of one group
    apart, follow = claims(of(frame, bare=around(partner)))
    assert words(apart) == ["reproduced"] * 4
    assert [part.measured for part in apart.parts][1:] == pytest.approx([1.0, 0.5])
    assert follow.verdict == "not supported"


def test_every_interval_says_what_it_is_over():
    frame = suite(EIGHT)
    apart, follow = claims(of(frame, bare=around(frame["group"])))
    over = ["3 seeds of k-means", "3 seeds of k-means", "8 data sets"]
    assert [part.over for part in apart.parts] == over and follow.over == over[0]


@pytest.mark.parametrize("groups", [None, "dataset", "one"])
def test_nothing_is_judged_when_clusters_follow_nothing_or_groups_are_data_sets(groups):
    frame = suite(EIGHT, rows=15)
    labels = topics(frame, 5) if groups is None else frame["dataset"]
    if groups is not None:
        frame = frame.assign(group=frame["dataset"] if groups == "dataset" else "one")
    for claim in claims(of(frame, bare=around(labels))):
        assert set(words(claim)) == {"not testable here"}


def test_each_text_is_judged_on_its_own_numbers():
    frame = suite(EIGHT)
    mixed, whole = around(frame["dataset"].str[1].astype(int) % 4), around(frame["group"])
    found = claims(of(frame, bare=mixed, templated=whole))
    assert [claim.verdict for claim in found] == ["reproduced", "not supported", "in part", "supported"]
    assert [claim.name.rpartition("_")[2] for claim in found] == ["bare", "bare", "templated", "templated"]


@pytest.fixture(scope="module")
def three(tmp_path_factory) -> semantic_map.SemanticMap:
    frame = suite({"a": "A", "b": "B", "a2": "A"}, rows=8).assign(suite="mine")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOE_ANALYSIS_CACHE", str(tmp_path_factory.mktemp("cache")))
        return semantic_map.measure(frame, embedder="tfidf", rows=8, ks=(2,), permutations=5, method="pca")


def test_a_map_says_how_many_data_sets_it_has(three):
    assert three.origin == "24 prompts of 3 data sets of a frame, embedded by tfidf, 3 seeds of k-means"
    assert "20" not in three.title + three.interactive().layout.title.text
    assert set(three.numbers) == {"agreement", "by_seed", "neighbors", "by_dataset", "points", "names"}
    assert "prompt" not in three.numbers["points"]


def test_what_clusters_share_is_told_in_words(three):
    contents = semantic_map.measure_contents(three)
    assert contents.shared["size"].sum() == 24 and (contents.shared["held"] >= 1).all()
    assert contents.shared["groups"].str.contains("%").all()
    assert contents.origin == three.origin and not contents.judged
