"""Which names are public, read from the sources without importing them.

Public is what `moe_analysis` offers by itself, what its packages list in `__all__`, and what the notebooks and the
Python of the README take from the package. Each name is documented in one place: on the page of the first package that
lists it, else on the page of the module that defines it.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "moe_analysis"
# packages whose __all__ is a promise
FACADES = ("adapters", "optim", "tasks", "training", "theory", "evidence", "drawing")
KINDS = {ast.FunctionDef: "function", ast.ClassDef: "class", ast.Assign: "constant", ast.AnnAssign: "constant"}
IMPORTS = (ast.Import, ast.ImportFrom)


@dataclass(frozen=True, order=True)
class PublicName:
    """One name. module: the page that documents it. home: the module that defines it. kind: "function", "class" or
    "constant"."""

    module: str
    name: str
    home: str
    kind: str

    @property
    def path(self) -> str:
        """Where it is imported from: its package, if no module of the package has the same name."""
        short = f"{self.module}.{self.name}"
        return f"{self.home}.{self.name}" if tree_of(short).body else short

    @property
    def page(self) -> str:
        """The page of the reference that has it, relative to the folder of pages."""
        return page_of(self.module)

    def load(self) -> Any:
        """The object itself; imports the module that defines it."""
        return getattr(import_module(self.home), self.name)


def page_of(module: str) -> str:
    """ "moe_analysis.studies.trees" -> "api/studies/trees.md"; the package itself -> "api/index.md"."""
    parts = module.split(".")[1:]
    return f"api/{'/'.join(parts)}.md" if parts else "api/index.md"


@cache
def public_names() -> tuple[PublicName, ...]:
    """Every public name once, module by module, in alphabetical order."""
    found: dict[tuple[str, str], PublicName] = {}
    for module, name in [*facade_names(), *named_elsewhere()]:
        if (defined := definition(module, name)) is None:
            continue  # a module, or a class that is made when it is imported: its page is that of what it is made of
        home, node = defined
        at = module if module.removeprefix(f"{PACKAGE}.") in FACADES else home
        found.setdefault((home, name), PublicName(at, name, home, KINDS[type(node)]))
    return tuple(sorted(found.values()))


def top_names() -> dict[str, PublicName]:
    """What `moe_analysis` offers itself: name -> the name that documents it."""
    by_home = {(one.home, one.name): one for one in public_names()}
    return {
        name: by_home[defined[0], name]
        for name, source in sources().items()
        if (defined := definition(f"{PACKAGE}.{source}", name) or definition(f"{PACKAGE}.adapters", name))
    }


def sources() -> dict[str, str]:
    """Name -> module, as the package's own door lists them."""
    return dict(import_module(PACKAGE).SOURCES)


def facade_names() -> Iterator[tuple[str, str]]:
    """(module, name) of what the packages list and of what the door offers."""
    for package in FACADES:
        module = f"{PACKAGE}.{package}"
        listed = next(
            node.value
            for node in tree_of(module).body
            if isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and node.targets[0].id == "__all__"
        )
        yield from ((module, name) for name in ast.literal_eval(listed))
    yield from ((f"{PACKAGE}.{source}", name) for name, source in sources().items())


def named_elsewhere() -> Iterator[tuple[str, str]]:
    """(module, name) of all that a notebook or an example of the README takes from the package."""
    for code in [*map(notebook_code, sorted((ROOT / "notebooks").glob("*.ipynb"))), readme_code()]:
        yield from taken_names(code)


def notebook_code(path: Path) -> str:
    cells = json.loads(path.read_text("utf-8"))["cells"]
    lines = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code").splitlines()
    return "\n".join(line for line in lines if not line.lstrip().startswith(("%", "!")))


def readme_code() -> str:
    text = (ROOT / "README.md").read_text("utf-8")
    return "\n".join(re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL))


def taken_names(code: str) -> Iterator[tuple[str, str]]:
    """(module, name) for `from module import name` and for `alias.name` where the alias stands for a module of ours."""
    tree, stands_for = ast.parse(code), {}
    for node in (node for node in ast.walk(tree) if isinstance(node, IMPORTS)):
        base = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
        for alias in node.names:
            full = base + alias.name
            if full.split(".")[0] == PACKAGE:
                stands_for[alias.asname or alias.name.split(".")[0]] = full
    for full in stands_for.values():
        yield full.rpartition(".")[::2]
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and re.fullmatch(r"\w+(\.\w+)+", dotted := ast.unparse(node)):
            first, _, rest = dotted.partition(".")
            if first in stands_for:
                yield f"{stands_for[first]}.{rest}".rpartition(".")[::2]


@cache
def tree_of(module: str) -> ast.Module:
    """The parsed source of a module of ours; empty for a name that is no module."""
    path = ROOT.joinpath(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.parse(file.read_text("utf-8") if file.exists() else "")


def statements(module: str) -> Iterator[ast.stmt]:
    """What a module does at its top, and what it imports for type checkers: names that a lazy package hands on."""
    for node in tree_of(module).body:
        yield from node.body if isinstance(node, ast.If) else [node]


def definition(module: str, name: str) -> tuple[str, ast.stmt] | None:
    """(module, node) where a name is defined, followed through the imports of the modules that hand it on."""
    for node in statements(module):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
            return module, node
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(target, ast.Name) and target.id == name for target in targets):
                return module, node
        if isinstance(node, ast.ImportFrom) and any((alias.asname or alias.name) == name for alias in node.names):
            return definition(source_of(module, node), name)
    if module == PACKAGE and name in sources():
        return definition(f"{PACKAGE}.{sources()[name]}", name)
    return None


def source_of(module: str, node: ast.ImportFrom) -> str:
    """The absolute module that an import statement of `module` names."""
    if not node.level:
        return node.module or ""
    base = module.split(".")
    up = node.level - (ROOT.joinpath(*base) / "__init__.py").exists()
    return ".".join([*base[: len(base) - up], *([node.module] if node.module else [])])
