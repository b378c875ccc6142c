"""The one exception for files that cannot be used."""

from __future__ import annotations


class CheckpointError(ValueError):
    """A checkpoint that cannot be used: `what` failed, `why`, and how to `fix` it, each a phrase."""

    def __init__(self, what: str, why: str, fix: str) -> None:
        super().__init__(f"{what}: {why}. {fix[:1].upper()}{fix[1:]}.")
        self.what, self.why, self.fix = what, why, fix
