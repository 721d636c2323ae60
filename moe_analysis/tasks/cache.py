"""Arrays kept on disk under the hash of what they were computed from."""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ..atomic import write_whole

CACHE_VARIABLE = "MOE_ANALYSIS_CACHE"
DIGEST_BYTES = 32
_told_unwritable: set[Path] = set()


class CacheWarning(UserWarning):
    """The cache could not help; the result is computed and right all the same."""


def digest_of(texts: Iterable[str]) -> str:
    """SHA-256, in hex, of a sequence of texts."""
    digest = hashlib.sha256()
    for text in texts:
        content = text.encode()
        # The length in front keeps ["ab", "c"] and ["a", "bc"] apart.
        digest.update(len(content).to_bytes(8, "little") + content)
    return digest.hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256, in hex, of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cache_folder() -> Path:
    """$MOE_ANALYSIS_CACHE, or moe_analysis in the user's cache folder."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "moe_analysis"
    try:
        return Path.home() / ".cache" / "moe_analysis"
    except RuntimeError:  # a container's user without a home
        return Path(tempfile.gettempdir()) / "moe_analysis"


class ArrayCache:
    """float32 matrices as <key>.npy files, each followed by the SHA-256 of its bytes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def default(cls) -> ArrayCache:
        """The cache of embeddings."""
        return cls(cache_folder() / "embeddings")

    def path(self, key: str) -> Path:
        return self.folder / f"{key}.npy"

    def load(self, key: str, rows: int) -> np.ndarray | None:
        """The (rows, d) matrix stored under `key`, or None; a damaged file is reported and is as none."""
        try:
            content = self.path(key).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            self._warn_once(error)
            return None
        payload, digest = content[:-DIGEST_BYTES], content[-DIGEST_BYTES:]
        # numpy would take flipped bits for numbers, so the digest decides.
        if hashlib.sha256(payload).digest() == digest:
            table = np.load(io.BytesIO(payload), allow_pickle=False)
            if table.ndim == 2 and len(table) == rows and table.dtype == np.float32:
                return table
        warnings.warn(f"cache file {self.path(key)} is damaged; computing it again", CacheWarning, stacklevel=5)
        return None

    def store(self, key: str, table: np.ndarray) -> None:
        """Write the matrix atomically; a folder that cannot be written is reported once, then ignored."""
        buffer = io.BytesIO()
        np.save(buffer, table, allow_pickle=False)
        payload = buffer.getvalue()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_whole(self.path(key), payload + hashlib.sha256(payload).digest())
        except OSError as error:
            self._warn_once(error)

    def _warn_once(self, error: OSError) -> None:
        if self.folder not in _told_unwritable:
            _told_unwritable.add(self.folder)
            warnings.warn(
                f"cache folder {self.folder} cannot be used ({error.strerror or error}); "
                f"embeddings are computed every time; set {CACHE_VARIABLE} to a writable folder",
                CacheWarning,
                stacklevel=6,
            )
