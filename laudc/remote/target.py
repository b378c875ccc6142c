"""Where to: `ssh://user@host:port`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from laudc.errors import UserError

_EXAMPLE = "give it as ssh://USER@HOST or ssh://USER@HOST:PORT; HOST may be a name from ~/.ssh/config"
# What can stand in an option of ssh or in a shell is not a name.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*|[0-9a-fA-F:.]+(%[A-Za-z0-9]+)?")


@dataclass(frozen=True)
class Target:
    """A machine that ssh reaches. `user` and `port` None: as ssh's configuration says."""

    host: str
    user: str | None = None
    port: int | None = None

    def __str__(self) -> str:
        name = f"{self.user}@{self.host}" if self.user else self.host
        return f"{name}:{self.port}" if self.port else name

    @property
    def destination(self) -> str:
        """As the ssh client takes it."""
        return f"{self.user}@{self.host}" if self.user else self.host


def parse_target(url: str) -> Target:
    """The target of an `ssh://` URL.

    Raises:
        UserError: it is another kind of URL, has a password, a path or a name that cannot be one.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise UserError(f"the target '{_without_password(url)}' is not usable", str(error), _EXAMPLE) from error
    shown = _without_password(url)
    if parts.scheme != "ssh":
        raise UserError(f"the target '{shown}' is not usable", "it does not begin with ssh://", _EXAMPLE)
    if parts.password is not None:
        raise UserError(
            f"the target '{shown}' has a password in it",
            "passwords in URLs end up in shell histories and process lists",
            "set up a key instead: ssh-keygen, then ssh-copy-id",
        )
    _check_names(parts, shown)
    return Target(parts.hostname or "", parts.username, port)


def _check_names(parts: SplitResult, shown: str) -> None:
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise UserError(f"the target '{shown}' is not usable", "it names a path beside the machine", _EXAMPLE)
    if not _HOST.fullmatch(parts.hostname or ""):
        raise UserError(f"the target '{shown}' is not usable", "it has no host name that can be one", _EXAMPLE)
    if parts.username is not None and not _NAME.fullmatch(parts.username):
        raise UserError(f"the target '{shown}' is not usable", "its user name cannot be one", _EXAMPLE)


def _without_password(url: str) -> str:
    return re.sub(r"(?<=//)([^/@:]*):[^@]*@", r"\1:...@", url)
