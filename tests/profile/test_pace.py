"""The machine's pace beside that of its calibration."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from laudc.devices.profile import MEASURED
from laudc.profile import pace
from laudc.profile.pace import calibrated_pace_ns, pace_note, pace_since_calibration


@pytest.mark.parametrize(
    ("ratio", "words"), [(1.07, None), (0.93, None), (1.12, "12% slower"), (0.8, "20% faster")]
)
def test_only_a_worthwhile_difference_is_said(ratio, words) -> None:
    note = pace_note(ratio)
    assert note is None if words is None else words in note


@pytest.mark.parametrize(
    "calibration", [{}, {"clocks": {}}, {"clocks": {"pace_ns": {"1": 5.0}}}, {"clocks": {"pace_ns": {"2": "fast"}}}]
)
def test_calibrations_that_do_not_say(calibration) -> None:
    assert calibrated_pace_ns(calibration, 2) is None


def test_the_ratio_is_now_over_then(monkeypatch) -> None:
    profile = SimpleNamespace(kind="cpu", calibration={"clocks": {"pace_ns": {"2": 1000}}})
    monkeypatch.setattr("laudc.devices.load_profile", lambda name: profile)
    monkeypatch.setattr(pace, "_pace_now_ns", lambda threads: 1100.0 * threads / 2)
    manifest = SimpleNamespace(device=SimpleNamespace(id="cpu"))
    here = SimpleNamespace(threads=2, status=MEASURED)
    assert pace_since_calibration(manifest, here) == pytest.approx(1.1)
    assert pace_since_calibration(manifest, SimpleNamespace(threads=2, status="measured elsewhere")) is None
    assert pace_since_calibration(manifest, SimpleNamespace(threads=1, status=MEASURED)) is None
