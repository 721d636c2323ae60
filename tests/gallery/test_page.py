"""The gallery's page without a browser: what it says of each item, and that no text becomes markup."""

from __future__ import annotations

import json
import re
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from moe_analysis.cards.claims import CLAIM_FIELDS, MARKS, shown
from moe_analysis.cards.in_words import told_origin
from moe_analysis.cards.whose import WHOSE
from moe_analysis.drawing.save import VERDICTS, save
from moe_analysis.figures import ITEMS
from moe_analysis.gallery import build
from moe_analysis.gallery.entries import collect, count_verdicts
from moe_analysis.gallery.page import render
from moe_analysis.gallery.records import CONTRACT, PAGE, REPORT, Record
from moe_analysis.gallery.report import STATES
from moe_analysis.gallery.shelves import Shelf

from .pages import CAPTION, CLAIM, FIGURES, OWN, Page, page_of, shipped, words_of

MADE = dict.fromkeys(STATES, 1)  # lines of the report by their state


def test_the_same_files_give_the_same_bytes_and_nothing_but_the_pages_is_written(folder: Path) -> None:
    before = {path: path.read_bytes() for path in folder.iterdir()}
    page = build(folder)
    pages = {folder / name: (folder / name).read_bytes() for name in (PAGE, REPORT, CONTRACT)}
    assert page == folder / PAGE and build(str(folder)) == page
    assert {path: path.read_bytes() for path in folder.iterdir()} == {**before, **pages}


def test_a_claim_without_numbers_is_shown_with_both_numbers_and_its_verdict_in_words(folder: Path) -> None:
    cards = [
        text for text in page_of(folder).texts("div") if text.startswith("T-REX Fig. 2 ") and "Numbers" not in text
    ]
    assert cards[-2:] == [
        "T-REX Fig. 2 paths are smooth ✗ not reproduced What was measured Papersmooth Ours0.25",
        "T-REX Fig. 2 a < b & c ✓ reproduced What was measured Papersmooth Ours0.25",
    ]


def test_a_claim_with_an_interval_is_drawn_and_our_own_hypotheses_are_counted_apart(folder: Path) -> None:
    save("smore_fig4", None, None, {"a": 1}, claims=[CLAIM, OWN, OWN], folder=folder, caption=CAPTION)
    page = page_of(folder)
    assert [label for label in page.values("aria-label", "svg") if label.startswith("Effect 0.03, 95 % interval")]
    assert "Claims of the papers: 2" in page.texts("h3"), "one claim in two records counts once"
    assert "Our own hypotheses and readings: 1" in page.texts("h3")
    (item,) = [text for text in page.texts("article") if "smore_fig4" in text and "Computed" in text]
    assert item.startswith("Paths Computed on this machine, preset tiny Smooth? ✗ 1 not reproduced ours: ✓ 1 supported")


def test_the_caption_stands_with_the_picture_and_a_pdf_is_linked_where_there_is_one(folder: Path) -> None:
    from matplotlib.figure import Figure

    assert "trex_fig2.pdf" in page_of(folder).values("href", "a")
    save("trex_fig2", Figure((3, 2)), None, {"a": 1}, folder=folder, caption=CAPTION)
    (folder / "trex_fig2.pdf").unlink()
    page = page_of(folder)
    assert page.texts("figcaption") == ["How to read itLeft to right. From 3 runs."] and "Paths" in page.texts("h3")
    assert "trex_fig2.pdf" not in page.values("href", "a")


def test_the_verdicts_to_filter_by_are_those_that_occur(folder: Path) -> None:
    chosen = [
        attributes["value"] for _, attributes, _ in page_of(folder).elements if attributes.get("name") == "verdict"
    ]
    assert chosen == ["", "reproduced", "not-reproduced", "missing"]


def test_the_picture_is_loaded_when_it_is_needed_and_its_text_says_what_came_out(folder: Path) -> None:
    images = [attributes for tag, attributes, _ in page_of(folder).elements if tag == "img"]
    (image,) = (attributes for attributes in images if "class" not in attributes)
    assert image["alt"] == (
        "T-REX Fig. 2: intuition smooths the paths of the router weights. 1 reproduced, 1 not reproduced."
    )
    assert image["loading"] == "lazy" and (image["width"], image["height"]) == ("480", "320")


def test_runs_settings_and_versions_stand_with_the_item(folder: Path) -> None:
    (details,) = (text for text in page_of(folder).texts("details", **{"class": "origin"}) if "trex_fig2" in text)
    for part in ("run-7", "preset tiny", "my suite", "02_router_trajectories.ipynb", "torch "):
        assert part in details


def test_an_item_that_is_not_made_is_listed_with_the_command_in_the_usual_settings(folder: Path) -> None:
    page = page_of(folder)
    missing = [text for text in page.texts("article") if "not made yet" in text]
    assert len(missing) == len(ITEMS) - 2
    expected = f"make figures ARGS=\"--only smore_fig5 --preset tiny --suite 'my suite' --out {folder}\""
    assert page.texts("code", id="command-smore_fig5") == [expected]


def test_a_record_that_is_no_item_is_shown_with_the_notebook_that_saves_it(folder: Path) -> None:
    page = page_of(folder)
    assert any(title.startswith("Beyond gR: with one active expert") for title in page.texts("h3"))
    assert "--only gr_control " in page.texts("code", id="command-gr_control")[0]


