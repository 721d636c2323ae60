"""The records in a folder of figures: read, checked one by one, and refused together if some are wrong."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..cards.claims import CLAIM_FIELDS, NUMBERS, shown
from ..cards.in_words import FROM_STORED
from ..cards.whose import WHOSE
from ..drawing.save import SCRIPT, VERDICTS
from ..evidence.claim import KINDS
from ..places import shipped
from ..studies.in_short import leaves
from ..tasks.rows import shorten

FIELDS = {"item": str, "numbers": object, "claims": list, "runs": list, "seeds": list, "versions": dict, "preset": dict}
CAPTION = ("title", "question", "how_to_read", "origin")
DEEP = 3  # how deeply the parts of a claim may be nested
PAGE, REPORT, CONTRACT = "index.html", "reproducibility.html", "contract.html"
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


class GalleryError(ValueError):
    """A folder of figures that cannot be made into a gallery: what is wrong, file by file, and the remedy."""

    def __init__(self, message: str) -> None:
        # a file name may contain bytes that cannot be printed, and they would hide this error behind another one
        super().__init__(message.encode("utf-8", "backslashreplace").decode())


@dataclass(frozen=True)
class Record:
    """What `drawing.save` stored about one figure, without its numbers, and which of its files exist.

    Args:
        item: its id.
        claims: as `cards.claims.shown` returns them.
        runs, seeds: of the runs from which it was drawn.
        versions, preset: name -> text.
        picture: (width, height) of the PNG in pixels, None without one.
        twin, pdf: whether there are an interactive page and a PDF.
        caption: title, question, how_to_read, origin; empty texts in older records.
    """

    item: str
    claims: tuple[dict[str, Any], ...]
    runs: tuple[str, ...]
    seeds: tuple[int, ...]
    versions: dict[str, str]
    preset: dict[str, str]
    picture: tuple[int, int] | None
    twin: bool
    pdf: bool = False
    caption: dict[str, str] = field(default_factory=lambda: dict.fromkeys(CAPTION, ""))

    @property
    def stored(self) -> str:
        """The table of stored results from which it was drawn, which has its runs and seeds; empty without one."""
        _, found, name = self.caption["origin"].partition(f"{FROM_STORED} ")
        file = f"results/{name}.parquet"
        return f"data/{file}" if found and (shipped("data") / file).is_file() else name

    @property
    def has_intervals(self) -> bool:
        """Whether a claim, or a part of one, was measured with an interval."""
        return any(leaf["low"] is not None for claim in self.claims for leaf in leaves(claim))


def read_records(folder: Path) -> dict[str, Record]:
    """Every `<item>.json` of the folder by its item, sorted by name; files that begin with a dot are skipped.

    Raises `GalleryError`, which names every file that is not a record of a figure.
    """
    if not folder.is_dir():
        raise GalleryError(f"folder = {str(folder)!r} is not a folder; `python -m moe_analysis figures` makes one")
    records, faults = {}, []
    for path in sorted(folder.glob("*.json")):
        if path.name.startswith("."):
            continue
        try:
            records[path.stem] = read_record(path)
        except GalleryError as error:
            faults.append(str(error))
    if records and not (folder / SCRIPT).is_file() and any(record.twin for record in records.values()):
        faults.append(f"{SCRIPT} is missing; without it the interactive pages stay blank")
    if faults:
        raise GalleryError(
            f"folder = {str(folder)!r} cannot be shown as a gallery; regenerate or move these files:\n  "
            + "\n  ".join(faults)
        )
    return records


def read_record(path: Path) -> Record:
    """The record in one file. Raises `GalleryError`, which names the file and says what is wrong."""
    if path.exists() and not path.is_file():  # reading a pipe could block, and reading a device might never end
        raise GalleryError(f"{path.name} is a folder, a pipe or a device, not a file")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise GalleryError(f"{path.name} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, too long a number or too deep a nesting
        raise GalleryError(f"{path.name} is not JSON: {error}") from error
    if fault := next(faults_of(content, path.stem), None):
        raise GalleryError(f"{path.name} is not a record of a figure: {fault}")
    item = content["item"]
    return Record(
        item=item,
        claims=tuple(map(shown, content["claims"])),
        runs=tuple(content["runs"]),
        seeds=tuple(content["seeds"]),
        versions=content["versions"],
        preset=content["preset"],
        picture=picture_size(path.with_suffix(".png")),
        twin=path.with_suffix(".html").is_file(),
        pdf=path.with_suffix(".pdf").is_file(),
        caption={name: content.get("caption", {}).get(name, "") for name in CAPTION},
    )


def faults_of(content: Any, stem: str) -> Iterator[str]:
    """Why the content of a file is not the record of the item `stem`, the first fault first."""
    if not isinstance(content, dict):
        yield f"it contains a {type(content).__name__}, not an object"
        return
    if missing := [field for field in FIELDS if field not in content]:
        yield f"it has no {', '.join(missing)}"
        return
    yield from (
        f"{field} is a {type(content[field]).__name__}, not a {kind.__name__}"
        for field, kind in FIELDS.items()
        if not isinstance(content[field], kind)
    )
    if content["item"] != stem:
        yield f"its item is {shorten(content['item'])}, which is the name of another file"
    if f"{stem}.html" in (PAGE, REPORT, CONTRACT):
        yield f"its page would be {stem}.html, which is a page of the gallery; give the item another name"
    if set(stem) - set("abcdefghijklmnopqrstuvwxyz0123456789_-"):
        yield "an item's name may contain only lower-case letters, digits, _ and -"
    yield from claim_faults(content["claims"])
    if not all(isinstance(run, str) for run in content["runs"]):
        yield "runs must contain only texts"
    if not all(type(seed) is int for seed in content["seeds"]):
        yield "seeds must contain only whole numbers"
    yield from (
        f"{field} must contain only texts"
        for field in ("versions", "preset")
        if not all(isinstance(value, str) for value in content[field].values())
    )
    if "caption" in content and not is_texts(content["caption"]):
        yield "caption must contain only texts"
    read = [value for name, value in content.items() if name != "numbers"]
    try:
        json.dumps(read, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        yield "a text contains half a character (a lone surrogate)"


def is_texts(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(one, str) for one in value.values())


def claim_faults(claims: list[Any], where: str = "claims", depth: int = 0) -> Iterator[str]:
    """What is wrong with the claims of a record, or with the parts of one."""
    for index, claim in enumerate(claims):
        name = f"{where}[{index}]"
        if not isinstance(claim, dict):
            yield f"{name} is a {type(claim).__name__}, not an object"
        elif missing := [field for field in CLAIM_FIELDS if field not in claim]:
            yield f"{name} has no {', '.join(missing)}"
        elif claim["verdict"] not in VERDICTS:
            yield f"{name} has the verdict {shorten(claim['verdict'])}; use one of {', '.join(VERDICTS)}"
        else:
            yield from further_faults(claim, name, depth)


def further_faults(claim: dict[str, Any], name: str, depth: int) -> Iterator[str]:
    """What is wrong with the fields that older records do not have."""
    if claim.get("kind") not in (None, *KINDS):
        yield f"{name} is of the kind {shorten(claim['kind'])}; use one of {', '.join(KINDS)}"
    if claim.get("whose") not in (None, *WHOSE):
        yield f"{name} is a claim of {shorten(claim['whose'])}; use one of {', '.join(WHOSE)}"
    for key in ("name", "note", "compares", "endpoint"):
        if not isinstance(claim.get(key, ""), str):
            yield f"{name}.{key} is {shorten(claim[key])}, not a text"
    if claim.get("low") is not None or claim.get("high") is not None:  # the drawn values must be numbers
        for key in NUMBERS:
            if not is_number(claim.get(key)):
                yield f"{name}.{key} is {shorten(claim[key])}, not a finite number"
    parts = [] if claim.get("parts") is None else claim["parts"]
    if not isinstance(parts, list):
        yield f"{name}.parts is a {type(parts).__name__}, not a list"
    elif parts and depth == DEEP:
        yield f"{name} has more than {DEEP} levels of parts; remove the deepest"
    else:
        yield from claim_faults(parts, f"{name}.parts", depth + 1)


def is_number(value: Any) -> bool:
    if value is None:
        return True
    return type(value) in (int, float) and abs(value) < 1e300 and math.isfinite(value)


def picture_size(path: Path) -> tuple[int, int] | None:
    """(width, height) in pixels, None if there is no file; a page that knows them does not jump while it loads."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        head = file.read(24)
    if len(head) < 24 or not head.startswith(PNG_SIGNATURE):
        raise GalleryError(f"{path.name} is not a PNG picture")
    width, height = struct.unpack(">II", head[16:24])
    return width, height
