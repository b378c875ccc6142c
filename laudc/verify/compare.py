"""Compares two outcomes of the same images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from laudc.errors import UserError
from laudc.verify.choices import Led
from laudc.verify.detections import FoundLayout, compare_found
from laudc.verify.outcome import Array, BlockOutcome, Outcome
from laudc.verify.report import (
    FAILS,
    FOLLOWS,
    TIE,
    Deviation,
    Flip,
    LogitSummary,
    MaskSummary,
    RunReport,
)

# Enough to see a pattern; the counts are complete anyhow.
_LISTED_FLIPS = 20

# Target and reference.
_Pair = tuple[BlockOutcome, BlockOutcome]


@dataclass(frozen=True)
class Tolerance:
    """How much may differ; see `laudc.verify.verify`."""

    atol: float
    rtol: float
    tie_margin: float

    def allowed(self, reference: Array) -> float:
        """Allowed difference of values whose reference is given."""
        finite = reference[np.isfinite(reference)]
        return self.atol + self.rtol * (float(np.abs(finite).max()) if finite.size else 0.0)


#: By the number of an image: what the reference finds in it with the target's choices of boxes, if that is known.
Leading = Callable[[int], Led | None]


def compare(
    target: Outcome,
    reference: Outcome,
    batch: int,
    tolerance: Tolerance,
    layout: FoundLayout | None = None,
    lead: Leading = lambda image: None,
) -> RunReport:
    """Compare two outcomes; `batch` is only passed on to the report. `layout`: where the outputs are objects. `lead` is
    asked of images in which these differ.

    Raises:
        UserError: blocks, masks or logits are not of the same network.
    """
    pairs = _pair_blocks(target, reference)
    found = _compare_masks(pairs, tolerance.tie_margin)
    judged = [image for image in range(len(reference.logits)) if image not in found.turned]
    ours, theirs, detections = target.logits[judged], reference.logits[judged], None
    if layout is not None:
        allowed = tolerance.allowed(np.ones(1))
        ties = list(_ties(zip(judged, ours, theirs, strict=True), layout, allowed, tolerance.tie_margin, lead))
        ours, theirs, detections = compare_found(ours, theirs, layout, allowed)
        if ties:
            detections = replace(detections, ties=sum(n for n, _ in ties), tie_margin=max(margin for _, margin in ties))
    return RunReport(
        batch=batch,
        logits=_compare_logits(ours, theirs, tolerance),
        masks=found.summary(),
        first_deviation=_first_deviation(pairs, tolerance),
        detections=detections,
    )


def _ties(
    rows: Iterable[tuple[int, Array, Array]], layout: FoundLayout, allowed: float, tie_margin: float, lead: Leading
) -> Iterator[tuple[int, float]]:
    """Of images, numbered target and reference, with objects that agree once both keep the same boxes: how many, and
    the margin of the choices that differed, where that is below `tie_margin`.
    """

    def changed(ours: Array, theirs: Array) -> int:
        return compare_found(ours[None], theirs[None], layout, allowed)[2].changed

    for image, ours, theirs in rows:
        apart = changed(ours, theirs)
        led = lead(image) if apart else None
        if led is not None and led.margin < tie_margin:
            agree = apart - changed(ours, led.outputs)
            if agree > 0:
                yield agree, led.margin


def _pair_blocks(target: Outcome, reference: Outcome) -> list[_Pair]:
    """The blocks of both in the reference's order, after checking that they are of the same network."""
    wanted, found = _signature(reference), _signature(target)
    if wanted != found:
        name = next(name for name in (*wanted, *found) if wanted.get(name) != found.get(name))
        raise UserError(
            "target and reference are different networks",
            f"the shape of {name} is {found.get(name, 'unknown')} in the target "
            f"and {wanted.get(name, 'unknown')} in the reference",
            "Give the checkpoint or model that the target was made from",
        )
    ours = {block.name: block for block in target.blocks}
    return [(ours[block.name], block) for block in reference.blocks]


def _signature(outcome: Outcome) -> dict[str, tuple[int, ...]]:
    """Shapes of everything that is compared, by name."""
    masks = {
        f"the {kind} mask of {block.name}": decisions.keep.shape
        for block in outcome.blocks
        for kind, decisions in sorted(block.decisions.items())
    }
    return {**masks, "the logits": outcome.logits.shape}


