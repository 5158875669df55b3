"""Daemons that are told nonsense: exit code 2, and one sentence that names it and the remedy.

Exit codes are those of docs/refusals.md.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from mesostk.testing.addresses import AddressBlock
from mesostk.testing.processes import command, run_once

USAGE = 2

MASTER = ("mesos-master", "--ip={ip}", "--port={port}", "--work_dir={dir}/master")
AGENT = (
    "mesos-agent",
    "--ip={ip}",
    "--port={port}",
    "--work_dir={dir}/agent",
    "--runtime_dir={dir}/agent/run",
    "--master={ip}:5050",
    "--launcher=posix",
)
MARATHON = (
    "marathon",
    "--http_address={ip}",
    "--http_port={port}",
    "--state_dir={dir}/state",
    "--master={ip}:5050",
)

#: (daemon, flags that replace or join its good ones, what the message says)
BAD_FLAGS = [
    (MASTER, "--quorrum=2", ["'quorrum'", "is quorum meant?"]),
    (AGENT, "--atributes=a:b", ["'atributes'", "is attributes meant?"]),
    (MARATHON, "--http_prot=1", ["'http_prot'", "is http_port meant?"]),
    (MASTER, "--quorum=two", ["--quorum", "'two'", "integer"]),
    (AGENT, "--registration_backoff_factor=soon", ["--registration_backoff_factor", "10secs"]),
    (MARATHON, "--http_port=many", ["--http_port", "'many'", "65535"]),
    (MASTER, "--port=99999", ["--port", "99999", "65535"]),
    (AGENT, "--port=99999", ["--port", "99999", "65535"]),
    (MARATHON, "--http_port=99999", ["--http_port", "99999", "65535"]),
    (MASTER, "--port=-1", ["--port", "-1"]),
    (MASTER, "leader", ["'leader'", "--name=value"]),
    (MASTER, "--ip=nonsense", ["nonsense", "--ip"]),
    (AGENT, "--ip=nonsense", ["nonsense", "--ip"]),
    (MARATHON, "--http_address=nonsense", ["nonsense", "--http_address"]),
    (MASTER, "--ip=10.99.99.99", ["10.99.99.99 is not an address of this host", "--ip"]),
    (MARATHON, "--http_address=10.99.99.99", ["not an address of this host", "--http_address"]),
    (MASTER, "--zk=nonsense", ["--zk", "zk://host1:2181,host2:2181/mesos"]),
    (MASTER, "--zk=zk://h:1", ["--zk", "needs a path"]),
    (MARATHON, "--zk=zk://h:port/x", ["--zk", "'h:port'"]),
    (AGENT, "--master=zk://h:1", ["--master", "needs a path"]),
    (MARATHON, "--master=h:port", ["--master", "'h:port'", "host:port"]),
    (AGENT, "--resources=cpus:many", ["--resources", "'cpus'", "'many'"]),
    (AGENT, "--attributes=rack", ["--attributes", "'rack'"]),
    (AGENT, "--containerizers=rkt", ["--containerizers", "rkt", "mesos"]),
    (AGENT, "--work_dir=/proc/none", ["--work_dir", "/proc/none"]),
    (MASTER, "--authenticate_http_readwrite", ["--authenticate_http_readwrite"]),
    (MARATHON, "--local_port_min=30000", ["--local_port_min", "--local_port_max"]),
]


@pytest.fixture(scope="module")
def block() -> Iterator[AddressBlock]:
    block = AddressBlock()
    yield block
    block.close()


def argv(
    daemon: tuple[str, ...], extra: list[str], block: AddressBlock, directory: Path, port: int
) -> list[str]:
    """The daemon's good flags with `extra` in the place of those of the same name."""
    flags = [text.format(ip=block[1], dir=directory, port=port) for text in daemon[1:]]
    names = {text.partition("=")[0] for text in extra}
    kept = [flag for flag in flags if flag.partition("=")[0] not in names]
    return command(daemon[0], *kept, *extra)


