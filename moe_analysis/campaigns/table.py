"""Tables of results: one Parquet file per study, one row per finished run. They survive lost machines, full disks and
concurrent writers."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from ..atomic import replacing
from ..tasks.rows import shorten
from .row import Difference, difference, mixture

SCHEMA, ABOUT = 2, b"moe_analysis.results"  # of what is written here, and where a file says it
LOCK_SECONDS = 60.0
RESTORE = "restore it from version control or another machine, or move it away"
APART = "use the same data sets and backbone on every machine, or keep these runs in a table of their own"
TEXT, TEXTS, NUMBERS, BYTES = pa.string(), pa.list_(pa.string()), pa.list_(pa.int32()), pa.list_(pa.binary())
SHARES = pa.list_(pa.float64())
COLUMNS = pa.schema(
    [
        ("study", TEXT),
        ("stage", TEXT),
        ("system", TEXT),
        ("seed", pa.int64()),
        ("run", TEXT),
        ("configuration", TEXT),
        ("config", TEXT),
        # one entry per data set
        ("suites", TEXTS),
        ("datasets", TEXTS),
        ("kinds", TEXTS),
        ("rows", NUMBERS),
        ("rows_digests", TEXTS),
        ("losses", SHARES),
        ("correct", BYTES),
        ("correct_norm", BYTES),
        ("roles", TEXTS),
        ("chances", SHARES),
        ("majorities", SHARES),
        ("curve_steps", NUMBERS),
        ("curve_loss", pa.list_(pa.float32())),
        ("curve_norm", pa.list_(pa.float32())),
        ("steps", pa.int64()),
        ("seconds", pa.float64()),
        ("machine", TEXT),
        ("versions", TEXT),
        ("backbone_sha256", TEXT),
    ]
)
UNTOLD = {"roles": "", "chances": float("nan"), "majorities": float("nan")}  # what tables of schema 1 do not hold
OF_SCHEMA = {SCHEMA: COLUMNS, 1: pa.schema([field for field in COLUMNS if field.name not in UNTOLD])}
ANSWERED = ("suites", "datasets", "kinds", "rows", "rows_digests", "losses", "correct", "correct_norm")
PER_DATASET = (*ANSWERED, *UNTOLD)
CURVES = ("curve_steps", "curve_loss", "curve_norm")

Row: TypeAlias = dict[str, Any]
Key: TypeAlias = tuple[str, int]


class ResultsError(ValueError):
    """A table of results that cannot be read or written; the message names the file and the remedy."""


def key_of(row: Row) -> Key:
    """What makes two rows the same run: the digest of its configuration without the seed, and the seed."""
    return row["configuration"], row["seed"]


def read_rows(path: str | Path) -> list[Row]:
    """The rows of a table, in the order in which they were added; none if there is no file.

    A table of schema 1 has no roles, chance and majority: they are "" and NaN.

    Raises:
        ResultsError: Naming a file that is damaged, of another schema, or with runs of different test rows or weights.
    """
    path = Path(path)
    if not os.path.lexists(path):
        return []
    if not path.is_file():
        raise ResultsError(f"{path} is not a file; {RESTORE}")
    try:
        # by its path: pyarrow's threads let a Python file go later, and abort a process that ends before they have
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            table = file.read()
        found = schema_of(table)
        rows = table.to_pylist() if found in OF_SCHEMA else None
    except Exception as error:  # pyarrow and its codecs each fail in their own way on damaged bytes
        raise ResultsError(
            f"{path} is not a readable table of results ({shorten(str(error), 200)}); {RESTORE}"
        ) from error
    if rows is None:
        raise ResultsError(
            f"{path} has schema {found} of a table of results, but this version of moe_analysis reads "
            f"{' and '.join(map(str, sorted(OF_SCHEMA)))}; use the version that wrote it, or move the file away"
        )
    if not table.schema.equals(OF_SCHEMA[found]):
        names = shorten(table.column_names, 200)
        raise ResultsError(f"{path} has the columns {names}, which are not those of schema {found}; {RESTORE}")
    rows = [
        {name: row.get(name, [UNTOLD.get(name)] * len(row["datasets"] or ())) for name in COLUMNS.names} for row in rows
    ]
    if fault := fault_of(rows):
        raise ResultsError(f"{path} {fault}; {RESTORE}")
    return rows


def schema_of(table: pa.Table) -> Any:
    """The number that a file's metadata gives, None if there is none."""
    about = json.loads((table.schema.metadata or {}).get(ABOUT, b"null"))
    return about.get("schema") if isinstance(about, dict) else None


