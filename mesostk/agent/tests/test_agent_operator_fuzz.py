"""What an operator says to an agent and means nothing: answered in words, with all as it was after.

Every call of `POST /api/v1`, as JSON and as protobuf, damaged or not, to a real agent on which a
task runs.
"""

from __future__ import annotations

import json as plain
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import aiohttp
from hypothesis import given
from hypothesis import strategies as st

from mesostk.agent.tests.agent_bench import task
from mesostk.agent.tests.test_agent_process import AgentProcess, ScriptedMaster, agent, master
from mesostk.errors import WireError
from mesostk.testing.hostile import CPUS, MEM, altered, damaged, fuzz
from mesostk.wire import agent_operator as wire
from mesostk.wire import json, protobuf
from mesostk.wire.recordio import encode_record

__all__ = ["agent", "master"]  # fixtures

JSON, PROTOBUF, RECORDIO = (
    "application/json",
    "application/x-protobuf",
    "application/recordio",
)

NESTED = {"value": "n", "parent": {"value": "@run"}}
CAT = {**NESTED, "value": "cat"}
ALONE = {"value": "alone"}
COMMAND = {
    "value": "true",
    "shell": True,
    "arguments": ["true"],
    "environment": {"variables": [{"name": "A", "value": "b"}]},
}
TERMINAL = {"type": "MESOS", "tty_info": {"window_size": {"rows": 1, "columns": 2}}}
PROVIDER = {"info": {"type": "org.x", "name": "y", "id": {"value": "z"}}}
SANDBOX = "/frameworks/F/executors/t1/runs/latest"

#: Body by type of call, each near to one that is done.
CALLS: Final[dict[str, dict[str, Any]]] = {
    "GET_METRICS": {"timeout": {"nanoseconds": 1}},
    "GET_CONTAINERS": {"show_nested": True, "show_standalone": True},
    "SET_LOGGING_LEVEL": {"level": 1, "duration": {"nanoseconds": 10}},
    "LIST_FILES": {"path": SANDBOX},
    "READ_FILE": {"path": f"{SANDBOX}/stdout", "offset": 1, "length": 2},
    "LAUNCH_NESTED_CONTAINER": {"container_id": NESTED, "command": COMMAND, "container": TERMINAL},
    "LAUNCH_NESTED_CONTAINER_SESSION": {
        "container_id": NESTED, "command": COMMAND, "container": TERMINAL,
    },
    "LAUNCH_CONTAINER": {
        "container_id": ALONE, "command": COMMAND, "container": TERMINAL, "resources": [CPUS, MEM],
        "limits": {"cpus": {"value": 1.0}},
    },
    "ATTACH_CONTAINER_INPUT": {"type": "CONTAINER_ID", "container_id": NESTED},
    "ATTACH_CONTAINER_OUTPUT": {"container_id": NESTED},
    **{
        f"{what}_{kind}": {"container_id": name, **more}
        for kind, name in (("NESTED_CONTAINER", NESTED), ("CONTAINER", ALONE))
        for what, more in (("WAIT", {}), ("KILL", {"signal": 9}), ("REMOVE", {}))
    },
    "ADD_RESOURCE_PROVIDER_CONFIG": PROVIDER,
    "UPDATE_RESOURCE_PROVIDER_CONFIG": PROVIDER,
    "REMOVE_RESOURCE_PROVIDER_CONFIG": {"type": "org.x", "name": "y"},
    "MARK_RESOURCE_PROVIDER_GONE": {"resource_provider_id": {"value": "z"}},
    "PRUNE_IMAGES": {"excluded_images": [{"type": "DOCKER", "docker": {"name": "n"}}]},
}  # fmt: skip

#: What means something here, in the wrong place.
MISPLACED: Final[tuple[Any, ...]] = (
    [CPUS, CPUS], NESTED, ALONE, [{**CPUS, "type": "RANGES"}], {"value": "é" * 200},
    {"value": "n" * 242, "parent": NESTED}, "no-such-user", "a\0b", 64, 1e300,
)  # fmt: skip

#: Beginnings of what is answered with 500, which is the original's status for these.
MISSING: Final = (
    "I/O switchboard server was disabled",
    "Container 'alone' has not terminated yet",
    "Missing required flag --resource_provider_config_dir",
    "501 Not Implemented",
)

