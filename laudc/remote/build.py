"""`build-engine --target`: an engine made by, and for, another machine."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from laudc.engine.bundle import open_bundle
from laudc.engine.manifest import TENSORRT, Manifest
from laudc.errors import UserError
from laudc.files import atomic_write, sha256_file
from laudc.remote.failures import command_error, reported_error
from laudc.remote.fit import require_fit
from laudc.remote.jobs import Job, Progress, remove_job, run_job
from laudc.remote.machine import find_laudc, parse_report, quoted
from laudc.remote.runner import RemoteDevice, ask_device, install_runner
from laudc.remote.ssh import Connection
from laudc.remote.target import Target

# Makes the uncompiled engine that a device can finish: the path to write, and the device.
Prepare = Callable[[Path, RemoteDevice], object]


@dataclass(frozen=True)
class RemoteBuild:
    """An engine that has arrived. `size` in bytes."""

    path: Path
    size: int
    manifest: Manifest


def build_on_target(
    target: Target,
    model: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    options: Sequence[str] = (),
    files: Sequence[tuple[str, Path]] = (),
    host_keys: str = "yes",
    prepare: Prepare | None = None,
    progress: Progress = lambda step: None,
) -> RemoteBuild:
    """Builds an engine on `target` and brings it here as `output`.

    An uncompiled engine for TensorRT is finished there by laudc-runner, after the device has said that its TensorRT
    and its GPU are those that the engine was made for; anything else is built there by the laudc that is installed
    there.

    Args:
        model: portable ONNX or an engine.
        options: words of `laudc build-engine` to pass on, the model and the output left out.
        files: further options whose value is a file of this machine, as (option, path).
        host_keys: "yes" or "accept-new".
        prepare: for a model that `needs_preparing`: makes the uncompiled engine once the device is known.

    Raises:
        UserError: the target cannot be reached or used, it has another TensorRT or GPU than the engine is for, what it
            says it cannot do, or the result is not whole. Nothing half-written is left, and the same call goes on where
            this one stopped.
    """
    from laudc.engine.build import check_output

    path = Path(model)
    check_output(output, path, *(file for _, file in files))
    on_runner = prepare is not None or _is_for_runner(path, _values(options).get("--device"))
    with Connection(target, host_keys) as connection:
        if on_runner:
            manifest = _finish(connection, path, output, prepare, progress)
        else:
            manifest = _build(connection, path, output, options, files, progress)
    return RemoteBuild(Path(output), Path(output).stat().st_size, manifest)


def needs_preparing(model: str | os.PathLike[str], words: Sequence[str]) -> bool:
    """Whether `model` has to become an uncompiled engine before a device can finish it: an ONNX model for TensorRT.

    `words` are the options of `laudc build-engine`, as (option, value) pairs.
    """
    from laudc.devices import load_profile
    from laudc.engine.build import chosen_backend

    options = _values(words)
    name = chosen_backend(load_profile(options.get("--device", "cpu")), options.get("--backend", "auto"))
    return name == TENSORRT and not _is_for_runner(Path(model), options.get("--device"))


def _values(words: Sequence[str]) -> dict[str, str]:
    return dict(zip(words[::2], words[1::2], strict=False))


def _is_for_runner(path: Path, device: str | None) -> bool:
    """Whether the file is an engine that the runner on its device only has to compile."""
    from laudc.engine.build import finishes

    try:
        path.stat()
        return finishes(path, device)
    except OSError as error:
        raise UserError(f"cannot read {path}", error.strerror or str(error), "check the path") from error


def _finish(
    connection: Connection,
    engine: Path,
    output: str | os.PathLike[str],
    prepare: Prepare | None,
    progress: Progress,
) -> Manifest:
    """An engine for TensorRT, compiled there by the runner."""
    runner = install_runner(connection, progress)
    device = ask_device(connection, runner)
    with tempfile.TemporaryDirectory(prefix="laudc-") as folder:
        if prepare is not None:
            engine = Path(folder) / "uncompiled.laudc"
            prepare(engine, device)
        require_fit(open_bundle(engine).manifest, device, connection.target)
        progress(f"sending {engine.name} to {connection.target}")
        sent = connection.send(engine)
        key = _key("finish", runner.key, sha256_file(engine))
    script = f'{runner.command} build "{sent}" -o out.laudc --json report.json'
    return _make(connection, key, script, output, progress)


def _build(
    connection: Connection,
    model: Path,
    output: str | os.PathLike[str],
    options: Sequence[str],
    files: Sequence[tuple[str, Path]],
    progress: Progress,
) -> Manifest:
    """An engine for the CPU there, built by the laudc there."""
    laudc = find_laudc(connection)
    progress(f"sending {model.name} to {connection.target}")
    sent = [connection.send(model)]
    words = list(options)
    for option, path in files:
        sent.append(connection.send(path))
        words += [option, sent[-1]]
    key = _key("build", laudc.version, *sent, *words)
    passed = " ".join(map(quoted, [sent[0], *words]))
    script = f"{laudc.command} build-engine {passed} -o out.laudc --json report.json"
    return _make(connection, key, script, output, progress)


def _key(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def _make(
    connection: Connection, key: str, script: str, output: str | os.PathLike[str], progress: Progress
) -> Manifest:
    """Runs what writes out.laudc and report.json into the job's folder, and fetches the engine."""
    job = run_job(connection, key, script, "build the engine", progress)
    if job.code != 0:
        raise _failure(connection, job)
    progress(f"fetching the engine from {connection.target}")
    with tempfile.TemporaryDirectory(prefix="laudc-") as folder:
        arrived = Path(folder) / "out.laudc"
        connection.fetch(f"$cache/jobs/{key}/out.laudc", arrived)
        try:
            manifest = open_bundle(arrived).manifest
        except UserError as error:
            remove_job(connection, key)  # or the same command would fetch it once more
            what = f"what {connection.target} has built is no intact engine"
            raise UserError(what, error.why, "use the same version of laudc everywhere") from error
        with arrived.open("rb") as source, atomic_write(output) as file:
            shutil.copyfileobj(source, file)
    remove_job(connection, key)
    return manifest


def _failure(connection: Connection, job: Job) -> Exception:
    """What went wrong, in the words of the program there if it left any; the job is removed."""
    report = parse_report(connection.run(f'cat "$cache/jobs/{job.key}/report.json"').text)
    remove_job(connection, job.key)
    if report.get("kind") == "error":
        return reported_error(connection.target, report.get("error"), job.code)
    return command_error(connection.target, "build the engine", job.code, job.log)
