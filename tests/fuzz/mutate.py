"""Fuzz the loaders: damage sound input, load it, and judge what happened.

    python -m tests.fuzz.mutate --count 10000 --seed 0        # a table of outcomes; exits 1 if one is bad
    python -m tests.fuzz.mutate --seed 0 --only run:123       # one case again, with its traceback

Whatever is damaged, a reading must either work and give sound values ("loaded"), or raise an error of ours that names
the file and says what to do ("refused"). Every other outcome is a defect.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import functools
import hashlib
import itertools
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from random import Random
from typing import Any

from .folders import DAMAGES, files

GOOD = ("loaded", "refused")
LOADERS = ("suite", "run")
SLOW, HANG, SILENCE = 5, 20, 90  # seconds: a reading that is too long, one that is ended, a process that is given up
FRESH = 75  # exit code of a process that wants to be followed by a new one
LONGEST = 8_000  # characters of an error that a person can still read
MEMORY = 12 * 2**30  # address space of a fuzzing process, so that a claim of terabytes fails in it alone


class Hang(BaseException):
    """Raised by the alarm; no `except Exception` of a library may take it for its own."""


@dataclass(frozen=True)
class Result:
    """What one reading of one damaged folder came to. file: the path at fault, inside the folder."""

    case: str
    damage: str
    file: str
    reading: str
    outcome: str
    detail: str = ""


def run_case(case: str, seed: int, folder: Path) -> Iterator[Result]:
    """Damage and read the input of a case such as "run:123", in a folder that does not exist yet."""
    name, rng = case.partition(":")[0], Random(f"{seed}/{case}")
    shutil.copytree(sound(name), folder)
    damage = rng.choice(DAMAGES)
    entry = rng.choice(sorted(folder.iterdir()))  # first, as a record has far more files than all the rest
    chosen = rng.choice(files(entry)) if entry.is_dir() else entry
    path = damage(rng, folder, chosen)
    file = printable(path.relative_to(folder))
    before = fingerprint(folder)
    for reading, call in subject(name).readings(folder):
        outcome, detail = judged(call, subject(name).ERRORS, {*names_of(path, folder), *names_of(chosen, folder)})
        yield Result(case, damage.__name__, file, reading, outcome, detail)
    if fingerprint(folder) != before:
        yield Result(case, damage.__name__, file, "", "touched", "files changed while they were read")


def subject(name: str) -> Any:
    """What is fuzzed: build(folder) writes sound input; readings(folder) are calls, by name, that load a part of it and
    check what they got; ERRORS are what they may raise. Imported late, as a run needs torch and a suite does not."""
    return import_module(f".{name}_subject", __package__)


@functools.cache
def sound(name: str) -> Path:
    """The undamaged folder of a subject, made once a process."""
    folder = Path(tempfile.mkdtemp(prefix="fuzz")) / "sound"
    atexit.register(shutil.rmtree, folder.parent)
    subject(name).build(folder)
    return folder


def names_of(path: Path, folder: Path) -> list[str]:
    """The words by which an error may name what is wrong; of a file that is gone, its folder too."""
    found = [printable(part) for part in path.relative_to(folder).parts if len(part) > 1]
    return found if path.exists() else [*found, folder.name]


def printable(name: str | Path) -> str:
    return str(name).encode("utf-8", "backslashreplace").decode()


def judged(call: Any, errors: tuple[type[Exception], ...], names: set[str]) -> tuple[str, str]:
    """(outcome, detail) of one reading."""
    started = time.monotonic()
    try:
        with warnings.catch_warnings(), alarm(HANG):
            warnings.simplefilter("ignore")
            call()
    except Hang:
        return "hang", "".join(traceback.format_exc().splitlines(keepends=True)[-8:])
    except errors as error:
        outcome, detail = fault_of(str(error), names), str(error)
    except AssertionError:
        outcome, detail = "unsound", traceback.format_exc()
    except Exception as error:
        outcome, detail = "foreign error", f"{type(error).__name__}: {error}\n{traceback.format_exc()}"
    else:
        outcome, detail = "loaded", ""
    if time.monotonic() - started > SLOW and outcome in GOOD:
        return "slow", detail
    return outcome, detail


def fault_of(text: str, names: set[str]) -> str:
    """ "refused" for an error that a person can act on, else what is wrong with it."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return "unprintable"
    if len(text) > LONGEST:
        return "endless text"
    if not any(name in text for name in names):
        return "unnamed"
    return "refused" if ";" in text else "no remedy"


