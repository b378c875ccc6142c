"""laudc verify"""

from __future__ import annotations

import click

from laudc.cli.session import Session, shared_options


@click.command("verify", short_help="Check an engine or model against its reference.")
@click.argument("target")
@click.option("--reference", required=True, metavar="FILE", help="Checkpoint, portable ONNX or engine.")
@click.option("--images", multiple=True, metavar="PATH", help="Image file or folder; may be repeated.")
@click.option("--limit", type=int, metavar="N", help="Use at most N of the images, given or made.")
@click.option("--atol", default=1e-4, show_default=True, help="Absolute tolerance of a logit.")
@click.option("--rtol", default=1e-4, show_default=True, help="Tolerance relative to the largest logit.")
@click.option("--batch", default=4, show_default=True, help="Batch size of the second run (the first has 1).")
@click.option("--seed", default=0, show_default=True, help="Seed of the made images.")
@click.option("--arch", metavar="NAME", help="As for export, if the reference is a checkpoint.")
@click.option("--config", metavar="FILE", help="As for export, if the reference is a checkpoint.")
@click.option("--head", metavar="mmdet|FOLDER", help="As for export, if the target was exported with one.")
@click.option("--threads", type=int, help="Threads of the runtime [default: one per core].")
@shared_options
@click.pass_obj
def command(
    session: Session,
    target: str,
    reference: str,
    images: tuple[str, ...],
    limit: int | None,
    atol: float,
    rtol: float,
    batch: int,
    seed: int,
    arch: str | None,
    config: str | None,
    head: str | None,
    threads: int | None,
) -> None:
    """Compares TARGET, an engine or portable ONNX, with its reference: logits and every mask decision.

    \b
    Example:
      laudc verify model.laudc --reference checkpoint.pth.tar
    """
    from laudc.verify import verify

    report = verify(
        target,
        reference,
        images=images or None,
        atol=atol,
        rtol=rtol,
        batch=batch,
        limit=limit,
        seed=seed,
        arch=arch,
        config=config,
        threads=threads,
        head=head,
        progress=session.progress,
    )
    session.write({"kind": "verify", **report.to_dict()})
    if report.passed:
        session.say(f"PASSED: {report.summary()}")
    report.require_passed()
