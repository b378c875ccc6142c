"""laudc search"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from laudc.cli.session import Session, shared_options
from laudc.errors import CheckFailed

if TYPE_CHECKING:
    from laudc.search import SearchResult


@click.command("search", short_help="Which granularities and rates to train for a device.")
@click.argument("arch", default="uni_resnet50")
@click.option("--device", default="cpu", show_default=True, metavar="NAME|FILE.yaml", help="Device to predict for.")
@click.option("--budget-ms", type=float, metavar="MS", help="Mean latency that must not be exceeded; exit 3 if all do.")
@click.option("--mode", multiple=True, help="Mode to try, as spatial or token+head; may be repeated [default: all].")
@click.option("--rate", type=float, multiple=True, help="Target rates to try; may be repeated [default: 0.3 to 0.8].")
@click.option("--input-size", default=224, show_default=True, help="Side of the image in pixels.")
@click.option("--width-mult", default=1.0, show_default=True, help="Scales all channels of a ResNet.")
@click.option("--batch", type=int, help="Images per call [default: the device's].")
@click.option("--threads", type=int, help="Threads of a CPU [default: one per core].")
@click.option("--precision", help="Data type [default: the device's].")
@click.option("--workers", type=int, help="Processes that predict [default: one per core].")
@click.option("--scheduler", metavar="tcp://HOST:PORT", help="Predict on the workers of this Dask scheduler.")
@click.option(
    "--top", type=click.IntRange(min=0), default=20, show_default=True, help="Rows to show; the JSON result has all."
)
@shared_options
@click.pass_obj
def command(
    session: Session,
    arch: str,
    device: str,
    budget_ms: float | None,
    mode: tuple[str, ...],
    rate: tuple[float, ...],
    input_size: int,
    width_mult: float,
    batch: int | None,
    threads: int | None,
    precision: str | None,
    workers: int | None,
    scheduler: str | None,
    top: int,
) -> None:
    """Predicts ARCH in every mode, granularity and rate, and shows those that nothing else beats on the device.

    \b
    Example:
      laudc search uni_resnet50 --device nano --budget-ms 40
      laudc search uni_resnet101 --mode spatial --rate 0.5
      laudc search lad_regnet_y_800mf --budget-ms 20
      laudc search ada_step_t2t_vit_19_lnorm --mode token --mode token+head+layer
    """
    from laudc.search import search
    from laudc.search.space import RATES

    result = search(
        arch,
        device=device,
        budget_ms=budget_ms,
        modes=mode or None,
        rates=rate or RATES,
        input_size=input_size,
        width_mult=width_mult,
        batch=batch,
        threads=threads,
        precision=precision,
        workers=workers,
        scheduler=scheduler,
        progress=session.progress,
    )
    session.say(search_text(result, top))
    session.write({"kind": "search", **result.to_dict()})
    _check_budget(result)


def _check_budget(result: SearchResult) -> None:
    if result.candidates or result.budget_us is None:
        return
    raise CheckFailed(
        f"no configuration of {result.arch} stays within {result.budget_us / 1e3:g} ms on {result.device}",
        f"the fastest of the {result.predicted} that were predicted takes {result.fastest_us / 1e3:.2f} ms "
        f"({result.status})",
        "raise --budget-ms, or try lower rates (--rate), more modes, smaller images or another architecture",
    )


def search_text(result: SearchResult, top: int) -> str:
    """The fastest `top` of the Pareto set as a table."""
    from laudc.report import Column, render_table

    head = f"{result.arch} on {result.device}, batch {result.batch}: {result.status}"
    if not result.candidates:
        return f"{head}\n\n{result.predicted} configurations predicted, none within the budget."
    columns = (
        Column("mode", left=True),
        Column("S", left=True),
        Column("G", left=True),
        Column("rate", "%"),
        Column("mean", "ms"),
        Column("decisions", "per image"),
    )
    rows = [
        [
            one.mode,
            "-".join(map(str, one.spatial)) or "-",
            "-".join(map(str, one.channel)) or "-",
            f"{one.rate:.0%}".rstrip("%"),
            f"{one.latency_us / 1e3:.2f}",
            str(one.decisions),
        ]
        for one in result.candidates[:top]
    ]
    shown = f"{min(top, len(result.candidates))} of {len(result.candidates)} shown"
    return f"{head}\n\n{render_table(columns, rows)}\n\n{result.predicted} configurations predicted, {shown}."
