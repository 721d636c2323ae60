"""Which files of a folder make a suite, and the fields that their names supply for rows without them.

The data files of the folder are read, and those of every folder in it that has one data set by splits: train.jsonl and
test.jsonl, or shards of them as on the Hugging Face hub.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

SUFFIXES = (".jsonl", ".parquet")
HELD_OUT = ("validation", "valid", "val", "dev")  # replace a missing test split
SPLIT_NAME = re.compile(rf"(train|test|{'|'.join(HELD_OUT)})(-\d+-of-\d+)?", re.IGNORECASE)
NAMED = 4  # files of a folder in a message


@dataclass(frozen=True)
class DataFile:
    """One file of a suite.

    Args:
        name: Its path below the suite's folder, for messages.
        split: "train", "test" or "validation" where the file is called so.
        dataset: Then the name of the folder that it is in.
    """

    path: Path
    name: str
    split: str | None = None
    dataset: str | None = None

    @property
    def home(self) -> str:
        """What a data set must lie in: a file, or a folder's files of splits together."""
        return self.name if self.split is None else self.name.rpartition("/")[0] or "."


def data_files(folder: Path) -> list[DataFile]:
    """The files of a suite in the order of their names, those of the folder itself first. Raises OSError."""
    return [file for place in [folder, *split_folders(folder)] for file in read_in(folder, place)]


def passed_over(folder: Path) -> list[str]:
    """What lies in a suite's folder like data and is not read, each with the reason. Raises OSError."""
    found = [f"folder {one.name} ({reason_of(one)})" for one in sub_folders(folder) if not holds_splits(one)]
    for place in [folder, *split_folders(folder)]:
        read = {file.path for file in read_in(folder, place)}
        for path in sorted(visible(place)):
            named = split_of(path.name.partition(".")[0]) or set(SUFFIXES) & {one.lower() for one in path.suffixes}
            if path not in read and named and not path.is_dir():
                why = "test is there" if path.suffix.lower() in SUFFIXES else "only *.jsonl and *.parquet are read"
                found.append(f"{path.relative_to(folder).as_posix()} ({why})")
    return found


def read_in(folder: Path, place: Path) -> list[DataFile]:
    """The files to read directly in `place`, which is the suite's folder or one in it."""
    name = folder.resolve().name if place in (folder, folder / "data") else place.name
    files = []
    for path in sorted((path for path in visible(place) if is_data(path)), key=lambda path: path.name):
        split = split_of(path.stem)
        files.append(DataFile(path, path.relative_to(folder).as_posix(), split, name if split else None))
    tested = any(file.split == "test" for file in files)
    return [file for file in files if not (tested and file.split == "validation")]


def split_of(stem: str) -> str | None:
    """ "train-00000-of-00002" -> "train", "dev" -> "validation", "facts" -> None."""
    if (match := SPLIT_NAME.fullmatch(stem)) is None:
        return None
    name = match[1].lower()
    return "validation" if name in HELD_OUT else name


def is_data(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def visible(folder: Path) -> Iterator[Path]:
    """What is in a folder; names that begin with a dot are an editor's or a file manager's, never data."""
    return (path for path in folder.iterdir() if not path.name.startswith("."))


def sub_folders(folder: Path) -> list[Path]:
    return sorted(path for path in visible(folder) if path.is_dir() and not is_data(path))


def split_folders(folder: Path) -> list[Path]:
    return [path for path in sub_folders(folder) if holds_splits(path)]


def holds_splits(folder: Path) -> bool:
    try:
        return any(is_data(path) and split_of(path.stem) for path in visible(folder))
    except OSError:  # one that may not be listed is passed over, and named
        return False


def reason_of(folder: Path) -> str:
    try:
        names = sorted(path.name for path in visible(folder) if is_data(path))
    except OSError as error:
        return f"cannot be listed: {error.strerror}"
    return f"holds {some(names)}: load it as a suite of its own" if names else "no train or test file in it"


def some(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
