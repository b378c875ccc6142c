"""The result of `laudc.verify` as plain records."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from laudc.errors import CheckFailed

SCHEMA_VERSION = 1

TIE = "tie"
FAILS = "fails"
FOLLOWS = "follows"


@dataclass(frozen=True)
class Flip:
    """A mask decision that differs.

    Attributes:
        image: number of the image, from 0.
        block: name of the block.
        kind: "channel" or "spatial".
        index: (group) or (mask group, row, column).
        margin: keep − drop in the reference, None if it does not tell.
        verdict: "tie" (decided by rounding), "fails", or "follows" (after a difference in an earlier block of
            the image).
    """

    image: int
    block: str
    kind: str
    index: tuple[int, ...]
    margin: float | None
    verdict: str


@dataclass(frozen=True)
class MaskSummary:
    """All mask decisions of one run: their number, how many differ and why; `flips` lists some."""

    decisions: int
    ties: int
    failures: int
    followers: int
    flips: tuple[Flip, ...]


@dataclass(frozen=True)
class LogitSummary:
    """Agreement of the logits of all images without a turned decision.

    Attributes:
        images: how many images that were; the others are set aside.
        max_abs: largest difference; infinite where only one of the two is a number.
        max_reference: largest magnitude in the reference.
        relative: max_abs / max_reference.
        cosine: smallest cosine similarity of an image's logits.
        top1_agreement: share of the images with the same best class.
        tolerance: the difference that was allowed.
    """

    images: int
    max_abs: float
    max_reference: float
    relative: float
    cosine: float
    top1_agreement: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether the largest difference is within the tolerance; not if there is no image to judge by."""
        return self.images > 0 and self.max_abs <= self.tolerance


@dataclass(frozen=True)
class DetectionSummary:
    """Agreement of the objects that a detector found.

    Attributes:
        found: objects of the reference in all images.
        changed: those without a partner in the target, those of the target without one here, and pairs that differ
            by more than the tolerance (sides in units of the image's, scores, mask probabilities).
        share: how much of the sum of all scores these are.
        ties: how many of those that changed agree once the reference keeps the boxes that the target chose, in images
            where every such choice lies within the tie margin (`laudc.verify.choices`).
        tie_margin: the largest margin of those choices.
    """

    found: int
    changed: int
    share: float
    ties: int = 0
    tie_margin: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether no more changed than rounding can turn: one part in a hundred."""
        return self.share <= 0.01

    def __str__(self) -> str:
        text = f"{self.changed - self.ties} of {self.found} objects differ"
        if self.ties:
            text += f", {self.ties} more at ties of {self.tie_margin:.1e} at most"
        return f"{text} ({self.share:.2%} of the scores)"


@dataclass(frozen=True)
class Deviation:
    """The first block that differs: `what` is "channel mask", "spatial mask" or "output mean", `amount` how
    much.

    `amount` is the number of decisions, or the largest difference of a channel's mean.
    """

    image: int
    block: str
    what: str
    amount: float


@dataclass(frozen=True)
class RunReport:
    """Comparison of one run of the target with images in batches of `batch`.

    Of a detector that selects what it found, `logits` are the values of objects that agree, and `detections` says
    how many do; else that is None.
    """

    batch: int
    logits: LogitSummary
    masks: MaskSummary
    first_deviation: Deviation | None
    detections: DetectionSummary | None = None

    @property
    def passed(self) -> bool:
        """Whether logits, decisions and detections are as they should be."""
        found = self.detections is None or self.detections.passed
        return found and self.logits.passed and self.masks.failures == 0


@dataclass(frozen=True)
class VerifyReport:
    """Result of a verification; `images` says in words what was run."""

    target: str
    reference: str
    images: str
    image_count: int
    input_size: tuple[int, int]
    atol: float
    rtol: float
    tie_margin: float
    runs: tuple[RunReport, ...]

    @property
    def passed(self) -> bool:
        """Whether every run passed."""
        return all(run.passed for run in self.runs)

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values; numbers that are not finite become None."""
        content = dataclasses.asdict(self)
        for record, run in zip(content["runs"], self.runs, strict=True):
            record["passed"] = run.passed
            record["logits"]["passed"] = run.logits.passed
        return {"schema_version": SCHEMA_VERSION, "passed": self.passed, **_plain(content)}

    def summary(self) -> str:
        """One sentence per run."""
        return " ".join(_sentence(run) for run in self.runs)

    def require_passed(self) -> None:
        """Do nothing if the check passed.

        Raises:
            CheckFailed: it did not; the message says where the first difference is.
        """
        if self.passed:
            return
        failed = next(run for run in self.runs if not run.passed)
        raise CheckFailed(
            f"{self.target} does not compute what {self.reference} computes",
            _sentence(failed),
            "Compare the two files' origin with laudc inspect; if they belong together, please report this",
        )


def _sentence(run: RunReport) -> str:
    masks, logits = run.masks, run.logits
    size = "One image at a time" if run.batch == 1 else f"In batches of {run.batch}"
    text = (
        f"{size}: largest logit difference {logits.max_abs:.3g} (allowed {logits.tolerance:.3g}) "
        f"in {logits.images} "
        f"images, {masks.failures} of {masks.decisions} mask decisions differ, {masks.ties} more are ties"
    )
    found = run.detections
    if found is not None:
        text += f"; {found}"
    first = run.first_deviation
    if first is not None:
        text += f"; the first difference is the {first.what} of {first.block}, image {first.image}"
    return text + "."


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
