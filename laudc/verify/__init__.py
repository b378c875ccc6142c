"""Check that a model or an engine computes what its reference computes: logits, and every mask decision.

report = laudc.verify("model.laudc", "checkpoint.pth.tar")
report.require_passed()
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from laudc import make_callable
from laudc.verify.report import VerifyReport

if TYPE_CHECKING:
    import numpy as np

__all__ = ["VerifyReport", "verify"]


def verify(
    target: str | os.PathLike[str],
    reference: str | os.PathLike[str],
    *,
    images: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] | np.ndarray | None = None,
    atol: float = 1e-4,
    rtol: float = 1e-4,
    tie_margin: float = 1e-5,
    batch: int = 4,
    limit: int | None = None,
    seed: int = 0,
    arch: str | None = None,
    config: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    threads: int | None = None,
    head: str | os.PathLike[str] | Any = None,
    progress: Callable[[str], None] = lambda step: None,
) -> VerifyReport:
    """Run target and reference on the same images and compare logits and masks separately.

    A mask decision is discontinuous: where keep and drop scores nearly tie, rounding may turn it and change
    everything after it. So decisions are compared block by block. The first block of an image in which some
    differ decides: if all of them are ties in the reference (|keep − drop| < `tie_margin`), the image is set
    aside from there on, logits included; if any is not, the check fails. Without differences the logits must
    agree to `atol` + `rtol`·max|reference|. Objects that a detector selected are compared as a set
    (`laudc.verify.detections`): all but one part in a hundred, by their scores, must agree. Where the reference's head
    can be led, the report says how many of the others agree once it keeps the boxes that the target chose, and by how
    much scores or overlaps would have to move for that: objects at ties (`laudc.verify.choices`).

    Args:
        target: engine bundle, or portable ONNX, which plain ONNX Runtime runs.
        reference: checkpoint (run by torch; gives margins), portable ONNX, or engine bundle.
        images: files or folders (prepared as the target's metadata says), float32 array (N, 3, H, W), or None
            for seeded noise, constants and checkerboards.
        atol: absolute tolerance of a logit.
        rtol: tolerance relative to the largest logit of the reference.
        tie_margin: reference margin below which a turned decision counts as a tie, and margin of a choice of boxes
            below which objects differ at a tie. Unknown margins are no ties.
        batch: batch size of the second run; the first is one image at a time.
        limit: use at most so many of the images, given or made.
        seed: of the noise.
        arch: as for `laudc.export`, if the reference is a checkpoint.
        config: as for `laudc.export`, if the reference is a checkpoint.
        threads: of ONNX Runtime; None lets it choose.
        head: as for `laudc.export`, if the target was exported with it and the reference is a checkpoint: its own
            library runs it behind the checkpoint's maps, one image at a time.
        progress: called with the name of each step as it begins.

    Raises:
        UserError: a file cannot be used, the two are not the same network, or the head's library is not installed.
    """
    from laudc.verify.run import Options, run_verify

    options = Options(atol, rtol, tie_margin, batch, limit, seed, arch, config, threads, head)
    return run_verify(target, reference, images, options, progress)


make_callable(__name__, verify)
