"""Every mode and precision against the dense-masked reference in double precision."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from .cases import Case
from .jobs import Job
from .native import Library, Run
from .reference import exact_margins, masked_block
from .weights import make_block

# Largest allowed error over the largest value of the result: some rounding steps of the format, over sums of thousands.
TOLERANCES = {"fp32": 2e-5, "tf32": 5e-3, "fp16": 1e-2}
# Largest allowed error of a margin, relative to the largest: only so near to zero may a decision be another one.
_MARGIN_TOLERANCE = {"fp32": 1e-5, "tf32": 1e-5, "fp16": 5e-3}
_BATCH = 3


@dataclass(frozen=True)
class Check:
    """One comparison. `error` and `margin_error` are relative to the largest value; `repeatable`: bit for bit."""

    name: str
    precision: str
    error: float
    margin_error: float
    flipped: int
    repeatable: bool
    passed: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def numeric_cases() -> Iterator[Case]:
    """Blocks of every stage, those that begin one included; nothing kept, a little, half, everything."""
    kinds = ((3, "spatial", 1), (2, "spatial", 7), (2, "layer", 0), (2, "channel", 0), (2, "both", 2))
    for stage, mode, grain in kinds:
        for rate in (0.0, 0.1, 0.5, 1.0):
            yield Case(stage, mode, grain, rate, _BATCH)
    for stage, grain in ((0, 4), (1, 4), (2, 2), (3, 1)):
        for mode in ("spatial", "layer", "channel", "both"):
            yield Case(stage, mode, grain if mode in ("spatial", "both") else 0, 0.5, _BATCH, first=True)


def check_jobs(
    library: Library, cases: Iterable[Case], *, make: Callable[..., Any] = Run, device: str = "cuda"
) -> Iterator[Job[Check]]:
    """All cases in all precisions."""
    for case in cases:
        for precision in TOLERANCES:
            run = functools.partial(check, library, case, precision, make=make, device=device)
            yield Job(f"{case.name} {precision}", run)


def check(
    library: Library, case: Case, precision: str, *, make: Callable[..., Any] = Run, device: str = "cuda"
) -> Check:
    """One case: the result for the kernels' own decisions, and the decisions by themselves."""
    random = np.random.default_rng(case.stage)
    record = case.record
    pixels = np.abs(random.standard_normal((case.batch, record.cin, record.hin, record.win))).astype(np.float32)
    block = make_block(record, case.rate, torch.from_numpy(pixels), seed=7)
    run = make(library, [record], [block.packed], precision=precision, batch=case.batch, device=device)
    try:
        x = torch.from_numpy(pixels).to(device).to(run.dtype)
        given = x.permute(0, 2, 3, 1).contiguous()
        found = run(given).clone()
        again = run(given)
        margins = run.margins[:, : record.margins].double()
        wanted_margins = exact_margins(block, x)
        wanted = masked_block(block, x.double(), margins).permute(0, 2, 3, 1)
        return _judge(case, precision, found, again, wanted, margins, wanted_margins)
    finally:
        run.close()


def _judge(
    case: Case,
    precision: str,
    found: torch.Tensor,
    again: torch.Tensor,
    wanted: torch.Tensor,
    margins: torch.Tensor,
    wanted_margins: torch.Tensor,
) -> Check:
    error = _relative(found.double(), wanted)
    margin_error = _relative(margins, wanted_margins)
    flipped = int(((margins >= 0) != (wanted_margins >= 0)).sum())
    repeatable = bool(torch.equal(found, again))
    finite = bool(torch.isfinite(margins).all() and torch.isfinite(wanted_margins).all())
    near = error <= TOLERANCES[precision] and margin_error <= _MARGIN_TOLERANCE[precision]
    ok = near and finite and repeatable
    return Check(case.name, precision, error, margin_error, flipped, repeatable, ok)


def _relative(found: torch.Tensor, wanted: torch.Tensor) -> float:
    largest = max(float(wanted.abs().max()), 1e-30)
    return float((found - wanted).abs().max()) / largest
