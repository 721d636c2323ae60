"""The gallery's page without a browser: what it says, what it refuses, and that its colors can be read."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_analysis.cards.claims import CLAIM_FIELDS, MARKS, shown
from moe_analysis.cards.templates import HERE as CARDS
from moe_analysis.drawing.save import VERDICTS, save
from moe_analysis.evidence import Claim, Effect
from moe_analysis.figures import ITEMS, choose
from moe_analysis.gallery import GalleryError, build
from moe_analysis.gallery.entries import collect, command_for, count_verdicts, program
from moe_analysis.gallery.manual import contract_page, html_of
from moe_analysis.gallery.page import HERE, render
from moe_analysis.gallery.records import CONTRACT, PAGE, REPORT, Record, read_record
from moe_analysis.gallery.report import line_of, report_page
from moe_analysis.gallery.shelves import Shelf, read_shelves
from moe_analysis.papers import ITEMS as INDEX
from moe_analysis.papers import table
from moe_analysis.places import home

FIGURES = Path(__file__).parents[1] / "figures"
CLAIM = dict(zip(CLAIM_FIELDS, ["T-REX Fig. 2", "paths are smooth", "smooth", 0.25, None, "not reproduced"]))
OWN = Claim("toy_own", "ours", "A is ahead of B", kind="own", compares="A - B", endpoint="acc", smallest=0.01)
OWN = OWN.with_effect(Effect([0.03, 0.02, 0.04]))
CAPTION = {"title": "Paths", "question": "Smooth?", "how_to_read": "Left to right.", "origin": "3 runs"}
VOID = {"meta", "link", "img", "input"}


def shipped() -> Shelf:
    """The figures in the repository, without what was computed beside them."""
    return read_shelves(FIGURES)[0]


class Page(HTMLParser):
    """The elements of a page in order: (tag, attributes, the text inside)."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None], list[str]]] = []
        self.open: list[int] = []
        self.feed(content)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs), []))
        if tag not in VOID:
            self.open.append(len(self.elements) - 1)

    def handle_endtag(self, tag):
        assert self.elements[self.open.pop()][0] == tag, f"</{tag}> closes another element"

    def handle_data(self, data):
        for index in self.open:
            self.elements[index][2].append(data)

    def texts(self, tag: str, **wanted: str) -> list[str]:
        return [
            " ".join("".join(text).split())
            for name, attributes, text in self.elements
            if name == tag and all(attributes.get(key) == value for key, value in wanted.items())
        ]

    def values(self, attribute: str, tag: str | None = None) -> list[str]:
        return [
            found[attribute] or "" for name, found, _ in self.elements if attribute in found and tag in (None, name)
        ]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch) -> Path:
    """One item with a picture, a page and two claims, and a record that is no item of the list."""
    import matplotlib.pyplot as plt
    import plotly.graph_objects as go

    monkeypatch.setenv("MOE_ANALYSIS_PRESET", "tiny")
    monkeypatch.setenv("MOE_ANALYSIS_SUITE", "my suite")
    claims = [CLAIM, {**CLAIM, "claim": "a < b & c", "verdict": "reproduced"}]
    figure = plt.figure(figsize=(3, 2))
    save("trex_fig2", figure, go.Figure(go.Scatter(y=[1, 2])), {"a": 1}, runs=["run-7"], claims=claims, folder=tmp_path)
    save("gr_control", None, None, {"a": 1}, folder=tmp_path)
    plt.close(figure)
    return tmp_path


def page_of(folder: Path) -> Page:
    return Page(build(folder).read_text("utf-8"))


def test_the_same_files_give_the_same_bytes_and_nothing_but_the_pages_is_written(folder: Path) -> None:
    before = {path: path.read_bytes() for path in folder.iterdir()}
    page = build(folder)
    pages = {folder / name: (folder / name).read_bytes() for name in (PAGE, REPORT, CONTRACT)}
    assert page == folder / PAGE and build(str(folder)) == page
    assert {path: path.read_bytes() for path in folder.iterdir()} == {**before, **pages}


