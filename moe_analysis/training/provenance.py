"""Where a run was trained, and by which code: what its numbers may depend on beside its configuration."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
LIBRARIES = ("torch", "transformers", "peft", "accelerate", "numpy")
GIT_SECONDS = 10


def versions() -> dict[str, str]:
    """Of Python, of the libraries that compute, and of this package, with its commit where it is a clone."""
    libraries = {name: version(name) for name in LIBRARIES}
    return {"python": platform.python_version(), **libraries, PACKAGE.name: code_version()}


@cache
def code_version() -> str:
    """Such as "0.1.0+f2e7be5"; with ".changed" behind it where files of the package are not as committed."""
    try:
        number = version(PACKAGE.name)
    except PackageNotFoundError:  # a clone on the path that nobody installed
        number = "0"
    commit = git("rev-parse", "--short=10", "HEAD")
    if commit is None:
        return number
    return f"{number}+{commit}{'.changed' if git('status', '--porcelain', '--', str(PACKAGE)) else ''}"


def git(*words: str) -> str | None:
    """What git says of the clone that the package lies in; None where there is no git or no clone."""
    if not (PACKAGE.parent / ".git").exists():  # the package may be installed inside somebody else's repository
        return None
    try:
        done = subprocess.run(
            ["git", "-C", str(PACKAGE.parent), *words], capture_output=True, text=True, timeout=GIT_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


@cache
def machine() -> str:
    """Processor, cores and the first CUDA device, such as "AMD EPYC 7B13, 2 cores"; never a host's name."""
    import torch

    device = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{processor()}, {os.cpu_count()} cores{device}"


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
