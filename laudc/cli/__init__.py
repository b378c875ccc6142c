"""The command line: `main` is the entry point, every verb lives in a file of its own."""

from __future__ import annotations

from laudc.cli.app import main

__all__ = ["main"]
