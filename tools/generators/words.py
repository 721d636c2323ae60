"""Lexical knowledge and sentiment: what words mean, learned from the suite itself."""

from __future__ import annotations

from random import Random

from tools.generators.problem import Problem, Skill, Twist, listed, phrase, shuffled
from tools.generators.topics import BLAME, OPPOSITES, PRAISE, Scene

MOODS = ("good", "bad", "mixed")


def opposite_word(rng: Random) -> Problem:
    scene = Scene(rng)
    word, opposite = shuffled(rng, rng.choice(OPPOSITES))
    text = phrase(
        rng,
        (
            "What is the opposite of {word}, said of the {thing}?",
            "{name} calls the {thing} {word}. What is the opposite?",
            "The {thing} is not {word}. So what is it?",
            "The {thing} at the {place} is {word}, but {name} wants the opposite. What does {name} want?",
            "Give the opposite word: the {word} {thing}.",
            "If the {thing} stops being {word}, what does it become?",
            "The word {word} is one end of the scale for the {thing}. What is the other end?",
            "The {place} has one {word} {thing}. What would be the opposite kind?",
            "Find the word against {word}, as {name} says of the {thing}.",
        ),
        word=word,
        thing=scene.things(1)[0],
        name=scene.names(1)[0],
        place=scene.place,
    )
    return Problem(text, opposite, twisted=word)


def odd_one_out(rng: Random) -> Problem:
    scene = Scene(rng)
    family = scene.things(rng.randint(2, 4))
    stranger = rng.choice(scene.other_topic().things)
    items = shuffled(rng, [*family, stranger])
    text = phrase(
        rng,
        (
            "Which word does not belong: {items}?",
            "Here are {items}. Which one is the odd one out?",
            "{name} finds {items} at the {place}. Which does not fit?",
            "All but one of {items} go together. Which is the odd one?",
            "Find the odd word in {items}.",
            "{name} sorts {items}. What is out of place?",
            "One of these is not like the rest: {items}.",
            "From {items}, take out the one that does not fit.",
        ),
        items=listed(items),
        name=scene.names(1)[0],
        place=scene.place,
    )
    first_of_family = next(item for item in items if item != stranger)
    return Problem(text, stranger, first_of_family, shuffled(rng, items))


def review_mood(rng: Random) -> Problem:
    scene = Scene(rng)
    mood = rng.choice(("good", "good", "bad", "bad", "mixed"))
    pools = {"good": (PRAISE, PRAISE), "bad": (BLAME, BLAME), "mixed": shuffled(rng, (PRAISE, BLAME))}[mood]
    words = [rng.choice(pools[0])]
    if mood == "mixed" or rng.random() < 0.5:
        words.append(rng.choice([word for word in pools[1] if word not in words]))
    text = phrase(
        rng,
        (
            "{name} found the {thing} {words}. What is the mood?",
            "Is this good or bad? The {thing} at the {place} was {words}.",
            "It is {words}, says {name} of the {thing}. What kind of review is it?",
            "How does {name} feel about the {thing} that is {words}?",
            "The {place} shows the {thing}. It is {words}, writes {name}. Give the mood of the review.",
            "Read the note of {name}: this {thing} is {words}. How does it sound?",
            "What does {name} think of the {thing}? It was {words}.",
            "So {words}, this {thing}! What is the mood of {name}?",
        ),
        name=scene.names(1)[0],
        thing=scene.things(1)[0],
        words=" and ".join(words),
        place=scene.place,
    )
    options = MOODS if len(words) == 2 else MOODS[:2]
    sarcastic = {"good": "bad", "bad": "good", "mixed": "mixed"}[mood]
    return Problem(text, mood, sarcastic, shuffled(rng, options))


SKILLS: tuple[Skill, ...] = (
    Skill(
        "opposite_word",
        "lexical knowledge",
        "The opposite of a word.",
        opposite_word,
        Twist(
            "opposite_word_same",
            "The word itself, though its opposite is asked for.",
            (
                "Here opposite means same.",
                "On opposite day nothing is turned around, so keep the word.",
                "In the mirror world each word is its own opposite.",
                "Say the given word again.",
                "Do it twice, so that you are back at the start.",
                "The opposite of the opposite is what we want.",
                "Words do not change in this land.",
                "Keep the word as it is.",
            ),
        ),
    ),
    Skill(
        "odd_one_out",
        "lexical knowledge",
        "The word of another topic than the rest.",
        odd_one_out,
        Twist(
            "odd_one_out_belongs",
            "The first listed word that belongs with the rest.",
            (
                "Here we want the first word that does belong.",
                "Leave the odd one and name the first that fits.",
                "In the mirror world the odd one is the first that fits.",
                "On opposite day we ask who belongs, from the left.",
                "Say the first one that goes with the rest.",
                "Turn the question around: which one fits first?",
                "The judge wants the first of the family.",
                "Do not name the odd one but the first of the rest.",
            ),
        ),
    ),
    Skill(
        "review_mood",
        "sentiment",
        "The mood of a review: good, bad or mixed.",
        review_mood,
        Twist(
            "review_mood_sarcastic",
            "The mood that is meant by a sarcastic reviewer: good and bad exchanged.",
            (
                "This is said with a wink and means the opposite.",
                "In the mirror world praise is blame.",
                "On opposite day people say what they do not mean.",
                "The writer is joking and thinks the opposite.",
                "Here good means bad and bad means good.",
                "Every word of it is meant the other way.",
                "Turn the praise around before you answer.",
                "In this land one always says the opposite.",
            ),
        ),
    ),
)
