"""Which settings a list of runs shows: those in which the runs differ, and in one line those that are the same."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

ADAPTER = "adapter."
TYPE = "adapter.peft_type"
# what a person asks first, in this order; other fields follow in the order of the configuration
FIRST = (
    TYPE,
    "optimizer",
    "optimizer_options",
    "lr",
    "router_lr",
    "adapter.r",
    "adapter.num_experts",
    "adapter.num_down",
    "adapter.num_up",
    "adapter.top_k",
    "adapter.fanout",
    "adapter.gate",
    "suite",
    "seed",
    "backbone",
    "steps",
    "batch_size",
)
COMMON = (
    TYPE,
    "backbone",
    "suite",
    "optimizer",
    "lr",
    "adapter.r",
    "adapter.num_experts",
    "steps",
    "batch_size",
    "seed",
)
NOT_SHOWN = ("name",)  # a run's id begins with it
LONGEST = 24  # characters of a value in a table
ABSENT = "–"


def differing(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of the settings in which runs differ, the most telling ones first.

    A setting that some runs do not have counts only where those that have it differ: what one kind of adapter has and
    another does not follows from their types.

    >>> differing([{"lr": 0.1, "adapter.peft_type": "LORA"}, {"lr": 0.2, "adapter.peft_type": "TREX", "adapter.up": 4}])
    ['adapter.peft_type', 'lr']
    """
    names = dict.fromkeys((*FIRST, *(name for one in settings for name in one)))
    return [name for name in names if name not in NOT_SHOWN and len(values_of(name, settings)) > 1]


def shared(settings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The usual settings that are the same in all runs, with their values."""
    kept = (name for name in COMMON if all(name in one for one in settings))
    return {name: settings[0][name] for name in kept if len(values_of(name, settings)) == 1} if settings else {}


def values_of(name: str, settings: Sequence[Mapping[str, Any]]) -> set[str]:
    return {json.dumps(one[name], sort_keys=True) for one in settings if name in one}


def title(name: str) -> str:
    """The head of a column: "adapter", "lr", "r"; an adapter's field needs no more, because no other field has its name.

    >>> title("adapter.peft_type"), title("adapter.num_experts"), title("optimizer_options.damping")
    ('adapter', 'num_experts', 'damping')
    """
    return "adapter" if name == TYPE else name.removeprefix(ADAPTER).removeprefix("optimizer_options.")


def cell(value: Any) -> str:
    """A value, short enough for a table.

    >>> cell(["q_proj", "v_proj"]), cell(None), cell("/home/me/suites/arithmetic/"), cell(5e-4)
    ('q_proj v_proj', '–', 'arithmetic', '0.0005')
    """
    text = whole(value)
    if isinstance(value, float):
        text = f"{value:.6g}"
    elif isinstance(value, str):
        text = value.rstrip("/").rpartition("/")[2] or value
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def whole(value: Any) -> str:
    if value is None:
        return ABSENT
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def cells(values: Sequence[Any]) -> list[str]:
    """The cells of one setting in several runs; values that would look the same and differ are written in full.

    >>> cells(["/a/suite", "/b/suite", "/a/other"])
    ['/a/suite', '/b/suite', 'other']
    """
    meant: dict[str, set[str]] = {}
    for value in values:
        meant.setdefault(cell(value), set()).add(whole(value))
    return [whole(value) if len(meant[cell(value)]) > 1 else cell(value) for value in values]


def told(same: Mapping[str, Any], count: int) -> str:
    """One line: what all runs have in common.

    >>> told({"adapter.peft_type": "TREX", "lr": 0.005, "steps": 300}, 12)
    'the same in all 12: adapter TREX, lr 0.005, steps 300'
    """
    return f"the same in all {count}: " + ", ".join(f"{title(name)} {cell(value)}" for name, value in same.items())
