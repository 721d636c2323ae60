"""Files that are written whole or not at all, and whether a folder can be written."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A path beside `path` to write to; the file takes its place when the block ends without an error.

    A reader sees the old file or the new one, never half of it.

    >>> target = folder / "numbers.txt"
    >>> with replacing(target) as fresh:
    ...     _ = fresh.write_text("1 2 3")
    >>> target.read_text(), [path.name for path in folder.iterdir()]
    ('1 2 3', ['numbers.txt'])
    """
    path = Path(path)
    fresh = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        yield fresh
        os.replace(fresh, path)
    finally:
        with suppress(OSError):
            fresh.unlink(missing_ok=True)


def unwritable(folder: str | Path) -> str | None:
    """Why no file can be made in a folder, or in a folder that is still to be made; None if one can. Leaves nothing.

    >>> unwritable(folder / "new" / "one"), list(folder.iterdir())
    (None, [])
    """
    place = Path(folder).absolute()
    while not os.path.lexists(place):
        place = place.parent
    try:
        TemporaryFile(dir=place).close()
    except OSError as error:
        return error.strerror or str(error)
    return None


def write_whole(path: str | Path, content: str | bytes) -> Path:
    """Write a file of text (UTF-8) or bytes by `replacing`, and return its path."""
    with replacing(path) as fresh:
        fresh.write_bytes(content.encode() if isinstance(content, str) else content)
    return Path(path)
