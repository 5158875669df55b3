"""Names of the cluster, as Mesos-DNS answers for them."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote, urlsplit

import typer

from mesostk.cli import contexts
from mesostk.cli.clients import Members
from mesostk.cli.contexts import Context, ContextOption
from mesostk.cli.output import Format, FormatOption, JsonOption, Table, chosen, errors
from mesostk.errors import ConfigError, Rejected

#: Of the HTTP interface, where no other one is named.
HTTP_PORT = 8123


def servers(context: Context, named: str | None) -> list[str]:
    """Base URLs of the servers: the one named, those of the context, or one beside each master."""
    if named is not None:
        if "://" not in named:
            named = f"http://{named}" if ":" in named else f"http://{named}:{HTTP_PORT}"
        return [named.rstrip("/")]
    if context.dns:
        return list(context.dns)
    hosts = dict.fromkeys(urlsplit(url).hostname for url in context.masters)
    return [f"http://{host}:{HTTP_PORT}" for host in hosts if host is not None]


def full_name(text: str, domain: str) -> str:
    """The name that is meant: an app's path, a name within Marathon's, or a whole one."""
    if text.startswith("/"):
        # Marathon names the tasks of /shop/web `web.shop`, of which Mesos-DNS makes `web-shop`.
        text = "-".join(reversed(text.strip("/").split("/")))
    text = text.lower().rstrip(".")
    if text == domain or text.endswith("." + domain):
        return text
    infrastructure = ("leader", "master", "slave", "ns1")
    is_own = text in infrastructure or text.removeprefix("master").isdigit()
    return f"{text}.{domain}" if is_own else f"{text}.marathon.{domain}"


def service_of(name: str) -> str:
    """The SRV name that belongs to a task's name; the name itself if it is one."""
    if name.startswith("_"):
        return name
    first, _, rest = name.partition(".")
    return f"_{first}._tcp.{rest}"


def look_up(server: Members, name: str, table: Table) -> None:
    """Add addresses and services of one name."""
    path = f"/v1/hosts/{quote(name)}"
    for record in server.call("GET", path):
        if record["ip"]:
            kind = "AAAA" if ":" in record["ip"] else "A"
            _add(table, record["host"], kind, record["ip"], "")
    service = service_of(name)
    for record in server.call("GET", f"/v1/services/{quote(service)}"):
        if record["port"]:
            target = f"{record['host']}:{record['port']}"
            _add(table, service + ".", "SRV", target, record["ip"])


def enumerate_all(server: Members, table: Table) -> None:
    """Add the records of every task."""
    try:
        frameworks: list[dict[str, Any]] = server.call("GET", "/v1/enumerate")["frameworks"]
    except Rejected as error:
        if error.status != 404:
            raise
        raise Rejected(
            404, "this server does not list its names (EnumerationOn is false)"
        ) from None
    for framework in frameworks:
        for task in framework["tasks"]:
            for record in task["records"] or ():
                _add(table, record["name"], record["rtype"], record["host"], task["id"])


def _add(table: Table, name: str, kind: str, value: str, more: str) -> None:
    table.add((name, kind, value, more), {"name": name, "type": kind, "value": value, "of": more})


def dns(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="app.marathon.mesos, app, /group/app, leader …"),
    ] = None,
    enumerate: Annotated[
        bool, typer.Option("--enumerate", help="List the records of every task.")
    ] = False,
    server: Annotated[
        str | None,
        typer.Option(
            "--server", help="HOST[:PORT] of its HTTP interface [default: those of the cluster]"
        ),
    ] = None,
    context: ContextOption = None,
    output: FormatOption = Format.TABLE,
    as_json: JsonOption = False,
) -> None:
    """Show what a name of the cluster stands for."""
    with errors():
        if (name is None) == (not enumerate):
            raise ConfigError("give one NAME, or --enumerate")
        known = contexts.Context(masters=[], marathons=[])
        if server is None or context is not None:
            known = contexts.current(context)
        members = Members("Mesos-DNS", servers(known, server))
        table = Table(("NAME", "TYPE", "VALUE", "TASK" if enumerate else "ADDRESS"), "name")
        if name is None:
            enumerate_all(members, table)
            table.show(chosen(output, as_json), "No task has a name.")
            return
        domain = str(members.call("GET", "/v1/config")["Domain"])
        full = full_name(name, domain)
        look_up(members, full, table)
        if not table.records:
            raise Rejected(404, f"{full} is no name; `mesostk dns --enumerate` lists them")
        table.show(chosen(output, as_json), "")
