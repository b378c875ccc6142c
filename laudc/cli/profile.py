"""laudc profile"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from laudc.cli.session import Session, shared_options
from laudc.cli.types import target_options
from laudc.errors import CheckFailed, UserError

if TYPE_CHECKING:
    from laudc.profile.records import ProfileResult


@click.command("profile", short_help="Measure an engine, block by block.")
@click.argument("engine")
@click.option("--images", multiple=True, metavar="PATH", help="Image file or folder; may be repeated.")
@click.option("--runs", default=50, show_default=True, help="Measured calls.")
@click.option("--warmup", default=5, show_default=True, help="Calls before that.")
@click.option("--batch", default=1, show_default=True, help="Images per call.")
@click.option("--threads", type=int, help="Threads of the runtime [default: one per core].")
@click.option("--against-dense", is_flag=True, help="Also measure the dense network, call by call in turn.")
@click.option("--device", metavar="NAME|FILE.yaml", help="Predict with this profile [default: the engine's device].")
@click.option("--save-activation", metavar="STATS.json", help="Keep what the masks kept, for --activation.")
@click.option("--fail-over", type=float, metavar="PCT", help="Exit 3 if the prediction is off by more percent.")
@click.option("--html", metavar="FILE", help="Write a report as one HTML file.")
@click.option("--min-speedup", type=float, metavar="X", help="Exit 3 below this speed-up over dense.")
@target_options
@shared_options
@click.pass_obj
def command(
    session: Session,
    engine: str,
    images: tuple[str, ...],
    runs: int,
    warmup: int,
    batch: int,
    threads: int | None,
    against_dense: bool,
    device: str | None,
    save_activation: str | None,
    fail_over: float | None,
    html: str | None,
    min_speedup: float | None,
    target: str | None,
    host_keys: str,
) -> None:
    """Measures ENGINE on images: activation, time per block and end to end, and what skipping could give.

    \b
    Example:
      laudc profile model.laudc --images photos/ --against-dense --html report.html
      laudc profile finished.laudc --images photos/ --target ssh://me@nano
    """
    from laudc.files import atomic_write
    from laudc.report import profile_html, profile_text

    _check_limits(fail_over, min_speedup)
    _check_files(session, (engine, device, *images), html, save_activation)
    if target is None:  # there, names and paths of devices mean that machine's
        _check_device(engine, device)
    measure = _here(session) if target is None else _there(session, target, host_keys)
    result = measure(
        engine,
        images or None,
        runs=runs,
        warmup=warmup,
        batch=batch,
        threads=threads,
        against_dense=against_dense or min_speedup is not None,
        device=device,
        save_activation=save_activation,
    )
    session.say(profile_text(result))
    if html is not None:
        with atomic_write(html) as file:
            file.write(profile_html(result).encode())
        session.say(f"Report: {html}")
    session.write(result.to_dict())
    if save_activation is not None:
        session.say(f"Activation: {save_activation}")
    _check_prediction(engine, result, fail_over)
    _check_speedup(engine, result, min_speedup)


def _check_limits(fail_over: float | None, min_speedup: float | None) -> None:
    """Raises UserError for limits that every measurement would meet, or none: before anything is measured."""
    for option, limit, usual in (("--fail-over", fail_over, "10"), ("--min-speedup", min_speedup, "1.2")):
        if limit is not None and not 0 <= limit < math.inf:
            raise UserError(
                f"nothing can be checked with {option} {limit:g}",
                "the limit is a number from 0 on",
                f"use {option} {usual}",
            )


def _check_files(session: Session, sources: tuple[str | None, ...], *paths: str | None) -> None:
    """Raises UserError for results that could not be written, or would overwrite what they are made from: before
    anything is measured."""
    from laudc.files import check_apart, check_file

    for path in (*paths, None if session.json_target == "-" else session.json_target):
        if path is not None:
            check_file(path)
            for source in sources:
                check_apart(source, path)


def _check_device(engine: str, device: str | None) -> None:
    """Raises UserError for a device that the engine cannot be measured on, so that comparing would mean nothing."""
    from laudc.devices import load_profile
    from laudc.engine.bundle import open_bundle
    from laudc.engine.manifest import GPU_BACKENDS

    if device is None:
        return
    on_gpu = load_profile(device).kind != "cpu"
    manifest = open_bundle(engine).manifest
    if on_gpu == (manifest.backend.name in GPU_BACKENDS):
        return
    runs, other = ("a CPU", "a GPU") if on_gpu else ("a GPU", "a CPU")
    raise UserError(
        f"{engine} cannot be compared with a prediction for '{device}'",
        f"it runs on {runs} ({manifest.backend.name}), and the device is {other}",
        f"leave --device out; what the network would cost there says laudc predict {engine} --device {device}",
    )


def _check_prediction(engine: str, result: ProfileResult, most: float | None) -> None:
    if most is None:
        return
    if result.comparison is None:
        raise CheckFailed(
            f"{engine} could not be compared with a prediction",
            "the device has no latency model for its kernels, or the engine carries no portable model",
            "Measure this machine with laudc calibrate, and build without --no-portable",
        )
    error = result.comparison.median.error
    if abs(error) * 100 > most:
        raise CheckFailed(
            f"the prediction for {engine} is off by {error:+.1%}",
            f"--fail-over allows {most:g} %",
            "Measure this machine again with laudc calibrate while nothing else runs",
        )


def _here(session: Session) -> Callable[..., ProfileResult]:
    from laudc.profile import profile

    return functools.partial(profile, progress=session.progress)


def _there(session: Session, target: str, host_keys: str) -> Callable[..., ProfileResult]:
    from laudc.remote import parse_target, profile_on_target

    return functools.partial(
        profile_on_target, parse_target(target), host_keys=host_keys, progress=session.progress
    )


def _check_speedup(engine: str, result: ProfileResult, least: float | None) -> None:
    if least is None or result.dense is None or result.dense.speedup >= least:
        return
    raise CheckFailed(
        f"{engine} is {result.dense.speedup:.2f}× as fast as dense onnxruntime",
        f"--min-speedup asks for {least:g}×",
        "See the table for the blocks that lose, or lower the limit",
    )
