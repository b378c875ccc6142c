"""Commands and files over one ssh connection."""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from laudc.errors import UserError
from laudc.files import atomic_write, sha256_file
from laudc.remote.failures import AGAIN, DISK_FULL, SSH_FAILED, command_error, connection_error, disk_full
from laudc.remote.target import Target

# Like GIT_SSH_COMMAND: another client, or one with options ("ssh -F config").
SSH_VARIABLE = "LAUDC_SSH_COMMAND"
HOST_KEYS = ("yes", "accept-new")
_CHUNK = 1 << 20
_STALE_DAYS = 7

_TIDY = f"find \"$cache/blobs\" \"$cache/jobs\" -mindepth 1 -mtime +{_STALE_DAYS} -exec rm -rf '{{}}' + || true"
# Defines $cache. Nothing else of the other machine is written to.
_PROLOGUE = 'set -eu; umask 077; cache="${XDG_CACHE_HOME:-$HOME/.cache}/laudc"; mkdir -p "$cache/blobs" "$cache/jobs"; '


@dataclass(frozen=True)
class Completed:
    """A command that ran on the other machine."""

    code: int
    stdout: bytes
    stderr: str

    @property
    def text(self) -> str:
        """Standard output as text, without the last line's end."""
        return self.stdout.decode(errors="replace").rstrip("\n")


