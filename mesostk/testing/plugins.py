"""Ansible's plugins of this project as Python modules: what Ansible loads, tests load alike."""

from __future__ import annotations

import importlib.util
from types import ModuleType
from typing import Literal

import ansible.module_utils

from mesostk.ops.paths import data_root


def load(kind: Literal["library", "module_utils", "filter_plugins"], name: str) -> ModuleType:
    """The file `playbooks/<kind>/<name>.py`; it imports what modules share as on a host."""
    playbooks = data_root() / "playbooks"
    shared = str(playbooks / "module_utils")
    if shared not in ansible.module_utils.__path__:
        ansible.module_utils.__path__.append(shared)
    path = playbooks / kind / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"{kind}_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
