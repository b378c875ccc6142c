"""Runs target and reference and puts the report together."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from laudc.errors import UserError
from laudc.verify.choices import Led
from laudc.verify.compare import Leading, Tolerance, compare
from laudc.verify.images import default_images, gather_images, uneven_images
from laudc.verify.networks import Network, open_network
from laudc.verify.outcome import Array, Outcome, join
from laudc.verify.report import VerifyReport


@dataclass(frozen=True)
class Options:
    """Arguments of `laudc.verify.verify` of the same names."""

    atol: float
    rtol: float
    tie_margin: float
    batch: int
    limit: int | None
    seed: int
    arch: str | None
    config: str | os.PathLike[str] | Mapping[str, Any] | None
    threads: int | None
    head: str | os.PathLike[str] | Any = None


def run_verify(
    target: str | os.PathLike[str],
    reference: str | os.PathLike[str],
    images: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] | Array | None,
    options: Options,
    progress: Callable[[str], None],
) -> VerifyReport:
    """See `laudc.verify.verify`."""
    _check_options(options)
    progress("loading")
    ours = open_network(target, threads=options.threads, checkpoints=False)
    theirs = open_network(
        reference,
        arch=options.arch,
        config=options.config,
        threads=options.threads,
        checkpoints=True,
        head=options.head,
        size=ours.size,
    )
    _check_heads(ours, theirs)
    size = _common_size(ours, theirs)
    make = uneven_images if ours.found is not None or ours.head else default_images
    batch_images, description = gather_images(
        images, size, ours.preprocess, seed=options.seed, limit=options.limit, make=make
    )
    progress("running the reference")
    expected = run_batches(theirs, batch_images, theirs.fixed_batch or options.batch)
    tolerance = Tolerance(options.atol, options.rtol, options.tie_margin)
    runs = []
    for batch in _batches(ours, options.batch, len(batch_images)):
        progress(f"running the target in batches of {batch}")
        outcome = run_batches(ours, batch_images, batch)
        lead = leading(ours, theirs, batch_images, outcome)
        runs.append(compare(outcome, expected, batch, tolerance, ours.found, lead))
    return VerifyReport(
        target=os.fspath(target),
        reference=os.fspath(reference),
        images=description,
        image_count=len(batch_images),
        input_size=size,
        atol=options.atol,
        rtol=options.rtol,
        tie_margin=options.tie_margin,
        runs=tuple(runs),
    )


def _check_options(options: Options) -> None:
    for name in ("atol", "rtol", "tie_margin"):
        # Written so that NaN is refused too.
        if not getattr(options, name) >= 0:
            raise UserError(
                f"the option {name} is {getattr(options, name)}",
                "tolerances are not negative",
                "Give 0 or more",
            )
    for name in ("batch", "limit"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise UserError(
                f"the option {name} is {value}", "at least one image must be run", "Give 1 or more"
            )
    if options.seed < 0:
        raise UserError(f"the option seed is {options.seed}", "seeds are not negative", "Give 0 or more")


def _check_heads(target: Network, reference: Network) -> None:
    """Raises UserError where just one of them ends with a head of another library."""
    if target.head and not reference.head:
        raise UserError(
            f"nothing was compared: the target ends with a head of another library ({target.head})",
            "the reference ends with the maps that this head takes",
            "Give --head as for laudc export, so that the library runs the head behind the reference",
        )
    if reference.head and not target.head:
        raise UserError(
            f"nothing was compared: the reference ends with a head ({reference.head}), and the target does not",
            "it was exported without --head",
            "Leave --head out, or export the target with it",
        )


def _common_size(target: Network, reference: Network) -> tuple[int, int]:
    size = target.size or reference.size
    if size is None or (reference.size is not None and reference.size != size):
        raise UserError(
            "target and reference take images of different sizes",
            f"the target takes {target.size}, the reference {reference.size} (height, width)",
            "Give the checkpoint or model that the target was made from",
        )
    return size


def _batches(network: Network, wanted: int, images: int) -> list[int]:
    """The batch sizes to run: one image at a time, and several at once unless the batch is fixed."""
    if network.fixed_batch is not None:
        return [network.fixed_batch]
    return sorted({1, min(wanted, images)})


def leading(target: Network, reference: Network, images: Array, outcome: Outcome) -> Leading:
    """How `compare` learns what the reference finds with the target's choices in one of `images`. `outcome` is the
    target's; where it does not find the very same again, nothing is known.
    """

    def lead(number: int) -> Led | None:
        if not reference.can_be_led:
            return None
        image = images[number : number + 1]
        choices = target.chosen(image)
        if choices is None or not np.array_equal(choices.outputs, outcome.logits[number]):
            return None
        return reference.led(image, choices)

    return lead


def run_batches(network: Network, images: Array, batch: int) -> Outcome:
    """Run all images in batches; the last batch may be smaller unless the network's batch is fixed.

    Raises:
        UserError: the number of images is no multiple of a fixed batch.
    """
    if network.fixed_batch is not None and len(images) % batch:
        raise UserError(
            f"{len(images)} images cannot be run in batches of {batch}",
            "the batch of this model is fixed",
            f"Give a multiple of {batch} images",
        )
    return join([network.run(images[start : start + batch]) for start in range(0, len(images), batch)])
