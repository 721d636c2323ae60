"""The pages beside the gallery: every item of the papers, and what the adapters do."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from moe_analysis.drawing.save import save
from moe_analysis.gallery import build
from moe_analysis.gallery.entries import collect
from moe_analysis.gallery.manual import contract_page, html_of
from moe_analysis.gallery.records import REPORT
from moe_analysis.gallery.report import line_of, report_page
from moe_analysis.papers import ITEMS as INDEX
from moe_analysis.papers import table
from moe_analysis.places import home

from .pages import CAPTION, CLAIM, FIGURES, Page, shipped, words_of

pytest_plugins = ["tests.browser"]


def test_the_report_has_every_item_of_the_papers_with_a_verdict_a_command_or_a_reason() -> None:
    shelf = shipped()
    groups = collect([shelf])
    page = Page(report_page(groups, [shelf]))
    places = [found["id"] for _, found, _ in page.elements if "data-state" in found]
    assert page.open == [] and places == [item.id for item in INDEX]
    entries = {entry.id: entry for group in groups.values() for entry in group if entry.leads}
    lines = [line_of(item, entries, shelf.folder) for item in INDEX]
    for line in lines:
        assert line.verdicts or line.measured or line.commands or line.reason, line.item.id
        assert {words_of(command)[0] for command in line.commands} <= {"figures", "verify", "sweep"}
    told = dict(zip(table(FIGURES)["id"], table(FIGURES)["verdict"]))
    counted = {
        line.item.id: "; ".join(
            before + ", ".join(f"{number} {word}" for word, number in counts.items())
            for before, counts in line.verdicts.items()
        )
        for line in lines
    }
    assert counted == told


def test_a_campaign_on_data_that_is_not_shipped_is_given_its_folder() -> None:
    commands = {file: line_of(item, {}, None).commands for item in INDEX for file in item.campaigns}
    told = {
        file for file, found in commands.items() if found[-1].startswith("MOE_ANALYSIS_DATA=path/to/folder make sweep")
    }
    assert told == {file for file in commands if "smollm2" in file} != set(commands)


def test_the_gallery_counts_what_is_measured_as_the_report_does(folder: Path) -> None:
    save("trex_fig2", None, None, {"a": 1}, claims=[CLAIM], folder=folder, caption=CAPTION)
    lead = Page(build(folder).read_text("utf-8")).texts("p", **{"class": "lead"})[0]
    states = Counter(Page((folder / REPORT).read_text("utf-8")).values("data-state"))
    assert f": of {len(INDEX)} figures, tables, statements and algorithms " in lead
    for state, words in (
        ("measured", "are measured"),
        ("open", "still to measure"),
        ("not here", "cannot be run here"),
    ):
        assert f" {states[state]} {words}" in lead


def test_the_report_tells_seeds_steps_and_preset_and_why_not(folder: Path) -> None:
    save("trex_fig2", None, None, {"a": 1}, claims=[CLAIM], folder=folder, caption=CAPTION)
    build(folder)
    page = Page((folder / REPORT).read_text("utf-8"))
    rows = {
        found["id"]: " ".join("".join(text).split())
        for tag, found, text in page.elements
        if tag == "tr" and "id" in found
    }
    assert "3 runs; preset tiny ✗ 1 not reproduced Follows: whether intuition smooths" in rows["trex_fig2"]
    assert "router weights of LoRA-MoE, mix-and-match and T-REX in 3-D" in rows["trex_fig2"]
    assert "not run here" in rows["smore_table3"] and "Llama-3-8B and a GPU with enough memory" in rows["smore_table3"]
    unknown = rows["gr_table1"]  # ten tables of which the same is known share a row
    assert "gR Table 1 to 10" in unknown and "not known to us" in unknown and "Nothing: it was not run." in unknown
    assert "gr_table2" not in rows and rows["smore_table4"].startswith("S'MoRE Table 4S'MoRE is ahead")
    assert "not measured yet" in rows["smore_table2"] and "campaigns/smollm2_table2.yaml" in rows["smore_table2"]
    assert "not measured yet" in rows["smore_fig5"] and "--only smore_fig5" in rows["smore_fig5"]
    assert "make verify ARGS=" in rows["smore_cor36"]


def test_the_contract_of_the_adapters_is_a_page_with_every_cell_of_the_manual() -> None:
    page = Page(contract_page())
    source = (home() / "docs" / "pages" / "contract.md").read_text("utf-8")
    rows = [line for line in source.splitlines() if line.startswith("| ")][1:]
    assert len(page.texts("tr")) == len(rows) + 1
    for word, mark in (("right", "✓"), ("refused", "–")):
        assert page.texts("td").count(f"{mark} {word}") == sum(row.count(f"| {word} ") for row in rows)
    assert page.texts("h1") == ["What works, and what is refused"]


def test_no_text_of_the_manual_becomes_markup_and_outside_a_clone_there_is_none(tmp_path: Path) -> None:
    assert html_of(["- `<b>` & *so*"]) == "<ul><li><code>&lt;b&gt;</code> &amp; <em>so</em></li></ul>"
    assert contract_page(tmp_path / "none.md") == ""


def test_a_phone_shows_the_report_without_scrolling_sideways_or_labels_of_nothing(tab, tmp_path: Path) -> None:
    shelf = shipped()
    (tmp_path / "report.html").write_text(report_page(collect([shelf]), [shelf]))
    tab.page.set_viewport_size({"width": 360, "height": 740})
    page = tab.open(tmp_path / "report.html")
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    again = page.locator("#smore_table3 td[data-label=Again]")
    assert again.count() == 1 and not again.is_visible()
    tab.page.set_viewport_size({"width": 1200, "height": 740})
    assert again.is_visible(), "the line below a row goes through to its last cell"
