"""The machine's pace beside that of its calibration."""

from __future__ import annotations

from dataclasses import asdict
from types import SimpleNamespace

import pytest

from laudc.devices.profile import MEASURED
from laudc.predict.blueprint import Blueprint
from laudc.profile import pace
from laudc.profile.pace import calibrated_pace_ns, pace_note, pace_since_calibration

VERSIONS = {"onnxruntime": "1.30", "library": "0.1.0"}


def calibration(*fits: object, **machine: str) -> dict[str, object]:
    return {"families": {"resnet": {"fits": list(fits)}}, "machine": {**VERSIONS, **machine}}


@pytest.mark.parametrize(
    ("ratio", "words"), [(1.07, None), (0.93, None), (1.12, "12% slower"), (0.8, "20% faster")]
)
def test_only_a_worthwhile_difference_is_said(ratio, words) -> None:
    note = pace_note(ratio)
    assert note is None if words is None else words in note


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"families": []},
        {"families": {"resnet": []}},
        {"families": {"resnet": {"fits": {}}}},
        {"families": {"regnet": {"fits": [{"threads": 2, "pace_ns": 5.0}]}}},
        calibration("none"),
        calibration({"threads": 1, "pace_ns": 5.0}),
        *(
            calibration({"threads": 2, "pace_ns": pace_ns})
            for pace_ns in (None, "fast", [5.0], True, 0, -5.0, float("nan"), float("inf"), 10**400)
        ),
    ],
)
def test_calibrations_that_do_not_say(data) -> None:
    assert calibrated_pace_ns(data, "resnet", 2) is None


def test_a_calibration_says_it_of_each_family() -> None:
    assert calibrated_pace_ns(calibration({"threads": 2, "pace_ns": 5}), "resnet", 2) == 5.0


def test_the_ratio_is_now_over_then(monkeypatch) -> None:
    profile = SimpleNamespace(kind="cpu", calibration=calibration({"threads": 2, "pace_ns": 1000}))
    monkeypatch.setattr("laudc.devices.load_profile", lambda name: profile)
    monkeypatch.setattr("laudc.calibrate.measure.CpuMeasurer", lambda: SimpleNamespace(facts=lambda: VERSIONS))
    monkeypatch.setattr(pace, "_pace_now_ns", lambda measurer, threads: 1100.0 * threads / 2)
    record = asdict(Blueprint().blocks()[0][1])
    manifest = SimpleNamespace(device=SimpleNamespace(id="cpu"), blocks=[{"record": record}, {"name": "dense"}])
    here = SimpleNamespace(threads=2, status=MEASURED)
    assert pace_since_calibration(manifest, here) == pytest.approx(1.1)
    assert pace_since_calibration(manifest, SimpleNamespace(threads=2, status="measured elsewhere")) is None
    assert pace_since_calibration(manifest, SimpleNamespace(threads=1, status=MEASURED)) is None
    profile.calibration = calibration({"threads": 2, "pace_ns": 1000}, onnxruntime="1.20")
    assert pace_since_calibration(manifest, here) is None
