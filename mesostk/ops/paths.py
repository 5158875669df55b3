"""Where the files are that are not Python: playbooks, roles, inventories, lab image recipe."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from mesostk.errors import ConfigError

_PACKAGE = Path(__file__).resolve().parent.parent


def data_root() -> Path:
    """Directory that holds `playbooks/`, `roles/`, `inventory/`, `lab/` and `ansible.cfg`.

    In an installed wheel that is `mesostk/_ansible`; in a checkout, where that folder does not
    exist, the repository's root. Raises ConfigError if neither has the files.
    """
    packed = _PACKAGE / "_ansible"
    if packed.is_dir():
        return packed
    root = _PACKAGE.parent
    if (root / "lab" / "build").is_file():
        return root
    raise ConfigError(
        f"neither {packed} nor {root} holds playbooks, roles and lab files: "
        "install the wheel, or run from a complete checkout"
    )


def checkout() -> Path | None:
    """The repository's root if this code runs from a checkout, else None."""
    root = _PACKAGE.parent
    return root if (root / "pyproject.toml").is_file() else None


def labs_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """Directory with one sub-directory of state per lab.

    `.lab/` in a checkout, so that two checkouts do not share one; else
    `$XDG_STATE_HOME/mesostk/labs`. `MESOSTK_LABS_DIR` overrides both.
    """
    if override := environ.get("MESOSTK_LABS_DIR"):
        return Path(override)
    if (root := checkout()) is not None:
        return root / ".lab"
    state = environ.get("XDG_STATE_HOME")
    base = Path(state) if state else Path.home() / ".local" / "state"
    return base / "mesostk" / "labs"


def bundles_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """Directory where bundles are unpacked, each once; beside the labs' state."""
    return labs_dir(environ) / "bundles"


def wheelhouse_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """Where the control node keeps wheelhouses: as role mesostk says, `mesostk_wheelhouse`."""
    if override := environ.get("MESOSTK_WHEELHOUSE"):
        return Path(override)
    return Path.home() / ".cache" / "mesostk" / "wheelhouse"


def ledger_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """Directory of the run ledger: beside the labs' state; `MESOSTK_LEDGER_DIR` overrides that.

    Operators who share a control node name one directory there, and see each other's runs.
    """
    if override := environ.get("MESOSTK_LEDGER_DIR"):
        return Path(override)
    return labs_dir(environ) / "ledger"
