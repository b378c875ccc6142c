"""What to train: granularities and rates that a device rewards, by predicted latency."""

from __future__ import annotations

from laudc import make_callable
from laudc.search.run import SearchResult, search

__all__ = ["SearchResult", "search"]

make_callable(__name__, search)
