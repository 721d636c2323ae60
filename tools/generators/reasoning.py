"""Logic and state tracking."""

from __future__ import annotations

from random import Random

from tools.generators.problem import YES_NO, Problem, Skill, Twist, phrase, shuffled
from tools.generators.topics import CONTAINERS, Scene, plural


def yes_no(rng: Random, text: str, holds: bool, twisted: bool | None = None) -> Problem:
    """A question answered by yes or no, its options in random order."""
    return Problem(text, YES_NO[not holds], None if twisted is None else YES_NO[not twisted], shuffled(rng, YES_NO))


def truth_story(rng: Random, names: list[str]) -> tuple[str, bool]:
    """Each person after the first speaks about the one before; is the last one honest?"""
    honest = rng.random() < 0.5
    sentences = [f"{names[0]} {'tells the truth' if honest else 'lies'}."]
    for before, speaker in zip(names, names[1:], strict=False):
        claims_honest = rng.random() < 0.5
        sentences.append(f"{speaker} says {before} {'tells the truth' if claims_honest else 'lies'}.")
        honest = claims_honest == honest
    return " ".join(sentences), honest


TRUTH_FORMS = (
    "{story} Does {name} tell the truth?",
    "{story} Is {name} honest?",
    "Is {name} honest here? {story}",
    "At the {place}: {story} Can we trust {name}?",
    "Can we trust {name} about the {things}? {story}",
    "They talk about {things}. {story} Does {name} tell the truth?",
    "Say if {name} is honest. {story}",
    "Some people meet at the {place}. {story} So is {name} honest?",
    "The {things} are gone. {story} Is {name} to be trusted?",
)


def truth_teller(rng: Random) -> Problem:
    scene = Scene(rng)
    names = scene.names(rng.choice((2, 3, 3)))
    story, honest = truth_story(rng, names)
    text = phrase(rng, TRUTH_FORMS, story=story, name=names[-1], place=scene.place, things=plural(scene.things(1)[0]))
    return yes_no(rng, text, honest, twisted=not honest)


def both_or_either(rng: Random) -> Problem:
    scene = Scene(rng)
    one, two = scene.names(2)
    things = plural(scene.things(1)[0])
    # Alike in a quarter of the problems only: there "both" and "either" agree and the twist changes nothing.
    first = rng.random() < 0.5
    second = first if rng.random() < 0.25 else not first
    likes = {True: "likes", False: "does not like"}
    facts = f"{one} {likes[first]} {things} and {two} {likes[second]} {things}."
    word, holds, twisted = rng.choice(
        (("both", first and second, first or second), ("at least one", first or second, first and second))
    )
    text = phrase(
        rng,
        (
            "{facts} Is it true of {word}?",
            "Is it true that {word} of them like {things}? {facts}",
            "{facts} Do {word} of the two like {things}?",
            "At the {place}, {facts} Can we say that {word} of them like {things}?",
            "We ask if {word} of the two like {things}. {facts}",
            "{facts} So do we find {things} liked by {word}?",
            "The {place} wants to know if {word} like {things}. {facts}",
            "True or not: {word} of them like {things}. {facts}",
        ),
        facts=facts,
        word=word,
        things=things,
        place=scene.place,
    )
    return yes_no(rng, text, holds, twisted)


def flip_side(rng: Random) -> Problem:
    scene = Scene(rng)
    people = scene.names(rng.choice((1, 2, 2)))
    thing, sides = scene.things(1)[0], ("up", "down")
    side = start = rng.randrange(2)
    moves = []
    for name in people:
        flips = rng.random() < 0.5
        side ^= flips
        moves.append(f"{name} {'flips' if flips else 'leaves'} it")
    text = phrase(
        rng,
        (
            "The {thing} faces {start}. {moves}. Which side is it on now?",
            "Does it face up or down at the end? The {thing} faces {start}. {moves}.",
            "At the {place} the {thing} faces {start}. {moves}. How does it face now?",
            "The {thing} starts {start}. {moves}. Where does it point?",
            "First the {thing} faces {start}, then {moves}. Name its side.",
            "Tell me how the {thing} faces if it starts {start} and {moves}.",
            "{moves}. The {thing} was {start} before that. And now?",
            "At the {place} the {thing} points {start}. {moves}. Up or down now?",
        ),
        thing=thing,
        start=sides[start],
        moves=", ".join(moves),
        place=scene.place,
    )
    return Problem(text, sides[side], sides[1 - side], shuffled(rng, sides))


