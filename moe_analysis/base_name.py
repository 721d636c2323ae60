"""The name of a base model outside this machine: paths become names, and our names become paths again."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from .backbones import COMPACT
from .packaged_backbone import PACKAGED

SNAPSHOT = re.compile(r"models--(?P<id>[^/\\]+)[/\\]snapshots[/\\][^/\\]+[/\\]?$")  # in huggingface_hub's cache


@dataclass(frozen=True)
class BaseName:
    """A base model by a name that is not a path.

    Args:
        name: "compact", a hub id, the last part of a local folder's path, or "" for a model without a name.
        kind: "ours" (`load_backbone` knows it), "hub", "folder" or "none".
    """

    name: str
    kind: str

    @classmethod
    def of(cls, name_or_path: str | None) -> BaseName:
        """The name of what transformers calls `name_or_path`.

        >>> BaseName.of("meta-llama/Llama-3.2-1B"), BaseName.of("/home/me/models/mine")
        (BaseName(name='meta-llama/Llama-3.2-1B', kind='hub'), BaseName(name='mine', kind='folder'))
        """
        if not name_or_path:
            return cls("", "none")
        text = str(name_or_path)
        for name, folder in ours().items():
            if is_same(text, folder) or (text == name and not os.path.isdir(text)):  # noqa: PTH112
                return cls(name, "ours")
        if found := SNAPSHOT.search(text):
            return cls(found["id"].replace("--", "/", 1), "hub")
        if looks_local(text):
            return cls(last_part(text), "folder")
        return cls(text, "hub")

    @property
    def hub_id(self) -> str | None:
        """What the hub calls the model; None if it has none of this name.

        >>> BaseName.of("smollm2-135m").hub_id, BaseName.of("compact").hub_id
        ('HuggingFaceTB/SmolLM2-135M-Instruct', None)
        """
        if self.kind == "ours":
            return PACKAGED[self.name].hub if self.name in PACKAGED else None
        return self.name if self.kind == "hub" else None


def ours() -> dict[str, Path]:
    """What `load_backbone` calls a model -> the folder that it loads."""
    return {"compact": COMPACT, **{name: one.cached() for name, one in PACKAGED.items()}}


def public_name(name_or_path: str | None) -> str | None:
    """What adapter_config.json may call a base model: a name that is known elsewhere, else what was given.

    >>> public_name(str(COMPACT)), public_name("/home/me/models/mine")
    ('compact', '/home/me/models/mine')
    """
    base = BaseName.of(name_or_path)
    return base.name if base.kind in ("ours", "hub") else name_or_path


def local_name(name_or_path: str | None) -> str | None:
    """What transformers and PEFT can load for one of our names; anything else, and a folder of that name, unchanged.

    Without it PEFT would ask the hub for a model called "compact" whenever an adapter is saved.

    >>> local_name("compact") == str(COMPACT), local_name("gpt2")
    (True, 'gpt2')
    """
    folder = ours().get(name_or_path or "")
    return name_or_path if folder is None or not folder.is_dir() or Path(str(name_or_path)).is_dir() else str(folder)


def is_same(text: str, folder: Path) -> bool:
    return os.path.realpath(os.path.expanduser(text)) == os.path.realpath(folder)  # noqa: PTH111


def looks_local(text: str) -> bool:
    """Whether a name is a path: a folder that is here, or written as none of the hub's ids can be."""
    return (
        os.path.isdir(os.path.expanduser(text))  # noqa: PTH111, PTH112
        or os.path.isabs(text)  # noqa: PTH117
        or text.startswith((".", "~"))
        or "\\" in text
        or text.count("/") > 1
    )


def last_part(path: str) -> str:
    """The last name of a path of any system; of "." and ".." the name of the folder that they mean.

    >>> last_part("/home/me/mine/"), last_part("C:\\\\models\\\\mine")
    ('mine', 'mine')
    """
    parts = [part for part in re.split(r"[/\\]+", path) if part]
    return parts[-1] if parts and parts[-1] not in (".", "..", "~") else Path(path).expanduser().resolve().name
