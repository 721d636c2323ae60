"""Names of ours in running text, as links into the reference."""

from __future__ import annotations

import re
from collections.abc import Iterable

from public_names import PublicName


def escape(text: str) -> str:
    """Text in which Markdown finds no emphasis or tag that its writer did not mean; what stands in backticks stays."""
    pieces = re.split(r"(`[^`]*`)", text)
    return "".join(piece if number % 2 else re.sub(r"([*<\[])", r"\\\1", piece) for number, piece in enumerate(pieces))


class Links:
    """Public names that other docstrings mention in backticks, and where each is documented."""

    def __init__(self, names: Iterable[PublicName]) -> None:
        self.by_name: dict[str, list[PublicName]] = {}
        for one in (one for one in names if one.kind != "constant"):
            self.by_name.setdefault(one.name, []).append(one)

    def add(self, text: str, module: str, own: str = "") -> str:
        """Every `name` in backticks that means one public name, as a link to it; its own name stays as it is."""

        def linked(match: re.Match[str]) -> str:
            target = None if match[1].rpartition(".")[2] == own else self.find(match[1], module)
            return f"[{match[0]}][{target.path}]" if target else match[0]

        return re.sub(r"(?<!\[)`([A-Za-z_][\w.]*)`", linked, text)

    def find(self, mention: str, module: str) -> PublicName | None:
        """The public name that a mention such as `clusters.map_sample` means in a module; None if it is not clear."""
        *path, name = mention.split(".")
        found = [
            one
            for one in self.by_name.get(name, [])
            if one.home.split(".")[-len(path) :] == path or not path or one.module.split(".")[-len(path) :] == path
        ]
        near = [one for one in found if one.home == module]
        return near[0] if near else found[0] if len(found) == 1 else None
