"""laudc build-engine"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from laudc.cli.describe import prediction_line, runs_on
from laudc.cli.session import Session, shared_options
from laudc.cli.types import target_options
from laudc.errors import UserError

if TYPE_CHECKING:
    from laudc.engine.build import BuildResult
    from laudc.remote.build import RemoteBuild
    from laudc.remote.runner import RemoteDevice


@click.command("build-engine", short_help="Portable ONNX to an engine for a device.")
@click.argument("model")
@click.option("-o", "--output", required=True, metavar="MODEL.laudc", help="Engine to write.")
@click.option(
    "--device",
    metavar="NAME|FILE.yaml",
    help="Device to build for [default: cpu; of an engine for TensorRT, the device that it is for].",
)
@click.option(
    "--backend", default="auto", show_default=True, help="Runtime: auto, onnxruntime, onnxruntime-cuda or tensorrt."
)
@click.option(
    "--precision",
    help="Arithmetic: fp32; on GPUs also tf32, with tensorrt fp16 [default: fp32; of an engine for TensorRT, its own].",
)
@click.option("--schedule", default="auto", show_default=True, help="Blocks: auto, dense or sparse.")
@click.option(
    "--activation",
    metavar="STATS.json|RATE",
    help="What the masks keep: a file of laudc profile, or a rate [default: 0.5].",
)
@click.option("--calibrate-images", metavar="DIR", help="Images whose masks decide, in place of --activation.")
@click.option("--batch", type=int, help="Images per call to schedule for [default: the device's].")
@click.option("--no-portable", is_flag=True, help="Leave out the copy that --against-dense and rebuilding need.")
@click.option(
    "--tensorrt", metavar="VERSION", help="TensorRT on the device [default: what --target says, else the profile's]."
)
@click.option("--timing-cache", metavar="FILE", help="What TensorRT has measured before [default: in ~/.cache/laudc].")
@target_options
@shared_options
@click.pass_obj
def command(
    session: Session,
    model: str,
    output: str,
    device: str | None,
    backend: str,
    precision: str | None,
    schedule: str,
    activation: str | None,
    calibrate_images: str | None,
    batch: int | None,
    no_portable: bool,
    tensorrt: str | None,
    timing_cache: str | None,
    target: str | None,
    host_keys: str,
) -> None:
    """Compiles MODEL, portable ONNX or an engine that carries it, into an engine.

    \b
    Example:
      laudc build-engine model.onnx --device cpu -o model.laudc
      laudc build-engine model.onnx --device cpu --activation stats.json -o model.laudc
      laudc build-engine uncompiled.laudc --target ssh://me@nano -o finished.laudc
    """
    given = {"backend": backend, "precision": precision, "schedule": schedule, "device": device}
    options = {name: value for name, value in given.items() if value is not None}
    here = functools.partial(
        _build_here,
        session,
        model,
        options,
        activation=activation,
        calibrate_images=calibrate_images,
        batch=batch,
        portable=not no_portable,
        timing_cache=timing_cache,
    )
    if target is None:
        _show(session, here(output, tensorrt=tensorrt))
        return
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    words += [] if batch is None else ["--batch", str(batch)]
    words += ["--no-portable"] if no_portable else []
    files: list[tuple[str, Path]] = []
    if activation is not None and os.path.isfile(activation):
        files.append(("--activation", Path(activation)))
    elif activation is not None:
        words += ["--activation", activation]
    _refuse_images(calibrate_images)
    _check_heeded(model, options, activation, batch, not no_portable, tensorrt, timing_cache)
    _refuse_timing_cache(timing_cache)
    _show(session, _build_there(session, model, output, target, host_keys, words, files, tensorrt, here))


def _refuse_images(calibrate_images: str | None) -> None:
    if calibrate_images is not None:
        raise UserError(
            "images cannot be calibrated with on another machine",
            "--calibrate-images works where the engine is built",
            "measure here first: laudc profile ENGINE --images DIR --save-activation STATS.json, then --activation",
        )


def _refuse_timing_cache(timing_cache: str | None) -> None:
    if timing_cache is not None:
        raise UserError(
            "a timing cache of this machine cannot be used on another one",
            "--timing-cache works where TensorRT compiles, and the device keeps one of its own",
            "leave --timing-cache out",
        )


def _check_heeded(
    model: str,
    options: dict[str, str],
    activation: str | None,
    batch: int | None,
    portable: bool,
    tensorrt: str | None,
    timing_cache: str | None,
) -> None:
    """Raises UserError for options that building there would not heed, as building here does."""
    from laudc.devices import load_profile
    from laudc.engine.build import check_tensorrt_options, chosen_backend, finishes, require_as_scheduled

    if finishes(model, options.get("device")):
        require_as_scheduled(
            model,
            backend=options["backend"],
            precision=options.get("precision"),
            schedule=options["schedule"],
            activation=activation,
            batch=batch,
            portable=portable,
            tensorrt=tensorrt,
        )
        return
    backend = chosen_backend(load_profile(options.get("device", "cpu")), options["backend"])
    check_tensorrt_options(backend, tensorrt=tensorrt, timing_cache=timing_cache)


def _build_here(session: Session, model: str, options: dict[str, str], output: str, **more: Any) -> BuildResult:
    from laudc.engine import build_engine

    return build_engine(model, output, **options, **more, progress=session.progress)  # type: ignore[arg-type]


def _build_there(
    session: Session,
    model: str,
    output: str,
    target: str,
    host_keys: str,
    words: list[str],
    files: list[tuple[str, Path]],
    tensorrt: str | None,
    here: Callable[..., BuildResult],
) -> RemoteBuild:
    """An ONNX model for a GPU becomes an uncompiled engine here, for the TensorRT there; the device has only the
    runner."""
    from laudc.remote import build_on_target, needs_preparing, parse_target

    def prepare(path: Path, device: RemoteDevice) -> None:
        here(str(path), tensorrt=tensorrt or device.tensorrt)

    return build_on_target(
        parse_target(target),
        model,
        output,
        options=words,
        files=files,
        host_keys=host_keys,
        prepare=prepare if needs_preparing(model, words) else None,
        progress=session.progress,
    )


def _show(session: Session, result: BuildResult | RemoteBuild) -> None:
    manifest = result.manifest
    session.write(
        {"kind": "build-engine", "output": str(result.path), "size": result.size, "manifest": manifest.to_dict()}
    )
    sparse = sum(block["execution"] == "sparse" for block in manifest.blocks)
    session.say(
        f"{result.path}: {manifest.arch} for {manifest.device.id} ({runs_on(manifest)}), "
        f"{sparse} of {len(manifest.blocks)} blocks skip work, "
        f"{result.size / 1e6:.1f} MB"
    )
    predicted = manifest.schedule.get("predicted")
    if predicted:
        session.say(prediction_line(predicted))
    if not manifest.compiled:
        session.say(
            f"It still has to be compiled on the device: laudc-runner build {result.path} -o FINISHED.laudc there, or "
            f"from here: laudc build-engine {result.path} --target ssh://USER@DEVICE -o FINISHED.laudc"
        )
