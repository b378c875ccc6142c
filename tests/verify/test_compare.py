"""Comparison of made-up outcomes: ties, followers, failures, numbers that are none."""

from __future__ import annotations

import json

import numpy as np
import pytest

from laudc.errors import CheckFailed, UserError
from laudc.verify.choices import Led
from laudc.verify.compare import Tolerance, compare, largest_difference
from laudc.verify.detections import FoundLayout
from laudc.verify.outcome import BlockOutcome, Decisions, Outcome, join
from laudc.verify.report import RunReport, VerifyReport

TOLERANCE = Tolerance(atol=1e-4, rtol=1e-4, tie_margin=1e-5)
IMAGES = 3


def _outcome(margins: bool = True) -> Outcome:
    """Three blocks of three images: channel masks (3, 4), one spatial mask (3, 1, 2, 2)."""
    rng = np.random.default_rng(0)
    blocks = []
    for number in range(3):
        found = {"channel": rng.standard_normal((IMAGES, 4))}
        if number == 1:
            found["spatial"] = rng.standard_normal((IMAGES, 1, 2, 2))
        decisions = {kind: Decisions(m >= 0, m if margins else None) for kind, m in found.items()}
        blocks.append(BlockOutcome(f"layer1.{number}", decisions, rng.standard_normal((IMAGES, 5))))
    return Outcome(rng.standard_normal((IMAGES, 10)), tuple(blocks))


def _flip(outcome: Outcome, block: int, kind: str, *where: int) -> None:
    keep = outcome.blocks[block].decisions[kind].keep
    keep[where] = ~keep[where]


def _make_tie(outcome: Outcome, block: int, kind: str, *where: int) -> None:
    margin = outcome.blocks[block].decisions[kind].margin
    assert margin is not None
    margin[where] = np.copysign(1e-7, margin[where])


def test_equal_outcomes_pass() -> None:
    report = compare(_outcome(), _outcome(margins=False), 4, TOLERANCE)
    assert report.passed
    assert (report.batch, report.masks.decisions, report.masks.flips) == (4, 48, ())
    assert (report.logits.max_abs, report.logits.cosine, report.logits.top1_agreement) == (0, 1, 1)
    assert report.first_deviation is None


def test_a_clear_decision_that_turns_fails() -> None:
    target, reference = _outcome(), _outcome()
    _flip(target, 1, "spatial", 2, 0, 1, 0)
    report = compare(target, reference, 1, TOLERANCE)
    assert not report.passed
    (flip,) = report.masks.flips
    margin = reference.blocks[1].decisions["spatial"].margin
    assert margin is not None
    assert (flip.image, flip.block, flip.kind, flip.index, flip.verdict) == (
        2,
        "layer1.1",
        "spatial",
        (0, 1, 0),
        "fails",
    )
    assert flip.margin == margin[2, 0, 1, 0]
    assert report.first_deviation is not None
    assert (report.first_deviation.block, report.first_deviation.what) == ("layer1.1", "spatial mask")
    assert report.logits.images == 2


def test_a_tie_sets_the_image_aside() -> None:
    target, reference = _outcome(), _outcome()
    _make_tie(reference, 0, "channel", 1, 2)
    _flip(target, 0, "channel", 1, 2)
    _flip(target, 2, "channel", 1, 0)
    target.logits[1] += 5
    report = compare(target, reference, 1, TOLERANCE)
    assert report.passed
    assert (report.masks.ties, report.masks.followers, report.masks.failures) == (1, 1, 0)
    assert report.logits.images == 2


def test_a_tie_excuses_no_other_image_and_no_other_decision() -> None:
    target, reference = _outcome(), _outcome()
    _make_tie(reference, 0, "channel", 1, 2)
    _flip(target, 0, "channel", 1, 2)
    _flip(target, 0, "channel", 1, 3)
    _flip(target, 2, "channel", 0, 0)
    report = compare(target, reference, 1, TOLERANCE)
    assert not report.passed
    assert (report.masks.ties, report.masks.failures) == (1, 2)
    assert [flip.verdict for flip in report.masks.flips] == ["fails", "fails", "tie"]


def test_without_margins_nothing_is_a_tie() -> None:
    target, reference = _outcome(), _outcome(margins=False)
    _flip(target, 0, "channel", 0, 0)
    report = compare(target, reference, 1, TOLERANCE)
    assert report.masks.failures == 1
    assert report.masks.flips[0].margin is None


def test_a_nan_margin_is_no_tie() -> None:
    target, reference = _outcome(), _outcome()
    margin = reference.blocks[0].decisions["channel"].margin
    assert margin is not None
    margin[0, 0] = np.nan
    _flip(target, 0, "channel", 0, 0)
    assert compare(target, reference, 1, TOLERANCE).masks.failures == 1


def test_if_every_image_is_set_aside_nothing_was_checked() -> None:
    target, reference = _outcome(), _outcome()
    for image in range(IMAGES):
        _make_tie(reference, 0, "channel", image, 0)
        _flip(target, 0, "channel", image, 0)
    report = compare(target, reference, 1, TOLERANCE)
    assert report.masks.ties == IMAGES
    assert report.logits.images == 0
    assert not report.passed


