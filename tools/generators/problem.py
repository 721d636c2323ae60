"""What a skill is: a way to draw problems, each with its exact answer under the plain and under the twisted rule."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeVar

T = TypeVar("T")

YES_NO = ("yes", "no")

# Said in some of the plain problems, so that a sentence about the rule is not by itself the mark of a variant.
PLAIN_REMARKS = (
    "It is a plain day.",
    "The usual rule holds.",
    "There is no trick here.",
    "Answer in the normal way.",
    "Nothing has changed today.",
    "All words keep their meaning.",
)


@dataclass(frozen=True)
class Problem:
    """A question with its answer, and the answer that the skill's variant asks for. `choices` is None if free."""

    text: str
    answer: str
    twisted: str | None = None
    choices: tuple[str, ...] | None = None

    def said_with(self, remark: str, first: bool) -> str:
        """The question with a remark about the rule before or after it."""
        return f"{remark} {self.text}" if first else f"{self.text} {remark}"


@dataclass(frozen=True)
class Twist:
    """A variant of a skill: its rule in a sentence, and the wordings that state the condition in a prompt."""

    name: str
    rule: str
    conditions: tuple[str, ...]


@dataclass(frozen=True)
class Skill:
    """One original task and, with a twist, its variant. `draw` makes a fresh problem from a random generator."""

    name: str
    group: str
    rule: str
    draw: Callable[[Random], Problem]
    twist: Twist | None = None


def phrase(rng: Random, forms: Sequence[str], **slots: object) -> str:
    """One of the wordings, filled."""
    return rng.choice(forms).format(**slots)


def shuffled(rng: Random, items: Sequence[T]) -> tuple[T, ...]:
    return tuple(rng.sample(list(items), len(items)))


def listed(items: Sequence[str]) -> str:
    return ", ".join(items)
