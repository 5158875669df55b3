"""Whether a store's records are a whole Marathon: what a backup is asked before it is trusted.

A Marathon that leads does more: it mends what is broken, and goes on with what is left
(`loading.py`). A backup is made while there is something to mend it from.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from mesostk.errors import WireError
from mesostk.marathon import groups, repository
from mesostk.marathon.grouprecords import assemble

#: Broken records and missing references that a refusal names one by one.
NAMED: Final = 5


def app_ids(stored: Mapping[str, bytes]) -> frozenset[str]:
    """Ids of the apps that a Marathon with this store has, by path from the store's root.

    Raises WireError where a record cannot be read or the root group refers to what is not there.
    """
    records = repository.read_all(stored)
    wrong = [f"{path}: {why}" for path, why in records.unreadable.items()]
    found: frozenset[str] = frozenset()
    if not wrong and records.root_version is not None:
        root, missing = assemble(records.groups, records.shards, records.apps, records.root_version)
        wrong = [f"missing: {what}" for what in missing]
        found = frozenset(app.id for app in groups.apps(root))
    if wrong:
        more = f" and {len(wrong) - NAMED} more" if len(wrong) > NAMED else ""
        raise WireError(f"Marathon's records are not whole: {'; '.join(wrong[:NAMED])}{more}")
    return found
