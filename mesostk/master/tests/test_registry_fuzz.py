"""Whatever is in the registry, a master leads on with what is whole and leaves the rest alone."""

from __future__ import annotations

import json as plain
from functools import cache
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from mesostk.base.core import Note
from mesostk.master import events as ev
from mesostk.master import registry
from mesostk.master.tests.conftest import WALL, Bench
from mesostk.testing.hostile import changed, damaged, fuzz, garbage
from mesostk.wire import json, operator

MACHINE = {"hostname": "a2", "ip": "10.0.0.2"}
WINDOW = {
    "machine_ids": [MACHINE],
    "unavailability": {
        "start": {"nanoseconds": int(WALL * 1e9) + 10**11},
        "duration": {"nanoseconds": 10**12},
    },
}
JUNK: tuple[Any, ...] = (
    None, True, -1, 0, 2**70, -(10**18), 1.5, 1e308, "Infinity", "-Infinity", "NaN", "", "x", "..",
    "é\n", [], [None], {}, "*",
)  # fmt: skip


@cache
def lived() -> tuple[dict[str, bytes], tuple[str, ...]]:
    """The records of a master that saw everything, and the ids of its agents."""
    bench = Bench()
    ids = tuple(bench.agent(f"a{n}")[1] for n in (1, 2, 3, 4))
    bench.answering = False
    quota = {"role": "eng", "limits": {"cpus": {"value": 3.0}}, "guarantees": {}}
    operate(bench, "MARK_AGENT_GONE", agent_id={"value": ids[3]})
    operate(bench, "UPDATE_WEIGHTS", weight_infos=[{"role": "eng", "weight": 2.5}])
    operate(bench, "UPDATE_QUOTA", force=True, quota_configs=[quota])
    operate(bench, "UPDATE_MAINTENANCE_SCHEDULE", schedule={"windows": [WINDOW]})
    operate(bench, "START_MAINTENANCE", machines=[MACHINE])
    operate(bench, "DRAIN_AGENT", agent_id={"value": ids[0]}, max_grace_period={"nanoseconds": 1})
    bench.run(120)
    bench.agent("a5")
    kinds = {path.partition("/")[0] for path in bench.store}
    assert kinds == {"agents", "unreachable", "gone", "weights", "quotas", "maintenance"}
    return bench.store, ids


def operate(bench: Bench, kind: str, **body: Any) -> None:
    call = json.decode(plain.dumps({"type": kind, kind.lower(): body}), operator.Call)
    assert [reply.status for reply in bench.operate(call)] == [200], kind


@st.composite
def stores(draw: st.DrawFn) -> dict[str, bytes]:
    """What a master lived with, some of it damaged, and what never was its."""
    store = dict(lived()[0])
    for path in draw(st.lists(st.sampled_from(sorted(store)), min_size=1, max_size=3, unique=True)):
        store[path] = draw(st.one_of(damaged(store[path]), changed(store[path], JUNK))) or b"\0"
    if draw(st.booleans()):
        strange = ("agents/x", "agents/00/é", "weights/x", "strange", "gone/../x", "unreachable//")
        store[draw(st.sampled_from(strange))] = draw(garbage) or b"\0"
    return store


@fuzz(40)
@given(stores())
@example({registry.WEIGHTS: b'{"weights":{"eng":0.0}}'})
@example({registry.WEIGHTS: b'{"weights":{"eng":-1}}'})
@example({registry.QUOTAS: b'{"quotas":[{"role":"eng","limits":{"cpus":{"value":"Infinity"}}}]}'})
def test_a_master_leads_on_whatever_its_registry_holds(store: dict[str, bytes]) -> None:
    unreadable = dict(registry.load(store).unreadable)
    bench = Bench(store)
    told = [effect for effect in bench.effects if isinstance(effect, Note)]
    named = {str(note.fields["path"]) for note in told if "path" in note.fields}
    assert named >= set(unreadable)
    # Nothing of what could not be read is written over or removed.
    assert all(bench.store[path] == store[path] for path in unreadable)
    for host, id in zip(("a1", "a2", "a3", "a4"), lived()[1], strict=True):
        bench.feed(ev.AgentSubscribed(bench.stream(), bench.subscription(host, id)))
    bench.subscribe(bench.info(roles=("eng",), capabilities=("MULTI_ROLE", "PARTITION_AWARE")))
    bench.run(30)
