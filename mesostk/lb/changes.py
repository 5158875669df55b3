"""What to do to a running HAProxy so that it is as the new file says, if that needs no reload.

A server is added, drained, made ready or removed at run time. Anything else is structure: a reload.
"""

from __future__ import annotations

from typing import Final

import msgspec

from mesostk.lb.render import Backend, Config, ServerLine

_DISABLED: Final = " disabled\n"


class Step(msgspec.Struct, frozen=True):
    """One change of one server; base of the others."""

    backend: str
    name: str


class Add(Step, frozen=True):
    """A server that is new; `options` is what its line says behind the address."""

    address: str
    options: str
    draining: bool


class Ready(Step, frozen=True):
    """It gets requests again."""


class Drain(Step, frozen=True):
    """It gets no new requests; what is under way may end."""


class Remove(Step, frozen=True):
    """As `Drain`, and it goes as soon as its last connection has ended."""


class Reload(msgspec.Struct, frozen=True):
    """Why the running process cannot be brought there step by step."""

    reason: str


def plan(old: Config, new: Config) -> list[Step] | Reload:
    """The steps from `old` to `new`: new servers first, so that there is no gap; or why not."""
    if old.structure() != new.structure():
        return Reload("structure changed")
    if (old.domain_map, old.app_map) != (new.domain_map, new.app_map):
        return Reload("a map file changed")
    steps: list[Step] = []
    for before, after in zip(old.backends, new.backends, strict=True):
        if before is after or before.servers == after.servers:
            continue
        found = _steps(before, after)
        if isinstance(found, Reload):
            return found
        steps += found
    order = (Add, Ready, Drain, Remove)
    return sorted(steps, key=lambda step: order.index(type(step)))


def _steps(before: Backend, after: Backend) -> list[Step] | Reload:
    steps: list[Step] = []
    for name, line in after.servers.items():
        known = before.servers.get(name)
        step = _added(after, line) if known is None else _changed(after, known, line)
        if isinstance(step, Reload):
            return step
        if step is not None:
            steps.append(step)
    steps += [Remove(after.name, name) for name in before.servers if name not in after.servers]
    return steps


def _added(backend: Backend, line: ServerLine) -> Add | Reload:
    # HAProxy refuses cookies for servers of run time, and takes one line at most.
    if " cookie " in line.text:
        return Reload(f"server {line.name} has a cookie")
    words = line.text.split(None, 3)
    if line.text.count("\n") > 1 or words[:3] != ["server", line.name, line.address]:
        return Reload(f"server {line.name} is not one plain line")
    options = "" if len(words) < 4 else words[3].strip()
    return Add(
        backend.name,
        line.name,
        line.address,
        options.removesuffix("disabled").strip(),
        line.draining,
    )


def _changed(backend: Backend, old: ServerLine, new: ServerLine) -> Step | Reload | None:
    if old.text == new.text:
        return None
    if _plain(old.text) != _plain(new.text) or old.draining == new.draining:
        return Reload(f"server {new.name} has other options")
    return (Drain if new.draining else Ready)(backend.name, new.name)


def _plain(text: str) -> str:
    return text.removesuffix(_DISABLED) + "\n" if text.endswith(_DISABLED) else text
