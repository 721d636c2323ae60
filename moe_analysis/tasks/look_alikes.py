"""Two texts that look the same but differ: what a message must add so that a person can see the difference."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from itertools import zip_longest

# Cyrillic, Greek and other letters that fonts draw like Latin ones, written by number: they look the same
DRAWN_ALIKE = str.maketrans(
    "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0458\u0455\u0501\u04bb\u04cf\u051b\u051d"
    "\u0410\u0412\u0415\u041a\u041c\u041d\u041e\u0420\u0421\u0422\u0425\u0406\u0408\u0405"
    "\u03b1\u03bf\u03bd\u03c1\u0391\u0392\u0395\u0396\u0397\u0399\u039a\u039c\u039d\u039f\u03a1\u03a4\u03a5\u03a7"
    "\u0131\u2113",
    "aeopcyxijsdhlqwABEKMHOPCTXIJSaovpABEZHIKMNOPTYXil",
)
UNSEEN = 55  # signs after which a message leaves the rest of a text out
CLOSE = 0.9  # of the signs of two long texts are the same


def apart(one: str, other: str) -> str:
    """How two texts that look alike differ, to be added after them in a message; empty if the difference is easy to see.

    >>> print(apart("cafe" + chr(0x301), "caf" + chr(0xe9)))
    ; they differ in how accents are composed (NFD against NFC): 'cafe\\u0301' against 'caf\\xe9'
    >>> print(apart("yes ", "yes"))
    ; they differ in white space: 'yes ' against 'yes'
    >>> apart("yes", "no")
    ''
    """
    if one == other or (kind := difference(one, other)) is None:
        return ""
    first, second = around(one, other)
    return f"; they differ in {kind}: {ascii(first)} against {ascii(second)}"


def resembling(values: Iterable[object], known: Iterable[str]) -> str:
    """`apart` for the first of the values that looks like one of the known texts; empty if none does."""
    pairs = ((value, other) for value in values if isinstance(value, str) for other in known)
    return next((text for value, other in pairs if (text := apart(value, other))), "")


def difference(one: str, other: str) -> str | None:
    """What is different in two texts that a reader may take for the same; None if they look different."""
    composed = [unicodedata.normalize("NFC", text) for text in (one, other)]
    if composed[0] == composed[1]:
        return f"how accents are composed ({form_of(one)} against {form_of(other)})"
    shown = ["".join(sign for sign in text if is_seen(sign)) for text in composed]
    if shown[0] == shown[1]:
        return "invisible characters"
    plain = [" ".join(text.split()) for text in shown]
    if plain[0] == plain[1]:
        return "white space"
    if plain[0].casefold() == plain[1].casefold():
        return "capitals"
    drawn = [unicodedata.normalize("NFKC", text).translate(DRAWN_ALIKE).casefold() for text in plain]
    if drawn[0] == drawn[1]:
        return "letters that look alike"
    return "one place of a long text" if nearly_the_same(one, other) else None


def is_seen(sign: str) -> bool:
    return unicodedata.category(sign) != "Cf" and not unicodedata.name(sign, "").startswith("VARIATION SELECTOR")


def form_of(text: str) -> str:
    return next((form for form in ("NFC", "NFD") if unicodedata.is_normalized(form, text)), "a mixture")


def nearly_the_same(one: str, other: str, least: int = 30) -> bool:
    """Whether two long texts differ in a few characters, which are hard to see, or after the part that a message shows."""
    length, start = max(len(one), len(other)), first_difference(one, other)
    end = first_difference(one[start:][::-1], other[start:][::-1])
    return start >= UNSEEN or (length >= least and start + end >= CLOSE * length)


def first_difference(one: str, other: str) -> int:
    pairs = zip_longest(one, other)
    return next((place for place, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def around(one: str, other: str, signs: int = 20) -> tuple[str, str]:
    """The texts, or of long ones the same stretch about the first place where they differ."""
    start = max(0, first_difference(one, other) - signs)
    if max(len(one), len(other)) <= 2 * signs:
        start = 0
    return one[start : start + 2 * signs], other[start : start + 2 * signs]
