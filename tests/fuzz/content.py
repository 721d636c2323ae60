"""Ways to damage what a file holds: its bytes, its lines, the values of its JSON.

Every function takes a `random.Random` and the content, and returns other content; the same seed gives the same damage.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from random import Random
from typing import Any

Change = Callable[[Random, bytes], bytes]
DEEP = 3000  # levels of nesting; Python's own limit is about 1000
# what json.dumps would not write: a placeholder in the value is replaced by the text
RAW = {
    "@raw-long@": "7" * 5000,
    "@raw-overflow@": "1e999",
    "@raw-minus@": "-",
    "@raw-zeros@": "007",
    "@raw-deep@": "[" * DEEP + "]" * DEEP,
    "@raw-edge@": "[" * 900 + "]" * 900,
    "@raw-objects@": '{"a":' * 900 + "1" + "}" * 900,
    "@raw-half@": '"\\ud800"',
    "@raw-twice@": '{"a": 1, "a": 2}',
    "@raw-comment@": "1 // one",
    "@raw-word@": "undefined",
}
ODD: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    1,
    2**31,
    2**63,
    10**30,
    -(10**400),
    0.5,
    -0.0,
    1e308,
    float("nan"),
    float("inf"),
    float("-inf"),
    "",
    " ",
    "text",
    "train",
    "\x00",
    "\u2028",
    "é" * 40,
    "x" * 20_000,
    [],
    {},
    [[]],
    [None],
    [1, "a"],
    ["yes", "no"],
    {"a": 1},
    {"": None},
    {"text": ["a"], "label": [0]},
    *RAW,
]


def flip_bits(rng: Random, content: bytes, first: int = 0) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8))):
        if len(changed) > first:
            changed[rng.randrange(first, len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def flip_in_the_tail(rng: Random, content: bytes) -> bytes:
    """Where Parquet keeps what the rest of the file means."""
    return flip_bits(rng, content, max(0, len(content) - rng.choice((12, 400, 3000))))


def set_bytes(rng: Random, content: bytes) -> bytes:
    start = rng.randrange(len(content) + 1)
    noise = rng.choice((b"\x00", b"\xff", b"\x80", rng.randbytes(1))) * rng.choice((1, 4, 16))
    return content[:start] + noise + content[start + len(noise) :]


def insert(rng: Random, content: bytes) -> bytes:
    start = rng.randrange(len(content) + 1)
    known = (b"\x00", b"\xff\xfe", b"\xc3", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\n", b'"', b"{")
    what = rng.choice((*known, rng.randbytes(5)))
    return content[:start] + what + content[start:]


def truncate(rng: Random, content: bytes) -> bytes:
    return content[: rng.randrange(len(content) + 1)]


def cut_out(rng: Random, content: bytes) -> bytes:
    start, stop = sorted(rng.randrange(len(content) + 1) for _ in range(2))
    return content[:start] + content[stop:]


def repeat_part(rng: Random, content: bytes) -> bytes:
    start, stop = sorted(rng.randrange(len(content) + 1) for _ in range(2))
    return content[:stop] + content[start:]


def replace_whole(rng: Random, content: bytes) -> bytes:
    known = (
        b"",
        b"\n",
        b"   \n\n",
        b"\x00" * 100,
        b"PAR1PAR1",
        b"PK\x03\x04",
        b"\x93NUMPY",
        b"null",
        b"[]",
        b"[{}]",
        b"{}",
        b'"text"',
        b"17",
        b"NaN",
        RAW["@raw-deep@"].encode(),
    )
    return rng.choice((*known, rng.randbytes(200)))


def another_encoding(rng: Random, content: bytes) -> bytes:
    text = content.decode("utf-8", "replace")
    if rng.random() < 0.2:
        return gzip.compress(content, mtime=0)
    name = rng.choice(("utf-16", "utf-16-le", "utf-32", "utf-8-sig", "latin-1", "cp500"))
    return text.replace("e", "é").encode(name, "replace")


def change_lines(rng: Random, content: bytes) -> bytes:
    lines = content.split(b"\n")
    place = rng.randrange(len(lines))
    kind = rng.choice(("repeat", "drop", "join", "crlf", "shuffle", "blank", "comma"))
    if kind == "repeat":
        lines[place:place] = [lines[place]] * rng.choice((1, 30))
    elif kind == "drop":
        del lines[place]
    elif kind == "join" and place:
        lines[place - 1 : place + 1] = [lines[place - 1] + lines[place]]
    elif kind == "shuffle":
        rng.shuffle(lines)
    elif kind == "blank":
        lines.insert(place, b" \t\r")
    elif kind == "comma":
        lines[place] += b","
    return (b"\r\n" if kind == "crlf" else b"\n").join(lines)


def change_json(rng: Random, content: bytes) -> bytes:
    """Change one value of a JSON file, or of one line of JSON lines; other content gets its bits flipped."""
    try:
        return written(damaged_value(rng, json.loads(content)), indent=rng.choice((None, 1)))
    except (ValueError, RecursionError):
        pass
    lines = content.split(b"\n")
    place = rng.randrange(len(lines))
    try:
        lines[place] = written(damaged_value(rng, json.loads(lines[place])))
    except (ValueError, RecursionError):
        return flip_bits(rng, content)
    return b"\n".join(lines)


def damaged_value(rng: Random, root: Any) -> Any:
    """A JSON value with one to three of its parts removed, renamed, retyped, wrapped or added."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        places = list(places_of(root))
        if not places or rng.random() < 0.03:
            return rng.choice(ODD)
        holder, key = rng.choice(places)
        kind = rng.choice(("retype", "retype", "retype", "delete", "rename", "wrap", "add"))
        if kind == "retype":
            holder[key] = rng.choice(ODD)
        elif kind == "wrap":
            holder[key] = rng.choice(([holder[key]], {"value": holder[key]}, str(holder[key])))
        elif kind == "delete":
            del holder[key]
        elif isinstance(holder, dict):
            new = rng.choice(("unknown", "", f"{key} ", str(key).upper(), "\x00", "prompt", "steps", "peft_type"))
            holder[new] = holder.pop(key) if kind == "rename" else rng.choice(ODD)
        else:
            holder.insert(key, rng.choice(ODD))
    return root


def places_of(value: Any) -> Any:
    """Every (container, key or index) inside a JSON value."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(entries):
        yield value, key
        yield from places_of(inner)


def written(value: Any, indent: int | None = None) -> bytes:
    text = json.dumps(value, indent=indent)
    for placeholder, raw in RAW.items():
        text = text.replace(json.dumps(placeholder), raw)
    return text.encode()


BYTES: list[Change] = [flip_bits, flip_in_the_tail, set_bytes, insert, truncate, cut_out, repeat_part, replace_whole]
TEXT: list[Change] = [change_json, change_json, change_json, change_lines, another_encoding]
