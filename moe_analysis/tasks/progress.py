"""A progress bar that appears only in a terminal and only for long work."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence

from ..noise import PATIENCE_SECONDS


def with_progress(batches: Sequence[list[int]], total: int, what: str, show: bool | None) -> Iterator[list[int]]:
    """Yield the batches while a bar on stderr counts their items up to `total`.

    `show` True draws it from the start, False never, None on a terminal once two seconds have passed.
    """
    if show is None and not sys.stderr.isatty():
        show = False
    if show is False:
        yield from batches
        return
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    bar = Progress(
        *Progress.get_default_columns()[:2],
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
    task = bar.add_task(what, total=total)
    started = time.monotonic()
    try:
        for batch in batches:
            if not bar.live.is_started and (show or time.monotonic() - started > PATIENCE_SECONDS):
                bar.start()
            yield batch
            bar.advance(task, len(batch))
    finally:
        bar.stop()