@contextlib.contextmanager
def alarm(seconds: int) -> Iterator[None]:
    def ring(*_: Any) -> None:
        raise Hang

    previous = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)


def fingerprint(folder: Path) -> str:
    """Names, kinds, rights, times and bytes of everything in a folder."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        found = path.lstat()
        digest.update(f"{os.fsencode(path)!r} {found.st_mode} {found.st_mtime_ns} {found.st_size}".encode())
        if stat.S_ISREG(found.st_mode) and os.access(path, os.R_OK):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def cases(count: int, subjects: Sequence[str] = LOADERS) -> list[str]:
    """`count` cases, dealt out to the subjects in turn."""
    return [f"{name}:{number}" for number, name in zip(range(count), itertools.cycle(subjects))]


def results_of(names: list[str], seed: int) -> Iterator[Result]:
    """All results of some cases, in this process."""
    for case in names:
        with tempfile.TemporaryDirectory(prefix="fuzz") as place:
            try:
                yield from run_case(case, seed, Path(place) / "suite")
            finally:
                for path in Path(place).rglob("*"):  # rights that were taken would keep the folder from going
                    if not path.is_symlink():
                        path.chmod(0o700)


def results_of_children(names: list[str], seed: int) -> Iterator[Result]:
    """The same in processes of their own: one that dies or falls silent is told of, and the next case goes on."""
    while names:
        command = [sys.executable, "-m", "tests.fuzz.mutate", "--seed", str(seed), "--cases-from-stdin"]
        with tempfile.TemporaryFile("w+") as given:
            given.write("\n".join(names))
            given.seek(0)
            child = subprocess.Popen(command, stdin=given, stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        why = "the process died"
        try:
            while True:
                with alarm(SILENCE):
                    line = child.stdout.readline()
                if not line:
                    break
                if line.startswith("{"):
                    yield Result(**json.loads(line))
                else:
                    names = names[names.index(line.strip()) + 1 :]
        except Hang:
            child.kill()
            why = f"the process was silent for {SILENCE} seconds"
        if (code := child.wait()) != FRESH and names:
            yield Result(names[0], "", "", "", "crash", f"{why}, exit code {code}")
            names = names[1:]


def serve(seed: int) -> None:
    """Read cases from stdin; print a line of JSON a result, and the case's name when it is done."""
    import faulthandler
    import resource

    faulthandler.enable()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    for case in sys.stdin.read().split():
        results = list(results_of([case], seed))
        for result in results:
            print(json.dumps(asdict(result)))
        print(case, flush=True)
        if any(result.outcome == "hang" for result in results):
            os._exit(FRESH)  # a thread of a library may still be at it


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000, help="damaged inputs in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--subjects", nargs="+", default=LOADERS, choices=(*LOADERS, "figures"))
    parser.add_argument("--only", help="one case, such as run:123")
    parser.add_argument("--cases-from-stdin", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.cases_from_stdin:
        serve(given.seed)
        return
    if given.only:
        for result in results_of([given.only], given.seed):
            print(f"{result.reading} after {result.damage} of {result.file}: {result.outcome}\n  {result.detail}")
        return
    table: Counter[tuple[str, str, str]] = Counter()
    bad = set()
    for result in results_of_children(cases(given.count, given.subjects), given.seed):
        table[result.case.partition(":")[0], result.reading, result.outcome] += 1
        kind = (result.reading, result.outcome, result.detail.partition("\n")[0][:50])
        if result.outcome not in GOOD and kind not in bad:
            bad.add(kind)
            print(
                f"{result.case} {result.reading} after {result.damage} of {result.file}: {result.outcome}\n"
                f"{result.detail}\n",
                flush=True,
            )
    for (name, reading, outcome), count in sorted(table.items()):
        print(f"{name:8} {reading:16} {outcome:14} {count:7}")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
