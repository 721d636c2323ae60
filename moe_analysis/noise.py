"""Hides messages of other libraries while we call them: short-lived bars, and notices meant for other libraries."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

PATIENCE_SECONDS = 2.0  # a wait that is worth a bar

_LOCK = threading.Lock()
_FOUND: list[Any] = []  # the hook that the first of the running blocks of `patient_bars` found, once for each block


def overlook_notices() -> None:
    """Hide what PEFT 0.21 makes transformers 5.23 say whenever an adapter is put on a model.

    PEFT's constructor reads a property by its old name, after all code of ours in it is done, so no block around a
    call of ours could hide this. Only this sentence of this module is hidden, wherever `FutureWarning`s are shown.
    """
    warnings.filterwarnings(
        "ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning, r"transformers\.modeling_utils$"
    )


@contextmanager
def patient_bars() -> Iterator[None]:
    """While the block runs, a bar of transformers appears once it has taken two seconds; most models load sooner.

    Bars of downloads are huggingface_hub's and stay. Blocks may overlap, in several threads too.
    """
    from transformers.utils import logging

    with _LOCK:
        if not _FOUND:
            before = logging.set_tqdm_hook(None)
            logging.set_tqdm_hook(_delayed(before))
        _FOUND.append(_FOUND[0] if _FOUND else before)
    try:
        yield
    finally:
        with _LOCK:
            before = _FOUND.pop()
            if not _FOUND:
                logging.set_tqdm_hook(before)


def _delayed(before: Callable[..., Any] | None) -> Callable[..., Any]:
    """A hook that hands the bar on to the hook before it, or makes it, with a delay unless the caller chose one."""

    def make(factory: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        kwargs = {"delay": PATIENCE_SECONDS, **kwargs}
        return before(factory, args, kwargs) if before else factory(*args, **kwargs)

    return make


@contextmanager
def nobody_watching(said_before: type[Warning]) -> Iterator[None]:
    """While the block runs, transformers logs errors only and draws no bar, and this category of warnings is silent.

    For runs that are trained beside others: the process that started them has given the notice, and shows one bar for all.
    """
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with no_bars(), warnings.catch_warnings():
            overlook_notices()  # again, for code that made filters of their own since
            warnings.simplefilter("ignore", said_before)
            yield
    finally:
        logging.set_verbosity(verbosity)


@contextmanager
def no_bars() -> Iterator[None]:
    """While the block runs, transformers draws no bar."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
