"""Damaged records of figures: the gallery is made, or refuses them by name with a remedy and writes nothing."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from moe_analysis.gallery.records import GalleryError, read_records

from . import mutate
from .content import ODD, damaged_value, written
from .folders import change_content, swap_content
from .mutate import GOOD, alarm, cases, fault_of, results_of, sound

CASES = 40  # `make fuzz ARGS="--subjects figures"` has thousands


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(sound("figures"), tmp_path / "figures")
    return tmp_path / "figures"


def refusal(folder: Path) -> str:
    with pytest.raises(GalleryError) as caught, alarm(2):
        read_records(folder)
    return str(caught.value)


def test_a_damaged_record_makes_a_gallery_or_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mutate, "DAMAGES", [change_content] * 5 + [swap_content])
    results = list(results_of(cases(CASES, ["figures"]), seed=1))
    assert [result for result in results if result.outcome not in GOOD] == []
    assert {"loaded", "refused"} <= {result.outcome for result in results}


@pytest.mark.parametrize("field", ["item", "claims", "runs", "seeds", "versions", "preset"])
def test_an_odd_value_in_any_field_is_read_or_named(field: str, folder: Path) -> None:
    path = folder / "smore_tree.json"
    values = json.loads(path.read_text())
    for odd in ODD:
        path.write_bytes(written({**values, field: odd}))
        try:
            record = read_records(folder)["smore_tree"]
        except GalleryError as error:
            assert "smore_tree.json" in str(error) and ";" in str(error)
        else:
            assert len(getattr(record, field)) == len(odd)


def test_the_damage_of_a_json_value_is_damage(folder: Path) -> None:
    from random import Random

    values = json.loads((folder / "smore_tree.json").read_text())
    changed = [damaged_value(Random(seed), json.loads(json.dumps(values))) for seed in range(50)]
    assert sum(one != values for one in changed) > 45


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")], ids=["pipe", "device"])
def test_what_is_no_file_is_refused_and_not_waited_for(make, folder: Path) -> None:
    import resource

    (folder / "smore_tree.json").unlink()
    make(folder / "smore_tree.json")
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (8 * 2**30, limits[1]))
    try:
        assert "smore_tree.json" in refusal(folder)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


def test_a_name_that_is_no_text_is_told_in_printable_words(folder: Path) -> None:
    shutil.copy(folder / "smore_tree.json", folder / os.fsdecode(b"\xff.json"))
    assert fault_of(refusal(folder), {"\\udcff.json"}) == "refused"


def test_a_long_value_is_shortened(folder: Path) -> None:
    path = folder / "smore_tree.json"
    values = json.loads(path.read_text())
    values["claims"][0]["verdict"] = "x" * 20_000
    path.write_text(json.dumps(values))
    assert fault_of(refusal(folder), {"smore_tree.json"}) == "refused"
