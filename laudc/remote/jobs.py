"""Long work on the other machine that goes on when the connection does not.

A job is a folder `$cache/jobs/KEY` with the files `pid`, `log` and, when it has ended, `code`. The key says what is
being made from what, so that the same command finds the job that an earlier one started.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass

from laudc.errors import UserError
from laudc.remote.failures import AGAIN, command_error
from laudc.remote.ssh import Connection

Progress = Callable[[str], None]
_POLL_S = 0.1
_SLOWEST_POLL_S = 3.0

_RUNNING, _ENDED, _GONE = "running", "ended", "gone"

# Prints the state, then the log's last line. `kill -0` of a number that was given away again is no proof of life, but
# then the job's own folder says so: its code file is written last.
_LOOK = """cd "$cache/jobs/{key}" 2>/dev/null || {{ echo gone; exit 0; }}
if [ -f code ]; then echo "ended $(cat code)"
elif [ -f pid ] && kill -0 "$(cat pid)" 2>/dev/null; then echo running
else echo gone; fi
tail -n 1 log 2>/dev/null || true"""

# The wrapper writes the code even if the command is killed; only if the wrapper itself is, there is none.
_START = """d="$cache/jobs/{key}"; mkdir -p "$d"; cd "$d"; rm -f code log
cat > script <<'LAUDC_END'
{prologue}
{script}
LAUDC_END
setsid sh -c 'sh script > log 2>&1 < /dev/null; echo $? > code.part; mv code.part code' > /dev/null 2>&1 < /dev/null &
echo $! > pid"""

_PROLOGUE = 'set -eu; umask 077; cache="${XDG_CACHE_HOME:-$HOME/.cache}/laudc"'


@dataclass(frozen=True)
class Job:
    """A job that has ended. `code` is its exit code, `log` all that it said."""

    key: str
    code: int
    log: str


def run_job(connection: Connection, key: str, script: str, doing: str, progress: Progress) -> Job:
    """Starts the job, or joins the one of that key, and waits for its end.

    Args:
        key: hexadecimal digits.
        script: POSIX shell; `$cache` is laudc's folder, the working folder is the job's own.
        doing: for messages: "cannot DOING on ...".

    Raises:
        UserError: the connection was lost (the job goes on), or the job was killed without leaving a code.
    """
    state, detail = _look(connection, key)
    if state == _GONE:
        start = _START.format(key=key, prologue=_PROLOGUE, script=script)
        connection.check(start, doing)
    elif state == _RUNNING:
        progress(f"joining what an earlier command started on {connection.target}")
    wait = _POLL_S
    while True:
        state, detail = _look(connection, key)
        if state != _RUNNING:
            break
        progress(f"on {connection.target}: {detail or 'working'}")
        time.sleep(wait)
        wait = min(wait * 1.2, _SLOWEST_POLL_S)
    log = connection.run(f'cat "$cache/jobs/{key}/log"').text
    if state == _GONE:
        remove_job(connection, key)
        raise UserError(f"cannot {doing} on {connection.target}", "it was killed before it ended", AGAIN)
    return Job(key, int(detail), log)


def require_success(connection: Connection, job: Job, doing: str) -> None:
    """Raises UserError, and removes the job so that the next command starts anew, unless it ended well."""
    if job.code != 0:
        remove_job(connection, job.key)
        raise command_error(connection.target, doing, job.code, job.log)


def remove_job(connection: Connection, key: str) -> None:
    """Forgets a job and all that is in its folder."""
    connection.run(f"rm -rf \"$cache/jobs/\"{shlex.quote(key)}")


def _look(connection: Connection, key: str) -> tuple[str, str]:
    """State, and its exit code or the log's last line."""
    first, _, rest = connection.check(_LOOK.format(key=key), "look after a job").partition("\n")
    if first.startswith(_ENDED):
        return _ENDED, first.split()[1]
    return first, rest.removeprefix("laudc-runner: ").strip()
