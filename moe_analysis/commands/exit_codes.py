"""What the program's exit status says to a script; every command keeps to it."""

from __future__ import annotations

FINE = 0
FAILED = 1
BAD = 2
INTERRUPTED = 130
TERMINATED = 143

MEANING = {
    FINE: "all went well",
    FAILED: "the command did its work, and a claim does not hold or a run failed",
    BAD: "bad input or an error; nothing more was done",
    INTERRUPTED: "stopped by Ctrl-C; what was finished is kept",
    TERMINATED: "stopped by SIGTERM, in the same way",
}
