"""The latency model: what a network will cost on a device, before it is built or the device is at hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from laudc import make_callable

if TYPE_CHECKING:
    from laudc.schedule.forecast import Forecast

__all__ = ["predict"]


def predict(model: Any, **options: Any) -> Forecast:
    """Predicts a model: see `laudc.schedule.forecast.forecast`, whose arguments it takes.

    The verb carries the package's name but stands above it, since it also schedules; nothing else here looks up.
    """
    from laudc.schedule.forecast import forecast

    return forecast(model, **options)


make_callable(__name__, predict)
