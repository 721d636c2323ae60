"""The words of the suite by topic. Every skill draws its scene from any topic, so topic and task are independent."""

from __future__ import annotations

import re
from dataclasses import dataclass
from random import Random


@dataclass(frozen=True)
class Topic:
    """`things` are countable nouns with a plural in -s; `places` are where such things are met."""

    name: str
    things: tuple[str, ...]
    places: tuple[str, ...]


def _topic(name: str, things: str, places: str) -> Topic:
    return Topic(name, tuple(things.split()), tuple(places.split()))


TOPICS: tuple[Topic, ...] = (
    _topic("food", "apple pear onion carrot cookie pancake pizza lemon egg muffin noodle burger", "kitchen bakery diner"),
    _topic("sport", "ball racket bat helmet medal glove net skate whistle puck paddle jersey", "stadium gym pool"),
    _topic("travel", "ticket suitcase map passport tent hotel train boat plane bicycle backpack taxi",
           "station airport harbor"),
    _topic("money", "coin wallet purse bill voucher receipt jewel ring loan bond card vault", "bank auction mint"),
    _topic("animals", "dog cat horse tiger rabbit monkey goat duck eagle turtle camel lion", "zoo farm stable"),
    _topic("school", "book pencil ruler eraser notebook crayon desk poster globe marker folder lesson",
           "library classroom college"),
    _topic("weather", "umbrella raincoat mitten boot sled cloud storm rainbow puddle icicle breeze sunhat",
           "beach valley hill"),
    _topic("music", "drum flute guitar piano violin trumpet song harp banjo cello tune bell", "concert studio theater"),
    _topic("garden", "rose tulip seed shovel hose rake tree weed pot hedge fern bulb", "park greenhouse orchard"),
    _topic("home", "lamp chair table sofa pillow carpet vase clock kettle bucket broom candle",
           "house attic cellar"),
)

NAMES = tuple("Ann Bob Cid Dan Eva Fay Gus Hal Ida Jim Kay Leo Mia Ned Pam Ray Sue Tom Una Zoe".split())
CONTAINERS = tuple("box bag basket drawer crate jar cupboard trunk tray barrel".split())
PRAISE = tuple("great lovely superb nice wonderful charming perfect delightful splendid fine".split())
BLAME = tuple("awful nasty terrible ugly dreadful boring horrid poor shabby useless".split())
OPPOSITES: tuple[tuple[str, str], ...] = tuple(
    tuple(pair.split("/"))  # type: ignore[misc]
    for pair in (
        "hot/cold big/small fast/slow loud/quiet heavy/light old/new full/empty wet/dry hard/soft clean/dirty "
        "bright/dark thick/thin deep/shallow rough/smooth tall/short wide/narrow sharp/blunt sweet/bitter "
        "cheap/costly rare/common strong/weak open/shut safe/risky calm/wild"
    ).split()
)


def plural(thing: str) -> str:
    """Every thing of the suite has a regular plural."""
    return thing + "s"


class Scene:
    """One topic and the people, things and place of one problem, drawn without repetition."""

    def __init__(self, rng: Random, topic: Topic | None = None) -> None:
        self.rng = rng
        self.topic = topic or rng.choice(TOPICS)
        self.place = rng.choice(self.topic.places)

    def names(self, count: int) -> list[str]:
        return self.rng.sample(NAMES, count)

    def things(self, count: int) -> list[str]:
        return self.rng.sample(self.topic.things, count)

    def other_topic(self) -> Topic:
        return self.rng.choice([topic for topic in TOPICS if topic is not self.topic])


_TOPIC_OF_WORD = {
    form: topic.name
    for topic in TOPICS
    for word in (*topic.things, *topic.places)
    for form in (word, plural(word))
}


def topics_of(text: str) -> set[str]:
    """Names of the topics whose things or places occur in the text."""
    return {_TOPIC_OF_WORD[word] for word in re.findall(r"[a-z]+", text) if word in _TOPIC_OF_WORD}
