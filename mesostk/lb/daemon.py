"""`marathon-lb` and `marathon_lb.py`: builds the graph and runs it.

::

    event, timer, SIGHUP ─▶ wanted ─▶ (wait for more) ─▶ fetch ─▶ apply ─▶ wanted? again
    nothing for 300 s ─▶ a pass anyway; Marathon or HAProxy away ─▶ keep, try again
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from mesostk.base.daemon import Daemon
from mesostk.base.http import Server, make_app, text_error
from mesostk.base.log import Log
from mesostk.base.systemd import Notifier
from mesostk.errors import ConfigError, MesostkError
from mesostk.lb import flags, model
from mesostk.lb.applying import Applier
from mesostk.lb.flags import Options
from mesostk.lb.haproxy import Haproxy
from mesostk.lb.http import Api
from mesostk.lb.labels import NAMES
from mesostk.lb.model import Resolver
from mesostk.lb.source import SILENCE_S, Source, is_of, parameters
from mesostk.lb.syslog import stream_to
from mesostk.lb.templates import BUILT_IN
from mesostk.wire.lb import App, Task

#: Two passes begin at least this far apart.
MIN_SPACING_S: Final = 0.1

#: A burst of events is over when none has come for this part of --coalesce.
QUIET_PARTS: Final = 4

#: A pass that failed is tried again after this, and a server with connections looked at again.
RETRY_S: Final = 5.0
LEAVING_S: Final = 0.2

#: A host's address is asked for again after this.
ADDRESS_AGE_S: Final = 60.0


def main(argv: Sequence[str] | None = None, environ: Mapping[str, str] | None = None) -> int:
    """`marathon-lb`: stays, and follows Marathon. Returns the exit code."""
    return _main(argv, environ, stays=True)


def main_py(argv: Sequence[str] | None = None, environ: Mapping[str, str] | None = None) -> int:
    """`marathon_lb.py`: one pass, as the tutorial runs it, unless `--sse` is given."""
    return _main(argv, environ, stays=False)


def _main(argv: Sequence[str] | None, environ: Mapping[str, str] | None, *, stays: bool) -> int:
    environ = os.environ if environ is None else environ
    argv = sys.argv[1:] if argv is None else argv
    if "--longhelp" in argv:
        sys.stdout.write(longhelp())
        return 0
    try:
        values = flags.flag_set().main(flags.normalised(argv), environ)
        options = flags.options(values, environ)
        log = Log(values["log-level"], stream_to(values["syslog-socket"]))
    except (ConfigError, OSError) as error:
        sys.stderr.write(f"marathon-lb: {error}\n")
        return 2
    for warning in values.warnings:
        log.warning("Configuration", warning=warning)
    notifier = Notifier.from_environ(environ, os.getpid())
    daemon = Daemon("marathon-lb", log, notifier=notifier)
    if values.dry or not (stays or values.sse):
        return daemon.run(lambda daemon: once(daemon, options, dry=values.dry))
    return daemon.run(lambda daemon: LoadBalancer(daemon, options).start())


def longhelp() -> str:
    """All labels and templates as Markdown."""
    lines = ["# Labels", ""]
    lines += [f"- `HAPROXY_{{n}}_{name}`" for name in NAMES]
    lines += ["", "# Templates", ""]
    for name, text in BUILT_IN.items():
        lines += [f"## `HAPROXY_{name}`", "", "```", text.strip("\n"), "```", ""]
    return "\n".join(lines) + "\n"


async def once(daemon: Daemon, options: Options, *, dry: bool) -> None:
    """One pass, then the end; `dry` prints the file if it differs from the one on the disk."""
    balancer = LoadBalancer(daemon, options)
    daemon.on_stop("source", balancer.source.close)
    apps, refusals = await balancer.fetch()
    if dry:
        text = balancer.applier.render(apps).text()
        if text != await balancer.haproxy.read():
            sys.stdout.write(text)
    else:
        await balancer.applier.apply(apps, refusals)
    daemon.exit("done", 0)


class LoadBalancer:
    """The graph of one marathon-lb."""

    def __init__(self, daemon: Daemon, options: Options) -> None:
        self._daemon = daemon
        self._options = options
        self._wanted = asyncio.Event()
        self._addresses: dict[str, tuple[float, str | None]] = {}
        self._alive: dict[str, bool] = {}
        self._pass = asyncio.Lock()
        self.source = Source(
            options.marathons,
            options.credentials,
            options.ca_cert,
            options.max_backoff_s,
            daemon.log,
            daemon.metrics,
            random.Random(),  # noqa: S311 - spreads reconnects only
        )
        self.haproxy = Haproxy(options.paths, daemon.disk)
        self.applier = Applier(
            options.rules,
            self.haproxy,
            Resolver(self._address, lambda task: self._alive.get(task, False)),
            daemon.log,
            daemon.metrics,
            daemon.clock,
        )
        self._failures = daemon.metrics.counter("lb/failed_passes")
        self._passes = daemon.metrics.timer("lb/pass")

    async def start(self) -> None:
        """Listen, then follow Marathon."""
        daemon, options = self._daemon, self._options
        daemon.on_stop("source", self.source.close)
        app = make_app(daemon.log, daemon.metrics, text_error)
        api = Api(
            self.applier,
            self.haproxy,
            daemon.metrics,
            self.refresh,
            self._reload,
            lambda: parameters(self.source),
        )
        api.add_to(app)
        server = Server(app, options.http_address, options.http_port)
        await server.start()
        daemon.on_stop("server", server.stop)
        daemon.on_hangup(self.refresh)
        asyncio.get_running_loop().add_signal_handler(
            signal.SIGUSR1, lambda: daemon.start("reload", self._reload_on_signal())
        )
        self._wanted.set()
        daemon.start("passes", self._run())
        daemon.start("leaving", self._remove_leaving())
        if options.mode == "sse":
            daemon.start("events", self.source.follow(self._wanted.set))
        daemon.ready("following Marathon")

    # -- passes -------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Have a full pass, and give every app that was left out another chance."""
        self.applier.forget_bad()
        self._wanted.set()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        period = self._options.poll_interval_s if self._options.mode == "poll" else SILENCE_S
        while True:
            try:
                async with asyncio.timeout(period):
                    await self._wanted.wait()
                await self._calm()
            except TimeoutError:
                self.applier.forget_bad()
            self._wanted.clear()
            begun = loop.time()
            async with self._pass:
                retry = not await self._one_pass()
            self._passes.record(loop.time() - begun)
            if retry:
                loop.call_later(RETRY_S, self._wanted.set)
            await asyncio.sleep(max(0.0, begun + MIN_SPACING_S - loop.time()))

    async def _calm(self) -> None:
        """Wait until no event has come for a moment, or until a burst has lasted long enough."""
        loop = asyncio.get_running_loop()
        moment_s = self._options.coalesce_s / QUIET_PARTS
        end = loop.time() + self._options.coalesce_s
        while loop.time() < end:
            self._wanted.clear()
            await asyncio.sleep(moment_s)
            if not self._wanted.is_set():
                return

    async def _one_pass(self) -> bool:
        """Whether HAProxy is as Marathon says now."""
        try:
            apps, refusals = await self.fetch()
            await self.applier.apply(apps, refusals)
        except MesostkError as error:
            self._failures.inc()
            self._daemon.log.error("Keeping what HAProxy has", reason=str(error))
            return False
        return True

    async def fetch(self) -> tuple[list[App], list[model.Refusal]]:
        """Marathon's apps, with the addresses of their hosts looked up."""
        raw = await self.source.fetch()
        apps, refusals = model.read_apps(raw)
        tasks = [task for app in apps for task in app.tasks or ()]
        await self._look_up({task.host for task in tasks if task.host})
        for task in tasks:
            if task.health_check_results is not None:
                self._alive[task.id] = model.is_alive(task)
        self._alive = {task.id: self._alive.get(task.id, False) for task in tasks}
        if self.source.killing:
            self.source.forget_killed([task.id for task in tasks])
            apps = [self._without_killed(app) for app in apps]
        return apps, refusals

    def _without_killed(self, app: App) -> App:
        killing = self.source.killing
        tasks = app.tasks or ()
        if not any(is_of(id, task.id) for task in tasks for id in killing):
            return app
        return msgspec.structs.replace(
            app,
            tasks=tuple(_killed(t) if any(is_of(i, t.id) for i in killing) else t for t in tasks),
        )

    async def _reload(self) -> None:
        async with self._pass:
            await self.applier.reload()

    async def _reload_on_signal(self) -> None:
        try:
            await self._reload()
        except MesostkError as error:
            self._daemon.log.error("Cannot reload", reason=str(error))

    async def _remove_leaving(self) -> None:
        while True:
            await asyncio.sleep(LEAVING_S)
            if self.applier.has_leaving:
                async with self._pass:
                    await self.applier.remove_leaving()

    # -- addresses ----------------------------------------------------------------------------

    def _address(self, host: str) -> str | None:
        return model.literal(host) or self._addresses.get(host, (0.0, None))[1]

    async def _look_up(self, hosts: set[str]) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for host in hosts:
            known = self._addresses.get(host)
            if model.literal(host) is not None or (known and now - known[0] < ADDRESS_AGE_S):
                continue
            try:
                found = await loop.getaddrinfo(host, None, family=socket.AF_INET)
            except OSError as error:
                self._daemon.log.warning("Host has no address", host=host, reason=str(error))
                # What was known stays: a name server that is away ends no traffic.
                self._addresses[host] = (now, known[1] if known else None)
                continue
            self._addresses[host] = (now, str(found[0][4][0]))
        self._addresses = {h: known for h, known in self._addresses.items() if h in hosts}


def _killed(task: Task) -> Task:
    return msgspec.structs.replace(task, state="TASK_KILLING")


if __name__ == "__main__":
    sys.exit(main())
