"""How the tokens of a text are written in it, by the tokenizer that made them."""

from __future__ import annotations

from typing import Any

import pandas as pd

from ...backbones import load_tokenizer

BLANK, PART = "␣", "·"  # a token that is white space; a token that ends a character that is already shown


def pieces_of(texts: list[str], frame: pd.DataFrame, tokenizer: Any) -> pd.DataFrame:
    """space, piece of every token: the white space before it, and its text.

    A token without text, such as the beginning token, is shown by its name. If a tokenizer does not tell where its
    tokens are in the text, all tokens are shown by their names, separated by spaces.
    """
    fast = getattr(tokenizer, "is_fast", False)
    spans = tokenizer(texts, return_offsets_mapping=True)["offset_mapping"] if fast else None
    rows = []
    for row, own in frame.groupby("row", sort=True):
        ids = own["token_id"].tolist()
        names = tokenizer.convert_ids_to_tokens(ids)
        if spans is None:
            rows += [(" " if place else "", name) for place, name in enumerate(names)]
            continue
        text, last = texts[int(row)], 0
        for name, (start, end) in zip(names, spans[int(row)]):
            between, inside = text[last:start], text[max(start, last) : end]
            if inside.strip():
                lead = inside[: len(inside) - len(inside.lstrip())]
                rows.append((between + lead, inside.strip()))
            else:
                rows.append((between, BLANK if inside else PART if end > start else name))
            last = max(last, end)
    return pd.DataFrame(rows, columns=["space", "piece"])


def tokenizer_of(model: Any) -> Any:
    """The tokenizer of a model's name; ValueError if there is none."""
    name = getattr(model, "name_or_path", None) or getattr(getattr(model, "config", None), "_name_or_path", None)
    try:
        if name:
            return load_tokenizer(name)
    except ValueError:
        pass
    raise ValueError(
        f"the tokenizer of {type(model).__name__} is not known{f' by its name, {name!r}' if name else ''}; pass "
        "tokenizer="
    )
