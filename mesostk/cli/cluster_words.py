"""The words below `mesostk cluster`, and the modules that are about them."""

from __future__ import annotations

import typer

from mesostk.cli.lazy import LazyGroup, Words

WORDS: Words = {
    "init": ("making", "init", "Write a commented inventory."),
    "validate": ("cluster", "validate", "Tell all that stands in the way of a deployment."),
    "plan": ("planning", "plan", "Show what deploying hosts and apps would change."),
    "deploy": ("cluster", "deploy", "Turn the inventory's hosts into the cluster."),
    "verify": ("cluster", "verify", "Ask the running cluster, and run a probe app."),
    "upgrade": ("upgrading", "upgrade", "Bring every host to another release, one at a time."),
    "doctor": ("doctor", "doctor", "Find what is wrong in the cluster, and what mends it."),
    "support-bundle": ("support", "support_bundle", "Logs, configurations, states in one archive."),
    "facts": ("upgrading", "facts", "Show what each host is and runs."),
    "reset": ("making", "reset", "Take the cluster off its hosts, with all its data."),
}


class ClusterGroup(LazyGroup):
    """The words of `mesostk cluster`."""

    words = WORDS


commands = typer.Typer(
    cls=ClusterGroup,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Provision and check a cluster of hosts.",
)


@commands.callback()
def cluster() -> None:
    """Provision and check a cluster of hosts."""
