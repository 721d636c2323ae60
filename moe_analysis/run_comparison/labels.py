"""Labels of runs that are compared: what differs between them, as short as possible."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .settings import TYPE, cell, title

MOST = 3  # settings in a label
DIGITS = 4  # of the hash, if the settings do not distinguish them


def labels(runs: Sequence[Any], settings: Sequence[Mapping[str, Any]], fields: Sequence[str]) -> list[str]:
    """A label for each run, all different: the method's name, then the settings that distinguish runs.

    Args:
        runs: with an id and a configuration.
        settings: their configurations as one level of names.
        fields: names of settings in which the runs differ, the most telling ones first.
    """
    names = [str(one.get("name") or run.config.system) for run, one in zip(runs, settings)]
    found = list(names) if len(set(names)) > 1 else [""] * len(runs)
    left = [name for name in fields if name != TYPE]
    for _ in range(MOST):
        if len(set(found)) == len(runs) or not left:
            break
        best = max(left, key=lambda name: len(set(extended(found, settings, name))))
        found = extended(found, settings, best)
        left.remove(best)
    repeated = {label for label in found if found.count(label) > 1}
    ends = [run.id.rpartition("-")[2][:DIGITS] for run in runs]
    told = [f"{label} {end}".strip() if label in repeated else label for label, end in zip(found, ends)]
    return told if len(set(told)) == len(runs) else [run.id for run in runs]


def extended(found: Sequence[str], settings: Sequence[Mapping[str, Any]], name: str) -> list[str]:
    """The labels, each followed by one more setting."""
    values = [f"{title(name)} {cell(one[name])}" if name in one else "" for one in settings]
    return [", ".join(part for part in (label, value) if part) for label, value in zip(found, values)]