INPUT: Final = [
    {"type": "ATTACH_CONTAINER_INPUT", "attach_container_input": body}
    for body in (
        {"type": "CONTAINER_ID", "container_id": CAT},
        {"type": "PROCESS_IO",
         "process_io": {"type": "DATA", "data": {"type": "STDIN", "data": "AAAA"}}},
        {"type": "PROCESS_IO",
         "process_io": {"type": "CONTROL",
                        "control": {"type": "TTY_INFO", "tty_info": TERMINAL["tty_info"]}}},
    )
]  # fmt: skip


#: A body and its type.
Said = tuple[bytes, str]


def said(document: Any, run: str) -> bytes:
    """As JSON, with the container of the task in its place."""
    return plain.dumps(document).replace("@run", run).encode()


@st.composite
def calls(draw: st.DrawFn, run: str) -> tuple[bytes, str]:
    """A call, with something else in a few of its places, and the type that it is said to be of."""
    kind = draw(st.sampled_from(sorted(CALLS)))
    text = said({"type": kind, kind.lower(): draw(altered(CALLS[kind], MISPLACED))}, run)
    form = draw(st.sampled_from(("json", "json", "protobuf", "damaged")))
    if form != "json":
        with suppress(WireError):
            binary = protobuf.encode(json.decode(text, wire.Call))
            return draw(damaged(binary)) if form == "damaged" else binary, PROTOBUF
    return text, JSON


@st.composite
def typed(draw: st.DrawFn, run: str) -> tuple[bytes, str]:
    """What is typed into a container, with something else in a few places of records or frames."""
    records = [said(one, run) for one in draw(altered(INPUT, MISPLACED))]
    framed = b"".join(encode_record(record) for record in records)
    return draw(st.one_of(st.just(framed), damaged(framed))), RECORDIO


async def asked_of(
    agent: AgentProcess, master: ScriptedMaster, draws: Callable[[str], st.SearchStrategy[Said]]
) -> Counter[int]:
    """The statuses of what is drawn for an agent with the task `t1`, which must not notice."""
    await master.launch(task("t1", "echo hello; exec sleep 1000"))
    status = (await master.until_state("t1", "TASK_RUNNING")).status.container_status
    assert status is not None
    assert status.container_id is not None
    typist = {"command": {"value": "exec cat"}, "container": TERMINAL}
    launch = {"container_id": CAT, **typist}
    first = {"type": "LAUNCH_NESTED_CONTAINER", "launch_nested_container": launch}
    asked: list[Said] = [(said(first, status.container_id.value), JSON)]

    @fuzz(100)
    @given(one=draws(status.container_id.value))
    def draw(one: Said) -> None:
        asked.append(one)

    draw()
    statuses: Counter[int] = Counter()
    async with aiohttp.ClientSession(f"http://127.0.0.1:{agent.port}") as http:
        for body, kind in asked:
            statuses[await answer_of(http, body, kind)] += 1
    assert master.states("t1")[-1] == "TASK_RUNNING"
    assert agent.process is not None
    assert agent.process.returncode is None
    assert "Request failed" not in (agent.work_dir.parent / "agent.log").read_text()
    return statuses


async def answer_of(http: aiohttp.ClientSession, body: bytes, kind: str) -> int:
    """The status; all that is not done is refused in words."""
    headers = {"Content-Type": kind, "Accept": JSON}
    if kind == RECORDIO:
        headers["Message-Content-Type"] = JSON
    async with http.post("/api/v1", data=body, headers=headers) as answer:
        text = await answer.text(errors="replace")
        assert answer.status < 500 or text.startswith(MISSING), (body, text)
        assert answer.status in (200, 202, 404) or text, body  # of files 404 says nothing
        return answer.status


async def test_no_call_of_an_operator_ends_an_agent_or_what_runs_there(
    master: ScriptedMaster, agent: AgentProcess
) -> None:
    statuses = await asked_of(agent, master, calls)
    assert {200, 400, 404} <= set(statuses), statuses


async def test_nothing_that_is_typed_into_a_container_ends_the_agent(
    master: ScriptedMaster, agent: AgentProcess
) -> None:
    statuses = await asked_of(agent, master, typed)
    assert {200, 400} <= set(statuses), statuses