def test_an_older_claim_is_shown_with_both_numbers_and_its_verdict_in_words(folder: Path) -> None:
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
    assert "Our own hypotheses: 1" in page.texts("h3")
    (item,) = [text for text in page.texts("article") if "smore_fig4" in text]
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
    (image,) = [attributes for tag, attributes, _ in page_of(folder).elements if tag == "img"]
    assert image["alt"] == (
        "T-REX Fig. 2: intuition smooths the paths of the router weights. 2 claims: 1 reproduced, 1 not reproduced."
    )
    assert image["loading"] == "lazy" and (image["width"], image["height"]) == ("480", "320")


def test_runs_settings_and_versions_stand_with_the_item(folder: Path) -> None:
    (details,) = (text for text in page_of(folder).texts("details") if "trex_fig2" in text)
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


def words_of(command: str) -> list[str]:
    """What a command gives to the program: what make would, of the shell's last word."""
    make, name, given = shlex.split(command)
    assert (make, given[:5]) == ("make", "ARGS=")
    return [name, *shlex.split(given[5:].replace("$$", "$"))]


def test_every_command_names_what_the_command_line_knows(folder: Path) -> None:
    entries = [entry for group in collect([shipped()]).values() for entry in group]
    for entry in entries:
        words = words_of(entry.command or "")
        chosen = choose([words[words.index("--only") + 1]])
        assert {item.notebook for item in chosen} == {entry.notebook}


def test_the_summary_counts_every_claim_of_the_figures_once() -> None:
    groups = collect([shipped()])
    stored = [shown(claim) for path in FIGURES.glob("*.json") for claim in json.loads(path.read_bytes())["claims"]]
    entries = [entry for group in groups.values() for entry in group]
    totals = []
    for own in (False, True):
        verdicts = list({one["name"]: one["verdict"] for one in stored if (one["kind"] == "own") == own}.values())
        counts = {verdict: verdicts.count(verdict) for verdict in VERDICTS if verdict in verdicts}
        assert count_verdicts(entries, own) == counts
        totals += [f"{count} {MARKS[verdict][1]} {verdict}" for verdict, count in counts.items()]
    marks = "".join({mark for _, mark in MARKS.values()})
    assert [text for text in Page(render(groups)).texts("li") if re.match(rf"\d+ [{marks}] ", text)] == totals


def test_the_page_of_the_figures_is_in_order_for_a_screen_reader_and_its_links_resolve() -> None:
    page = Page(render(collect([shipped()])))
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
    assert not re.search(r"(src|href)=\"(https?:)?//", render(collect([]))), "nothing comes from the network"


# ---------------------------------------------------------------- shipped and computed here


@pytest.fixture
def both(folder: Path, monkeypatch) -> Path:
    """A folder of shipped figures, in which one of them was computed again with the quick preset."""
    monkeypatch.setattr("moe_analysis.gallery.shelves.figures_home", lambda: folder)
    monkeypatch.setenv("MOE_ANALYSIS_PRESET", "quick")
    monkeypatch.delenv("MOE_ANALYSIS_SUITE")
    save("trex_fig2", None, None, {"a": 2}, claims=[CLAIM], folder=folder / "quick")
    save("smore_fig5", None, None, {"a": 2}, folder=folder / "quick")
    return folder


def test_what_was_computed_here_stands_beside_what_is_shipped(both: Path) -> None:
    page = page_of(both)
    cards = [found for tag, found, _ in page.elements if tag == "article" and found["data-item"] == "trex_fig2"]
    assert [(found["id"], found["data-origin"]) for found in cards] == [
        ("trex_fig2", "shipped"),
        ("trex_fig2--quick", "here"),
    ]
    said = [text for text in page.texts("p") if text.endswith((", preset tiny", ", preset quick"))]
    assert "Shipped, preset tiny" in said and "Computed on this machine, preset quick" in said
    assert {"trex_fig2.json", "quick/trex_fig2.json", "quick/smore_fig5.json"} <= set(page.values("href", "a"))
    ids = page.values("id")
    assert len(ids) == len(set(ids))


def test_an_item_counts_once_by_the_figure_that_is_shipped(both: Path) -> None:
    totals = [text for text in page_of(both).texts("li") if re.match(r"\d+ [✓✗?] ", text)]
    assert totals == ["1 ✓ reproduced", "1 ✗ not reproduced"]
    assert f"3 of {len(ITEMS)} items are made" in page_of(both).texts("p", **{"class": "lead"})[0]


