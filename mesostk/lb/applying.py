"""One pass: from Marathon's apps to a file that is valid and a process that is as the file says.

::

    apps ─▶ render ─▶ same text? done
                 ├─ servers only ─▶ runtime steps, and beside them `haproxy -c` ─▶ swap
                 │                     └─ refused ─┐
                 └─ structure ─▶ `haproxy -c` ─────┴─▶ swap ─▶ reload ─▶ mark as loaded
                                   └─ invalid: leave out whose line, name or half it is; again

A pass that fails leaves file and process as they were. Passes run one after the other.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from mesostk.base.clock import Clock, RealClock
from mesostk.base.log import Log
from mesostk.base.metrics import Metrics
from mesostk.errors import MesostkError, Unavailable
from mesostk.lb import bluegreen, changes, model, render
from mesostk.lb.changes import Reload, Remove, Step
from mesostk.lb.haproxy import Haproxy, Invalid, ReloadFailed, taken_binds
from mesostk.lb.model import Refusal
from mesostk.lb.render import Config
from mesostk.lb.runtime import Refused
from mesostk.lb.templates import Templates
from mesostk.wire.lb import App

#: Rounds of leaving apps out by the lines that HAProxy names, before apps are tried by halves.
MAX_ROUNDS: Final = 5


class Rules(msgspec.Struct, frozen=True):
    """Everything that, with the apps, decides about the file."""

    model: model.Settings
    render: render.Settings
    templates: Templates
    skip_validation: bool = False
    skip_cleanup: bool = False


class CannotApply(MesostkError):
    """No app can be left out to make the file valid: HAProxy keeps what it has."""


def without_tasks(app: App) -> App:
    """What of an app decides whether its part of the file is valid."""
    return msgspec.structs.replace(app, tasks=None)


class Applier:
    """Brings HAProxy to what Marathon says, pass by pass."""

    def __init__(
        self,
        rules: Rules,
        haproxy: Haproxy,
        resolver: model.Resolver,
        log: Log,
        metrics: Metrics,
        clock: Clock | None = None,
    ) -> None:
        self._clock: Clock = clock if clock is not None else RealClock()
        self.rules = rules
        self._haproxy = haproxy
        self._resolver = resolver
        self._log = log
        self._metrics = metrics
        #: What the process runs, as far as this marathon-lb brought it there.
        self.applied: Config | None = None
        #: Apps that HAProxy would not have, as they were then, and why.
        self._bad: dict[str, tuple[App, str]] = {}
        #: Servers out of the file that still have connections: (backend, name) → their line.
        self._leaving: dict[tuple[str, str], str] = {}
        self._told: frozenset[Refusal] = frozenset()
        metrics.gauge("lb/apps_left_out", lambda: float(len(self.refusals)))
        metrics.gauge("lb/servers_leaving", lambda: float(len(self._leaving)))
        self.refusals: tuple[Refusal, ...] = ()
        for name in ("reloads", "reload_failures", "runtime_changes", "validation_failures"):
            metrics.counter(f"lb/{name}")  # shown from the start

    @contextlib.contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        begun = self._clock.monotonic()
        yield
        self._metrics.timer(name).record(self._clock.monotonic() - begun)

    # -- the file -----------------------------------------------------------------------------

    def render(self, apps: Sequence[App], without: frozenset[str] = frozenset()) -> Config:
        """The file for `apps` but those in `without` (ids as Marathon has them)."""
        merged, refused = bluegreen.merge(app for app in apps if app.id not in without)
        made = model.build(merged, self.rules.model, self._resolver)
        made = msgspec.structs.replace(made, refusals=(*refused, *made.refusals))
        return render.render(made, self.rules.templates, self.rules.render)

    def _still_bad(self, apps: Sequence[App]) -> frozenset[str]:
        now = {app.id: app for app in apps if app.id in self._bad}
        self._bad = {
            id: known
            for id, known in self._bad.items()
            if id in now and without_tasks(now[id]) == known[0]
        }
        return frozenset(self._bad)

    async def _valid(self, apps: Sequence[App], first: Config) -> Config:
        """The largest file that HAProxy takes; CannotApply if even one without apps is refused."""
        config = first
        for _ in range(MAX_ROUNDS):
            wrong = await self._check(config)
            if wrong is None:
                return config
            self._metrics.counter("lb/validation_failures").inc()
            self._log.error("Refused by HAProxy", reason=wrong.message)
            if self.rules.skip_cleanup:
                raise CannotApply(wrong.message)
            guilty = _guilty(config, wrong)
            if not guilty:
                break
            self._leave_out(apps, guilty, wrong.message)
            config = self.render(apps, frozenset(self._bad))
        return await self._by_halves(apps)

    async def _check(self, config: Config) -> Invalid | None:
        if self.rules.skip_validation:
            return None
        await self._haproxy.write_maps(config.domain_map, config.app_map)
        with self._timed("lb/validation"):
            return await self._haproxy.check(config.text())

    def _leave_out(self, apps: Sequence[App], names: frozenset[str], reason: str) -> None:
        for app in apps:
            group = (app.labels or {}).get(bluegreen.GROUP, "").lstrip("/")
            if app.id in names or (group and f"/{group}" in names):
                self._bad[app.id] = (without_tasks(app), reason)

    async def _by_halves(self, apps: Sequence[App]) -> Config:
        """Search for the apps that HAProxy does not take where its words do not name them."""
        good = frozenset(app.id for app in apps) | frozenset(self._bad)
        config = self.render(apps, good)
        wrong = await self._check(config)
        if wrong is not None:
            raise CannotApply(f"HAProxy refuses the file even without any app: {wrong.message}")
        waiting = [[app for app in apps if app.id not in self._bad]]
        left_out = good
        while waiting:
            half = waiting.pop()
            if not half:
                continue
            trial = left_out - {app.id for app in half}
            candidate = self.render(apps, trial)
            wrong = await self._check(candidate)
            if wrong is None:
                config, left_out = candidate, trial
            elif len(half) == 1:
                self._bad[half[0].id] = (without_tasks(half[0]), wrong.message)
            else:
                middle = len(half) // 2
                waiting += [half[middle:], half[:middle]]
        return config

    # -- a pass -------------------------------------------------------------------------------

    async def apply(self, apps: Sequence[App], unread: Sequence[Refusal] = ()) -> str | None:
        """Bring HAProxy to `apps`; what was done, or None if it was so already.

        Raises CannotApply, ReloadFailed or Unavailable with file and process as they were.
        """
        with self._timed("lb/render"):
            config = self.render(apps, self._still_bad(apps))
            text = config.text()
        config, text = await self._without_taken_ports(apps, config, text)
        outcome = await self._bring(apps, config, text)
        self._tell(unread)
        return outcome

    async def _bring(self, apps: Sequence[App], config: Config, text: str) -> str | None:
        if self.applied is None:
            if await self._runs_already(config, text):
                self.applied = config
                return None
            return await self._load(apps, config, "marathon-lb starts")
        found = changes.plan(self.applied, config)
        if isinstance(found, Reload):
            return await self._load(apps, config, found.reason)
        if not found:
            self.applied = config
            return None
        return await self._step_by_step(apps, config, text, found)

    async def _step_by_step(
        self, apps: Sequence[App], config: Config, text: str, steps: list[Step]
    ) -> str | None:
        try:
            for step in steps:
                await self._perform(step, config)
        except Refused as refused:
            return await self._load(apps, config, str(refused))
        except Unavailable as error:
            return await self._load(apps, config, str(error))
        wrong = await self._check(config)
        if wrong is not None:
            return await self._load(apps, config, "the new servers are not valid in the file")
        await self._haproxy.swap(text)
        self.applied = config
        self._metrics.counter("lb/runtime_changes").inc(len(steps))
        self._log.info("Changed servers", steps=len(steps), without="reload")
        return f"{len(steps)} servers changed"

    async def _perform(self, step: Step, config: Config) -> None:
        key = (step.backend, step.name)
        if isinstance(step, changes.Add) and key in self._leaving:
            await self._back_again(step, config)
            return
        if await self._haproxy.perform(step):
            self._leaving.pop(key, None)
        elif isinstance(step, Remove):
            assert self.applied is not None
            lines = {one.name: one for one in self.applied.backends}[step.backend].servers
            self._leaving[key] = lines[step.name].text if step.name in lines else ""

    async def _back_again(self, step: changes.Add, config: Config) -> None:
        """A server that was about to go returns under its name before it is gone."""
        backend = next(one for one in config.backends if one.name == step.backend)
        was = self._leaving.pop((step.backend, step.name))
        if was.replace(" disabled", "") != backend.servers[step.name].text.replace(" disabled", ""):
            raise Refused(f"server {step.name} returns with other options")
        if not step.draining:
            await self._haproxy.perform(changes.Ready(step.backend, step.name))

    async def remove_leaving(self) -> None:
        """Try again to remove servers whose last connections may have ended."""
        for backend, name in list(self._leaving):
            try:
                if not await self._haproxy.perform(Remove(backend, name)):
                    continue
            except (Refused, Unavailable) as error:
                # Only a reload rids us of it now, and the next one does.
                self._log.info("Server stays until a reload", server=name, reason=str(error))
            self._leaving.pop((backend, name), None)

    @property
    def has_leaving(self) -> bool:
        """Whether `remove_leaving` has anything to do."""
        return bool(self._leaving)

    async def _load(self, apps: Sequence[App], config: Config, reason: str) -> str:
        config = await self._valid(apps, config)
        previous = await self._haproxy.read()
        await self._haproxy.write_maps(config.domain_map, config.app_map)
        await self._haproxy.swap(config.text())
        try:
            with self._timed("lb/reload"):
                how = await self._haproxy.reload()
        except Unavailable as error:
            # Whoever starts HAProxy finds the file; nothing is lost.
            self._log.warning("File written, nothing to reload", reason=str(error))
            self.applied = config
            return "file written"
        except ReloadFailed:
            self._metrics.counter("lb/reload_failures").inc()
            self.applied = None
            if previous is not None:
                await self._haproxy.swap(previous)
            raise
        await self._haproxy.mark_loaded(fingerprint(config))
        self._leaving.clear()
        self.applied = config
        self._metrics.counter("lb/reloads").inc()
        self._log.info("Reloaded HAProxy", reason=reason, by=how, backends=len(config.backends))
        return "reloaded"

    async def reload(self) -> None:
        """Check the file on the disk and have it loaded again, as SIGUSR1 asks."""
        text = await self._haproxy.read()
        if text is None:
            raise CannotApply("there is no file to load")
        wrong = await self._haproxy.check(text)
        if wrong is not None:
            raise CannotApply(wrong.message)
        await self._haproxy.reload()
        self._leaving.clear()
        self._metrics.counter("lb/reloads").inc()
        self._log.info("Reloaded HAProxy", reason="asked to")

    async def _runs_already(self, config: Config, text: str) -> bool:
        """Whether file and process are as `config`: after a restart of marathon-lb alone."""
        if await self._haproxy.read() != text or await self._haproxy.loaded() != fingerprint(
            config
        ):
            return False
        try:
            running = await self._haproxy.servers()
        except Unavailable:
            return False
        wanted = {
            (backend.name, line.name, line.id)
            for backend in config.backends
            for line in backend.servers.values()
        }
        names = {backend.name for backend in config.backends}
        has = {(one.backend, one.name, one.id) for one in running if one.backend in names}
        return wanted == has

    # -- ports that other processes have --------------------------------------------------------

    async def _without_taken_ports(
        self, apps: Sequence[App], config: Config, text: str
    ) -> tuple[Config, str]:
        known = set() if self.applied is None else {r.bind for r in self.applied.routes}
        if self.applied is None and (on_disk := await self._haproxy.read()) is not None:
            known = {route.bind for route in config.routes if f"bind {route.bind}" in on_disk}
        new = [
            route for route in config.routes if route.bind is not None and route.bind not in known
        ]
        taken = {f"{address}:{port}" for address, port in taken_binds(map(_bind, new))}
        if not taken:
            return config, text
        for route in new:
            if route.bind in taken:
                reason = f"{route.bind} is not free on this host: another process has the port"
                self._leave_out(apps, frozenset({route.app_id}), reason)
        config = self.render(apps, frozenset(self._bad))
        return config, config.text()

    def forget_bad(self) -> None:
        """Try every app again, also those that were left out."""
        self._bad.clear()

    # -- telling ------------------------------------------------------------------------------

    def _tell(self, unread: Sequence[Refusal]) -> None:
        made = () if self.applied is None else self.applied.refusals
        bad = (Refusal(id, reason) for id, (_, reason) in self._bad.items())
        self.refusals = (*unread, *bad, *made)
        for refusal in set(self.refusals) - self._told:
            self._log.error("Leaving out", app=refusal.app_id, reason=refusal.reason)
        self._told = frozenset(self.refusals)


def _bind(route: render.Route) -> tuple[str, int]:
    assert route.bind is not None
    address, _, port = route.bind.rpartition(":")
    return address, int(port)


def fingerprint(config: Config) -> str:
    """What a reload is needed for, as one word."""
    parts = (config.structure(), config.domain_map, config.app_map)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest() + "\n"


def _guilty(config: Config, wrong: Invalid) -> frozenset[str]:
    """Ids of the apps that HAProxy's words point at."""
    owners = {config.app_at(line) for line in wrong.lines}
    by_name = {backend.name: backend.app_id for backend in config.backends}
    owners |= {by_name[name] for name in wrong.names if name in by_name}
    return frozenset(owner for owner in owners if owner is not None)
