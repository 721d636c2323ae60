"""Suites that this process has read and checked, kept until their files change.

Otherwise a process that trains one run after another would spend a tenth of its time reading the same rows.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd

from .layout import data_files
from .rows import Problem

Checked: TypeAlias = "tuple[pd.DataFrame, list[Problem]]"  # rows, and the flaws that they are kept with

MOST = 3  # a suite, its out-of-distribution companion, and another one
YOUNG = 2.0  # seconds: a file this new may change again without its time showing it
_suites: dict[tuple[Any, ...], Checked] = {}


def kept(stamp: tuple[Any, ...] | None, read: Callable[[], Checked]) -> Checked:
    """What `read` gave when the files had this stamp; it is called where that is not known. The frame is a copy,
    and so are its lists of choices."""
    if stamp is None:
        return read()
    if stamp not in _suites:
        found = read()
        while len(_suites) >= MOST:
            del _suites[next(iter(_suites))]
        _suites[stamp] = found
    frame, flaws = _suites[stamp]
    own = [None if choices is None else list(choices) for choices in frame["choices"]]
    return frame.assign(choices=pd.Series(own, frame.index, dtype=object)), flaws


def stamp_of(folder: Path) -> tuple[Any, ...] | None:
    """A stamp that differs if the files of a suite differ; None if they cannot be read, or one is too new to be sure."""
    try:
        files = [(file.name, file.path.stat()) for file in data_files(folder)]
    except OSError:
        return None
    if any(time.time() - found.st_mtime < YOUNG for _, found in files):
        return None
    return folder.resolve(), *((name, found.st_mtime_ns, found.st_size, found.st_ino) for name, found in files)
