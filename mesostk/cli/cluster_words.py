"""The words below `mesostk cluster`, gathered from the modules that are about them."""

from __future__ import annotations

from mesostk.cli import doctor, making, planning, support, upgrading
from mesostk.cli.cluster import commands

commands.command("init")(making.init)
commands.command("plan")(planning.plan)
commands.command("upgrade")(upgrading.upgrade)
commands.command("doctor")(doctor.doctor)
commands.command("support-bundle")(support.support_bundle)
commands.command("reset")(making.reset)
commands.command("facts")(upgrading.facts)

__all__ = ["commands"]
