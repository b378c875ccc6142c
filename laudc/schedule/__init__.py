"""How each block of a network runs, and the lowering of the portable graph to what a backend runs."""

from __future__ import annotations

from laudc.schedule.lower import lower
from laudc.schedule.plan import BlockPlan, Plan, make_plan

__all__ = ["BlockPlan", "Plan", "lower", "make_plan"]
