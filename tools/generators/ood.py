"""Tasks that nothing is trained on: longer, composed or related forms of the trained skills, in the manner of BBH."""

from __future__ import annotations

from random import Random

from tools.generators.problem import Problem, Skill, listed, phrase, shuffled
from tools.generators.reasoning import TRUTH_FORMS, truth_story, yes_no
from tools.generators.topics import BLAME, OPPOSITES, PRAISE, Scene, plural


def sum_of_three(rng: Random) -> Problem:
    scene = Scene(rng)
    a, b, c = (rng.randint(2, 6) for _ in range(3))
    text = phrase(
        rng,
        (
            "{name} has {a} {things} and gets {b} and then {c} more. How many {things} is that?",
            "{a} {things}, {b} {things} and {c} {things} make how many?",
            "At the {place}, {name} finds {a} {things}, then {b}, then {c}. What is the total?",
            "How many {things} are there if {a} join {b} and {c}?",
            "Add {a}, {b} and {c} {things}.",
            "{name} bought {a}, {b} and {c} {things} at the {place}. Give the sum.",
            "Give the total of {a}, {b} and {c} {things}.",
            "There are {a} {things}. {name} brings {b}, then {c}. Count them all.",
        ),
        name=scene.names(1)[0],
        place=scene.place,
        things=plural(scene.things(1)[0]),
        a=a,
        b=b,
        c=c,
    )
    return Problem(text, str(a + b + c))


def before_in_list(rng: Random) -> Problem:
    scene = Scene(rng)
    items = scene.things(rng.randint(4, 6))
    at = rng.randint(1, len(items) - 2)
    text = phrase(
        rng,
        (
            "Which word comes right before {mark}: {items}?",
            "Here is the row {items}. What stands before {mark}?",
            "{name} lines up {items}. What stands right before the {mark}?",
            "In the row {items}, find the neighbor before {mark}.",
            "Before the {mark}, what comes in the row {items}?",
            "The {place} shows {items}. Which one is right before the {mark}?",
            "{name} passes {items}. What does {name} pass just before the {mark}?",
            "Tell me what is right before {mark} here: {items}.",
        ),
        mark=items[at],
        items=" ".join(items),
        name=scene.names(1)[0],
        place=scene.place,
    )
    return Problem(text, items[at - 1])


def second_in_list(rng: Random) -> Problem:
    scene = Scene(rng)
    items = scene.things(rng.randint(3, 5))
    text = phrase(
        rng,
        (
            "Which word is second in the list: {items}?",
            "Here are {items}. Say the second one.",
            "{name} writes {items} at the {place}. What is the second word?",
            "What is second among {items}?",
            "Give the second item: {items}.",
            "The {place} sends {items}, in that order. Which is second?",
            "{name} names {items}. Which does {name} name second?",
            "Of the row {items}, pick the second.",
        ),
        items=listed(items),
        name=scene.names(1)[0],
        place=scene.place,
    )
    return Problem(text, items[1])


def opposite_of_last(rng: Random) -> Problem:
    scene = Scene(rng)
    pairs = rng.sample(OPPOSITES, 3)
    words = [rng.choice(pair) for pair in pairs]
    answer = next(word for word in pairs[-1] if word != words[-1])
    text = phrase(
        rng,
        (
            "What is the opposite of the last word: {words}?",
            "{name} calls the {thing} {words}. What is the opposite of the last word?",
            "The {thing} is {words}. Give the opposite of what was said last.",
            "Take the last of {words} and say its opposite.",
            "Here are {words}. Which word is the opposite of the last one?",
            "At the {place} the {thing} is {words}. Turn the last word around.",
            "Find the last word of {words}, then its opposite.",
            "{name} reads {words} at the {place}. Say the opposite of the last one.",
        ),
        words=listed(words),
        thing=scene.things(1)[0],
        name=scene.names(1)[0],
        place=scene.place,
    )
    return Problem(text, answer)


def where_is_person(rng: Random) -> Problem:
    scene = Scene(rng)
    name, other = scene.names(2)
    places = [scene.place, *rng.sample(scene.other_topic().places, 2)]
    rng.shuffle(places)
    story = f"{name} is in the {places[0]}. {name} moves to the {places[1]}."
    extra = f"{other} is in the {places[2]}."
    text = phrase(
        rng,
        (
            "{story} Where is {name}?",
            "Where is {name} in the end? {story}",
            "We look for {name} and the {thing}. {story} Which place is it?",
            "{story} Tell me where to find {name}.",
            "Find {name}. {story}",
            "{name} holds the {thing}. {story} In what place do we find {name}?",
            "{story} Which place has {name} now?",
            "Say where {name} is now. {story}",
        ),
        story=f"{story} {extra}" if rng.random() < 0.5 else f"{extra} {story}",
        name=name,
        thing=scene.things(1)[0],
    )
    return Problem(text, places[1])


def object_order(rng: Random) -> Problem:
    scene = Scene(rng)
    low, middle, high = scene.things(3)
    more, less = rng.choice((("taller", "shorter"), ("older", "newer"), ("heavier", "lighter")))
    facts = [
        rng.choice((f"the {above} is {more} than the {below}", f"the {below} is {less} than the {above}"))
        for below, above in ((low, middle), (middle, high))
    ]
    text = phrase(
        rng,
        (
            "At the {place}, {facts}. Which is {more} than the rest?",
            "Which one is {more} than all the rest if {facts}?",
            "{name} says that {facts}. Which is {more} than the rest?",
            "We know that {facts}. Name the one that is {more} than the rest.",
            "If {facts}, what is {more} than all others?",
            "{name} compares: {facts}. Find what is {more} than the rest.",
            "Say what is {more} than the two others. We know that {facts}.",
            "At the {place}, {facts}. What leads the row from {more} to {less}?",
        ),
        facts=" and ".join(shuffled(rng, facts)),
        more=more,
        less=less,
        name=scene.names(1)[0],
        place=scene.place,
    )
    return Problem(text, high, choices=shuffled(rng, (low, middle, high)))


