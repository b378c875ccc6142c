"""Break-even rates."""

from __future__ import annotations

import pytest

from laudc.predict.frame import Frame
from laudc.predict.sweep import RATES, break_even, sweep_rates
from tests.predict.models import SMALL, cpu_model


@pytest.mark.parametrize(
    ("times", "limit", "wanted"),
    [
        ((1.0, 2.0, 3.0), 2.5, 0.75),
        ((1.0, 2.0, 3.0), 9.0, 1.0),
        ((1.0, 2.0, 3.0), 0.5, 0.0),
        ((1.0, 2.0, 3.0), 2.0, 0.5),
    ],
)
def test_break_even(times, limit, wanted) -> None:
    assert break_even((0.0, 0.5, 1.0), times, limit) == pytest.approx(wanted)


def test_a_sweep_rises_with_the_rate() -> None:
    sweep = sweep_rates(cpu_model(), Frame.of_blueprint(SMALL), SMALL.blocks())
    assert sweep.rates == RATES
    assert list(sweep.network_us) == sorted(sweep.network_us)
    assert len(sweep.blocks) == len(SMALL.blocks())
    data = sweep.to_dict()
    assert len(data["blocks"][0]["sparse_us"]) == len(RATES)
    assert all(0 <= block.break_even <= 1 for block in sweep.blocks)
