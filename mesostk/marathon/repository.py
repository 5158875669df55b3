"""Marathon's records in the store: where each lies, how it is written and read back.

::

    framework-id                       {"value": …}
    apps/<x>/<id>/<version>            one immutable AppDefinition
    groups/<x>/<id>/<version>          one immutable GroupNode: references, never whole apps
    shards/<x>/<id>/<shard>/<version>  one immutable GroupShard: some apps of a very wide group
    root                               {"version": …}: the root group's version that counts
    deployments/<id>                   one running Deployment
    instances/<xx>/<id>                one Instance
    residences/<xx>/<id>               one Residence: reservations and volumes on an agent
    failures/<x>/<id>                  the last TaskFailure of an app
    callbacks                          the Callbacks that get every event
    handover                           the Handover: what the next leader does first
    audit/<day>/<timestamp>            one AuditEntry

`<id>` of an app or group is its safe path (`/a/b` → `a_b`, the root group `_`); `<x>` are 1 or 2
hex digits of its CRC, so that no parent has too many children for ZooKeeper's answer to a listing.
A record that does not decode is left where it is, named in the log, and not used.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import TypeVar

import msgspec

from mesostk.errors import WireError
from mesostk.marathon import paths
from mesostk.marathon.grouprecords import ShardKey
from mesostk.marathon.instances import Instance
from mesostk.marathon.residence import Residence
from mesostk.marathon.timestamps import from_iso
from mesostk.wire.marathon import (
    AppDefinition,
    AuditEntry,
    Callbacks,
    GroupNode,
    GroupShard,
    Step,
    TaskFailure,
)

S = TypeVar("S", bound=msgspec.Struct)

FRAMEWORK_ID = "framework-id"
ROOT = "root"
CALLBACKS = "callbacks"
HANDOVER = "handover"

#: Below the half megabyte that one write to ZooKeeper may have.
COMPRESS_ABOVE_BYTES = 100_000

#: The year 9999, in seconds since the epoch: a later moment has no four digits.
LAST_TIME_S = 253_370_764_800.0

#: What zlib's output begins with; JSON never does.
ZLIB_MARK = b"x"

#: A record of ours never is that large; a forged one may not fill the memory.
MAX_RECORD_BYTES = 64 * 1024 * 1024


class StoredId(msgspec.Struct, frozen=True):
    """The framework id."""

    value: str


class RootPointer(msgspec.Struct, frozen=True):
    """Which version of the root group counts."""

    version: str


class Deployment(msgspec.Struct, frozen=True, kw_only=True):
    """A running deployment; each step is recomputed from the instances, so no progress is kept.

    `before` and `after` are the versions of the affected apps on both sides, None where there is no
    app; `original` is the version that the root had. `reverts` names the deployment that this one
    takes back; `created_at` is in wall seconds. Not done after `timeout_s`, it is rolled back.
    `pods` are those of the affected run specs that are pods.
    """

    id: str
    version: str
    created_at: float
    steps: tuple[Step, ...]
    before: dict[str, str | None]
    after: dict[str, str | None]
    reverts: str | None = None
    original: str | None = None
    timeout_s: float | None = None
    pods: tuple[str, ...] = ()


class Handover(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """URIs of files on the next leader's host; `is_begun`: records were replaced already."""

    backup: str | None = None
    restore: str | None = None
    is_begun: bool = False


class Records(msgspec.Struct, kw_only=True):
    """Everything that was readable; `unreadable` are paths with the reason."""

    framework_id: str | None = None
    root_version: str | None = None
    apps: dict[str, dict[str, AppDefinition]] = msgspec.field(default_factory=dict)
    groups: dict[str, dict[str, GroupNode]] = msgspec.field(default_factory=dict)
    shards: dict[ShardKey, GroupShard] = msgspec.field(default_factory=dict)
    deployments: list[Deployment] = msgspec.field(default_factory=list)
    instances: list[Instance] = msgspec.field(default_factory=list)
    residences: list[Residence] = msgspec.field(default_factory=list)
    failures: list[TaskFailure] = msgspec.field(default_factory=list)
    callbacks: tuple[str, ...] = ()
    audit: list[AuditEntry] = msgspec.field(default_factory=list)
    unreadable: dict[str, str] = msgspec.field(default_factory=dict)


