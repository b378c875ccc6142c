"""laudc-runner on a device: its sources are sent and built there once, then it is called."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path

from laudc.devices.gpu import GpuRecord
from laudc.errors import UserError
from laudc.remote.failures import DISK_FULL, disk_full
from laudc.remote.jobs import Progress, remove_job, run_job
from laudc.remote.machine import run_reporting
from laudc.remote.sources import source_archive
from laudc.remote.ssh import Connection

# Built in the job's own folder and renamed last: what lies under its final name is whole.
_BUILD = """mkdir -p src "$cache/runner"
tar -xzf {archive} -C src
sh src/deploy/runner/build.sh src "$PWD/made"
rm -rf "$cache/runner/{key}"
mv made "$cache/runner/{key}\""""


@dataclass(frozen=True)
class RemoteRunner:
    """The runner there; `command` is shell text that may use $cache."""

    command: str
    key: str


def install_runner(connection: Connection, progress: Progress) -> RemoteRunner:
    """The runner of this laudc on the device, built there unless it has been before.

    Raises UserError when the device cannot build it: no compiler, CUDA or TensorRT; the message has the reason.
    """
    archive = source_archive()
    key = hashlib.sha256(archive).hexdigest()[:32]
    runner = RemoteRunner(f'"$cache/runner/{key}/laudc-runner"', key)
    if connection.run(f"[ -x {runner.command} ]").code == 0:
        return runner
    progress(f"sending the runner's sources to {connection.target}")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "sources.tar.gz"
        file.write_bytes(archive)
        sent = connection.send(file)
    job_key = f"r{key}"
    job = run_job(connection, job_key, _BUILD.format(archive=f'"{sent}"', key=key), "build the runner", progress)
    remove_job(connection, job_key)
    if job.code != 0:
        raise _build_error(connection, job.log)
    return runner


@dataclass(frozen=True)
class RemoteDevice:
    """What the runner says of the machine it runs on: the GPU, and the TensorRT that it is built with."""

    gpu: GpuRecord
    tensorrt: str


def ask_device(connection: Connection, runner: RemoteRunner) -> RemoteDevice:
    """The device behind a runner. Raises UserError when there is no GPU, or no TensorRT that works."""
    facts = run_reporting(connection, runner.command, ["device"], "look at the GPU")
    name, sm, cuda, driver, tensorrt = (str(facts.get(key, "")) for key in ("name", "sm", "cuda", "driver", "tensorrt"))
    return RemoteDevice(GpuRecord(name, sm, cuda, driver), tensorrt)


def _build_error(connection: Connection, log: str) -> UserError:
    if DISK_FULL in log:
        return disk_full(connection.target, "build the runner")
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    telling = [line for line in lines if "error" in line.lower() or "not found" in line.lower()] or lines[-1:]
    return UserError(
        f"cannot build the runner on {connection.target}",
        "; ".join(telling[:3]) or "it does not say why",
        "the device needs a C++ compiler, cmake, CUDA with nvcc and TensorRT's headers (JetPack has them: apt install "
        "cmake nvidia-jetpack)",
    )
