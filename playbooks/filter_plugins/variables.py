"""Ansible filter that holds the inventory's variables against what the roles know.

Ansible itself looks at a variable's type where its role is applied, one role and one host after the
other, and at a misspelled name never: the default would be taken instead. Here all are told
at once, before anything is touched. Values are not converted on the way to the roles, so that what
Ansible would take in the place of a list or a mapping (`a,b`, `a=b`) is refused.
"""

from __future__ import annotations

import difflib
import functools
import re
from pathlib import Path

import yaml
from ansible.errors import AnsibleError
from jinja2 import Undefined
from jinja2.exceptions import UndefinedError

ROLES = Path(__file__).resolve().parent.parent.parent / "roles"

#: What playbooks and roles know beside the options of the roles.
OTHERS = {"cluster_absent", "validate_host", "verify_wait_s", "reset_cluster", "reset_confirm"}

#: Names at least this alike are one with a slip of the finger; shorter ones are too often alike.
ALIKE, SHORTEST = 0.9, 8

#: Of variables whose name tells a secret the value is not shown; of others, so many characters.
SECRET = re.compile(r"pass|secret|token|credential|private|auth", re.IGNORECASE)
SHOWN = 60

KINDS = ((bool, "true or false"), (str, "text"), (list, "a list"), (dict, "a mapping"))


def is_whole(value):
    return str(value).lstrip("-").isdigit() and not isinstance(value, bool)


def is_truth(value):
    words = ("true", "false", "yes", "no", "on", "off", "1", "0")
    return isinstance(value, bool) or str(value).lower() in words


#: Type in an argument specification → (what it is called, whether a value is one).
TYPES = {
    "int": ("a whole number", is_whole),
    "bool": ("true or false", is_truth),
    "str": ("text; put it in quotes", lambda value: isinstance(value, str)),
    "path": ("a path", lambda value: isinstance(value, str)),
    "list": ("a list", lambda value: isinstance(value, list)),
    "dict": ("a mapping of names to values", lambda value: isinstance(value, dict)),
}


@functools.cache
def options():
    """Name → specification of every variable of the roles that an inventory may set."""
    found = {}
    for path in sorted(ROLES.glob("*/meta/argument_specs.yml")):
        # What other roles call role service with is theirs to get right.
        if path.parent.parent.name != "service":
            specs = yaml.safe_load(path.read_text())["argument_specs"]
            found.update(specs["main"].get("options") or {})
    return found


def _shown(name, option, value):
    if option.get("no_log") or SECRET.search(name) or isinstance(value, (list, dict)):
        return "is " + next((word for kind, word in KINDS if isinstance(value, kind)), "a number")
    text = str(value)[:SHOWN]
    return f"is {text!r}" if isinstance(value, str) else f"is {text}"


def wrong(name, option, value):
    """(what is wrong, remedy) with the value of a variable, or None."""
    if value is None:
        return f"{name} is empty", "leave it out, or give it a value"
    called, fits = TYPES.get(option.get("type", "str"), TYPES["str"])
    if not fits(value):
        return f"{name} {_shown(name, option, value)}", f"make it {called}"
    choices = option.get("choices")
    if choices and option.get("type", "str") == "str" and value not in choices:
        return f"{name} {_shown(name, option, value)}", "use one of " + ", ".join(choices)
    if option.get("type") == "int":
        lowest, highest = (1, 65535) if name.endswith("_port") else (0, None)
        if int(value) < lowest or (highest and int(value) > highest):
            limits = f"from {lowest} to {highest}" if highest else f"of at least {lowest}"
            return f"{name} is {int(value)}", f"use a number {limits}"
    return None


def not_worked_out(name, error):
    """(what is wrong, remedy) with a variable whose template or vault cannot be read."""
    lines = str(error.__cause__ or error).splitlines() or ["no reason given"]
    remedy = "mend what it is made of"
    if "vault" in lines[0].lower():
        remedy = "name the file of the vault's password in ANSIBLE_VAULT_PASSWORD_FILE"
    return f"{name} cannot be worked out: {lines[0].rstrip('. ')}", remedy


def meant(name, known):
    """The variable that `name` is a slip of the finger for, or None."""
    if name in known or len(name) < SHORTEST or name.startswith("ansible_"):
        return None
    # A number at the end is how an operator tells variables of his own apart.
    close = difflib.get_close_matches(name, known, 1, ALIKE)
    return close[0] if close and close[0] != name.rstrip("0123456789_") else None


def findings(hosts, hostvars):
    """What is wrong with the variables of `hosts`: a list of {where, problem, remedy, level}."""
    known = options()
    names, found = {*known, *OTHERS}, []
    slips = {}
    for host in hosts:
        # Ansible works out all of a host's variables each time that it is asked for the host.
        own = hostvars[host]
        for name in own:
            if name not in slips:
                slips[name] = meant(name, names)
            told = None
            if slips[name]:
                told = (f"variable {name} is not known", f"call it {slips[name]}")
            elif name in known:
                try:
                    value = own[name]
                    if isinstance(value, Undefined):
                        # It raises what it stands for: a missing variable, a vault's password.
                        str(value)
                    told = wrong(name, known[name], value)
                except (AnsibleError, UndefinedError) as error:
                    told = not_worked_out(name, error)
            if told:
                where = {"where": f"host {host}", "level": "error"}
                found.append({**where, "problem": told[0], "remedy": told[1]})
    return found


class FilterModule:
    """What Ansible loads."""

    def filters(self):
        return {"variable_findings": findings}