def test_the_reader_can_ask_for_one_of_the_two_where_there_are_both(both: Path, folder: Path) -> None:
    assert page_of(both).texts("fieldset")[-1] == "Where from all shipped computed on this machine"
    for path in (both / "quick").iterdir():
        path.unlink()
    assert "Where from" not in " ".join(page_of(both).texts("fieldset"))


def test_the_command_of_a_shipped_figure_does_not_overwrite_it(both: Path) -> None:
    (command,) = page_of(both).texts("code", id="command-trex_fig2")
    assert command == "make figures ARGS=\"--only trex_fig2 --preset tiny --suite 'my suite'\""


# ---------------------------------------------------------------- what is refused

RECORD = {"item": "it", "numbers": {}, "claims": [], "runs": [], "seeds": [], "versions": {}, "preset": {}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON: Expecting"),
        ("9" * 5000, "is not JSON: Exceeds the limit"),
        ("[" * 100_000, "is not JSON: "),
        ("[1]", "it holds a list, not an object"),
        ('{"name": "package"}', "it has no item, numbers, claims"),
        ({"item": "other"}, "its item is 'other'"),
        ({"runs": "run-7"}, "runs is a str, not a list"),
        ({"runs": [7]}, "runs holds something else than texts"),
        ({"seeds": [True]}, "seeds holds something else than whole numbers"),
        ({"versions": {"torch": 2}}, "versions holds something else than texts"),
        ({"claims": ["fine"]}, r"claims\[0\] is a str"),
        ({"claims": [{"source": "here"}]}, r"claims\[0\] has no claim, paper"),
        ({"claims": [{**CLAIM, "verdict": "maybe"}]}, r"claims\[0\] has the verdict 'maybe'; use one of reproduced"),
        ({"claims": [{**CLAIM, "verdict": ["no"]}]}, r"claims\[0\] has the verdict \['no'\]"),
        ({"claims": [{**CLAIM, "kind": "maybe"}]}, r"claims\[0\] is of the kind 'maybe'; use one of exact"),
        ({"claims": [{**CLAIM, "low": 0, "high": "1"}]}, r"claims\[0\]\.high is '1', not a finite number"),
        ({"claims": [{**CLAIM, "low": 0, "effect": True}]}, r"claims\[0\]\.effect is True, not a finite number"),
        ({"claims": [{**CLAIM, "note": 1}]}, r"claims\[0\]\.note is 1, not a text"),
        ({"claims": [{**CLAIM, "parts": {}}]}, r"claims\[0\]\.parts is a dict, not a list"),
        ({"claims": [{**CLAIM, "parts": [{**CLAIM, "verdict": "maybe"}]}]}, r"claims\[0\]\.parts\[0\] has the verdict"),
        ({"caption": {"title": 1}}, "caption holds something else than texts"),
        ({"runs": ["\ud800"]}, "half a character"),
    ],
)
def test_a_foreign_file_is_refused_by_name_and_the_old_page_stays(folder: Path, content, message: str) -> None:
    before = build(folder).read_bytes()
    stored = content if isinstance(content, str) else json.dumps({**RECORD, **content})
    (folder / "it.json").write_text(stored, encoding="utf-8")
    with pytest.raises(GalleryError, match=rf"regenerate or move away .*\n  it\.json.*{message}"):
        build(folder)
    assert (folder / "index.html").read_bytes() == before


@pytest.mark.parametrize(
    ("place", "suite", "out"),
    [
        ("figures/quick", None, None),
        ("figures/quick/mine", "mine", None),
        ("figures/mine", None, "figures/mine"),
        ("figures", "mine", "figures"),
        ("/elsewhere/a b", "mine", "/elsewhere/a b"),
        ("/elsewhere/$HOME `x` \\", "mine", "/elsewhere/$HOME `x` \\"),
    ],
)
def test_a_command_names_the_folder_where_figures_would_go_elsewhere(place, suite, out) -> None:
    preset = {"preset": "quick", **({"suite": suite} if suite else {})}
    command = command_for("trex_fig2", preset, Shelf("here", home() / place, "", {}))
    name, *words = words_of(command)
    assert name == "figures" and words[:2] == ["--only", "trex_fig2"]
    assert words[words.index("--out") + 1] == out if out else "--out" not in words


