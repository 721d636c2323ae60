"""The index of the papers' items: complete, and every word of it true."""

from __future__ import annotations

import json
from collections import Counter
from fnmatch import fnmatchcase

import pytest

import moe_analysis as ma
from moe_analysis.figures import NOTEBOOKS
from moe_analysis.papers import GR, ITEMS, SMORE, TREX, without_study
from moe_analysis.places import shipped
from moe_analysis.theory.claim import CHECKS

STUDIED = [item for item in ITEMS if item.study and item.notebook]
STORED = [item for item in ITEMS if item.campaigns]


@pytest.mark.parametrize(
    "items, kinds",
    [
        (TREX, {"fig": 4, "table": 11, "lemma": 1, "theorem": 2, "algorithm": 1}),
        (GR, {"fig": 3, "table": 10, "algorithm": 1}),
        (SMORE, {"fig": 5, "table": 7}),
    ],
    ids=["T-REX", "gR", "S'MoRE"],
)
def test_every_item_of_a_paper_is_in_the_index(items, kinds):
    sources = {item.source for item in items if not item.source.startswith("Beyond")}
    found = Counter(
        kind
        for source in sources
        for kind in kinds
        if f" {kind}" in source.lower() and "," not in source.replace(", our reading", "") and " and " not in source
    )
    assert found == kinds


def test_a_claim_has_its_name_for_itself():
    """Where two figures had one of a name, the gallery counted one of them."""
    records = [json.loads(path.read_text("utf-8")) for path in sorted(shipped("figures").glob("*.json"))]
    names = Counter(claim["name"] for record in records for claim in record["claims"])
    assert len(names) > 100 and {name for name, count in names.items() if count > 1} == set()


def test_ids_are_unique_and_every_item_says_where_or_why_not():
    assert max(Counter(item.id for item in ITEMS).values()) == 1
    assert all(item.study or item.checks or item.part_of or item.reason for item in ITEMS)
    assert all(item.paper_setting and item.follows for item in ITEMS)
    assert {item.part_of for item in ITEMS} - {""} <= {item.id for item in ITEMS}


@pytest.mark.parametrize("item", STUDIED, ids=lambda item: item.id)
def test_an_item_is_measured_and_shown(item):
    assert callable(item.measure) and getattr(ma.papers, item.id) == item.measure
    shown = [f"papers.{name}(" for name in (item.id, item.part_of) if name]  # the one, or what holds it too
    assert any(call in (NOTEBOOKS / f"{item.notebook}.ipynb").read_text("utf-8") for call in shown)


@pytest.mark.parametrize("item", STORED, ids=lambda item: item.id)
def test_an_item_that_takes_hours_names_its_study_and_the_campaigns_that_fill_it(item):
    assert getattr(ma.papers, item.id) == item.measure and (item.notebook or item.reason)
    assert all((NOTEBOOKS.parent / file).is_file() for file in item.campaigns)


@pytest.mark.parametrize("item", [item for item in ITEMS if item.checks], ids=lambda item: item.id)
def test_the_checks_of_a_statement_exist(item):
    assert any(fnmatchcase(name, item.checks) for name in CHECKS)


def test_every_check_belongs_to_an_item():
    patterns = [item.checks for item in ITEMS if item.checks]
    assert [name for name in CHECKS if not any(fnmatchcase(name, pattern) for pattern in patterns)] == []


def test_the_table_tells_the_verdicts_that_were_last_measured(tmp_path):
    read = {"source": "T-REX Fig. 4", "claim": "clusters differ", "kind": "paper"}
    claims = [{**read, "verdict": "reproduced"}, {**read, "verdict": "undecided"}]
    claims += [{**read, "verdict": "supported", "kind": "own"}, {**read, "verdict": "fails", "source": "our reading"}]
    (tmp_path / "trex_fig4.json").write_text(json.dumps({"claims": claims}))
    (tmp_path / "verify.csv").write_text(
        "name,source,statement,verdict\ntrex_lemma_4_1_span,T-REX Lemma 4.1,it spans,holds\n"
        "trex_theorem_4_2_single_target,T-REX Theorem 4.2,our reading: it is least,holds\n"
    )
    index = ma.papers.table(tmp_path).set_index("id")["verdict"]
    assert index["trex_fig4"] == "1 reproduced, 1 undecided; ours: 1 supported, 1 fails"
    assert index["trex_lemma41"] == "1 holds" and index["trex_fig2"] == ""
    assert index["trex_theorem42"] == "ours: 1 holds"


def test_what_a_record_has_of_an_item_is_counted_once(tmp_path):
    said = {"claim": "it spans", "verdict": "holds", "kind": "exact", "source": "T-REX Lemma 4.1"}
    whole = {**said, "name": "trex_lemma41", "parts": [{**said, "name": "trex_lemma_4_1_span"}]}
    tables = [{**said, "name": f"smore_table_{n}", "source": f"S'MoRE Table {n}"} for n in (1, 6)]
    records = {
        "trex_lemma41": [whole],
        "smore_fig3": [{**said, "name": "smore_fig3_three_trees"}],
        "smore_tables": tables,
    }
    for name, claims in records.items():
        (tmp_path / f"{name}.json").write_text(json.dumps({"claims": claims}))
    checks = ("trex_lemma_4_1_span", "trex_lemma_4_1_kronecker", "smore_fig3_three_trees")
    rows = [f"{name},{said['source']},{said['claim']},holds" for name in checks]
    (tmp_path / "verify.csv").write_text("\n".join(["name,source,statement,verdict", *rows]))
    index = ma.papers.table(tmp_path).set_index("id")["verdict"]
    assert index["trex_lemma41"] == "2 holds" and index["smore_fig3"] == "1 holds"
    assert index["smore_table1"] == index["smore_table6"] == "1 holds" and index["smore_tables"] == "2 holds"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("smore_table6", r"S'MoRE Table 6 is part of smore_tables: call ma.papers.smore_tables\(\)"),
        ("smore_table3", "S'MoRE Table 3 has no function here: it was not run: it needs the weights of Llama-3-8B"),
        (
            "smore_prop31",
            r"S'MoRE Prop. 3.1 is a statement that is checked: call ma.theory.verify\('smore_prop31_\*'\)",
        ),
    ],
)
def test_an_item_without_a_function_says_where_its_answer_is_or_why_there_is_none(name, told):
    with pytest.raises(AttributeError, match=told):
        getattr(ma.papers, name)


def test_every_item_is_a_function_or_says_why_not():
    for item in ITEMS:
        assert hasattr(ma.papers, item.id) == bool(item.study)
        assert item.study or item.source in without_study(item)


def test_an_item_that_there_is_not_is_refused():
    with pytest.raises(AttributeError, match=r"'trex_fig9'; `table\(\)` lists the items"):
        ma.papers.trex_fig9  # noqa: B018