def swap_tracking(rng: Random) -> Problem:
    scene = Scene(rng)
    names, things = scene.names(3), scene.things(3)
    holds = dict(zip(names, things, strict=True))
    story = listed([f"{name} has the {thing}" for name, thing in holds.items()]) + "."
    for _ in range(2):
        one, two = rng.sample(names, 2)
        holds[one], holds[two] = holds[two], holds[one]
        story += f" {one} and {two} swap."
    asked = rng.choice(names)
    text = phrase(
        rng,
        (
            "{story} What does {name} have?",
            "What does {name} have in the end? {story}",
            "At the {place}: {story} What is with {name}?",
            "{story} Name the thing of {name}.",
            "Some people meet at the {place}. {story} What does {name} hold now?",
            "{story} Which thing is now with {name}?",
            "Find what {name} holds. {story}",
            "{story} Tell me what {name} has now.",
        ),
        story=story,
        name=asked,
        place=scene.place,
    )
    return Problem(text, holds[asked], choices=shuffled(rng, things))


def truth_chain_long(rng: Random) -> Problem:
    scene = Scene(rng)
    names = scene.names(5)
    story, honest = truth_story(rng, names)
    text = phrase(rng, TRUTH_FORMS, story=story, name=names[-1], place=scene.place, things=plural(scene.things(1)[0]))
    return yes_no(rng, text, honest)


def mood_of_most(rng: Random) -> Problem:
    scene = Scene(rng)
    goods = [rng.random() < 0.5 for _ in range(3)]
    views = listed(
        [
            f"{name} finds it {rng.choice(PRAISE if good else BLAME)}"
            for name, good in zip(scene.names(3), goods, strict=True)
        ]
    )
    text = phrase(
        rng,
        (
            "About the {thing}: {views}. What is the mood of most?",
            "{views}. How do most of them feel about the {thing}?",
            "The {place} shows the {thing}. {views}. Give the mood of most people.",
            "What do most people think of the {thing}? {views}.",
            "Read the notes about the {thing}: {views}. What kind of review wins?",
            "Is the {thing} good or bad for most of them? {views}.",
            "They see the {thing} at the {place}. {views}. How does the group feel?",
            "Three people try the {thing}. {views}. Name the mood that most share.",
        ),
        views=views,
        thing=scene.things(1)[0],
        place=scene.place,
    )
    return Problem(text, "good" if sum(goods) >= 2 else "bad", choices=shuffled(rng, ("good", "bad")))


def back_at_start(rng: Random) -> Problem:
    scene = Scene(rng)
    name = scene.names(1)[0]
    forth = rng.randint(2, 9)
    # Half of the walks come back; the others miss the start by one to three steps.
    back = forth if rng.random() < 0.5 else max(1, forth - rng.randint(1, 3))
    text = phrase(
        rng,
        (
            "{name} walks {a} steps {one} and {b} steps {two}. Is {name} back at the start?",
            "Is {name} back at the {thing} after {a} steps {one} and {b} steps {two}?",
            "From the {place}, {name} goes {a} steps {one}, then {b} steps {two}. Is {name} back?",
            "Go {a} steps {one}. Go {b} steps {two}. Are you back at the {thing}?",
            "Starting at the {thing}, {name} takes {a} steps {one} and {b} {two}. Is this the start again?",
            "Take {a} steps {one} from the {place}, then {b} steps {two}. Is that the start?",
            "{name} leaves the {place}: {a} steps {one}, {b} steps {two}. Does {name} come back to it?",
            "Does {name} come back to the {thing} with {a} steps {one} and {b} steps {two}?",
        ),
        name=name,
        a=forth,
        b=back,
        thing=scene.things(1)[0],
        place=scene.place,
        **dict(zip(("one", "two"), shuffled(rng, rng.choice((("left", "right"), ("forward", "back")))), strict=True)),
    )
    return yes_no(rng, text, forth == back)


SKILLS: tuple[Skill, ...] = (
    Skill("sum_of_three", "arithmetic", "The sum of three numbers from 2 to 6.", sum_of_three),
    Skill("before_in_list", "lists", "The word right before a given word of a list.", before_in_list),
    Skill("second_in_list", "lists", "The second word of a list.", second_in_list),
    Skill("opposite_of_last", "lexical knowledge", "The opposite of the last of three words.", opposite_of_last),
    Skill("where_is_person", "state tracking", "Where a person is after a move.", where_is_person),
    Skill("object_order", "comparison", "The extreme of three things ordered by two comparisons.", object_order),
    Skill("swap_tracking", "state tracking", "Who holds what after two of three swaps.", swap_tracking),
    Skill(
        "truth_chain_long", "logic", "Is the last of five people, who talk about each other, honest?", truth_chain_long
    ),
    Skill("mood_of_most", "sentiment", "The mood of two of three reviews.", mood_of_most),
    Skill("back_at_start", "arithmetic", "Do two opposite walks end where they began?", back_at_start),
)
