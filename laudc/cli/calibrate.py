"""laudc calibrate"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from laudc.cli.session import Session, shared_options

if TYPE_CHECKING:
    from laudc.calibrate import CalibrationResult


@click.command("calibrate", short_help="Measure this machine for predictions.")
@click.option("-o", "--output", metavar="PROFILE.yaml", help="Profile to write [default: the user's own place].")
@click.option("--device", default="cpu", show_default=True, metavar="NAME|FILE.yaml", help="Profile to extend.")
@click.option("--threads", type=int, multiple=True, help="Threads to measure; may be repeated [default: 1 and all].")
@click.option("--networks", default=48, show_default=True, help="Made-up networks to time, about 5 s each.")
@click.option("--force", is_flag=True, help="Write the profile even if the machine was disturbed.")
@shared_options
@click.pass_obj
def command(
    session: Session,
    output: str | None,
    device: str,
    threads: tuple[int, ...],
    networks: int,
    force: bool,
) -> None:
    """Times made-up networks on this machine with laudc's own kernels, fits the latency model and writes a profile.

    Without -o the profile goes to the user's own folder, where --device cpu finds it from then on. An interrupted
    calibration goes on where it stopped. Let nothing else run meanwhile.

    \b
    Example:
      laudc calibrate
      laudc calibrate --threads 1 -o mymachine.yaml
    """
    from laudc.calibrate import calibrate

    result = calibrate(
        output, device=device, threads=threads or None, networks=networks, force=force, progress=session.progress
    )
    session.say(calibration_text(result))
    session.write({"kind": "calibration", **result.to_dict()})


def calibration_text(result: CalibrationResult) -> str:
    """The outcome in a few lines."""
    lines = [
        f"{result.path}: {result.samples} samples ({result.blocks} blocks timed) in {result.seconds:.0f} s, "
        f"repeatable to {result.repeatability:.1%}"
    ]
    for threads, errors in result.held_out.items():
        blocks, networks = errors["blocks"], errors["networks"]
        within = f"{networks['within_10']:.0%} within 10 %"
        lines.append(
            f"{threads} thread{'s' if threads != 1 else ''}, on networks left out: whole networks off by "
            f"{networks['mape']:.1%} on average ({within}), blocks by {blocks['mape']:.1%}"
        )
    return "\n".join(lines)
