"""The modules that a user chooses by a layer's number, by a part of a name, or by the whole name."""

from __future__ import annotations

from collections.abc import Sequence

from .records import layer_of

SOME = 6  # names that an error shows


def meant(modules: Sequence[str], asked: int | str, argument: str = "module") -> list[str]:
    """The chosen modules, in the order of `modules`.

    Args:
        modules: all modules.
        asked: the number of a layer, counted from the end if negative; a name; or a part of names between dots, such
            as "v_proj" or "layers.3".
        argument: the name of `asked` in the error.

    Raises:
        ValueError: if nothing matches; it lists the modules.

    Example:
        >>> names = ["layers.2.q_proj", "layers.2.v_proj", "layers.3.q_proj", "layers.3.v_proj"]
        >>> meant(names, -1), meant(names, "layers.2"), meant(names, "v_proj")[0]
        (['layers.3.q_proj', 'layers.3.v_proj'], ['layers.2.q_proj', 'layers.2.v_proj'], 'layers.2.v_proj')
    """
    layers = list(dict.fromkeys(map(layer_of, modules)))
    numbers = {int(end): layer for layer in layers if (end := layer.rpartition(".")[2]).isdigit()}
    if isinstance(asked, bool) or not isinstance(asked, int | str):
        found = []
    elif isinstance(asked, str):
        found = [name for name in modules if name == asked]
        found = found or [name for name in modules if f".{asked}." in f".{name.replace(' ', '.')}."]  # of a pool, too
    else:
        layer = layers[asked] if -len(layers) <= asked < 0 else numbers.get(asked)
        found = [name for name in modules if layer_of(name) == layer]
    if not found:
        some = ", ".join(modules[:SOME]) + (", …" if len(modules) > SOME else "")
        told = f"a layer's number ({', '.join(map(str, numbers))}) or " if numbers else ""
        raise ValueError(f"{argument} = {asked!r} matches no module; pass {told}a name or a part of one: {some}")
    return found
