"""The index: every item of the three papers, the study that answers it, and the function that makes its figure.

ma.papers.trex_fig2(runs)     # the result of one item: an object that plots, judges and saves itself
ma.papers.table()             # every item: source, what it says, study, notebook, why not, verdict as last measured
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..cards.in_words import counted_verdicts
from ..cards.whose import SHORT, whose
from .beyond import ITEMS as BEYOND
from .gr import ITEMS as GR
from .item import Item
from .smore import ITEMS as SMORE
from .trex import ITEMS as TREX

if TYPE_CHECKING:
    import pandas as pd


__all__ = ["BEYOND", "GR", "ITEMS", "SMORE", "TREX", "Item", "table", "verdict_of", "verdicts_of"]

ITEMS: tuple[Item, ...] = (*TREX, *GR, *SMORE, *BEYOND)


def table(folder: str | Path | None = None) -> pd.DataFrame:
    """Every item of the three papers and of ours, in their order.

    Args:
        folder: of the figures whose verdicts are shown; None takes the shipped ones, or those that were computed here
            if there are no shipped ones.

    Returns:
        One row per item: the fields of `Item`, and verdict. The verdict counts what was last measured, "2 reproduced,
        1 undecided; ours: 1 supported"; empty if nothing was measured. A statement has the verdicts of its checks,
        which `moe-analysis verify --save FOLDER` stores.

    Example:
        >>> index = table()
        >>> index.set_index("id").loc["trex_fig2", "study"]
        'router_paths.measure'
    """
    import pandas as pd

    from ..places import computed_figures, figures_home

    place = Path(folder or next(iter(places_with_records(figures_home(), computed_figures())), figures_home()))
    return pd.DataFrame([{**asdict(item), "verdict": verdict_of(item, place)} for item in ITEMS])


def places_with_records(*folders: Path) -> list[Path]:
    return [folder for folder in folders if next(folder.glob("*.json"), None)]


def verdict_of(item: Item, folder: Path) -> str:
    """The counted verdicts of an item in words: for the paper's claims, then for a reproduction's, then for ours."""
    return counted_verdicts(verdicts_of(item, folder))


def verdicts_of(item: Item, folder: Path) -> dict[str, Counter[str]]:
    """The counted verdicts in an item's record and in the stored checks, by a value of `cards.whose.SHORT`.

    A check that the record has already, as a claim or as a part of one, is counted once; of the record of a figure that
    an item is a part of, its own claims are counted.
    """
    shown = item.id if item.study else item.part_of if not item.checks else ""
    record = stored(folder / f"{shown}.json", "claims")
    record = [claim for claim in record if item.study or claim["source"] == item.source]
    known = {one.get("name") for claim in record for one in (claim, *claim.get("parts", ()))}
    claims = [(claim.get("kind"), claim) for claim in record]
    if item.checks:
        from fnmatch import fnmatchcase

        import pandas as pd

        checked = folder / "verify.csv"
        rows = pd.read_csv(checked).to_dict("records") if checked.is_file() else []
        claims += [
            ("exact", {"claim": row["statement"], **row})
            for row in rows
            if fnmatchcase(row["name"], item.checks) and row["name"] not in known
        ]
    told: dict[str, Counter[str]] = {before: Counter() for before in SHORT.values()}
    for kind, claim in claims:
        told[SHORT[whose(kind, claim["source"], claim["claim"])]][claim["verdict"]] += 1
    return {before: counts for before, counts in told.items() if counts}


def stored(path: Path, field: str) -> list[Any]:
    return json.loads(path.read_text(encoding="utf-8"))[field] if path.is_file() else []


def without_study(item: Item) -> str:
    """Where the answer is, of an item that no study of its own answers, or why there is none."""
    if item.checks:
        return f"{item.source} is a statement that is checked: call ma.theory.verify({item.checks!r})"
    if item.part_of:
        whole = next(one for one in ITEMS if one.id == item.part_of)
        call = f"ma.papers.{whole.id}" + ("()" if not arguments_of(whole) else f"({', '.join(arguments_of(whole))})")
        return f"{item.source} is part of {whole.id}: call {call}"
    return f"{item.source} has no function here: {item.reason}"


def arguments_of(item: Item) -> list[str]:
    """The arguments that its study needs."""
    from inspect import signature

    return [one.name for one in signature(item.measure).parameters.values() if one.default is one.empty]


def __getattr__(name: str) -> Any:
    for item in ITEMS:
        if item.id == name and item.study:
            return item.measure
    if found := next((item for item in ITEMS if item.id == name), None):
        raise AttributeError(without_study(found))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; `table()` lists the items")


def __dir__() -> list[str]:
    return ["ITEMS", "Item", "table", *(item.id for item in ITEMS if item.study)]