def test_the_words_of_a_command_arrive_through_make_and_the_shell_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "Makefile").write_text("figures:\n\t@printf '%s\\n' $(ARGS)\n")
    words = ["--suite", "my suite", "--out", '/a b/$HOME `x` \\ it\'s "#1"!']
    alone = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}  # not under `make test`
    told = subprocess.run(
        program("figures", words), shell=True, cwd=tmp_path, env=alone, capture_output=True, text=True, check=True
    )
    assert told.stdout.splitlines() == words


def test_outside_a_clone_a_command_is_the_programs(monkeypatch) -> None:
    monkeypatch.setattr("moe_analysis.gallery.entries.IN_CLONE", False)
    assert program("figures", ["--only", "a b"]) == "python -m moe_analysis figures --only 'a b'"


def test_all_faulty_files_are_named_at_once(folder: Path) -> None:
    (folder / "a.json").write_bytes(b"\xff\xfe")
    (folder / "index.json").write_text(json.dumps({**RECORD, "item": "index"}))
    (folder / "trex_fig2.png").write_bytes(b"GIF89a")
    with pytest.raises(GalleryError) as error:
        build(folder)
    for part in ("a.json is not JSON", "index.json is no record", "the gallery's", "trex_fig2.png is not a PNG"):
        assert part in str(error.value)
    assert not (folder / "index.html").exists()


def test_a_folder_that_is_not_there_or_lacks_plotlys_script_is_refused(folder: Path) -> None:
    with pytest.raises(GalleryError, match="nowhere' is no folder; `python -m moe_analysis figures` makes one"):
        build(folder / "nowhere")
    (folder / "plotly.min.js").unlink()
    with pytest.raises(GalleryError, match="plotly.min.js is missing"):
        build(folder)


def test_a_write_that_fails_is_told_and_leaves_the_old_page(folder: Path, monkeypatch) -> None:
    before = build(folder).read_bytes()
    names = sorted(path.name for path in folder.iterdir())

    def failing(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", failing)
    with pytest.raises(GalleryError, match="cannot be written .No space left on device.; make it writable"):
        build(folder)
    assert sorted(path.name for path in folder.iterdir()) == names
    assert (folder / "index.html").read_bytes() == before


@settings(max_examples=25, deadline=None)
@given(st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc", "Zl", "Zp", "Zs")), min_size=1))
def test_no_text_of_a_record_becomes_markup(words: str) -> None:
    claim = shown({**dict.fromkeys(CLAIM_FIELDS, words), "verdict": "reproduced"})
    caption = dict.fromkeys(CAPTION, words)
    record = Record(
        "trex_fig2", (claim,), (words,), (0,), {"torch": words}, {"preset": words}, (4, 3), True, True, caption
    )
    page = Page(render(collect([Shelf("shipped", Path(), "", {"trex_fig2": record})])))
    assert page.texts("p", **{"class": "statement"}) == [words] and page.texts("figcaption") == [
        f"How to read it{words} From {words}."
    ]
    assert words in page.texts("dd") or words in ("–", "")
    assert words_of(page.texts("code", id="command-trex_fig2")[0])[-1] == words


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_damaged_record_is_read_or_refused_with_an_error_of_ours(tmp_path_factory, data: st.DataObject) -> None:
    content = bytearray(
        json.dumps({**RECORD, "claims": [CLAIM], "runs": ["r"], "seeds": [1], "versions": {"a": "1"}}), "utf-8"
    )
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(content)))
        content[start : start + data.draw(st.integers(0, 12))] = data.draw(st.binary(max_size=4))
    path = tmp_path_factory.getbasetemp() / "it.json"
    path.write_bytes(content)
    try:
        render(collect([Shelf("here", Path(), "", {"it": read_record(path)})]))
    except GalleryError as error:
        assert str(error).startswith("it.json ")


# ---------------------------------------------------------------- colors

