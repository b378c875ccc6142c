"""What the other machine has to offer."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from laudc.errors import UserError
from laudc.remote.failures import command_error, reported_error
from laudc.remote.ssh import Connection

# A login shell's PATH is not that of an ssh command: the usual places of a virtual environment come after it.
_FIND_LAUDC = """for c in laudc "$HOME/.local/bin/laudc" "$HOME/laudc/.venv/bin/laudc" "$HOME/.venv/bin/laudc"; do
  if command -v "$c" > /dev/null 2>&1; then command -v "$c"; "$c" --version; exit 0; fi
done
if python3 -c 'import laudc' 2> /dev/null; then echo "python3 -m laudc"; python3 -m laudc --version; exit 0; fi
exit 7"""


@dataclass(frozen=True)
class RemoteLaudc:
    """laudc as it is installed there: the command (shell text) and its version."""

    command: str
    version: str


def find_laudc(connection: Connection) -> RemoteLaudc:
    """Raises UserError when it is not installed there, or in another version than here."""
    import laudc

    done = connection.run(_FIND_LAUDC)
    lines = done.text.splitlines()
    if done.code != 0 or len(lines) < 2:
        raise UserError(
            f"laudc is not installed on {connection.target}",
            "engines for CPUs are built by the laudc of the machine they run on, and it is neither in PATH nor in "
            "~/.local/bin, ~/laudc/.venv or ~/.venv there",
            "install it there: pip install laudc",
        )
    command, version = lines[-2], lines[-1].removeprefix("laudc ")
    if version != laudc.__version__:
        raise UserError(
            f"laudc on {connection.target} has another version",
            f"there it is {version}, here {laudc.__version__}",
            "install the same version on both machines",
        )
    quoted = command if command.startswith("python3 ") else shlex.quote(command)
    return RemoteLaudc(quoted, version)


def run_reporting(connection: Connection, command: str, words: Sequence[str], doing: str) -> dict[str, Any]:
    """Runs laudc or its runner there with `--json -` and returns what it reported.

    `words` may use $cache. Raises the error that it reported, told as happening there.
    """
    done = connection.run(f"{command} {' '.join(map(quoted, words))} --json -")
    report = parse_report(done.text)
    if report.get("kind") == "error":
        raise reported_error(connection.target, report.get("error"), done.code)
    if done.code != 0 or not report:
        raise command_error(connection.target, doing, done.code, done.stderr or done.text)
    return report


def parse_report(text: str) -> dict[str, Any]:
    """The JSON that a command printed; empty for anything else."""
    try:
        report = json.loads(text)
    except ValueError:
        return {}
    return report if isinstance(report, dict) else {}


def quoted(word: str) -> str:
    """For the shell there; $cache at the start of a word stays what it is."""
    if word.startswith("$cache/"):
        return f'"$cache"/{shlex.quote(word.removeprefix("$cache/"))}'
    return shlex.quote(word)
