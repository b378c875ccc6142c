"""`profile --target`: an engine measured on the machine that it is for."""

from __future__ import annotations

import contextlib
import io
import os
import secrets
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from laudc.engine.bundle import Bundle, open_bundle
from laudc.engine.images import load_images
from laudc.engine.manifest import PORTABLE, TENSORRT
from laudc.errors import UserError
from laudc.remote.jobs import Progress
from laudc.remote.machine import find_laudc, run_reporting
from laudc.remote.runner import install_runner
from laudc.remote.ssh import Connection
from laudc.remote.target import Target

if TYPE_CHECKING:
    from laudc.profile.records import ProfileResult


def profile_on_target(
    target: Target,
    engine: str | os.PathLike[str],
    images: Iterable[str | os.PathLike[str]] | None = None,
    *,
    runs: int = 50,
    warmup: int = 5,
    batch: int = 1,
    threads: int | None = None,
    against_dense: bool = False,
    device: str | os.PathLike[str] | None = None,
    save_activation: str | os.PathLike[str] | None = None,
    host_keys: str = "yes",
    progress: Progress = lambda step: None,
) -> ProfileResult:
    """Measures an engine on `target`; arguments as for `laudc.profile`.

    Raises:
        UserError: the target cannot be reached or used, images or numbers do not fit, or `against_dense` is asked of a
            TensorRT engine, or one of `device` and `save_activation`, which only laudc on the target can do.
    """
    from laudc.engine.compat import check_compiled
    from laudc.profile.records import ProfileResult

    bundle = open_bundle(engine)
    check_compiled(engine, bundle.manifest)
    numbers = ["--runs", str(runs), "--warmup", str(warmup), "--batch", str(batch)]
    listed = None if images is None else list(images)
    with Connection(target, host_keys) as connection, tempfile.TemporaryDirectory(prefix="laudc-") as folder:
        progress(f"sending {bundle.path.name} to {target}")
        if bundle.manifest.backend.name == TENSORRT:
            _refuse_dense(against_dense, bundle)
            _refuse_prediction(device, save_activation, bundle)
            report = _with_runner(connection, bundle, listed, numbers, Path(folder), progress)
        else:
            numbers += ["--threads", str(threads)] if threads is not None else []
            numbers += ["--against-dense"] if against_dense else []
            numbers += ["--device", os.fspath(device)] if device is not None else []
            report = _with_laudc(connection, bundle, listed, numbers, Path(folder), save_activation, progress)
    return ProfileResult.from_dict(report)


def _refuse_dense(asked: bool, bundle: Bundle) -> None:
    if asked:
        raise UserError(
            f"{bundle.path} cannot be compared with the dense network on its device",
            "a TensorRT engine holds one schedule only",
            "build another engine with --schedule dense and profile both",
        )


def _refuse_prediction(device: object, save_activation: object, bundle: Bundle) -> None:
    if device is not None or save_activation is not None:
        raise UserError(
            f"{bundle.path} cannot be compared with a prediction on its device",
            "the runner there knows neither device profiles (--device) nor statistics (--save-activation)",
            "use 'laudc predict' for the prediction, and save the activation of an engine for this machine's CPU",
        )


def _with_laudc(
    connection: Connection,
    bundle: Bundle,
    images: list[str | os.PathLike[str]] | None,
    numbers: list[str],
    folder: Path,
    save_activation: str | os.PathLike[str] | None,
    progress: Progress,
) -> dict[str, Any]:
    laudc = find_laudc(connection)
    sent = connection.send(bundle.path)
    words = ["profile", sent, *numbers]
    with _work_folder(connection) as work:
        if images is not None:
            archive = connection.send(_archive(images, folder / "images.tar"))
            connection.check(f'mkdir "{work}/images"; tar -xf "{archive}" -C "{work}/images"', "unpack the images")
            words += ["--images", f"{work}/images"]
        words += ["--save-activation", f"{work}/stats.json"] if save_activation is not None else []
        progress(f"measuring on {connection.target}")
        report = run_reporting(connection, laudc.command, words, "measure the engine")
        if save_activation is not None:
            connection.fetch(f"{work}/stats.json", save_activation)
        return report


@contextlib.contextmanager
def _work_folder(connection: Connection) -> Iterator[str]:
    """A folder there for one measurement."""
    path = f"$cache/jobs/p{secrets.token_hex(8)}"
    connection.check(f'mkdir "{path}"', "make a folder")
    try:
        yield path
    finally:
        # With the connection lost there is nothing to tidy up over; stale folders go with the next connection.
        with contextlib.suppress(UserError):
            connection.run(f'rm -rf "{path}"')


def _archive(images: list[str | os.PathLike[str]], target: Path) -> Path:
    """The image files under names that keep their order and their own names; folders are listed here already."""
    from laudc.engine.images import find_images
    from laudc.profile.inputs import MAX_IMAGES

    used: set[str] = set()
    with tarfile.open(target, "w") as archive:
        for index, path in enumerate(find_images(images)[:MAX_IMAGES]):
            name = path.name if path.name not in used else f"{index}-{path.name}"
            used.add(name)
            info = tarfile.TarInfo(name)
            content = path.read_bytes()
            info.size, info.mode = len(content), 0o644
            archive.addfile(info, io.BytesIO(content))
    return target


def _with_runner(
    connection: Connection,
    bundle: Bundle,
    images: list[str | os.PathLike[str]] | None,
    numbers: list[str],
    folder: Path,
    progress: Progress,
) -> dict[str, Any]:
    import numpy as np

    from laudc.profile.inputs import MAX_IMAGES, preprocess_of

    runner = install_runner(connection, progress)
    sent = connection.send(bundle.path)
    names: list[str] | None = None
    with _work_folder(connection) as work:
        words = ["profile", sent, *numbers, "--margins", f"{work}/margins.npy"]
        if images is not None:
            files, pixels = load_images(images, preprocess_of(bundle.manifest), limit=MAX_IMAGES)
            names = [file.name for file in files]
            np.save(folder / "images.npy", pixels)
            # The runner goes by the name's end, and what was sent is named by its hash.
            blob = connection.send(folder / "images.npy")
            connection.check(f'ln -s "{blob}" "{work}/images.npy"', "store the images")
            words += ["--input", f"{work}/images.npy"]
        progress(f"measuring on {connection.target}")
        report = run_reporting(connection, runner.command, words, "measure the engine")
        connection.fetch(f"{work}/margins.npy", folder / "margins.npy")
    if names is not None:
        report["images"] = {"kind": "files", "count": len(names), "names": names}
    return _with_activation(report, bundle, np.load(folder / "margins.npy"))


def _with_activation(report: dict[str, Any], bundle: Bundle, margins: Any) -> dict[str, Any]:
    """What the masks left of the arithmetic, counted here: the device has only the decisions."""
    from laudc.engine.build import parse_onnx
    from laudc.ops.macs import network_shape
    from laudc.ops.margins import masks_from_margins
    from laudc.profile.activation import count_activation

    if PORTABLE not in bundle:
        return report
    portable = parse_onnx(bundle.read(PORTABLE), bundle.path)
    masks = masks_from_margins(bundle.manifest.blocks, margins)
    activation = count_activation(masks, network_shape(portable))
    for block in report["blocks"]:
        known = activation.blocks.get(block["name"])
        share = known.share if known else None
        block["activation"], block["ideal_speedup"] = share, 1 / share if share else None
    share = activation.share
    report["activation"], report["ideal_speedup"] = share, 1 / share if share else None
    report["notes"] = [note for note in report["notes"] if "not counted on the device" not in note]
    return report
