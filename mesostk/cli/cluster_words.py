"""The words below `mesostk cluster`, gathered from the modules that are about them."""

from __future__ import annotations

from mesostk.cli import planning
from mesostk.cli.cluster import commands

commands.command("plan")(planning.plan)

__all__ = ["commands"]
