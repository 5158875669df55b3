"""Clients that others wrote for Apache Mesos, as they are on PyPI, and a cluster for them.

Two of them bring a package of the same name, so each is installed into a directory of its own; what
they import beside themselves comes from this environment, or is installed with them.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mesostk.testing.processes import Cluster, attach_logs

pytest_runtest_makereport = attach_logs

#: Client ↦ what is installed for it. Pinned: the tests are about these releases.
PACKAGES = {
    "avmesos": ("avmesos==0.4.2", "PyJWT==2.10.1"),
    "mesoshttp": ("mesoshttp==0.4.2", "PyJWT==2.10.1"),
    "avmesos-cli": ("avmesos-cli==1.0.0", "toml==0.10.2", "docopt==0.6.2", "tenacity==9.0.0",
                    "ujson==5.10.0"),
    "shpkpr": ("shpkpr==4.1.2", "click==6.7", "jsonschema==2.6.0", "Jinja2==2.11.3",
               "MarkupSafe==2.0.1", "hvac==2.4.0", "chronos-python==1.2.1", "httplib2==0.32.1",
               "pyparsing==3.3.3", "cached-property==1.5.2", "python-slugify==9.2.0",
               "text-unidecode==1.3", "six==1.17.0"),
    "marathon-acme": ("marathon-acme==0.6.1", "Twisted==26.10.0", "treq==26.7.0",
                      "Automat==25.4.16", "constantly==23.10.4", "hyperlink==21.0.0",
                      "Incremental==24.11.0", "zope.interface==8.7", "uritools==6.1.4",
                      "multipart==2.0.1", "packaging==26.3", "idna==3.20"),
    "pymesos": ("pymesos==0.3.15", "six==1.17.0", "addict==2.4.0"),
}  # fmt: skip

#: Runs a program of a client: (client, arguments, more environment) → what it printed.
Run = Callable[..., str]


@pytest.fixture(scope="session")
def stranger_home(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Where a client is installed, which happens when it is asked for first."""
    directory = tmp_path_factory.mktemp("strangers")

    def home_of(client: str) -> Path:
        home = directory / client
        if not home.exists():
            _install(home, PACKAGES[client])
        return home

    return home_of


@pytest.fixture(scope="session")
def stranger(stranger_home: Callable[[str], Path]) -> Run:
    def run(client: str, *arguments: str, timeout_s: float = 240.0, **environ: str) -> str:
        home = stranger_home(client)
        done = subprocess.run(
            [sys.executable, "-P", "-W", "ignore", *(word.format(home=home) for word in arguments)],
            env={**os.environ, "PYTHONPATH": str(home), **environ},
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def _install(home: Path, packages: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(home),
         "--disable-pip-version-check", "--retries=10", "--timeout=60", *packages],
        capture_output=True,
        text=True,
        timeout=400.0,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One master and one agent."""
    directory = tmp_path_factory.mktemp("cluster")
    with Cluster(directory, masters=1, agents=1, marathons=0) as made:
        made.start()
        yield made


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """1 standalone master, 1 agent and 1 Marathon, shared by the tests of a module."""
    flags = [
        "--min_revive_offers_interval=200",  # ms; each deployment would wait for 5 s
        "--event_subscriber=http_callback",
    ]
    with Cluster(tmp_path_factory.mktemp("alone"), marathon_flags=flags) as cluster:
        cluster.start()
        yield cluster
