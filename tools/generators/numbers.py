"""Arithmetic and comparison of numbers."""

from __future__ import annotations

from random import Random

from tools.generators.problem import Problem, Skill, Twist, listed, phrase, shuffled
from tools.generators.topics import TOPICS, Scene, plural


def add_small(rng: Random) -> Problem:
    scene = Scene(rng)
    first, second = rng.randint(2, 9), rng.randint(2, 9)
    text = phrase(
        rng,
        (
            "{name} has {a} {things} and gets {b} more. How many {things} is that?",
            "{a} {things} and {b} {things} make how many?",
            "At the {place}, {name} finds {a} {things} and then {b}. What is the total?",
            "How many {things} are there if {a} join {b}?",
            "There are {a} {things} at the {place}. {name} brings {b}. Count them all.",
            "Add {b} {things} to {a} {things}.",
            "{name} bought {a} {things} on Monday and {b} on Tuesday. Give the sum.",
            "What do we get when {a} {things} meet {b} {things}?",
            "Give the total: {a} {things} from {name} and {b} from the {place}.",
        ),
        name=scene.names(1)[0],
        place=scene.place,
        things=plural(scene.things(1)[0]),
        a=first,
        b=second,
    )
    return Problem(text, str(first + second), twisted=str(first + second + 1))


def subtract_two_digit(rng: Random) -> Problem:
    scene = Scene(rng)
    whole = rng.randint(30, 99)
    part = rng.randint(11, whole - 10)
    text = phrase(
        rng,
        (
            "{name} had {a} {things} and lost {b}. How many are left?",
            "Take {b} {things} from {a} {things}. What is left?",
            "Of {a} {things} at the {place}, {b} are gone. How many remain?",
            "How many {things} remain when {b} of {a} are sold?",
            "{name} sold {b} of the {a} {things}. Give the rest.",
            "The {place} had {a} {things}. {name} took {b}. What remains?",
            "What is {a} {things} less {b}?",
            "If {b} of {a} {things} break, how many are left?",
        ),
        name=scene.names(1)[0],
        place=scene.place,
        things=plural(scene.things(1)[0]),
        a=whole,
        b=part,
    )
    return Problem(text, str(whole - part))


def count_kind(rng: Random) -> Problem:
    scene = Scene(rng, rng.choice(TOPICS))
    members = scene.things(rng.randint(1, 5))
    others = rng.sample(scene.other_topic().things, rng.randint(1, 3))
    text = phrase(
        rng,
        (
            "How many of these belong to {kind}: {items}?",
            "Here are {items}. How many of them belong to {kind}?",
            "Count the words about {kind}: {items}.",
            "{name} lists {items}. How many are about {kind}?",
            "Look for {kind} and give the count: {items}.",
            "From {items}, how many go with {kind}?",
            "{name} reads {items} at the {place}. Count what belongs to {kind}.",
            "What is the number of words about {kind} in {items}?",
        ),
        kind=scene.topic.name,
        items=listed(shuffled(rng, members + others)),
        name=scene.names(1)[0],
        place=scene.place,
    )
    return Problem(text, str(len(members)))


def apart(rng: Random, count: int) -> list[int]:
    """Two-digit numbers in random order, no two with the same tens."""
    return [10 * tens + rng.randint(0, 9) for tens in rng.sample(range(1, 10), count)]


_OWNING = (
    "{name} has {n} {things}",
    "{name} owns {n} {things}",
    "{name} counted {n} {things}",
    "{name} sold {n} {things}",
)


def who_has_most(rng: Random) -> Problem:
    scene = Scene(rng)
    names = scene.names(rng.choice((2, 2, 3)))
    amounts = apart(rng, len(names))
    things, form = plural(scene.things(1)[0]), rng.choice(_OWNING)
    facts = listed([form.format(name=name, n=n, things=things) for name, n in zip(names, amounts, strict=True)])
    text = phrase(
        rng,
        (
            "{facts}. Who has the most?",
            "Who comes out ahead if {facts}?",
            "At the {place}, {facts}. Name the one with the most.",
            "Name the person with the most {things}. {facts}.",
            "{facts}. Which of them leads the count?",
            "At the {place}, {facts}. Whose number is the largest?",
            "We compare {things}: {facts}. Who is ahead?",
            "Tell me who has more than the rest. {facts}.",
        ),
        facts=facts,
        place=scene.place,
        things=things,
    )
    ranked = [name for _, name in sorted(zip(amounts, names, strict=True))]
    return Problem(text, ranked[-1], twisted=ranked[0], choices=shuffled(rng, names))


def largest_number(rng: Random) -> Problem:
    scene = Scene(rng)
    numbers = apart(rng, 3)
    text = phrase(
        rng,
        (
            "The {things} cost {numbers}. What is the highest price?",
            "Which is the largest number of {things}: {numbers}?",
            "{name} counted {numbers} {things} at the {place}. Give the largest count.",
            "Of the {things} numbered {numbers}, take the highest number.",
            "{numbers} are the counts of {things}. Which one is the largest?",
            "What is the top score at the {place}: {numbers}?",
            "{name} picks the largest of {numbers} for the {things}. Which is it?",
            "Find the highest: {numbers} {things}.",
        ),
        name=scene.names(1)[0],
        place=scene.place,
        things=plural(scene.things(1)[0]),
        numbers=listed([str(number) for number in numbers]),
    )
    return Problem(text, str(max(numbers)), twisted=str(min(numbers)))


SKILLS: tuple[Skill, ...] = (
    Skill(
        "add_small",
        "arithmetic",
        "The sum of two numbers from 2 to 9.",
        add_small,
        Twist(
            "add_small_one_over",
            "The sum of two numbers from 2 to 9, plus one.",
            (
                "Here every sum comes out one too high.",
                "In this shop one extra is added at the end.",
                "The clerk always counts one too many.",
                "A gift of one more joins the total.",
                "In the generous land each total grows by one.",
                "Write the number that follows the true sum.",
                "The scale shows one over the real total.",
                "Count one more than there really are.",
            ),
        ),
    ),
    Skill("subtract_two_digit", "arithmetic", "The difference of two two-digit numbers.", subtract_two_digit),
    Skill("count_kind", "arithmetic", "How many words of a list belong to a topic.", count_kind),
    Skill(
        "who_has_most",
        "comparison",
        "The person with the largest of two or three numbers.",
        who_has_most,
        Twist(
            "who_has_most_mirror",
            "The person with the smallest number, though the question asks for the largest.",
            (
                "In the mirror world the smallest number wins.",
                "Here most means fewest.",
                "The order is upside down: less is more.",
                "In this game the lowest number leads.",
                "Read the question backwards: we want the fewest.",
                "On opposite day the one with the fewest is ahead.",
                "All numbers are turned around, so small beats large.",
                "The smallest count takes the place of the largest.",
            ),
        ),
    ),
    Skill(
        "largest_number",
        "comparison",
        "The largest of three two-digit numbers.",
        largest_number,
        Twist(
            "largest_number_mirror",
            "The smallest of three two-digit numbers, though the largest is asked for.",
            (
                "In the mirror world high means low.",
                "Here the largest is the smallest.",
                "The order is upside down, so go for the lowest.",
                "Turn the scale around before you answer.",
                "On opposite day we want the lowest one.",
                "Read top as bottom and high as low.",
                "In this game small beats large.",
                "The smallest takes the place of the largest.",
            ),
        ),
    ),
)