TEXTS = [(text, ground) for text in ("ink", "quiet", "link") for ground in ("page", "card")] + [
    ("ink", "code-ground"),
    ("ink", "hit"),
    ("yes", "yes-ground"),
    ("no", "no-ground"),
    ("open", "open-ground"),
    ("absent", "absent-ground"),
]
EDGES = [(edge, ground) for edge in ("focus", "edge") for ground in ("page", "card")]
DECORATION = {"line"}


def colors() -> dict[str, tuple[str, str]]:
    style = "".join(path.read_text("utf-8") for path in (CARDS / "colors.css", HERE / "style.css"))
    found = re.findall(r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\);", style)
    assert len(found) == len(re.findall(r"--[\w-]+: light-dark", style))
    return {name: (light, dark) for name, light, dark in found}


def luminance(color: str) -> float:
    """WCAG 2.2's relative luminance."""
    parts = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear))


def contrast(first: str, second: str) -> float:
    high, low = sorted((luminance(first), luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_that_of_wcag() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_texts_stand_out_from_their_ground_and_controls_from_theirs(theme: int) -> None:
    known = {name: both[theme] for name, both in colors().items()}
    assert {name for pair in TEXTS + EDGES for name in pair} | DECORATION == known.keys()
    assert {pair: contrast(*map(known.get, pair)) for pair in TEXTS if contrast(*map(known.get, pair)) < 4.5} == {}
    assert {pair: contrast(*map(known.get, pair)) for pair in EDGES if contrast(*map(known.get, pair)) < 3} == {}


# ---------------------------------------------------------------- a sentence, and the pages beside


def test_an_item_says_in_one_sentence_what_came_out(folder: Path) -> None:
    save("smore_fig4", None, None, {"a": 1}, claims=[OWN], folder=folder)
    page = page_of(folder)
    assert 'In short. "A is ahead of B" is supported.' in page.texts("p", **{"class": "short"})
    older = {**CLAIM, "claim": "big", "verdict": "not testable at this scale"}
    save("smore_fig4", None, None, {"a": 1}, claims=[older], folder=folder)
    told = page_of(folder).texts("p", **{"class": "short"})
    assert 'In short. "big" cannot be tested at this scale.' in told


def test_claims_are_folded_and_their_intervals_drawn_inside(folder: Path) -> None:
    save("smore_fig4", None, None, {"a": 1}, claims=[OWN], folder=folder)
    (fold,) = [text for text in page_of(folder).texts("details", **{"class": "judged"}) if "ours" in text]
    assert fold.startswith("1 claim, with its interval") and "matters from 0.01" in fold


def test_the_studies_to_filter_by_are_those_of_the_items(folder: Path) -> None:
    page = page_of(folder)
    offered = set(page.values("value", "option")) - {""}
    assert offered == {item.study.partition(".")[0] for item in ITEMS}
    assert set(page.values("data-study", "article")) - {""} == offered


def test_the_report_has_every_item_of_the_papers_with_a_verdict_a_command_or_a_reason() -> None:
    shelf = shipped()
    groups = collect([shelf])
    page = Page(report_page(groups, [shelf]))
    assert page.open == [] and page.values("id", "tr") == [item.id for item in INDEX]
    entries = {entry.id: entry for group in groups.values() for entry in group if entry.leads}
    lines = [line_of(item, entries, shelf.folder) for item in INDEX]
    for line in lines:
        assert line.verdicts or line.measured or line.commands or line.reason, line.item.id
        assert {words_of(command)[0] for command in line.commands} <= {"figures", "verify"}
    told = dict(zip(table(FIGURES)["id"], table(FIGURES)["verdict"]))
    assert {line.item.id: ", ".join(f"{number} {word}" for number, word in line.verdicts) for line in lines} == told


def test_the_report_tells_seeds_steps_and_preset_and_why_not(folder: Path) -> None:
    save("trex_fig2", None, None, {"a": 1}, claims=[CLAIM], folder=folder, caption=CAPTION)
    build(folder)
    page = Page((folder / REPORT).read_text("utf-8"))
    rows = {
        found["id"]: " ".join("".join(text).split())
        for tag, found, text in page.elements
        if tag == "tr" and "id" in found
    }
    assert "✗ 1 not reproduced 3 runs; preset tiny make figures" in rows["trex_fig2"]
    assert "not run here" in rows["smore_table3"] and "which no CPU here can" in rows["smore_table3"]
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