def app_path(id: str, version: str) -> str:
    """Where a version of an app lies."""
    return f"apps/{_bucket(id, 1)}/{paths.safe(id)}/{version}"


def group_path(id: str, version: str) -> str:
    """Where a version of a group lies."""
    name = "_" if id == paths.ROOT else paths.safe(id)
    return f"groups/{_bucket(id, 1)}/{name}/{version}"


def shard_path(id: str, shard: str, version: str) -> str:
    """Where a version of a shard of a wide group lies."""
    name = "_" if id == paths.ROOT else paths.safe(id)
    return f"shards/{_bucket(id, 1)}/{name}/{shard}/{version}"


def deployment_path(id: str) -> str:
    """Where a running deployment lies."""
    return f"deployments/{id}"


def instance_path(id: str) -> str:
    """Where an instance lies."""
    return f"instances/{_bucket(id, 2)}/{id}"


def residence_path(id: str) -> str:
    """Where a residence lies."""
    return f"residences/{_bucket(id, 2)}/{id}"


def failure_path(app_id: str) -> str:
    """Where the last failure of an app's tasks lies."""
    return f"failures/{_bucket(app_id, 1)}/{paths.safe(app_id)}"


def audit_path(timestamp: str) -> str:
    """Where an entry of the history lies, by its time."""
    return f"audit/{timestamp[:10]}/{timestamp}"


def _bucket(id: str, digits: int) -> str:
    return f"{zlib.crc32(id.encode()):08x}"[-digits:]


def write(record: msgspec.Struct) -> bytes:
    """The bytes of a record; a large one is compressed: a deployment names each app four times."""
    return packed(msgspec.json.encode(record))


def packed(data: bytes) -> bytes:
    """JSON as it is stored."""
    return data if len(data) <= COMPRESS_ABOVE_BYTES else zlib.compress(data, 1)


def plain(data: bytes) -> bytes:
    """The JSON of a stored record; raises zlib.error for what was never packed so."""
    if data[:1] == ZLIB_MARK:
        return zlib.decompressobj().decompress(data, MAX_RECORD_BYTES)
    return data


def read(data: bytes, kind: type[S]) -> S:
    """A record; raises msgspec.MsgspecError (a ValueError) or zlib.error for anything else."""
    return msgspec.json.decode(plain(data), type=kind)


def read_all(stored: Mapping[str, bytes]) -> Records:
    """All records of a store; never raises: what cannot be read is listed."""
    records = Records()
    for path, data in sorted(stored.items()):
        try:
            _take(records, path, data)
        except (ValueError, zlib.error, RecursionError) as error:
            records.unreadable[path] = str(error)
    return records


def _time(version: str) -> str:
    """`version`; WireError unless it is a time, which the next change's version has to follow."""
    if from_iso(version) >= LAST_TIME_S:
        raise WireError(f"'{version}' is a time that none can follow")
    return version


def _take(records: Records, path: str, data: bytes) -> None:
    kind = path.partition("/")[0]
    if path == FRAMEWORK_ID:
        records.framework_id = read(data, StoredId).value
    elif path == ROOT:
        records.root_version = _time(read(data, RootPointer).version)
    elif kind == "apps":
        app = read(data, AppDefinition)
        records.apps.setdefault(app.id, {})[_time(path.rpartition("/")[2])] = app
    elif kind == "groups":
        group = read(data, GroupNode)
        records.groups.setdefault(group.id, {})[_time(group.version)] = group
    elif kind == "shards":
        part = read(data, GroupShard)
        records.shards[part.id, part.shard, _time(part.version)] = part
    elif kind == "deployments":
        records.deployments.append(read(data, Deployment))
    elif kind == "instances":
        records.instances.append(read(data, Instance))
    elif kind == "residences":
        records.residences.append(read(data, Residence))
    elif kind == "failures":
        records.failures.append(read(data, TaskFailure))
    elif kind == "audit":
        entry = read(data, AuditEntry)
        _time(entry.timestamp)
        records.audit.append(entry)
    elif path == CALLBACKS:
        records.callbacks = read(data, Callbacks).callback_urls
    else:
        records.unreadable[path] = "no record of Marathon has such a path"
