"""All of Marathon's records as one JSON document, and back: what a backup of Marathon holds.

::

    store.load() ─▶ dumped ─▶ encode ─▶ a file people can read ─▶ decode ─▶ restored ─▶ store.commit

    {"format": "mesostk-marathon", "schema": 1, "records": {"apps/3/web/2016-…Z": {"id": "/web" …},
     "root": {"version": …} …}, "damaged": {path: base64}}

Every version of every app and group is in it. What belongs to one cluster's life (framework id,
instances, deployments) is in it too, and is put back only on demand: a restored Marathon that takes
another cluster's tasks for its own would wait for them in vain. Pure: the caller has the store.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Final

import msgspec

from mesostk.errors import WireError
from mesostk.marathon import repository
from mesostk.marathon.grouprecords import assemble

FORMAT: Final = "mesostk-marathon"
SCHEMA: Final = 1

#: Kinds of records that mean nothing to another cluster.
OF_THIS_LIFE: Final = frozenset({repository.FRAMEWORK_ID, "instances", "deployments"})

#: Broken records and missing references that a refusal names one by one.
NAMED: Final = 5


class Dump(msgspec.Struct, frozen=True, kw_only=True):
    """`records` by path, as JSON; `damaged` are those that were not readable, as they were."""

    format: str = FORMAT
    schema: int = SCHEMA
    records: dict[str, msgspec.Raw] = msgspec.field(default_factory=dict)
    damaged: dict[str, str] = msgspec.field(default_factory=dict)


def dumped(stored: Mapping[str, bytes]) -> Dump:
    """The document of a store's records, by path; never raises: the damaged are kept apart."""
    damaged = repository.read_all(stored).unreadable
    return Dump(
        records={
            path: msgspec.Raw(repository.plain(data))
            for path, data in sorted(stored.items())
            if path not in damaged
        },
        damaged={path: base64.b64encode(stored[path]).decode() for path in sorted(damaged)},
    )


def encode(dump: Dump) -> bytes:
    """The document as a file, indented."""
    return msgspec.json.format(msgspec.json.encode(dump), indent=1) + b"\n"


def decode(data: bytes) -> Dump:
    """The document in a file; WireError for anything else, and for a later schema."""
    try:
        dump = msgspec.json.decode(data, type=Dump)
    except msgspec.MsgspecError as error:
        raise WireError(f"not a dump of Marathon: {error}") from error
    if dump.format != FORMAT:
        raise WireError(f"not a dump of Marathon: its format is '{dump.format[:32]}'")
    if not 1 <= dump.schema <= SCHEMA:
        raise WireError(
            f"a dump of schema {dump.schema}; this version reads up to {SCHEMA}: use a newer one"
        )
    return dump


def restored(dump: Dump, *, same_cluster: bool = False) -> dict[str, bytes]:
    """The records to write into an empty store, by path.

    With `same_cluster` instances, deployments and the framework id come back, too: the tasks are
    the same ones. Raises WireError where a record cannot be read or the root group refers to what
    is not there: half a cluster is not restored.
    """
    stored = {
        path: repository.packed(msgspec.json.format(raw, indent=-1))
        for path, raw in dump.records.items()
        if same_cluster or path.partition("/")[0] not in OF_THIS_LIFE
    }
    records = repository.read_all(stored)
    wrong = [f"{path}: {why}" for path, why in records.unreadable.items()]
    if not wrong and records.root_version is not None:
        _, missing = assemble(records.groups, records.shards, records.apps, records.root_version)
        wrong = [f"missing: {what}" for what in missing]
    if wrong:
        more = f" and {len(wrong) - NAMED} more" if len(wrong) > NAMED else ""
        raise WireError(f"the dump is not whole: {'; '.join(wrong[:NAMED])}{more}")
    return stored