class Connection:
    """One connection, shared by all commands and files: a context manager.

    Host keys are always checked: "yes" takes only known ones, "accept-new" also those of machines never seen before,
    and neither takes a changed one. Passwords are never asked for.

    Raises UserError (on entering, and by every method) when the machine cannot be reached or no longer is.
    """

    def __init__(self, target: Target, host_keys: str = "yes") -> None:
        if host_keys not in HOST_KEYS:
            raise UserError(
                f"host keys cannot be checked as '{host_keys}'", f"known are {', '.join(HOST_KEYS)}", "use one of these"
            )
        self.target = target
        self._host_keys = host_keys
        self._stack = contextlib.ExitStack()
        self._options: list[str] = []
        self._established = False

    def __enter__(self) -> Connection:
        # Sockets have short paths only, so not below an arbitrary TMPDIR.
        folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="laudc-", dir=_short_folder()))
        self._options = _options(self.target, self._host_keys, f"{folder}/s")
        self._stack.callback(self._close)
        try:
            self.run(_TIDY)
        except BaseException:
            self._stack.close()
            raise
        self._established = True
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _close(self) -> None:
        # The shared connection ends by itself a minute later if this does not reach it.
        with contextlib.suppress(OSError):
            subprocess.run(
                [*self._client(), "-O", "exit", self.target.destination], capture_output=True, check=False
            )

    def _client(self) -> list[str]:
        return [*shlex.split(os.environ.get(SSH_VARIABLE) or "ssh"), *self._options]

    def _command(self, script: str) -> list[str]:
        return [*self._client(), "--", self.target.destination, f"exec sh -c {shlex.quote(_PROLOGUE + script)}"]

    def run(self, script: str) -> Completed:
        """Runs a POSIX shell script in which `$cache` is laudc's own folder. Raises only for the connection."""
        with self._started(script) as process:
            stdout, stderr = process.communicate()
        return self._completed(process.returncode, stdout, stderr)

    def check(self, script: str, doing: str) -> str:
        """Like `run`, and raises UserError ("cannot DOING on ...") when the script fails. Returns what it printed."""
        done = self.run(script)
        if done.code != 0:
            raise command_error(self.target, doing, done.code, done.stderr or done.text)
        return done.text

    @contextlib.contextmanager
    def _started(self, script: str) -> Iterator[subprocess.Popen[bytes]]:
        try:
            process = subprocess.Popen(
                self._command(script), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
        except OSError as error:
            raise UserError(
                "there is no ssh client here",
                f"{_client_name()}: {error.strerror}",
                f"install OpenSSH's client (apt install openssh-client), or correct {SSH_VARIABLE}",
            ) from error
        try:
            with process:
                yield process
        except BaseException:
            process.kill()
            raise

    def _completed(self, code: int, stdout: bytes, stderr: bytes) -> Completed:
        text = stderr.decode(errors="replace")
        if code == SSH_FAILED:
            raise connection_error(self.target, text, established=self._established)
        return Completed(code, stdout, text)

    def send(self, path: Path) -> str:
        """Puts a file under its hash on the other machine, only what is missing of it. Returns "$cache/blobs/HASH".

        A part that a lost connection left there is continued. The hash is checked there before it gets its name.
        """
        digest, size = sha256_file(path), path.stat().st_size
        blob = f'"$cache/blobs/{digest}"'
        part = f'"$cache/blobs/{digest}.part"'
        state = self.check(
            f"if [ -f {blob} ]; then touch {blob}; echo have; elif [ -f {part} ]; then wc -c < {part}; else echo 0; fi",
            "prepare a folder",
        )
        if state != "have":
            start = int(state) if state.strip().isdigit() and int(state) <= size else 0
            self._append(path, start, part)
            self._name(digest, part, blob)
        return f"$cache/blobs/{digest}"

    def _append(self, path: Path, start: int, part: str) -> None:
        script = f"cat {'>>' if start else '>'} {part}"
        with path.open("rb") as file, self._started(script) as process:
            file.seek(start)
            assert process.stdin is not None
            # A full disk closes the pipe early; the reason is in what the other side says.
            with contextlib.suppress(BrokenPipeError):
                while chunk := file.read(_CHUNK):
                    process.stdin.write(chunk)
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            process.stdin = None
            stdout, stderr = process.communicate()
        done = self._completed(process.returncode, stdout, stderr)
        if DISK_FULL in done.stderr:
            raise disk_full(self.target, f"store {path.name}")
        if done.code != 0:
            raise command_error(self.target, f"store {path.name}", done.code, done.stderr)

    def _name(self, digest: str, part: str, blob: str) -> None:
        found = f'"$(sha256sum < {part} | cut -c1-64)"'
        script = f"[ {found} = {digest} ] && mv {part} {blob} || {{ rm -f {part}; exit 9; }}"
        if self.run(script).code != 0:
            raise UserError(f"a file did not arrive whole on {self.target}", "its hash differs there", AGAIN)

    def fetch(self, remote: str, output: str | os.PathLike[str]) -> None:
        """Brings a file here; it gets its name only when its hash is right. `remote` may use $cache."""
        there = f'[ -f "{remote}" ] || {{ echo "it is not there" >&2; exit 1; }}'
        wanted = self.check(f'{there}; sha256sum < "{remote}" | cut -c1-64', "read the result")
        with atomic_write(output) as file:
            digest = self._copy(remote, file)
            if digest != wanted:
                raise UserError(f"the result of {self.target} did not arrive whole", "its hash differs here", AGAIN)

    def _copy(self, remote: str, file: BinaryIO) -> str:
        import hashlib

        digest = hashlib.sha256()
        with self._started(f'exec cat "{remote}"') as process:
            assert process.stdout is not None and process.stderr is not None
            while chunk := process.stdout.read(_CHUNK):
                digest.update(chunk)
                file.write(chunk)
            stderr = process.stderr.read()
        self._completed(process.wait(), b"", stderr)
        return digest.hexdigest()


def _options(target: Target, host_keys: str, socket: str) -> list[str]:
    chosen = {
        "BatchMode": "yes",
        "StrictHostKeyChecking": host_keys,
        "ConnectTimeout": "15",
        "ServerAliveInterval": "15",
        "ServerAliveCountMax": "4",
        "ControlMaster": "auto",
        "ControlPath": socket,
        "ControlPersist": "60",
        "ForwardAgent": "no",
        "ForwardX11": "no",
        "ClearAllForwardings": "yes",
        "LogLevel": "ERROR",
    }
    port = ["-p", str(target.port)] if target.port else []
    return ["-T", *(f"-o{key}={value}" for key, value in chosen.items()), *port]


def _client_name() -> str:
    return shlex.split(os.environ.get(SSH_VARIABLE) or "ssh")[0]


def _short_folder() -> str | None:
    return "/tmp" if os.path.isdir("/tmp") and os.access("/tmp", os.W_OK) else None
