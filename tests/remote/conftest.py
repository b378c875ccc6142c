"""A real ssh server on this machine: own port, own keys, own configuration, gone after the tests."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Server:
    """The running server. `settings` are environment variables for the client; `home` is where $HOME points there."""

    url: str
    port: int
    folder: Path
    home: Path
    settings: dict[str, str]

    @property
    def cache(self) -> Path:
        """laudc's folder there."""
        return self.home / ".cache/laudc"


def _sshd() -> str:
    found = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")
    if found is None or shutil.which("ssh-keygen") is None:
        pytest.skip("no ssh server here (apt install openssh-server)")
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _key(path: Path) -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return path


def _configuration(folder: Path, port: int, home: Path) -> str:
    """The server's. The environment there finds this laudc the way a user's PATH would."""
    path = os.pathsep.join([str(home / "bin"), "/usr/local/bin", "/usr/bin", "/bin"])
    return f"""
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PidFile {folder}/pid
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
SetEnv HOME={home} PATH={path} PYTHONPATH={ROOT}/models:{ROOT} OMP_NUM_THREADS=1
"""


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(100):
        if process.poll() is not None:
            pytest.skip(f"the ssh server does not start here: {process.stderr.read().decode()[-300:]}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    pytest.fail("the ssh server does not answer")


@pytest.fixture(scope="session")
def running_server(tmp_path_factory) -> Server:
    """One server for all tests."""
    program = _sshd()
    folder = tmp_path_factory.mktemp("sshd")
    folder.chmod(0o755)
    home, port = folder / "home", _free_port()
    (home / "bin").mkdir(parents=True)
    script = f'#!/bin/sh\nexec "{sys.executable}" -m laudc "$@"\n'
    (home / "bin/laudc").write_text(script)
    (home / "bin/laudc").chmod(0o755)
    host_key, key = _key(folder / "host_key"), _key(folder / "key")
    shutil.copy(f"{key}.pub", folder / "authorized_keys")
    (folder / "sshd_config").write_text(_configuration(folder, port, home))
    kind, value = host_key.with_suffix(".pub").read_text().split()[:2]
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {kind} {value}\n")
    options = {"IdentityFile": key, "IdentitiesOnly": "yes", "UserKnownHostsFile": folder / "known_hosts"}
    (folder / "ssh_config").write_text("".join(f"{name} {value}\n" for name, value in options.items()))
    if os.geteuid() == 0:
        os.makedirs("/run/sshd", exist_ok=True)
    command = [program, "-D", "-e", "-f", str(folder / "sshd_config")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    try:
        _wait_for(port, process)
        settings = {"LAUDC_SSH_COMMAND": f"ssh -F {folder}/ssh_config"}
        yield Server(f"ssh://{getpass.getuser()}@127.0.0.1:{port}", port, folder, home, settings)
    finally:
        process.terminate()
        process.wait(10)
        process.stderr.close()


@pytest.fixture
def server(running_server, monkeypatch) -> Server:
    """The server with an empty cache, the client set up for it."""
    shutil.rmtree(running_server.cache, ignore_errors=True)
    for name, value in running_server.settings.items():
        monkeypatch.setenv(name, value)
    return running_server