@pytest.fixture(scope="module")
def ends(
    block: AddressBlock, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[Future[CompletedProcess[str]]]]:
    """How the daemon of each row of BAD_FLAGS ends; one for each processor at a time."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        made = []
        for daemon, flag, _ in BAD_FLAGS:
            directory = tmp_path_factory.mktemp("flag")
            flags = argv(daemon, [flag], block, directory, 20_101)
            made.append(pool.submit(run_once, flags, directory))
        yield made


@pytest.mark.parametrize(
    ("number", "says"),
    [(number, row[2]) for number, row in enumerate(BAD_FLAGS)],
    ids=[row[1] for row in BAD_FLAGS],
)
def test_a_flag_that_means_nothing_ends_the_daemon(
    ends: list[Future[CompletedProcess[str]]], number: int, says: list[str]
) -> None:
    done = ends[number].result()
    assert done.returncode == USAGE, done.stdout
    for words in says:
        assert words in done.stdout
    assert "Traceback" not in done.stdout


@pytest.mark.parametrize("daemon", [MASTER, AGENT, MARATHON], ids=lambda daemon: daemon[0])
def test_an_unknown_file_in_the_configuration_directory_ends_the_daemon(
    daemon: tuple[str, ...], block: AddressBlock, tmp_path: Path
) -> None:
    directory = tmp_path / "conf"
    directory.mkdir()
    (directory / "hostnam").write_text("x\n")
    extra = [f"--config_dir={directory}"]
    done = run_once(argv(daemon, extra, block, tmp_path, 20_102), tmp_path)
    assert done.returncode == USAGE, done.stdout
    assert f"{directory}/hostnam" in done.stdout
    assert "is hostname meant?" in done.stdout


@pytest.mark.parametrize("daemon", [MASTER, AGENT, MARATHON], ids=lambda daemon: daemon[0])
def test_a_taken_port_ends_the_daemon_and_says_how_to_find_the_other(
    daemon: tuple[str, ...], block: AddressBlock, tmp_path: Path
) -> None:
    flag = "--http_port" if daemon is MARATHON else "--port"
    with socket.create_server((block[1], 0)) as taken:
        port = taken.getsockname()[1]
        done = run_once(argv(daemon, [], block, tmp_path, port), tmp_path)
    assert done.returncode == USAGE, done.stdout
    assert f"port {port} on {block[1]} is taken" in done.stdout
    assert "ss -ltnp" in done.stdout
    assert f'choose another {flag}"' in done.stdout


@pytest.mark.parametrize("daemon", [MASTER, MARATHON], ids=lambda daemon: daemon[0])
def test_a_store_that_is_no_database_is_left_as_it_is(
    daemon: tuple[str, ...], block: AddressBlock, tmp_path: Path
) -> None:
    name = "master/registry.db" if daemon is MASTER else "state/marathon.db"
    store = tmp_path / name
    store.parent.mkdir()
    garbage = b"truncated, or never a database " * 300
    store.write_bytes(garbage)
    done = run_once(argv(daemon, [], block, tmp_path, 20_103), tmp_path)
    assert done.returncode == 1, done.stdout
    assert f"{store}: file is not a database" in done.stdout
    assert "move the file away" in done.stdout
    assert store.read_bytes() == garbage


@pytest.mark.parametrize("daemon", [MASTER, MARATHON], ids=lambda daemon: daemon[0])
def test_a_directory_that_cannot_be_made_is_named_with_its_flag(
    daemon: tuple[str, ...], block: AddressBlock, tmp_path: Path
) -> None:
    flag = "--work_dir" if daemon is MASTER else "--state_dir"
    extra = [f"{flag}=/proc/none"]
    done = run_once(argv(daemon, extra, block, tmp_path, 20_104), tmp_path)
    assert done.returncode == 1, done.stdout
    assert "/proc/none" in done.stdout
    assert "must be able to write there" in done.stdout


@pytest.mark.parametrize("daemon", [MASTER, AGENT], ids=lambda row: str(row[0]))
def test_tls_that_is_turned_on_is_refused(daemon: tuple[str, ...], tmp_path: Path) -> None:
    flags = [flag.format(ip="127.0.0.1", port=0, dir=tmp_path) for flag in daemon[1:]]
    done = run_once(command(daemon[0], *flags), tmp_path, LIBPROCESS_SSL_ENABLED="1")
    assert done.returncode == 2, done.stdout
    assert "LIBPROCESS_SSL_ENABLED=1: connections are not encrypted here" in done.stdout
