"""What ssh and the other machine say, as one paragraph with a way out."""

from __future__ import annotations

import re

from laudc.errors import CheckFailed, InternalError, LaudcError, UserError
from laudc.remote.target import Target

AGAIN = "run the same command again: it goes on where this one stopped"
DISK_FULL = "No space left on device"
# ssh's own exit status; everything else is the remote command's.
SSH_FAILED = 255
_SIGNALLED = 128

# (what ssh says, why, what to do)
_CONNECTION: tuple[tuple[str, str, str], ...] = (
    (
        "REMOTE HOST IDENTIFICATION HAS CHANGED",
        "the machine has another host key than the one in your known_hosts file: it was set up anew, or somebody is "
        "between you and it",
        "if you know that it was set up anew: ssh-keygen -R {host}, then connect once with ssh and compare the key",
    ),
    (
        "Host key verification failed",
        "its host key is not in your known_hosts file",
        "connect once with 'ssh {destination}' and compare the key, or give --host-keys accept-new to trust it now",
    ),
    (
        "Permission denied",
        "it accepts none of your keys (passwords are never asked for)",
        "set up a key: ssh-copy-id {destination}; if it has a passphrase: ssh-add",
    ),
    (
        "Could not resolve hostname",
        "there is no machine of that name",
        "check the name, or add it to ~/.ssh/config",
    ),
    (
        "Connection refused",
        "no ssh server answers there",
        "start one on the device (systemctl start ssh), or correct the port",
    ),
    ("timed out", "it does not answer", "check that it is on and in the same network"),
    ("No route to host", "it cannot be reached", "check that it is on and in the same network"),
    ("Network is unreachable", "it cannot be reached", "check that this machine is in a network"),
)
_LOST = ("closed by remote host", "Broken pipe", "Connection reset", "not responding", "client_loop", "mux_client")


def connection_error(target: Target, stderr: str, *, established: bool) -> UserError:
    """Why ssh itself failed; `established`: there has been a connection before."""
    names = {"host": target.host, "destination": target.destination}
    for sign, why, fix in _CONNECTION:
        if sign in stderr:
            return UserError(f"cannot connect to {target}", why, fix.format(**names))
    if established or any(sign in stderr for sign in _LOST):
        return UserError(f"the connection to {target} was lost", f"ssh says: {_last_line(stderr)}", AGAIN)
    return UserError(
        f"cannot connect to {target}",
        f"ssh says: {_last_line(stderr)}" if stderr.strip() else "ssh gives no reason",
        f"try 'ssh {target.destination}' by itself",
    )


def disk_full(target: Target, doing: str) -> UserError:
    """No room on the other machine."""
    return UserError(
        f"cannot {doing} on {target}",
        "its disk is full",
        "free some space there (what laudc keeps lies in ~/.cache/laudc and can all be removed) and run the same "
        "command again",
    )


def command_error(target: Target, doing: str, code: int, output: str) -> UserError:
    """A command on the other machine that failed without an explanation of its own."""
    if DISK_FULL in output:
        return disk_full(target, doing)
    if code > _SIGNALLED and code != SSH_FAILED:
        signal = code - _SIGNALLED
        why = f"it was killed by signal {signal}"
        if signal == 9:
            why += ": usually the system did it because memory ran out"
        return UserError(f"cannot {doing} on {target}", why, AGAIN)
    return UserError(
        f"cannot {doing} on {target}", f"it ended with code {code}: {_last_line(output)}", "see what it says with -v"
    )


def reported_error(target: Target, facts: object, code: int) -> LaudcError:
    """The error that laudc or its runner wrote as JSON on the other machine, told as happening there."""
    known = facts if isinstance(facts, dict) else {}
    what, why, fix = (str(known.get(key, "")) for key in ("what", "why", "fix"))
    kinds = {2: UserError, 3: CheckFailed}
    return kinds.get(code, InternalError)(f"on {target}: {what}", why, fix)


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    # ssh's decorations and laudc's own progress are no reasons.
    telling = [line for line in lines if not re.fullmatch(r"[@\s]*", line)]
    return telling[-1] if telling else "no reason given"
