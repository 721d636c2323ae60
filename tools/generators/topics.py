"""The words of the suite by topic. Every skill draws its scene from any topic, so topic and task are independent."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random


@dataclass(frozen=True)
class Topic:
    """`things` are countable nouns with a plural in -s; `places` are where such things are met."""

    name: str
    things: tuple[str, ...]
    places: tuple[str, ...]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _topic(name: str, things: str, places: str) -> Topic:
    return Topic(name, _words(things), _words(places))


# Few words, each met often: a decoder of a million parameters has to learn all of them within minutes.
TOPICS: tuple[Topic, ...] = (
    _topic("food", "apple pear carrot cookie pizza lemon egg burger", "kitchen bakery diner"),
    _topic("sport", "ball racket bat helmet medal glove skate puck", "stadium gym pool"),
    _topic("travel", "ticket suitcase map passport tent train boat plane", "station airport harbor"),
    _topic("money", "coin wallet bill voucher receipt jewel bond card", "bank auction mint"),
    _topic("animals", "dog cat horse tiger rabbit duck eagle camel", "zoo farm stable"),
    _topic("school", "book pencil ruler notebook crayon desk poster globe", "library classroom college"),
    _topic("weather", "umbrella raincoat mitten boot sled cloud storm puddle", "beach valley hill"),
    _topic("music", "drum flute guitar piano violin trumpet harp bell", "concert studio theater"),
    _topic("garden", "rose tulip seed shovel hose rake hedge fern", "park greenhouse orchard"),
    _topic("home", "lamp chair table sofa pillow carpet kettle candle", "house attic cellar"),
)

NAMES = _words("Ann Bob Cid Dan Eva Gus Ida Leo Mia Sue Tom Zoe")
CONTAINERS = _words("box bag basket drawer crate jar trunk tray")
PRAISE = _words("great lovely superb nice charming perfect splendid fine")
BLAME = _words("awful nasty terrible ugly dreadful boring poor shabby")
OPPOSITES: tuple[tuple[str, str], ...] = tuple(
    tuple(pair.split("/"))  # type: ignore[misc]
    for pair in _words(
        "hot/cold big/small fast/slow loud/quiet heavy/light old/new full/empty wet/dry hard/soft clean/dirty "
        "bright/dark thick/thin tall/short wide/narrow cheap/costly strong/weak"
    )
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
