"""laudc build-engine"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from laudc.cli.describe import prediction_line, runs_on
from laudc.cli.session import Session, shared_options
from laudc.cli.types import target_options

if TYPE_CHECKING:
    from laudc.engine.build import BuildResult
    from laudc.remote.build import RemoteBuild


@click.command("build-engine", short_help="Portable ONNX to an engine for a device.")
@click.argument("model")
@click.option("-o", "--output", required=True, metavar="MODEL.laudc", help="Engine to write.")
@click.option(
    "--device", default="cpu", show_default=True, metavar="NAME|FILE.yaml", help="Device to build for."
)
@click.option("--backend", default="auto", show_default=True, help="Runtime: auto or onnxruntime.")
@click.option("--precision", default="fp32", show_default=True, help="Arithmetic: fp32.")
@click.option("--schedule", default="auto", show_default=True, help="Blocks: auto, dense or sparse.")
@click.option(
    "--activation",
    metavar="STATS.json|RATE",
    help="What the masks keep: a file of laudc profile, or a rate [default: 0.5].",
)
@click.option("--calibrate-images", metavar="DIR", help="Images whose masks decide, in place of --activation.")
@click.option("--batch", type=int, help="Images per call to schedule for [default: the device's].")
@click.option(
    "--no-portable", is_flag=True, help="Leave out the copy that --against-dense and rebuilding need."
)
@target_options
@shared_options
@click.pass_obj
def command(
    session: Session,
    model: str,
    output: str,
    device: str,
    backend: str,
    precision: str,
    schedule: str,
    activation: str | None,
    calibrate_images: str | None,
    batch: int | None,
    no_portable: bool,
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
    if target is not None:
        options = {"device": device, "backend": backend, "precision": precision, "schedule": schedule}
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        words += ["--no-portable"] if no_portable else []
        _show(session, _build_there(session, model, output, target, host_keys, words))
        return
    from laudc.engine import build_engine

    result = build_engine(
        model,
        output,
        device=device,
        backend=backend,
        precision=precision,
        schedule=schedule,
        activation=activation,
        calibrate_images=calibrate_images,
        batch=batch,
        portable=not no_portable,
        progress=session.progress,
    )
    _show(session, result)


def _build_there(
    session: Session, model: str, output: str, target: str, host_keys: str, words: list[str]
) -> RemoteBuild:
    from laudc.remote import build_on_target, parse_target

    return build_on_target(
        parse_target(target), model, output, options=words, host_keys=host_keys, progress=session.progress
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
