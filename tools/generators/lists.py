"""Positions and orders in short lists."""

from __future__ import annotations

from random import Random

from tools.generators.problem import Problem, Skill, Twist, listed, phrase
from tools.generators.topics import Scene


def first_or_last(rng: Random) -> Problem:
    scene = Scene(rng)
    items = scene.things(rng.randint(3, 5))
    end, index = rng.choice((("first", 0), ("last", -1)))
    text = phrase(
        rng,
        (
            "Which word is {end} in the list: {items}?",
            "Here are {items}. Say the {end} one.",
            "{name} writes {items} at the {place}. What is the {end} word?",
            "What is {end} among {items}?",
            "Give the {end} item: {items}.",
            "The {place} sends {items}, in that order. Which is {end}?",
            "{name} names {items}. Which does {name} name {end}?",
            "Of the row {items}, pick the {end}.",
            "We want the {end} of these: {items}.",
        ),
        end=end,
        items=listed(items),
        name=scene.names(1)[0],
        place=scene.place,
    )
    return Problem(text, items[index], twisted=items[-1 - index])


def next_in_list(rng: Random) -> Problem:
    scene = Scene(rng)
    items = scene.things(rng.randint(4, 6))
    at = rng.randint(1, len(items) - 2)
    text = phrase(
        rng,
        (
            "Which word comes right after {mark}: {items}?",
            "Here is the row {items}. What follows {mark}?",
            "{name} lines up {items}. What stands right after the {mark}?",
            "In the row {items}, find the neighbor after {mark}.",
            "After the {mark}, what comes next in the row {items}?",
            "The {place} shows {items}. Which one follows the {mark}?",
            "{name} passes {items}. What does {name} pass right after the {mark}?",
            "Tell me what follows {mark} here: {items}.",
        ),
        mark=items[at],
        items=" ".join(items),
        name=scene.names(1)[0],
        place=scene.place,
    )
    return Problem(text, items[at + 1], twisted=items[at - 1])


def reverse_list(rng: Random) -> Problem:
    scene = Scene(rng)
    items = scene.things(3)
    text = phrase(
        rng,
        (
            "Reverse the list: {items}.",
            "Here are {items}. Say this from the back to the front.",
            "{name} reads {items} backwards. What does {name} say?",
            "Write {items} in reverse.",
            "How does {items} read from the end?",
            "The {place} packs {items} and unpacks them in reverse. Give the new list.",
            "What is {items} from back to front?",
            "{name} stacks {items} at the {place} and takes them off again. In which order?",
        ),
        items=listed(items),
        name=scene.names(1)[0],
        place=scene.place,
    )
    return Problem(text, " ".join(reversed(items)))


SKILLS: tuple[Skill, ...] = (
    Skill(
        "first_or_last",
        "lists",
        "The first or the last word of a list.",
        first_or_last,
        Twist(
            "first_or_last_swapped",
            "The last word when the first is asked for, and the first for the last.",
            (
                "The list must be read backwards.",
                "Here you start at the other end.",
                "In the mirror world first is last.",
                "Count from the back.",
                "The row was turned around before you answer.",
                "On opposite day last means first and first means last.",
                "Someone swaps the two ends.",
                "Read from right to left.",
            ),
        ),
    ),
    Skill(
        "next_in_list",
        "lists",
        "The word right after a given word of a list.",
        next_in_list,
        Twist(
            "next_in_list_backwards",
            "The word right before the given word.",
            (
                "Here after means before.",
                "The row moves backwards.",
                "In the mirror world the next one stands on the left.",
                "Read the list from right to left.",
                "Step back and not forward.",
                "On opposite day we go one back.",
                "The order of the row is turned around.",
                "Walk from the end to the start.",
            ),
        ),
    ),
    Skill("reverse_list", "lists", "Three words in reverse order.", reverse_list),
)