def test_the_summary_counts_every_claim_of_the_figures_once() -> None:
    groups = collect([shipped()])
    stored = [shown(claim) for path in FIGURES.glob("*.json") for claim in json.loads(path.read_bytes())["claims"]]
    entries = [entry for group in groups.values() for entry in group]
    totals = []
    for whose in WHOSE:
        verdicts = list({one["name"]: one["verdict"] for one in stored if one["whose"] == whose}.values())
        counts = {verdict: verdicts.count(verdict) for verdict in VERDICTS if verdict in verdicts}
        assert count_verdicts(entries, whose) == counts
        totals += [f"{count} {MARKS[verdict][1]} {verdict}" for verdict, count in counts.items()]
    marks = "".join({mark for _, mark in MARKS.values()})
    assert [text for text in Page(render(groups, MADE)).texts("li") if re.match(rf"\d+ [{marks}] ", text)] == totals


def test_the_page_of_the_figures_is_in_order_for_a_screen_reader_and_its_links_resolve() -> None:
    page = Page(render(collect([shipped()]), MADE))
    assert page.open == [], "every element is closed"
    levels = [int(tag[1]) for tag, _, _ in page.elements if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:]))
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    for name in ("aria-labelledby", "aria-controls", "for", "data-copy"):
        assert {word for value in page.values(name) for word in value.split()} <= set(ids)
    for link in page.values("href", "a") + page.values("src", "img"):
        if link.startswith("?"):
            assert link.partition("=")[2] in page.values("value", "input"), link
        elif link not in (REPORT, CONTRACT):
            assert link[1:] in ids if link.startswith("#") else (FIGURES / link).is_file(), link
    tags = [tag for tag, _, _ in page.elements]
    assert all(tags.count(landmark) == 1 for landmark in ("header", "nav", "main", "search", "footer"))
    assert not re.search(r"(src|href)=\"(https?:)?//", render(collect([]), MADE)), "nothing comes from the network"


def test_an_item_says_in_one_sentence_what_came_out(folder: Path) -> None:
    save("smore_fig4", None, None, {"a": 1}, claims=[OWN], folder=folder)
    page = page_of(folder)
    assert 'In short. "A is ahead of B" is supported: +3 points of accuracy [0.52, 5.5].' in page.texts(
        "p", **{"class": "short"}
    )
    big = {**CLAIM, "claim": "big", "verdict": "not testable here"}
    save("smore_fig4", None, None, {"a": 1}, claims=[big], folder=folder)
    told = page_of(folder).texts("p", **{"class": "short"})
    assert 'In short. "big" cannot be tested here.' in told


def test_claims_are_folded_and_their_intervals_drawn_inside(folder: Path) -> None:
    save("smore_fig4", None, None, {"a": 1}, claims=[OWN], folder=folder)
    (fold,) = [text for text in page_of(folder).texts("details", **{"class": "judged"}) if "ours" in text]
    assert fold.startswith("1 claim, with its interval") and "matters from 0.01" in fold


def test_an_exact_claim_has_no_interval_and_a_part_of_a_claim_may_have_one(folder: Path) -> None:
    for claims, told in (([CLAIM], "1 claim"), ([OWN.with_parts([OWN, OWN])], "1 claim, with its interval")):
        save("smore_fig4", None, None, {"a": 1}, claims=claims, folder=folder)
        summaries = page_of(folder).texts("summary")
        assert [text for text in summaries if text.startswith("1 claim")] == [told]


def test_a_figure_from_a_stored_table_names_the_table_where_its_runs_and_seeds_are(folder: Path) -> None:
    for name, told in (("compact", "data/results/compact.parquet"), ("mine", "mine")):
        origin = f"80 runs of 8 seeds; drawn from the stored results {name}"
        save("trex_fig3", None, None, {"a": 1}, folder=folder, caption={**CAPTION, "origin": origin})
        (item,) = page_of(folder).texts("article", **{"data-item": "trex_fig3"})
        assert f"Runsandseeds{told}" in item.replace(" ", "") and "no training run" not in item


def test_the_studies_to_filter_by_are_those_of_the_items(folder: Path) -> None:
    page = page_of(folder)
    offered = set(page.values("value", "option")) - {""}
    assert offered == {item.study.partition(".")[0] for item in ITEMS}
    assert set(page.values("data-study", "article")) - {""} == offered


@settings(max_examples=25, deadline=None)
@given(st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc", "Zl", "Zp", "Zs")), min_size=1))
def test_no_text_of_a_record_becomes_markup(words: str) -> None:
    claim = shown({**dict.fromkeys(CLAIM_FIELDS, words), "verdict": "reproduced"})
    caption = dict.fromkeys(CAPTION, words)
    record = Record(
        "trex_fig2", (claim,), (words,), (0,), {"torch": words}, {"preset": words}, (4, 3), True, True, caption
    )
    page = Page(render(collect([Shelf("shipped", Path(), "", {"trex_fig2": record})]), MADE))
    assert page.texts("p", **{"class": "statement"}) == [words] and page.texts("figcaption") == [
        " ".join(f"How to read it{words} {told_origin(words)}".split())
    ]
    assert words in page.texts("dd") or words in ("–", "")
    assert words_of(page.texts("code", id="command-trex_fig2")[0])[-1] == words