def where_is(rng: Random) -> Problem:
    scene = Scene(rng)
    name, other_name = scene.names(2)
    thing, other = scene.things(2)
    *path, elsewhere = rng.sample(CONTAINERS, rng.choice((3, 4)))
    events = [f"{name} puts the {thing} in the {path[0]}."]
    events += [f"{rng.choice((name, other_name))} moves the {thing} to the {spot}." for spot in path[1:]]
    events.insert(rng.randint(0, len(events)), f"{other_name} puts the {other} in the {elsewhere}.")
    text = phrase(
        rng,
        (
            "{story} Where is the {thing}?",
            "Where is the {thing} in the end? {story}",
            "At the {place}: {story} In what do we find the {thing}?",
            "{story} Tell me where to find the {thing}.",
            "We look for the {thing}. {story} Where is it?",
            "{story} What holds the {thing} now?",
            "Find the {thing}. {story}",
            "It happens at the {place}. {story} Which place has the {thing}?",
        ),
        story=" ".join(events),
        thing=thing,
        place=scene.place,
    )
    return Problem(text, path[-1], twisted=path[-2])


SKILLS: tuple[Skill, ...] = (
    Skill(
        "truth_teller",
        "logic",
        "Is the last of two or three people, who talk about each other, honest?",
        truth_teller,
        Twist(
            "truth_teller_opposite",
            "The same question with yes and no exchanged.",
            (
                "On opposite day every yes is a no.",
                "In the mirror world the honest lie.",
                "Here yes means no and no means yes.",
                "Say the opposite of what is right.",
                "Turn your answer around.",
                "The judge wants the wrong answer.",
                "In this land a lie counts as the truth.",
                "Swap yes and no before you answer.",
            ),
        ),
    ),
    Skill(
        "both_or_either",
        "logic",
        "Does a statement hold of both people, or of at least one?",
        both_or_either,
        Twist(
            "both_or_either_swapped",
            "`both` is read as `at least one`, and `at least one` as `both`.",
            (
                "Here both means one and one means both.",
                "In the mirror world all is some and some is all.",
                "The two ways to ask trade their meaning.",
                "On opposite day one counts as both and both as one.",
                "Swap both and one before you answer.",
                "The judge takes both for one and one for both.",
                "Read the question the other way: one is both, both is one.",
                "In this land one stands for both, and both for one.",
            ),
        ),
    ),
    Skill(
        "flip_side",
        "state tracking",
        "Which way a thing faces after one or two people flipped it or not.",
        flip_side,
        Twist(
            "flip_side_hidden",
            "The side that is hidden at the end.",
            (
                "Name the side that is hidden.",
                "We look at it from below.",
                "In the mirror world up is down.",
                "Say the other side and not this one.",
                "On opposite day we name the wrong side.",
                "The start was noted wrongly, so turn it around.",
                "Answer with the side that we can not see.",
                "Here up means down and down means up.",
            ),
        ),
    ),
    Skill(
        "where_is",
        "state tracking",
        "Where a thing is after it was moved.",
        where_is,
        Twist(
            "where_is_one_step_late",
            "Where the thing was before its last move.",
            (
                "The news comes one step late.",
                "The last move of it did not happen.",
                "We want to know where it was before.",
                "Go back one step.",
                "Answer for the time just before the last move.",
                "In the mirror world the last move is undone.",
                "Its last move was only a dream.",
                "Name the place that it left.",
            ),
        ),
    ),
)
