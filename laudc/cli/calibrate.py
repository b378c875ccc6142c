"""laudc calibrate"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from laudc.cli.session import Session, shared_options
from laudc.errors import UserError

if TYPE_CHECKING:
    from laudc.calibrate import CalibrationResult
    from laudc.calibrate.cuda.run import CudaCalibration


@dataclass(frozen=True)
class _Way:
    """How a kind of machine is calibrated: what does it, for so many networks if nothing is said, and how the outcome
    reads."""

    calibrate: Callable[..., Any]
    networks: int
    text: Callable[[Any], str]


@click.command("calibrate", short_help="Measure this machine for predictions.")
@click.option("-o", "--output", metavar="PROFILE.yaml", help="Profile to write [default: the user's own place].")
@click.option("--device", default="cpu", show_default=True, metavar="NAME|FILE.yaml", help="Profile to extend.")
@click.option("--threads", type=int, multiple=True, help="Threads to measure; may be repeated [default: 1 and all].")
@click.option("--networks", type=int, help="Made-up networks to time, about 6 s each [default: 82; of a GPU 48].")
@click.option("--family", multiple=True, help="resnet, regnet or vit; may be repeated [default: all].")
@click.option("--measurements", metavar="results.json", help="Of a GPU: what scripts/gpu_check.sh measured there.")
@click.option("--samples", metavar="FILE", help="Keep the samples here, and fit to those of earlier times in it too.")
@click.option("--force", is_flag=True, help="Write the profile even if the machine was disturbed.")
@shared_options
@click.pass_obj
def command(
    session: Session,
    output: str | None,
    device: str,
    threads: tuple[int, ...],
    networks: int | None,
    family: tuple[str, ...],
    measurements: str | None,
    samples: str | None,
    force: bool,
) -> None:
    """Times made-up networks on this machine with laudc's own kernels, fits the latency model and writes a profile.

    Without -o the profile goes to the user's own folder, where --device cpu finds it from then on. An interrupted
    calibration goes on where it stopped. Let nothing else run meanwhile. A machine does things differently from one
    hour to the next: with --samples, calibrations at several times, each of other networks, make one profile.

    \b
    Example:
      laudc calibrate
      laudc calibrate --threads 1 -o mymachine.yaml
      laudc calibrate --samples mymachine.samples
      laudc calibrate --device h200
      laudc calibrate --device h200 --measurements results.json -o h200.yaml
    """
    from laudc.predict.families import FAMILIES

    on_gpu = is_cuda(device, measurements)
    target = _target(output, device)
    try:
        way = _on_gpu(threads, family, measurements, samples, networks, force) if on_gpu else _on_cpu(threads, samples)
        result = way.calibrate(
            output,
            device=device,
            networks=way.networks if networks is None else networks,
            families=family or FAMILIES,
            force=force,
            progress=session.progress,
        )
    except KeyboardInterrupt:
        if target.with_name(f"{target.name}.part").exists():
            session.say(f"What was measured is kept in {target}.part: the same command goes on from there.")
        raise
    session.say(way.text(result))
    session.write({"kind": "calibration", **result.to_dict()})


def _target(output: str | None, device: str) -> Path:
    """The profile to write. Raises UserError where it cannot be, before anything is measured for it."""
    from laudc.devices import load_profile, user_profile_path
    from laudc.files import check_target

    target = Path(output) if output is not None else user_profile_path(load_profile(device).id)
    check_target(target)
    return target


def _on_cpu(threads: tuple[int, ...], samples: str | None) -> _Way:
    from laudc.calibrate import calibrate
    from laudc.calibrate.run import DEFAULT_NETWORKS
    way = functools.partial(calibrate, threads=threads or None, archive=samples)
    return _Way(way, DEFAULT_NETWORKS, calibration_text)


def is_cuda(device: str, measurements: str | None) -> bool:
    """Whether a GPU is to be calibrated. Raises UserError for measurements that are of no GPU."""
    from laudc.devices import load_profile

    found = load_profile(device).kind == "cuda"
    if measurements is not None and not found:
        raise UserError(
            f"the device '{device}' cannot be calibrated from a file",
            "files of scripts/gpu_check.sh hold measurements of GPUs",
            "name the GPU with --device, or leave --measurements out",
        )
    return found


def _on_gpu(
    threads: tuple[int, ...],
    family: tuple[str, ...],
    measurements: str | None,
    samples: str | None,
    networks: int | None,
    force: bool,
) -> _Way:
    """Raises UserError for what is no matter of a GPU, or cannot be chosen of one measured elsewhere."""
    from laudc.calibrate.cuda import calibrate_cuda
    from laudc.calibrate.cuda.gpu_check import calibrate_from_file
    from laudc.calibrate.cuda.run import DEFAULT_NETWORKS

    if threads:
        raise UserError("threads are no matter of a GPU", "--threads is for CPUs", "leave it out")
    if samples is not None:
        raise UserError("samples of a GPU are not kept", "--samples is for CPUs", "leave it out")
    if measurements is None:
        return _Way(calibrate_cuda, DEFAULT_NETWORKS, gpu_calibration_text)
    if family:
        raise UserError(
            "families cannot be chosen from a file", "scripts/gpu_check.sh measures LAUD-ResNets", "leave --family out"
        )
    for option, given in (("--networks", networks is not None), ("--force", force)):
        if given:
            raise UserError(
                "a file of measurements is taken as it is", f"{option} is for measuring here", f"leave {option} out"
            )

    def from_file(output: str | None, *, device: str, **measuring: Any) -> CudaCalibration:
        """What was measured there decides about the rest."""
        return calibrate_from_file(measurements, output, device=device)

    return _Way(from_file, DEFAULT_NETWORKS, gpu_calibration_text)


def gpu_calibration_text(result: CudaCalibration) -> str:
    """The outcome in a few lines."""
    from laudc.predict.families import TITLES

    repeatable = _repeatable(result.repeatability)
    lines = [f"{result.path}: {result.gpu}, {result.samples} samples ({result.blocks} blocks timed){repeatable}"]
    for precision, errors in result.held_out.items():
        parts = [f"{what} off by {errors[what]['mape']:.1%}" for what in ("networks", "blocks") if what in errors]
        lines.append(f"{precision}, on what was left out: {' and '.join(parts)} on average")
        for family, found in errors.get("families", {}).items():
            lines.append(f"  {TITLES[family]}: blocks off by {found['blocks']['mape']:.1%} on average")
    return "\n".join(lines)


def calibration_text(result: CalibrationResult) -> str:
    """The outcome in a few lines."""
    from laudc.predict.families import TITLES

    lines = [
        f"{result.path}: {result.samples} samples ({result.blocks} blocks timed) in {result.seconds:.0f} s"
        f"{_repeatable(result.repeatability)}, fitted to {result.fitted}"
    ]
    for family, by_threads in result.held_out.items():
        lines += [_errors_text(TITLES[family], threads, errors) for threads, errors in by_threads.items()]
    return "\n".join(lines)


def _repeatable(repeatability: float | None) -> str:
    return "" if repeatability is None else f", repeatable to {repeatability:.1%}"


def _errors_text(family: str, threads: int, errors: Mapping[str, Any]) -> str:
    blocks, networks = errors["blocks"], errors["networks"]
    detectors = f", detectors among them by {errors['detectors']['mape']:.1%}" if "detectors" in errors else ""
    within = f"{networks['within_10']:.0%} within 10 %"
    return (
        f"{family}, {threads} thread{'s' if threads != 1 else ''}, on networks left out: whole networks off by "
        f"{networks['mape']:.1%} on average ({within}), blocks by {blocks['mape']:.1%}" + detectors
    )
