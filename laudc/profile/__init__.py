"""Measuring an engine: activation rates on real images, time per block and end to end, against dense."""

from __future__ import annotations

from laudc import make_callable
from laudc.profile.measure import profile
from laudc.profile.records import BlockProfile, ProfileResult, Timing

__all__ = ["BlockProfile", "ProfileResult", "Timing", "profile"]

make_callable(__name__, profile)
