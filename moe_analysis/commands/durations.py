"""Times as a person types them."""

from __future__ import annotations

import re

UNITS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
FORM = re.compile(r"(?:\d+(?:\.\d+)?[dhms])+")


def seconds_of(option: str, text: str) -> float:
    """Seconds of "2h", "90m", "1h30m" or "45s"; raises ValueError naming the option.

    >>> seconds_of("--for", "1h30m"), seconds_of("--for", "45s")
    (5400.0, 45.0)
    >>> seconds_of("--for", "soon")
    Traceback (most recent call last):
        ...
    ValueError: --for = 'soon' is no time; write 2h, 90m, 1h30m or 45s
    """
    found = re.findall(r"(\d+(?:\.\d+)?)([dhms])", text) if FORM.fullmatch(text) else []
    seconds = sum(float(number) * UNITS[unit] for number, unit in found)
    if not seconds > 0:
        raise ValueError(f"{option} = {text!r} is no time; write 2h, 90m, 1h30m or 45s")
    return seconds
