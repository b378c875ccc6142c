"""Building and measuring on another machine, through the OpenSSH client.

What is sent is named by its hash, what is being made is a job that outlives a lost connection, and a result counts only
when it has arrived whole: running the same command again goes on where the last one stopped.
"""

from __future__ import annotations

from laudc.remote.build import build_on_target, needs_preparing
from laudc.remote.profile import profile_on_target
from laudc.remote.target import Target, parse_target

__all__ = ["Target", "build_on_target", "needs_preparing", "parse_target", "profile_on_target"]
