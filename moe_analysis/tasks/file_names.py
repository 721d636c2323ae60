"""Texts that become a part of a file's name: checked if the user chose them, shortened if not."""

from __future__ import annotations

LONGEST = 100  # bytes: a run's folder adds suite, seed and digest to the name, and 255 are a file system's limit
SIGNS = '/\\:*?"<>|'  # a path's, a pattern's, or no part of a name on other systems
# what Windows takes for a device, whatever follows a dot
DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(1, 10))}
ALLOWED = f"letters, digits, spaces inside, and signs other than {' '.join(SIGNS)}"


def check_file_name(field: str, name: object) -> None:
    """Refuse a text that is not a safe file or folder name on every system to which the folder may be copied.

    Args:
        field: what the user calls it, for the message.
        name: what he gave.

    Raises:
        ValueError: says what is wrong with the name, and what is allowed.

    >>> check_file_name("name", "S'MoRE (p = 1.5), no balance")
    >>> check_file_name("name", "S'MoRE 2/2")
    Traceback (most recent call last):
        ...
    ValueError: name = "S'MoRE 2/2" has '/' in it and becomes a part of a file's name; use letters, digits, ...
    """
    if fault := fault_of(name):
        raise ValueError(
            f"{field} = {name!r:.200} {fault} and becomes a part of a file's name; use {ALLOWED}, "
            f"no dot in front, at most {LONGEST} bytes"
        )


def fault_of(name: object) -> str | None:
    if not isinstance(name, str):
        return f"is {type(name).__name__}, not text,"
    if not name:
        return "is empty"
    if bad := next((sign for sign in name if sign in SIGNS or not sign.isprintable()), None):
        return f"has {bad!r} in it"
    if name.startswith("."):
        return "begins with a dot, which hides it,"
    if name != name.strip() or name.endswith("."):
        return "begins or ends with a space, or ends with a dot,"
    if name.partition(".")[0].rstrip().lower() in DEVICES:
        return "is what Windows calls a device"
    if (size := len(name.encode())) > LONGEST:
        return f"is {size} bytes long"
    return None


def label_of(source: str, longest: int = LONGEST) -> str:
    """The last part of a suite's name or path as a part of a file's name, at most `longest` bytes of UTF-8.

    >>> label_of("hub:someone/quiz:easy"), label_of("/data/my suite/"), label_of("quiz", longest=3)
    ('quiz-easy', 'my suite', 'qui')
    """
    label = source.rstrip("/").rpartition("/")[2].replace(":", "-")
    label = "".join(sign if sign.isprintable() else "-" for sign in label)
    return label.encode()[:longest].decode(errors="ignore")
