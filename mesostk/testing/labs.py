"""A provisioned container lab as tests see it: hosts, playbooks, processes."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec
import requests

from mesostk.ops.ansible import Outcome, run_playbook
from mesostk.ops.lab import Host, Lab
from mesostk.ops.progress import Lines

T = TypeVar("T")

#: How often daemons may end by themselves where a test is about none of them.
_ATTEMPTS = 4

#: For what hangs, not a measure of speed: a busy machine may take ten times as long as an idle one.
LIMIT_S = 600.0

#: Seconds to connect, which a host that is off never answers to, and for one answer over HTTP.
ANSWER_S = (5.0, 60.0)

#: Between two looks at a condition that nothing announces; each costs a request or an SSH command.
_LOOK_S = 0.2


def mesostk(*words: str, timeout_s: float = LIMIT_S) -> subprocess.CompletedProcess[str]:
    """Run the command as a user would."""
    return subprocess.run(
        [sys.executable, "-m", "mesostk", *words],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def until(what: str, probe: Callable[[], T | None], limit_s: float = LIMIT_S) -> T:
    """What `probe` returns once that is true in a condition; AssertionError after `limit_s`.

    No answer, and one that lacks what is looked for, count as not yet.
    """
    deadline = time.monotonic() + limit_s
    last: object = ""
    while True:
        try:
            found = probe()
        except (requests.RequestException, LookupError) as error:
            found, last = None, repr(error)
        if found:
            return found
        assert time.monotonic() < deadline, f"not after {limit_s:g} s: {what} {last}"
        time.sleep(_LOOK_S)


def page(url: str, **options: Any) -> str:
    """The page at `url`, once somebody serves it there: a task runs before it listens."""

    def served() -> requests.Response | None:
        answer = requests.get(url, timeout=ANSWER_S, **options)
        return answer if answer.status_code == 200 else None

    return until(f"a page at {url}", served).text


class Start(NamedTuple):
    """The main process of a service, and how often systemd had to start it again."""

    pid: str
    again: int


class Cluster:
    """The lab, with what the tests ask of it."""

    def __init__(self, lab: Lab, runs: Path) -> None:
        self.lab = lab
        self.runs = runs
        self.inventory = lab.state_dir / "inventory"

    @property
    def hosts(self) -> tuple[Host, ...]:
        return self.lab.spec.hosts()

    def ask(self, method: str, path: str, port: int = 8080, **options: Any) -> requests.Response:
        """The answer of whoever leads, by way of any master's host: 8080 Marathon, 5050 masters.

        Asked again while nobody leads and where nothing listens.
        """
        urls = [f"http://{host.address}:{port}{path}" for host in self.hosts if host.is_master]

        def answered() -> tuple[requests.Response] | None:
            for url in urls:
                try:
                    answer = requests.request(method, url, timeout=ANSWER_S, **options)
                except requests.ConnectionError:
                    continue
                if answer.status_code not in (502, 503):
                    return (answer,)  # an error is an answer, too, though false
            return None

        return until(f"an answer to {method} {path}", answered)[0]

    def run(self, host: Host, script: str, limit_s: float = LIMIT_S) -> str:
        """Output of a shell script as root on `host`; raises if it fails."""
        container = f"{self.lab.spec.name}-{host.name}"
        done = subprocess.run(
            ["docker", "exec", "-i", container, "sh", "-e"],
            input=script,
            capture_output=True,
            text=True,
            timeout=limit_s,
            check=False,
        )
        assert done.returncode == 0, f"{host.name}: {done.stdout}{done.stderr}"
        return done.stdout

    def playbook(self, name: str, **options: object) -> Outcome:
        """Run a playbook; it must not fail."""
        outcome = run_playbook(
            name,
            self.inventory,
            Lines(),
            self.runs,
            **options,  # type: ignore[arg-type] # the options of run_playbook, passed through
        )
        assert outcome.rc == 0, [msgspec.to_builtins(one) for one in outcome.failures]
        return outcome

    def create(self, app: Mapping[str, Any] | bytes) -> None:
        """Have Marathon take an app that it does not have, as the tutorial does."""
        data = app if isinstance(app, bytes) else json.dumps(app).encode()
        kind = {"Content-Type": "application/json"}
        answer = self.ask("POST", "/v2/apps", data=data, headers=kind)
        # Between two leaders it is asked again, though the first may have taken it.
        there = answer.status_code == 409 and "already exists" in answer.text
        assert answer.status_code == 201 or there, answer.text

    def starts(self) -> dict[str, Start]:
        """How each service of each host was started that runs now, once all of them run."""
        script = """
        for record in /etc/mesostk/services/*.json; do
            unit=$(basename "$record" .json)
            echo "$unit" $(systemctl show -p MainPID -p NRestarts "$unit")
        done
        """

        def told() -> dict[str, Start] | None:
            found = {}
            for host in self.hosts:
                for line in self.run(host, script).splitlines():
                    unit, *words = line.split()
                    known = dict(word.split("=", 1) for word in words)
                    found[f"{host.name} {unit}"] = Start(known["MainPID"], int(known["NRestarts"]))
            return None if any(one.pid == "0" for one in found.values()) else found

        return until("all services run", told)

    def restarted_by(self, act: Callable[[], T]) -> tuple[T, set[str]]:
        """What `act` returns, and the services that are other processes after it.

        One that ends by itself, as all do that lose their session of ZooKeeper, is due for a start
        meanwhile: `act` is repeated where that happened, and says what it does on its own.
        """
        for _ in range(_ATTEMPTS):
            before = self.starts()
            found = act()
            after = self.starts()
            ended = {name for name, one in before.items() if after[name].again > one.again}
            if not ended:
                return found, {name for name, one in before.items() if after[name] != one}
            print(f"ended by themselves: {ended}")
        raise AssertionError(f"services end by themselves again and again, now {ended}")