def fault_of(rows: Sequence[Row]) -> str | None:
    """What is wrong with the rows of a file that has the columns of its schema."""
    seen = set()
    for number, row in enumerate(rows, 1):
        if empty := [name for name, value in row.items() if value is None]:
            return f"has no {empty[0]} in row {number}"
        if any(len({len(row[name]) for name in names}) > 1 for names in (PER_DATASET, CURVES)):
            return f"has lists of different lengths in row {number} ({row['run']})"
        for name in ("correct", "correct_norm"):
            if any(len(packed) != -(-count // 8) for packed, count in zip(row[name], row["rows"])):
                return f"has different numbers of test rows and outcomes in row {number} ({row['run']})"
        if key_of(row) in seen:
            return f"has configuration {row['configuration']} with seed {row['seed']} twice"
        seen.add(key_of(row))
    return mixture(rows)


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write a table so that a reader finds, even after a full disk or a crash, the old or the new one."""
    table = pa.Table.from_pylist(list(rows), COLUMNS)
    table = table.replace_schema_metadata({ABOUT: json.dumps({"schema": SCHEMA})})
    with replacing(path) as fresh, fresh.open("wb") as file:
        pq.write_table(table, file, compression="zstd", write_page_checksum=True)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def locked_table(path: Path) -> Iterator[None]:
    """Hold a table for this process, of all that share the disk; raises ResultsError after a minute of waiting."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path.with_name(f".{path.name}.lock"), LOCK_SECONDS)
    try:
        lock.acquire()
    except Timeout as error:
        raise ResultsError(
            f"{path} has been held by another process for {LOCK_SECONDS:.0f} seconds; find and end that process, then "
            "call again"
        ) from error
    try:
        yield
    finally:
        lock.release()


def add_rows(path: str | Path, rows: Iterable[Row]) -> list[Difference]:
    """Add rows to a table, which is created if missing; returns how a row differs from one that is already there.

    A run that the table has keeps the row it has.

    Raises:
        ResultsError: For a table that cannot be read, and for rows of other test rows or weights than its own.
        OSError: For a disk that takes nothing; the table is then as it was.
    """
    path = Path(path)
    with locked_table(path):
        known = read_rows(path)
        every, differences = merged(known, rows)
        refuse_mixture(path, every)
        if len(every) > len(known):
            write_rows(path, every)
    return differences


def refuse_mixture(path: Path, rows: Iterable[Row]) -> None:
    """Raise ResultsError for a table that would have rows of different test rows or weights."""
    if fault := mixture(rows):
        raise ResultsError(f"{path} {fault.replace('has', 'would have', 1)}; {APART}")


def merge_tables(sources: Iterable[str | Path], into: str | Path) -> tuple[int, list[Difference]]:
    """Add the rows of several tables to one; returns how many are new there, and where tables differ over a run.

    Every table is read before anything is written.

    Raises:
        ResultsError: For a source that is missing, cannot be read, is of another study, or was tested on other rows.
    """
    rows, known = [], read_rows(into)
    studies = {row["study"] for row in known}
    for source in sources:
        if not Path(source).exists():
            raise ResultsError(f"{source} is not a file; pass tables of results, such as data/results/<study>.parquet")
        rows += read_rows(source)
        if len(studies := studies | {row["study"] for row in rows}) > 1:
            raise ResultsError(
                f"{source} belongs to another study than the other tables: {', '.join(sorted(studies))}; merge "
                "tables of one study"
            )
    differences = add_rows(into, rows)
    return len(read_rows(into)) - len(known), differences


def merged(known: Sequence[Row], rows: Iterable[Row]) -> tuple[list[Row], list[Difference]]:
    """(the known rows with those that are new behind them, how any row differs from the one that was first)."""
    every, differences = {key_of(row): row for row in known}, []
    for row in rows:
        first = every.setdefault(key_of(row), row)
        if first is not row and (found := difference(first, row)):
            differences.append(found)
    return list(every.values()), differences
