"""The words below `mesostk cluster`, gathered from the modules that are about them."""

from __future__ import annotations

from mesostk.cli import doctor, planning
from mesostk.cli.cluster import commands

commands.command("plan")(planning.plan)
commands.command("doctor")(doctor.doctor)

__all__ = ["commands"]
