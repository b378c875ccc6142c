"""laudc inspect"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from laudc.cli.describe import prediction_line, runs_on
from laudc.cli.session import Session, shared_options
from laudc.errors import UserError

if TYPE_CHECKING:
    import onnx

    from laudc.engine.bundle import Bundle
    from laudc.engine.compat import Difference
    from laudc.engine.manifest import Manifest


@click.command("inspect", short_help="Say what a file is.")
@click.argument("file")
@shared_options
@click.pass_obj
def command(session: Session, file: str) -> None:
    """Says what FILE is and what is in it: an engine with its schedule, an ONNX model with its operators.

    \b
    Example:
      laudc inspect model.laudc
    """
    from laudc.engine.build import parse_onnx
    from laudc.engine.bundle import looks_like_bundle, open_bundle

    path = Path(file)
    try:
        is_engine = looks_like_bundle(path)
        raw = b"" if is_engine else path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {file}", error.strerror or str(error), "check the path") from error
    if is_engine:
        _show_engine(session, open_bundle(path))
    elif raw[:2] in (b"PK", b"\x80\x02"):
        raise UserError(
            f"{file} is neither an engine nor an ONNX model",
            "it looks like a PyTorch checkpoint",
            f"export it first: laudc export {file} -o MODEL.onnx",
        )
    else:
        _show_onnx(session, file, parse_onnx(raw, path))


def _show_engine(session: Session, bundle: Bundle) -> None:
    from laudc.report import Column, render_table

    manifest = bundle.manifest
    found = _differences(bundle)
    shape = ", ".join(map(str, manifest.input.shape))
    facts = {
        "engine": f"{bundle.path} ({sum(member.size for member in manifest.members.values()) / 1e6:.1f} MB)",
        "network": f"{manifest.arch}, {manifest.precision}, input ({shape})",
        "built for": f"{manifest.device.id}: {runs_on(manifest)}",
        "needs": _needs(manifest),
        "library": f"{manifest.native_library.version}, ABI {manifest.native_library.abi}",
        "built by": f"laudc {manifest.laudc_version}",
        "checkpoint": manifest.source.checkpoint_sha256 or "not recorded",
        "members": ", ".join(
            f"{name} ({member.size / 1e6:.1f} MB)" for name, member in manifest.members.items()
        ),
        "runs here": "yes"
        if not found
        else f"no: {found[0].field} is {found[0].engine}, here {found[0].here}",
    }
    columns = (
        Column("block", left=True),
        Column("runs", left=True),
        Column("in", "channels"),
        Column("width", "channels"),
        Column("out", "channels"),
        Column("map", "pixels"),
        Column("patches", "mask"),
        Column("groups", "channel"),
        Column("why", left=True),
    )
    table = render_table(columns, [_block_row(block) for block in manifest.blocks])
    text = f"{_listing(facts)}\n\n{table}"
    if manifest.schedule.get("predicted"):
        text += f"\n\n{prediction_line(manifest.schedule['predicted'])}"
    session.say(text)
    session.write(
        {
            "kind": "engine",
            "path": str(bundle.path),
            "runs_here": not found,
            "differences": [vars(difference) for difference in found],
            "manifest": manifest.to_dict(),
        }
    )


def _needs(manifest: Manifest) -> str:
    if not manifest.compiled:
        return "compiling on the device (laudc-runner build, or build-engine --target)"
    if manifest.cpu is not None:
        return " ".join(manifest.cpu.features) or "no particular CPU features"
    return "exactly this GPU, driver and TensorRT"


def _differences(bundle: Bundle) -> list[Difference]:
    """What keeps the engine from running here; a missing library or runtime is one difference."""
    from laudc import backends
    from laudc.devices import detect_host
    from laudc.engine.compat import Difference, differences

    manifest = bundle.manifest
    if not manifest.compiled:
        return [Difference("compiled", "false", "only finished engines run")]
    try:
        runtime = backends.get(manifest.backend.name)
        native, version = runtime.native_abi(), runtime.version()
    except (UserError, ImportError) as error:
        return [Difference("backend.name", manifest.backend.name, str(error))]
    return list(differences(manifest, host=detect_host(), backend_version=version, native=native))


def _block_row(block: dict[str, Any]) -> list[str]:
    record = block.get("record") or {}
    if "tokens" in record:
        return _transformer_row(block, record)

    def value(key: str) -> str:
        return str(record[key]) if record.get(key) else "-"

    size = f"{record['hin']}x{record['win']}" if record else "-"
    mask = f"{record['mask_h']}x{record['mask_w']}" if record.get("mask_groups") else "-"
    channels = [value("cin"), value("width"), value("cout")]
    return [
        block["name"],
        block["execution"],
        *channels,
        size,
        mask,
        value("channel_groups"),
        block["reason"],
    ]


def _transformer_row(block: dict[str, Any], record: dict[str, Any]) -> list[str]:
    features = [str(record[key]) for key in ("dim", "hidden", "dim")]
    tokens = "tokens" if record["token_policy"] else "-"
    heads = str(record["heads"]) if record["head_policy"] else "-"
    size = f"{record['tokens']} tokens"
    return [block["name"], block["execution"], *features, size, tokens, heads, block["reason"]]


def _show_onnx(session: Session, file: str, model: onnx.ModelProto) -> None:
    from laudc.cli.describe import onnx_facts

    known = onnx_facts(model)
    blocks = known["dynamic_blocks"]
    facts = {
        "ONNX model": file,
        "network": f"{known['arch']}, {blocks} dynamic blocks" if blocks else "no dynamic blocks",
        "produced by": known["producer"],
        "versions": f"IR {known['ir_version']}, "
        + ", ".join(f"{domain} {version}" for domain, version in known["opsets"].items()),
        "inputs": ", ".join(map(_tensor_text, known["inputs"])),
        "outputs": ", ".join(map(_tensor_text, known["outputs"])),
        "weights": f"{known['weights'] / 1e6:.2f} million",
        "operators": ", ".join(f"{count} {name}" for name, count in known["operators"].items()),
        "functions": ", ".join(known["functions"]) or "none",
        "checkpoint": known["laudc"].get("checkpoint_sha256") or "not recorded",
    }
    text = _listing(facts)
    if blocks:
        text += "\n\n" + _macs_table(model)
    session.say(text)
    session.write({"kind": "onnx", "path": file, "model": known})


def _macs_table(model: onnx.ModelProto) -> str:
    from laudc.ops.macs import network_macs, network_shape
    from laudc.report import RULE, Column, render_table

    macs = network_macs(network_shape(model), {})
    rows: list[Any] = [
        [block.name, f"{block.dense / 1e6:.2f}", f"{block.masker / 1e6:.3f}"] for block in macs.blocks
    ]
    rest = macs.stem + macs.head
    total = ["network", f"{macs.dense / 1e6:.2f}", f"{sum(block.masker for block in macs.blocks) / 1e6:.3f}"]
    columns = (Column("block", left=True), Column("dense", "million MACs"), Column("masker", "million MACs"))
    return render_table(columns, [*rows, ["stem and head", f"{rest / 1e6:.2f}", "-"], RULE, total])


def _tensor_text(tensor: dict[str, Any]) -> str:
    return f"{tensor['name']} {tensor['dtype']} ({', '.join(map(str, tensor['shape']))})"


def _listing(facts: dict[str, str]) -> str:
    width = max(map(len, facts))
    return "\n".join(f"{name:{width}}  {value}" for name, value in facts.items())