@dataclass
class _MaskFindings:
    """Collects differing decisions: all are counted, some listed; `turned` are the images with any."""

    decisions: int = 0
    counts: dict[str, int] = field(default_factory=lambda: {TIE: 0, FAILS: 0, FOLLOWS: 0})
    flips: list[Flip] = field(default_factory=list)
    turned: set[int] = field(default_factory=set)

    def add(self, flip: Flip) -> None:
        if self.counts[flip.verdict] < _LISTED_FLIPS:
            self.flips.append(flip)
        self.counts[flip.verdict] += 1
        self.turned.add(flip.image)

    def summary(self) -> MaskSummary:
        # What fails is worth more room than what follows from it.
        order = {FAILS: 0, TIE: 1, FOLLOWS: 2}
        listed = sorted(self.flips, key=lambda flip: order[flip.verdict])[:_LISTED_FLIPS]
        counts = self.counts
        return MaskSummary(self.decisions, counts[TIE], counts[FAILS], counts[FOLLOWS], tuple(listed))


def _compare_masks(pairs: list[_Pair], tie_margin: float) -> _MaskFindings:
    found = _MaskFindings()
    for ours, theirs in pairs:
        found.decisions += sum(decisions.keep.size for decisions in theirs.decisions.values())
        # Once a decision of an image has turned, what comes later is another computation.
        turned_before = frozenset(found.turned)
        for flip in _flips(ours, theirs, tie_margin):
            found.add(replace(flip, verdict=FOLLOWS) if flip.image in turned_before else flip)
    return found


def _flips(target: BlockOutcome, reference: BlockOutcome, tie_margin: float) -> Iterator[Flip]:
    for kind, theirs in reference.decisions.items():
        for where in np.argwhere(theirs.keep != target.decisions[kind].keep):
            image, *index = (int(position) for position in where)
            margin = None if theirs.margin is None else float(theirs.margin[tuple(where)])
            tie = margin is not None and abs(margin) < tie_margin
            yield Flip(image, reference.name, kind, tuple(index), margin, TIE if tie else FAILS)


def _compare_logits(target: Array, reference: Array, tolerance: Tolerance) -> LogitSummary:
    if not len(reference):
        return LogitSummary(0, 0.0, 0.0, 0.0, 1.0, 1.0, tolerance.allowed(reference))
    largest = float(np.abs(reference).max())
    difference = largest_difference(target, reference)
    return LogitSummary(
        images=len(reference),
        max_abs=difference,
        max_reference=largest,
        relative=difference / largest if largest else difference,
        cosine=float(_cosines(target, reference).min()),
        top1_agreement=float((target.argmax(axis=1) == reference.argmax(axis=1)).mean()),
        tolerance=tolerance.allowed(reference),
    )


def largest_difference(target: Array, reference: Array) -> float:
    """max |target − reference|; equal infinities and two NaN differ by 0, one NaN by infinity."""
    with np.errstate(invalid="ignore"):
        difference = np.abs(target.astype(np.float64) - reference.astype(np.float64))
    alike = (target == reference) | (np.isnan(target) & np.isnan(reference))
    difference = np.where(alike, 0.0, np.where(np.isnan(difference), np.inf, difference))
    return float(difference.max(initial=0.0))


def _cosines(target: Array, reference: Array) -> Array:
    a, b = target.astype(np.float64), reference.astype(np.float64)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    same = (a == b).all(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(same, 1.0, (a * b).sum(axis=1) / norms)


def _first_deviation(pairs: list[_Pair], tolerance: Tolerance) -> Deviation | None:
    """The first block, in forward order, whose masks or output mean differ in some image."""
    for ours, theirs in pairs:
        for kind, decisions in theirs.decisions.items():
            differs = decisions.keep != ours.decisions[kind].keep
            if differs.any():
                return Deviation(
                    _first_image(differs), theirs.name, f"{kind} mask", float(np.count_nonzero(differs))
                )
        if ours.gap is not None and theirs.gap is not None:
            off = ~(np.abs(ours.gap - theirs.gap) <= tolerance.allowed(theirs.gap))
            off &= ~(np.isnan(ours.gap) & np.isnan(theirs.gap))
            if off.any():
                amount = largest_difference(ours.gap, theirs.gap)
                return Deviation(_first_image(off), theirs.name, "output mean", amount)
    return None


def _first_image(differs: Array) -> int:
    return int(np.argwhere(differs)[0][0])
