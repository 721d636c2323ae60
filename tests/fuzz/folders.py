"""Ways to damage a folder: its files, links and rights, and what only Parquet and zarr can have wrong."""

from __future__ import annotations

import datetime
import io
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from .content import BYTES, TEXT, change_json

Damage = Callable[[Random, Path, Path], Path]  # (random numbers, folder, one of its files) -> the path at fault


def change_content(rng: Random, folder: Path, path: Path) -> Path:
    changes = BYTES if path.suffix in (".parquet", ".npz") or not is_text(path) else BYTES + TEXT * 3
    path.write_bytes(rng.choice(changes)(rng, path.read_bytes()))
    return path


def is_text(path: Path) -> bool:
    return path.suffix in (".json", ".jsonl")


def change_kind(rng: Random, folder: Path, path: Path) -> Path:
    """Something else stands where the file was."""
    kind = rng.choice(
        ("gone", "folder", "full folder", "dangling link", "loop", "link to the folder", "link out", "pipe", "endless")
    )
    content = path.read_bytes()
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "full folder":
        path.mkdir()
        (path / path.name).write_bytes(content)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind != "gone":
        targets = {
            "dangling link": folder / "nowhere",
            "loop": path,
            "link to the folder": folder,
            "link out": Path("/"),
            "endless": Path("/dev/zero"),
        }
        path.symlink_to(targets[kind])
    return path


def change_name(rng: Random, folder: Path, path: Path) -> Path:
    """Move a file to another name, one that is no text among them, or copy it to one."""
    names = [
        path.name.upper(),
        f".{path.name}",
        f"{path.stem}.bak",
        f"b{path.name}",
        f"new\n{path.name}",
        "zarr.json",
        os.fsdecode(b"\xff" + os.fsencode(path.name)),
        f"{'n' * 200}{path.suffix}",
    ]
    target = path.with_name(rng.choice(names))
    if rng.random() < 0.5 or target.exists():
        target = target if not target.exists() else path.with_name(f"copy{path.suffix}")
        shutil.copy(path, target)
    else:
        path.rename(target)
    return target


def swap_content(rng: Random, folder: Path, path: Path) -> Path:
    """The content of another file of the folder."""
    others = [other for other in files(folder) if other != path]
    path.write_bytes(rng.choice(others).read_bytes())
    return path


def take_rights(rng: Random, folder: Path, path: Path) -> Path:
    """Only where rights bind: root reads everything."""
    target = path if rng.random() < 0.7 else path.parent
    target.chmod(0o000)
    return target


def change_table(rng: Random, folder: Path, path: Path) -> Path:
    """Write a Parquet file anew with columns that are dropped, doubled, renamed, retyped or emptied."""
    import pyarrow as pa
    import pyarrow.parquet as parquet

    if path.suffix != ".parquet":
        return change_content(rng, folder, path)
    table = parquet.read_table(path)
    place = rng.randrange(table.num_columns)
    name, column = table.column_names[place], table.column(place)
    kind = rng.choice(("drop", "double", "rename", "retype", "retype", "retype", "empty", "nothing", "metadata"))
    if kind == "drop":
        table = table.remove_column(place)
    elif kind == "double":
        table = table.append_column(name, column)
    elif kind == "rename":
        table = table.rename_columns([f"{each}x" if each == name else each for each in table.column_names])
    elif kind == "retype":
        table = table.set_column(place, name, pa.chunked_array([odd_column(rng, len(column))]))
    elif kind == "empty":
        table = table.slice(0, 0)
    elif kind == "nothing":
        table = table.select([])
    elif kind == "metadata":
        broken = rng.choice((b"{", b"[]", b"null", b'{"columns": 3}', b'{"index_columns": ["x"], "columns": []}'))
        table = table.replace_schema_metadata({b"pandas": broken})
    buffer = io.BytesIO()
    parquet.write_table(table, buffer)
    path.write_bytes(buffer.getvalue())
    return path


def odd_column(rng: Random, rows: int) -> Any:
    import pyarrow as pa

    day = datetime.date(9999, 12, 31)
    kind, value = rng.choice(
        [
            (pa.int64(), -(2**63)),
            (pa.float64(), float("nan")),
            (pa.float64(), 1.5),
            (pa.bool_(), True),
            (pa.null(), None),
            (pa.binary(), b"\xff\xfe"),
            (pa.string(), ""),
            (pa.large_string(), "\x00"),
            (pa.list_(pa.int8()), [1, None]),
            (pa.list_(pa.string()), ["yes", None]),
            (pa.date32(), day),
            (pa.struct([("a", pa.int8())]), {"a": 1}),
            (pa.map_(pa.string(), pa.int8()), [("a", 1)]),
            (pa.timestamp("ns"), 2**62),
            (pa.timestamp("us", "Mars/Base"), 0),
            (pa.timestamp("us"), -(2**62)),
            (pa.duration("us"), 2**62),
            (pa.decimal128(38, 2), 10**30),
            (pa.uint64(), 2**64 - 1),
            (pa.float16(), float("inf")),
            (pa.date64(), 2**62),
            (pa.time64("us"), 5),
        ]
    )
    try:
        return pa.array([value] * rows, kind)
    except (pa.ArrowException, ValueError, TypeError):
        return pa.array([0] * rows, pa.int64()).cast(kind, safe=False)


def change_zarr(rng: Random, folder: Path, path: Path) -> Path:
    """Damage a record: its metadata, a chunk, or a whole array."""
    stores = sorted(folder.glob("*.zarr"))
    if not stores:
        return change_content(rng, folder, path)
    store = rng.choice(stores)
    metadata = sorted(store.rglob("zarr.json"))
    kind = rng.choice(("metadata",) * 3 + ("chunk",) * 2 + ("no chunk", "array", "no metadata", "nested"))
    target = rng.choice(metadata if kind in ("metadata", "no metadata") else chunks(store))
    if kind == "metadata":
        target.write_bytes(change_json(rng, target.read_bytes()))
    elif kind == "chunk":
        target.write_bytes(rng.choice(BYTES)(rng, target.read_bytes()))
    elif kind in ("no chunk", "no metadata"):
        target.unlink()
    elif kind == "array":
        target = rng.choice(metadata[1:]).parent
        shutil.rmtree(target)
    elif kind == "nested":
        target = rng.choice(metadata).parent / "nested"
        shutil.copytree(store / "step", target)
    return target


def chunks(store: Path) -> list[Path]:
    return [path for path in files(store) if path.name != "zarr.json"]


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


DAMAGES: list[Damage] = [change_content] * 8 + [change_table] * 2 + [change_zarr] * 4
DAMAGES += [change_kind, change_name, swap_content]
if os.geteuid() != 0:
    DAMAGES.append(take_rights)
