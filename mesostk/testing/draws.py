"""What the labs' tests draw: where a run is killed."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from mesostk.ops.paths import data_root

#: What decides on the tasks of a run, and so on what may go wrong where it is cut off.
_RUN = ("playbooks", "roles")
_SUFFIXES = frozenset({".py", ".yml", ".j2", ".sh"})


def seed(environ: Mapping[str, str] = os.environ) -> int:
    """MESOSTK_ROLLING_SEED, or a number below a million by the content of playbooks and roles.

    What failed fails again when it is repeated, and every change of what runs draws anew.
    """
    given = environ.get("MESOSTK_ROLLING_SEED")
    return int(given) if given else _of_content(data_root())


def _of_content(root: Path) -> int:
    found = hashlib.sha256()
    for top in _RUN:
        for path in sorted((root / top).rglob("*")):
            if path.suffix in _SUFFIXES and path.is_file():
                found.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return int.from_bytes(found.digest()[:8], "big") % 1_000_000