def test_many_flips_are_counted_but_not_all_listed() -> None:
    target, reference = _outcome(), _outcome()
    for block in target.blocks:
        for decisions in block.decisions.values():
            np.logical_not(decisions.keep, out=decisions.keep)
    masks = compare(target, reference, 1, TOLERANCE).masks
    assert masks.failures + masks.ties + masks.followers == masks.decisions == 48
    assert len(masks.flips) == 20


@pytest.mark.parametrize(("added", "passes"), [(1e-5, True), (1e-2, False), (np.nan, False), (np.inf, False)])
def test_logits(added: float, passes: bool) -> None:
    target, reference = _outcome(), _outcome()
    target.logits[1, 3] += added
    assert compare(target, reference, 1, TOLERANCE).passed is passes


def test_difference_of_numbers_that_are_none() -> None:
    odd = np.array([np.nan, np.inf, -np.inf, 1.0])
    assert largest_difference(odd, odd) == 0
    assert largest_difference(odd, odd[::-1]) == np.inf
    assert largest_difference(np.array([np.nan]), np.array([0.0])) == np.inf


def test_first_deviation_by_output_mean() -> None:
    target, reference = _outcome(), _outcome()
    gap = target.blocks[1].gap
    assert gap is not None
    gap[2, 4] += 0.5
    found = compare(target, reference, 1, TOLERANCE).first_deviation
    assert found is not None
    assert (found.image, found.block, found.what) == (2, "layer1.1", "output mean")
    assert found.amount == pytest.approx(0.5)


def test_blocks_are_matched_by_name() -> None:
    target, reference = _outcome(), _outcome()
    shuffled = Outcome(target.logits, target.blocks[::-1])
    assert compare(shuffled, reference, 1, TOLERANCE).passed


def test_different_networks_are_not_compared() -> None:
    whole = _outcome()
    with pytest.raises(UserError, match="different networks"):
        compare(Outcome(whole.logits, whole.blocks[:2]), whole, 1, TOLERANCE)
    with pytest.raises(UserError, match="logits"):
        compare(Outcome(whole.logits[:, :4], whole.blocks), whole, 1, TOLERANCE)


def test_join_puts_batches_together() -> None:
    whole = _outcome()
    parts = [
        Outcome(
            whole.logits[image : image + 1],
            tuple(
                BlockOutcome(
                    block.name,
                    {
                        kind: Decisions(d.keep[image : image + 1], None if image else d.keep[:1] * 1.0)
                        for kind, d in block.decisions.items()
                    },
                    None if block.gap is None else block.gap[image : image + 1],
                )
                for block in whole.blocks
            ),
        )
        for image in range(IMAGES)
    ]
    joined = join(parts)
    assert compare(joined, whole, 1, TOLERANCE).passed
    # What one batch does not know, the whole does not know.
    assert joined.blocks[0].decisions["channel"].margin is None


def _report(target: Outcome) -> VerifyReport:
    runs = (compare(target, _outcome(), 1, TOLERANCE),)
    return VerifyReport("a.onnx", "b.pth", "3 images", IMAGES, (64, 64), 1e-4, 1e-4, 1e-5, runs)


def test_report_is_strict_json() -> None:
    target = _outcome()
    target.logits[0, 0] = np.nan
    _flip(target, 0, "channel", 1, 0)
    content = json.loads(json.dumps(_report(target).to_dict(), allow_nan=False))
    assert content["schema_version"] == 1
    assert content["passed"] is False
    assert content["runs"][0]["logits"]["max_abs"] is None
    assert content["runs"][0]["masks"]["flips"][0]["index"] == [0]


def test_require_passed() -> None:
    _report(_outcome()).require_passed()
    target = _outcome()
    _flip(target, 0, "channel", 1, 0)
    with pytest.raises(CheckFailed, match=r"a\.onnx does not compute .*channel mask of layer1\.0, image 1"):
        _report(target).require_passed()


LAYOUT = FoundLayout(2, (), (100, 100))
BOXES = [10.0, 10, 50, 50, 60, 60, 90, 90]
FREE = np.array([[*BOXES, 0.9, 0.8, 1, 2], [*BOXES, 0.9, 0.7, 1, 1]])


def _objects(margin: float | None, *, agree: bool = True) -> RunReport:
    """Two images, in the second of which the target finds another object than the reference, unless this is led."""
    target = FREE.copy()
    target[1, 11] = 3
    led = target[1] if agree else FREE[1]
    asked: list[int] = []

    def lead(image: int) -> Led | None:
        asked.append(image)
        return None if margin is None else Led(led, margin)

    report = compare(Outcome(target, ()), Outcome(FREE, ()), 1, TOLERANCE, LAYOUT, lead)
    assert asked == [1]
    return report


def test_objects_that_differ_at_ties_are_told_apart() -> None:
    tie = _objects(2e-7).detections
    assert tie is not None and (tie.found, tie.changed, tie.ties, tie.tie_margin) == (4, 2, 2, 2e-7)
    assert str(tie).startswith("0 of 4 objects differ, 2 more at ties of 2.0e-07 at most (")
    for report in (_objects(None), _objects(1e-5), _objects(2e-7, agree=False)):
        differs = report.detections
        assert differs is not None and (differs.changed, differs.ties, differs.tie_margin) == (2, 0, 0)
        assert str(differs).startswith("2 of 4 objects differ (")


def test_ties_change_nothing_about_how_much_may_differ() -> None:
    assert not _objects(2e-7).passed
    assert _objects(2e-7).detections.share == _objects(None).detections.share  # type: ignore[union-attr]
