"""Files that are no records of figures are refused by name, and the old page stays."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_analysis.gallery import GalleryError, build
from moe_analysis.gallery.entries import collect
from moe_analysis.gallery.page import render
from moe_analysis.gallery.records import read_record
from moe_analysis.gallery.report import STATES
from moe_analysis.gallery.shelves import Shelf

from .pages import CLAIM, RECORD


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON: Expecting"),
        ("9" * 5000, "is not JSON: Exceeds the limit"),
        ("[" * 100_000, "is not JSON: "),
        ("[1]", "it contains a list, not an object"),
        ('{"name": "package"}', "it has no item, numbers, claims"),
        ({"item": "other"}, "its item is 'other'"),
        ({"runs": "run-7"}, "runs is a str, not a list"),
        ({"runs": [7]}, "runs must contain only texts"),
        ({"seeds": [True]}, "seeds must contain only whole numbers"),
        ({"versions": {"torch": 2}}, "versions must contain only texts"),
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
        ({"caption": {"title": 1}}, "caption must contain only texts"),
        ({"runs": ["\ud800"]}, "half a character"),
    ],
)
def test_a_foreign_file_is_refused_by_name_and_the_old_page_stays(folder: Path, content, message: str) -> None:
    before = build(folder).read_bytes()
    stored = content if isinstance(content, str) else json.dumps({**RECORD, **content})
    (folder / "it.json").write_text(stored, encoding="utf-8")
    with pytest.raises(GalleryError, match=rf"regenerate or move these files.*\n  it\.json.*{message}"):
        build(folder)
    assert (folder / "index.html").read_bytes() == before


def test_all_faulty_files_are_named_at_once(folder: Path) -> None:
    (folder / "a.json").write_bytes(b"\xff\xfe")
    (folder / "index.json").write_text(json.dumps({**RECORD, "item": "index"}))
    (folder / "trex_fig2.png").write_bytes(b"GIF89a")
    with pytest.raises(GalleryError) as error:
        build(folder)
    for part in (
        "a.json is not JSON",
        "index.json is not a record",
        "a page of the gallery",
        "trex_fig2.png is not a PNG",
    ):
        assert part in str(error.value)
    assert not (folder / "index.html").exists()


def test_a_folder_that_is_not_there_or_lacks_plotlys_script_is_refused(folder: Path) -> None:
    with pytest.raises(GalleryError, match="nowhere' is not a folder; `python -m moe_analysis figures` makes one"):
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
        render(collect([Shelf("here", Path(), "", {"it": read_record(path)})]), dict.fromkeys(STATES, 0))
    except GalleryError as error:
        assert str(error).startswith("it.json ")
