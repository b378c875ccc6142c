"""laudc predict"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from laudc.cli.describe import prediction_line
from laudc.cli.session import Session, shared_options

if TYPE_CHECKING:
    from laudc.predict.sweep import Sweep
    from laudc.schedule.forecast import Forecast

_SHOWN = 3  # operators that are named


@click.command("predict", short_help="Predict latency without building.")
@click.argument("model")
@click.option("--device", default="cpu", show_default=True, metavar="NAME|FILE.yaml", help="Device to predict for.")
@click.option("--activation", metavar="STATS.json|RATE", help="What the masks keep [default: 0.5].")
@click.option("--batch", type=int, help="Images per call [default: the device's].")
@click.option("--threads", type=int, help="Threads of a CPU [default: one per core].")
@click.option("--precision", help="Data type [default: the device's].")
@click.option("--schedule", default="auto", show_default=True, help="Blocks: auto, dense or sparse.")
@click.option("--sweep", is_flag=True, help="Over activation rates, with the break-even rate of each block.")
@shared_options
@click.pass_obj
def command(
    session: Session,
    model: str,
    device: str,
    activation: str | None,
    batch: int | None,
    threads: int | None,
    precision: str | None,
    schedule: str,
    sweep: bool,
) -> None:
    """Predicts MODEL, portable ONNX or an engine that carries it, on a device that need not be here.

    \b
    Example:
      laudc predict model.onnx --device nano
      laudc predict model.onnx --device cpu --activation stats.json --sweep
    """
    from laudc.predict import predict

    result = predict(
        model,
        device=device,
        activation=activation,
        batch=batch,
        threads=threads,
        precision=precision,
        schedule=schedule,
        sweep=sweep,
    )
    session.say(forecast_text(result))
    session.write({"kind": "prediction", **result.to_dict()})


def forecast_text(result: Forecast) -> str:
    """The prediction as a table per block, the network below."""
    from laudc.report import Column, render_table

    columns = (
        Column("block", left=True),
        Column("runs", left=True),
        Column("mean", "µs"),
        Column("p95", "µs"),
        Column("worst", "µs"),
        Column("why", left=True),
    )
    rows = [
        [block.name, block.execution, *_times(block.predicted), block.reason] for block in result.plan.blocks
    ]
    predicted = result.plan.predicted
    assert predicted is not None
    head = f"{result.arch} on {result.device}, {result.precision}: {result.status}"
    lines = [head, "", render_table(columns, rows), "", prediction_line(predicted)]
    if result.found:
        most = " and ".join(f"{count} {name}" for name, count in result.found.items())
        lines.append(f"What is found in an image was not measured, so the most is assumed: {most} (--activation).")
    if result.left_out:
        lines.append(f"Not in these numbers, as their size is not known: {_listed(result.left_out)}.")
    if result.sweep is not None:
        lines += ["", sweep_text(result.sweep)]
    return "\n".join(lines)


def _listed(operators: Sequence[str]) -> str:
    shown, more = operators[:_SHOWN], len(operators) - _SHOWN
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")


def _times(latency: Any) -> list[str]:
    return [f"{latency[key]:.0f}" for key in ("mean_us", "p95_us", "worst_us")]


def sweep_text(sweep: Sweep) -> str:
    """Rates in columns; the last two say what the runtime's dense execution takes and from which rate it wins."""
    from laudc.report import Column, render_table

    shown = [index for index, rate in enumerate(sweep.rates) if round(rate * 10) % 2 == 0]
    columns = [
        Column("block", left=True),
        *(Column(f"{sweep.rates[index]:.0%}", "µs") for index in shown),
        Column("dense", "µs"),
        Column("break-even", "rate"),
    ]
    rows = [
        [block.name, *_columns(block.sparse_us, shown), f"{block.dense_us:.0f}", _rate(block.break_even)]
        for block in sweep.blocks
    ]
    rows.append(["network", *_columns(sweep.network_us, shown), f"{sweep.dense_us:.0f}", "-"])
    return render_table(columns, rows)


def _columns(times: Sequence[float], shown: Sequence[int]) -> list[str]:
    return [f"{times[index]:.0f}" for index in shown]


def _rate(value: float) -> str:
    return "always skips" if value >= 1 else "never" if value <= 0 else f"{value:.0%}"
