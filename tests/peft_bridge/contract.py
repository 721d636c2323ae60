"""The contract of the bridge: every system in every situation is right, or refused with an error that names the remedy.

python -m tests.peft_bridge.contract   # writes docs/pages/contract.md
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.peft_bridge.systems import OPTIONS, Case

PAGE = Path(__file__).parents[2] / "docs" / "pages" / "contract.md"
LABELS = {
    "moelora": "LoRA-MoE",
    "sira": "SiRA",
    "hydralora": "HydraLoRA",
    "trex": "T-REX",
    "momor": "MoMOR",
    "smore": "S'MoRE",
}
BALANCED = tuple(name for name in OPTIONS if name != "trex")
HEAD = """# What works, and what is refused

Every system was tried in each of these situations, which users of PEFT, transformers, accelerate and torch meet.
*right*: the numbers are those of a computation done by hand. *refused*: an error says what to do instead. No system
silently computes something else. The tests in `tests/peft_bridge` check each cell, and
`python -m tests.peft_bridge.contract` writes this page.

"""


@dataclass(frozen=True)
class Situation:
    """One situation.

    Attributes:
        title: What the table calls it.
        check: Raises AssertionError where the numbers are not right.
        refused: The error's text, by the systems that refuse it.
    """

    title: str
    check: Callable[[Case], None]
    refused: dict[str, str]


SITUATIONS: list[Situation] = []


def situation(title: str, refused: dict[str, str] | None = None) -> Callable[[Callable[[Case], None]], None]:
    """Put a check into the contract; `refused` names the systems that refuse the situation and the error's text."""

    def add(check: Callable[[Case], None]) -> None:
        SITUATIONS.append(Situation(title, check, refused or {}))

    return add


def page() -> str:
    """The table as Markdown."""
    rows = ["| situation | " + " | ".join(LABELS.values()) + " |", "|---" * (len(LABELS) + 1) + "|"]
    notes: list[str] = []
    for one in SITUATIONS:
        cells = ["refused" if name in one.refused else "right" for name in LABELS]
        rows.append(f"| {one.title} | " + " | ".join(cells) + " |")
        if one.refused:
            notes.append(f"- {one.title}: “{next(iter(one.refused.values()))}”")
    return HEAD + "\n".join(rows) + "\n\nWhat the errors say:\n\n" + "\n".join(notes) + "\n"


if __name__ == "__main__":
    import tests.peft_bridge.test_contract  # noqa: F401  its imports fill the table
    from tests.peft_bridge import contract

    contract.PAGE.write_text(contract.page(), encoding="utf-8")
