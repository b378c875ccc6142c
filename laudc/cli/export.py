"""laudc export"""

from __future__ import annotations

import click

from laudc.cli.session import Session, shared_options
from laudc.cli.types import ImageSize


@click.command("export", short_help="Checkpoint to portable ONNX.")
@click.argument("checkpoint")
@click.option("-o", "--output", required=True, metavar="MODEL.onnx", help="File to write.")
@click.option("--arch", metavar="NAME", help="Architecture, for checkpoints that do not say it.")
@click.option("--config", metavar="FILE", help="Configuration (JSON, YAML, MMDetection's .py), if the file has none.")
@click.option("--input-size", type=ImageSize(), metavar="N|HxW", help="Image size [default: as trained].")
@click.option("--dynamic-batch/--fixed-batch", default=True, help="Any batch size (default), or just 1.")
@click.option("--opset", type=int, default=20, show_default=True, help="ONNX opset.")
@click.option(
    "--se-pool",
    type=click.Choice(["all", "active"]),
    help="RegNetY with spatial masks: squeeze-excitation averages over all positions, as trained (default), or over "
    "kept ones only: faster, but another network, whose outputs differ.",
)
@click.option(
    "--head",
    metavar="mmdet|FOLDER",
    help="Detectors: the checkpoint's own head as MMDetection builds it (mmdet: DDQ-DETR, Mask2Former), or the head of "
    "a saved model of the transformers library (FOLDER: Mask2Former, Deformable DETR).",
)
@shared_options
@click.pass_obj
def command(
    session: Session,
    checkpoint: str,
    output: str,
    arch: str | None,
    config: str | None,
    input_size: tuple[int, int] | None,
    dynamic_batch: bool,
    opset: int,
    se_pool: str | None,
    head: str | None,
) -> None:
    """Turns a LAUDNet CHECKPOINT into portable ONNX.

    Reads the authors' .pth.tar (mode and granularity from its hyper_set), bare state dicts (then --arch or
    --config say what they are) and laudnet's own files. Nothing in a checkpoint is ever executed.

    \b
    Example:
      laudc export checkpoint.pth.tar -o model.onnx
    """
    from laudc.cli.describe import onnx_facts
    from laudc.export import export
    from laudc.files import sha256_file

    session.progress(f"exporting {checkpoint}")
    model = export(
        checkpoint,
        output,
        arch=arch,
        config=config,
        input_size=input_size,
        dynamic_batch=dynamic_batch,
        opset=opset,
        se_pool=se_pool,
        head=head,
    )
    if se_pool == "active":
        session.say(
            "squeeze-excitation averages over kept positions only: this is not the network that was trained, and its "
            "outputs differ from the checkpoint's (laudc verify will say by how much)"
        )
    facts = onnx_facts(model)
    session.write({"kind": "export", "output": output, "sha256": sha256_file(output), "model": facts})
    session.say(f"{output}: {facts['arch']}, {facts['dynamic_blocks']} dynamic blocks, opset {opset}")
