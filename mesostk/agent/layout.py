"""Where the agent's records and sandboxes are, relative to work_dir (spec: Mesos §8.2).

::

    meta/boot_id                                      the boot in which the run records count
    meta/resources/resources_and_operations.state     ResourcesRecord; outlives the agent's id
    meta/epoch                                        ClusterEpoch last followed
    meta/slaves/latest -> <agent>                     removed: the agent starts as a new one
    meta/slaves/<agent>/slave.info                    AgentInfo
    meta/slaves/<agent>/drain.config                  DrainConfig
    meta/slaves/<agent>/frameworks/<fw>/framework.info
      executors/<exec>/runs/<run>/executor.info       ExecutorInfo
      executors/<exec>/runs/<run>/executor.sentinel   ended and everything acknowledged
      executors/<exec>/runs/<run>/tasks/<task>/task.info     TaskInfo
      executors/<exec>/runs/<run>/tasks/<task>/task.updates  UpdateRecord after UpdateRecord
      executors/<exec>/runs/<run>/tasks/<task>/task.kill     KillRecord
      executors/<exec>/runs/<run>/containers/<nested>/…      the same of a task group's task
      executors/<exec>/runs/<run>/containers/<nested>/group  the name of its group
    slaves/<agent>/frameworks/<fw>/executors/<exec>/runs/<run>/      the sandbox
      containers/<nested>/                                           … of a task group's task
    volumes/roles/<role, "/" as " ">/<persistence id>                a persistent volume

Ids become path segments through `segment`, so that none of them can leave its directory.
"""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

from mesostk.wire import json
from mesostk.wire.recordio import encode_record

BOOT_ID = "meta/boot_id"
EPOCH = "meta/epoch"
RESOURCES = "meta/resources/resources_and_operations.state"
LATEST = "meta/slaves/latest"

_RUN_FILE = re.compile(
    r"meta/slaves/(?P<agent>[^/]+)/frameworks/(?P<framework>[^/]+)"
    r"(?:/executors/(?P<executor>[^/]+)/runs/(?P<run>[^/]+(?:/containers/[^/]+)?)"
    r"(?:/tasks/(?P<task>[^/]+))?)?"
    r"/(?P<name>[^/]+)"
)


#: Identifiers that are segments as they are: nearly all, and several to each record of a task.
_PLAIN = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")


def segment(identifier: str) -> str:
    """`identifier` as one path segment; only `/`, `%`, control characters and `.`/`..` change."""
    if _PLAIN.fullmatch(identifier) is not None:
        return identifier
    text = quote(identifier, safe=" !\"#$&'()*+,-.:;<=>?@[\\]^_`{|}~")
    return text.replace(".", "%2E") if text in {".", ".."} else text


def unsegment(text: str) -> str:
    """The identifier that `segment` made `text` of."""
    return unquote(text)


def agent_dir(agent: str) -> str:
    """Records of an agent id."""
    return f"meta/slaves/{segment(agent)}"


def framework_info(agent: str, framework: str) -> str:
    """`FrameworkInfo` of a framework that has runs here."""
    return f"{agent_dir(agent)}/frameworks/{segment(framework)}/framework.info"


def run_segments(run: str) -> str:
    """A container id as a path: that of a nested one, `parent.child`, is below its parent."""
    return "/containers/".join(segment(part) for part in run.split("."))


def _run(agent: str, framework: str, executor: str, run: str) -> str:
    return (
        f"slaves/{segment(agent)}/frameworks/{segment(framework)}"
        f"/executors/{segment(executor)}/runs/{run_segments(run)}"
    )


def run_dir(agent: str, framework: str, executor: str, run: str) -> str:
    """Records of a run."""
    return "meta/" + _run(agent, framework, executor, run)


def task_dir(agent: str, framework: str, executor: str, run: str, task: str) -> str:
    """Records of a task."""
    return f"{run_dir(agent, framework, executor, run)}/tasks/{segment(task)}"


def sandbox(agent: str, framework: str, executor: str, run: str) -> str:
    """Working directory of a run."""
    return _run(agent, framework, executor, run)


def volume(role: str, persistence_id: str) -> str:
    """Directory of a persistent volume, relative to the disk that it is on (spec: §8.2)."""
    return f"volumes/roles/{segment(role.replace('/', ' '))}/{segment(persistence_id)}"


def frame(record: object) -> bytes:
    """`record` as it is written to its file: JSON in one RecordIO frame."""
    return encode_record(json.encode(record))


class Place:
    """Which record a path is: the ids in it and the file's name."""

    __slots__ = ("agent", "executor", "framework", "name", "run", "task")

    def __init__(self, match: re.Match[str]) -> None:
        self.agent = unquote(match["agent"])
        self.framework = unquote(match["framework"])
        self.executor = unquote(match["executor"]) if match["executor"] is not None else None
        run = match["run"]
        self.run = None
        if run is not None:
            self.run = ".".join(unquote(part) for part in run.split("/containers/"))
        self.task = unquote(match["task"]) if match["task"] is not None else None
        self.name = match["name"]


def place(path: str) -> Place | None:
    """What `path` below `meta/slaves/<agent>/frameworks` is, None if it is none of ours."""
    match = _RUN_FILE.fullmatch(path)
    return Place(match) if match is not None else None
