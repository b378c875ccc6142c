"""Connections, files and jobs against a real ssh server on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import pytest

from laudc.errors import UserError
from laudc.files import sha256_bytes
from laudc.remote.jobs import remove_job, require_success, run_job
from laudc.remote.ssh import Connection
from laudc.remote.target import Target, parse_target

KEY = "0123456789abcdef"


@pytest.fixture
def connection(server):
    with Connection(parse_target(server.url)) as opened:
        yield opened


def test_commands(connection, server):
    assert connection.run('echo "$cache"; cat; exit 3').code == 3
    assert connection.check('echo "$cache"', "ask") == str(server.cache)
    with pytest.raises(UserError, match=r"annot try it on .*code 4: no way"):
        connection.check("echo no way >&2; exit 4", "try it")


def test_files_go_there_once_and_come_back(connection, server, tmp_path):
    content = os.urandom(3 << 20)
    (tmp_path / "a").write_bytes(content)
    sent = connection.send(tmp_path / "a")
    assert sent == f"$cache/blobs/{sha256_bytes(content)}"
    stored = server.cache / "blobs" / sha256_bytes(content)
    assert stored.read_bytes() == content
    inode = stored.stat().st_ino
    connection.send(tmp_path / "a")
    assert stored.stat().st_ino == inode
    connection.fetch(sent, tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == content


def test_a_part_that_is_there_is_continued(connection, server, tmp_path):
    content = os.urandom(1 << 20)
    (tmp_path / "a").write_bytes(content)
    part = server.cache / "blobs" / f"{sha256_bytes(content)}.part"
    part.write_bytes(content[:700_000])
    connection.send(tmp_path / "a")
    assert (server.cache / "blobs" / sha256_bytes(content)).read_bytes() == content
    assert not part.exists()


def test_a_wrong_part_is_found_out_and_the_next_try_works(connection, server, tmp_path):
    content = os.urandom(100_000)
    (tmp_path / "a").write_bytes(content)
    part = server.cache / "blobs" / f"{sha256_bytes(content)}.part"
    part.write_bytes(b"something else")
    with pytest.raises(UserError, match="did not arrive whole"):
        connection.send(tmp_path / "a")
    connection.send(tmp_path / "a")
    assert (server.cache / "blobs" / sha256_bytes(content)).read_bytes() == content


def test_a_missing_result_leaves_no_file(connection, tmp_path):
    with pytest.raises(UserError, match="annot read the result"):
        connection.fetch("$cache/nothing", tmp_path / "out")
    assert os.listdir(tmp_path) == []


def test_a_full_disk_there(connection, server, tmp_path):
    (tmp_path / "a").write_bytes(os.urandom(1 << 20))
    digest = sha256_bytes((tmp_path / "a").read_bytes())
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full to stand in for a full disk")
    (server.cache / "blobs" / f"{digest}.part").symlink_to("/dev/full")
    with pytest.raises(UserError, match="ts disk is full") as caught:
        connection.send(tmp_path / "a")
    assert "~/.cache/laudc" in str(caught.value)
    assert not (server.cache / "blobs" / digest).exists()


def test_jobs_say_what_they_do_and_are_forgotten(connection, server):
    told = []
    job = run_job(connection, KEY, "echo first; sleep 1; echo second > result", "work", told.append)
    assert job.code == 0 and job.log == "first"
    assert any("first" in step for step in told)
    assert (server.cache / "jobs" / KEY / "result").read_text() == "second\n"
    remove_job(connection, KEY)
    assert not (server.cache / "jobs" / KEY).exists()


def test_a_job_that_fails_starts_anew_next_time(connection, server):
    job = run_job(connection, KEY, "echo reason; exit 5", "work", print)
    assert job.code == 5
    with pytest.raises(UserError, match="code 5: reason"):
        require_success(connection, job, "work")
    assert run_job(connection, KEY, "exit 0", "work", print).code == 0


def test_a_job_that_was_killed_says_so(connection):
    job = run_job(connection, KEY, "kill -9 $$", "work", print)
    with pytest.raises(UserError, match="killed by signal 9") as caught:
        require_success(connection, job, "work")
    assert "Run the same command again" in str(caught.value)


def test_a_job_whose_every_process_was_killed(connection, server):
    pid = server.cache / "jobs" / KEY / "pid"

    def kill(step):
        if pid.exists() and (number := pid.read_text().strip()):
            os.killpg(int(number), signal.SIGKILL)

    with pytest.raises(UserError, match="t was killed before it ended") as caught:
        run_job(connection, KEY, "sleep 30", "work", kill)
    assert "Run the same command again" in str(caught.value)
    assert run_job(connection, KEY, "exit 0", "work", print).code == 0


class Lost(Exception):
    """Stands for the end of the local command."""


def test_a_job_outlives_its_connection_and_is_joined(server):
    def leave(step):
        raise Lost

    target = parse_target(server.url)
    script = "echo started >> $cache/starts; sleep 2; echo done"
    with pytest.raises(Lost), Connection(target) as connection:
        run_job(connection, KEY, script, "work", leave)
    told = []
    with Connection(target) as connection:
        job = run_job(connection, KEY, script, "work", told.append)
    assert job.code == 0 and job.log == "done"
    assert (server.cache / "starts").read_text() == "started\n"
    assert any("joining" in step for step in told)


def _refused(target, host_keys="yes"):
    with pytest.raises(UserError) as caught, Connection(target, host_keys):
        pass
    return str(caught.value)


def test_nobody_answers(server, monkeypatch):
    target = parse_target(server.url)
    message = _refused(Target("127.0.0.1", target.user, 1))
    assert "No ssh server answers there" in message
    assert "There is no machine of that name" in _refused(Target("no-such-machine.invalid"))


def test_unknown_and_changed_host_keys(server, tmp_path, monkeypatch):
    own, target = tmp_path / "config", parse_target(server.url)
    known = tmp_path / "known_hosts"
    own.write_text(f"IdentityFile {server.folder}/key\nIdentitiesOnly yes\nUserKnownHostsFile {known}\n")
    monkeypatch.setenv("LAUDC_SSH_COMMAND", f"ssh -F {own}")
    message = _refused(target)
    assert "host key is not in your known_hosts file" in message and "accept-new" in message
    with Connection(target, "accept-new") as connection:
        assert connection.run("exit 0").code == 0
    assert "127.0.0.1" in known.read_text() or known.read_text().startswith("|1|")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "other"], check=True)
    kind, value = (tmp_path / "other.pub").read_text().split()[:2]
    known.write_text(f"[127.0.0.1]:{server.port} {kind} {value}\n")
    for choice in ("yes", "accept-new"):
        assert "has another host key than" in _refused(target, choice)
    with pytest.raises(UserError, match="annot be checked as 'no'"):
        Connection(target, "no")


def test_keys_that_are_not_accepted(server, tmp_path, monkeypatch):
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "stranger"], check=True)
    (tmp_path / "config").write_text(
        f"IdentityFile {tmp_path}/stranger\nIdentitiesOnly yes\nUserKnownHostsFile {server.folder}/known_hosts\n"
    )
    monkeypatch.setenv("LAUDC_SSH_COMMAND", f"ssh -F {tmp_path}/config")
    message = _refused(parse_target(server.url))
    assert "ccepts none of your keys" in message and "ssh-copy-id" in message


def test_without_a_client(server, monkeypatch):
    monkeypatch.setenv("LAUDC_SSH_COMMAND", "/nowhere/ssh")
    assert "there is no ssh client here" in _refused(parse_target(server.url)).lower()


def test_a_connection_that_breaks_midway(server, tmp_path):
    """The server side of the connection is killed while a command runs."""
    with Connection(parse_target(server.url)) as connection:
        started = time.monotonic()
        with pytest.raises(UserError, match="connection to .* was lost") as caught:
            connection.check("kill -9 $PPID; sleep 20", "work")
        assert time.monotonic() - started < 15
        assert "Run the same command again" in str(caught.value)
