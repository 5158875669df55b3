"""The root of the `mesostk` command: which words there are, and where they lead.

A module is imported when its word is used: `--help` and tab completion stay under 150 ms.
"""

from __future__ import annotations

import sys
from typing import Any

import typer

import mesostk
from mesostk.cli.lazy import LazyGroup, Words

WORDS: Words = {
    "lab": ("lab", "commands", "A whole cluster on this machine."),
    "cluster": ("cluster_words", "commands", "Provision and check a cluster of hosts."),
    "backup": ("backup", "commands", "What the cluster knows, as one file, and back."),
    "bundle": ("bundle", "commands", "All that an installation takes from elsewhere, as one file."),
    "runs": ("runs", "commands", "What was changed, by whom, when; go on with it."),
    "context": ("contexts", "commands", "Clusters that this command knows."),
    "status": ("status", "status", "Show masters, agents and apps."),
    "deploy": ("apps", "deploy", "Create or update apps, and wait until they run."),
    "plan": ("apps", "plan", "Show what deploying would change, and change nothing."),
    "scale": ("apps", "scale", "Change the number of an app's instances."),
    "apps": ("apps", "apps", "List the apps."),
    "app": ("apps", "show_app", "Show one app: definition, tasks, last failure."),
    "why": ("apps", "why", "Say why an app does not run as it should, and since when."),
    "events": ("history", "events", "Print Marathon's events as they come."),
    "audit": ("history", "audit", "Say who changed what and when."),
    "destroy": ("apps", "destroy", "Kill all tasks of an app and forget it."),
    "doctor": ("doctor", "doctor", "Find what is wrong in the cluster, and what mends it."),
    "impact": ("impact", "impact", "Say what would be lost with a host."),
    "agents": ("nodes", "agents", "List the agents."),
    "node": ("hosts", "commands", "Hosts of the cluster: add, remove, replace."),
    "drain": ("hosts", "drain", "Empty agents for maintenance."),
    "undrain": ("hosts", "undrain", "Let drained agents take tasks again."),
    "explain-offers": ("nodes", "explain_offers", "Say why a framework is offered nothing."),
    "tasks": ("tasks", "tasks", "List tasks, of one app or of all."),
    "exec": ("execute", "execute", "Run a program, or a terminal, in a running task."),
    "logs": ("tasks", "logs", "Print what tasks write."),
    "lb": ("lb", "commands", "Load balancers: what goes where."),
    "zdd": ("lb", "zdd", "Replace an app without losing a request."),
    "dns": ("dns", "dns", "Show what a name of the cluster stands for."),
}


class Root(LazyGroup):
    """The words of the command itself."""

    words = WORDS


app = typer.Typer(
    cls=Root,
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Provision and run a Mesos-style cluster.",
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"mesostk {mesostk.__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version."
    ),
) -> None:
    """Provision and run a Mesos-style cluster."""


def main() -> Any:
    """Entry point of the console script."""
    return app(prog_name="mesostk")


if __name__ == "__main__":
    sys.exit(main())
