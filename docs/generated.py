"""Pages made from the sources: one for each module with public names, the names of the examples, the paper items."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from links import Links, escape
from public_names import PACKAGE, ROOT, PublicName, definition, public_names, top_names, tree_of

PREPARED = "tests/docs/prepared"


def api_pages() -> dict[str, str]:
    """Path -> Markdown of the reference: one page per module, and the package's own."""
    pages = {"api/index.md": top_page()}
    for module in sorted({one.module for one in public_names()}):
        own = [one for one in public_names() if one.module == module]
        pages[own[0].page] = module_page(module, own)
    return pages


def top_page() -> str:
    rows = "\n".join(f"| [`ma.{name}`][{one.path}] | {first_sentence(one)} |" for name, one in top_names().items())
    modules = sorted({one.module for one in public_names()})
    below = "\n".join(
        f"| [`{module.partition('.')[2]}`]({page[4:]}) | {summary(module)} |"
        for module in modules
        for page in [next(x.page for x in public_names() if x.module == module)]
    )
    return (
        f"# moe_analysis\n\n`import moe_analysis as ma` loads a module only when a name of it is used. These names "
        f"are at the top level:\n\n| name | what it is |\n|---|---|\n{rows}\n\n## Modules\n\n"
        f"| module | what is in it |\n|---|---|\n{below}\n"
    )


def module_page(module: str, names: list[PublicName]) -> str:
    """Heading, the module's own docstring, and every public name in the order of the source."""
    blocks = [f"::: {one.path}" for one in sorted(names, key=place) if one.kind != "constant"]
    constants = "\n".join(f"- `{one.name}` = `{shown(one)}`" for one in names if one.kind == "constant")
    constants = f"## Constants\n\n{constants}" if constants else ""
    about = f"::: {module}\n    options: {{members: false, show_root_heading: false, show_root_toc_entry: false}}"
    return "\n\n".join(part for part in (f"# {module}", about, *blocks, constants) if part) + "\n"


def place(one: PublicName) -> tuple[str, int]:
    found = definition(one.home, one.name)
    return one.home, found[1].lineno if found else 0


def shown(one: PublicName, most: int = 100) -> str:
    """The value of a constant as its source has it, on one line."""
    found = definition(one.home, one.name)
    value = getattr(found[1], "value", None) if found else None
    text = ast.unparse(value) if value is not None else "…"
    return text if len(text) <= most else f"{text[:most]} …"


def first_sentence(one: PublicName) -> str:
    """How a name's docstring begins, fit for the cell of a table."""
    found = definition(one.home, one.name)
    return cell(ast.get_docstring(found[1]) or "") if found else ""  # type: ignore[arg-type]


def summary(module: str) -> str:
    return cell(ast.get_docstring(tree_of(module)) or "")


def cell(docstring: str) -> str:
    text = " ".join(docstring.split("\n\n")[0].split())
    sentence = re.split(r"(?<=[.:]) (?=[A-Z`])", text)[0]
    return escape(sentence).replace("|", r"\|")


def items_page() -> str:
    """Every item of the three papers, from the index."""
    from moe_analysis.papers import table

    rows = [
        f"| {row.source} | {escape(row.says)} | {f'`{row.study}`' if row.study else ''} | "
        f"{f'`{row.notebook}`' if row.notebook else ''} | {f'`{row.checks}`' if row.checks else ''} | "
        f"{escape(row.verdict or row.reason)} |"
        for row in table().itertuples()
    ]
    head = "| item | what it says | study | notebook | checks | verdict, or why not |\n|---|---|---|---|---|---|\n"
    return "# Paper items\n\n`ma.papers.table()` is this table as a data frame.\n\n" + head + "\n".join(rows) + "\n"


def prepared_page() -> str:
    """What stands ready in the examples, each name with what it is and how it is made."""
    found, links = list(prepared_names()), Links(public_names())
    known = {name for name, _, _ in found}

    def told(name: str, about: str) -> str:
        about = re.sub(
            r"(?<!\[)`(\w+)`",
            lambda match: f"[{match[0]}](#{match[1]})" if match[1] in known else match[0],
            escape(about),
        )
        return links.add(about, PACKAGE, name)

    call = re.compile(rf"(?<![.\w])({'|'.join(known)})\(\)")  # a name stands for its value there
    shown = [(name, told(name, about), call.sub(r"\1", body)) for name, about, body in found]
    rows = "\n\n".join(f"## `{name}` {{ #{name} }}\n\n{about}\n\n```python\n{body}\n```" for name, about, body in shown)
    return (
        "# Names in the examples\n\nThe examples of the reference run as tests. Besides the names of the function's "
        "own module they use `ma`, `np`, `pd`, `torch`, and the names listed here: rows, small models and runs that "
        "train in a second, and frames made of them. Every name means the same in all examples.\n\n" + rows + "\n"
    )


def prepared_names() -> Iterator[tuple[str, str, str]]:
    """(name, docstring, source) of every prepared name, in alphabetical order."""
    found = []
    for path in sorted((ROOT / PREPARED).glob("*.py")):
        for node in ast.parse(path.read_text("utf-8")).body:
            marks = {mark.id for mark in getattr(node, "decorator_list", []) if isinstance(mark, ast.Name)}
            if isinstance(node, ast.FunctionDef) and marks & {"prepared", "fresh"}:
                body = "\n".join(assigned(node.name, statement) for statement in node.body[1:])
                found.append((node.name, " ".join((ast.get_docstring(node) or "").split()), body))
    return iter(sorted(found))


def assigned(name: str, statement: ast.stmt) -> str:
    """A statement of a prepared name's function as a reader would type it: what is returned gets the name."""
    if isinstance(statement, ast.Return) and statement.value is not None:
        return f"{name} = {ast.unparse(statement.value)}"
    return ast.unparse(statement)
