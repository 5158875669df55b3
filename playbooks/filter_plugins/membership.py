"""Ansible filter that weighs a change of the cluster's members before anything is touched.

Pure: the inventory and what the hosts said of their services in, sentences out. ZooKeeper's members
are changed one at a time, so that every majority of the old ones and every majority of the new ones
have a member in common; whoever takes another's place takes its number, too.
"""

from __future__ import annotations

from ansible.errors import AnsibleFilterError

GROUPS = ("zookeeper", "mesos_masters", "mesos_agents", "marathon", "mesos_dns", "marathon_lb")

#: Groups without which there is no cluster.
NEEDED = ("zookeeper", "mesos_masters", "mesos_agents")

#: Groups of which no other host need know; a change of any other group is told to all hosts.
ALONE = {"mesos_agents"}


def groups_of(host, groups):
    """Names of the groups that `host` is in, without Ansible's own and the parents."""
    return [name for name in GROUPS if host in groups.get(name, ())]


def _ensemble(groups, hostvars, leaving, joining, later):
    """(members before, members after) as host → number."""
    numbers = {}
    hosts = groups.get("zookeeper", [])
    given = {h: int(hostvars[h]["zookeeper_id"]) for h in hosts if hostvars[h].get("zookeeper_id")}
    free = (number for number in range(1, 256) if number not in given.values())
    for host in hosts:
        numbers[host] = given[host] if host in given else next(free)
    # Whoever takes the place of another one takes its number.
    for old, new in zip(leaving, joining, strict=False):
        if old in numbers and new in numbers and new not in given:
            numbers[new] = numbers[old]
    before = {h: n for h, n in numbers.items() if h not in joining and h not in later}
    after = {h: n for h, n in numbers.items() if h not in leaving and h not in later}
    return before, after


def _serving(hostvars, hosts, service="zookeeper"):
    found = {}
    for host in hosts:
        state = hostvars[host].get("living_state") or {}
        for one in state.get("services", ()):
            if one["name"] == service and one["place"] != "failing":
                found[host] = one
    return found


def _survives(count):
    lost = (count - 1) // 2
    return f"survives the loss of {lost}" if lost else "survives no loss"


def _zookeeper_lines(before, after, serving, leaving):
    majority = len(before) // 2 + 1
    left = len(set(serving) - set(leaving))
    lines = [
        f"ZooKeeper now: {len(before)} members, {len(serving)} serve, {majority} are a quorum",
        f"ZooKeeper afterwards: {len(after)} members, {len(after) // 2 + 1} are a quorum; "
        + _survives(len(after)),
    ]
    if set(leaving) & set(before):
        lines.insert(1, f"ZooKeeper during the change: {left} serve without {', '.join(leaving)}")
    return lines


def _zookeeper_refusals(before, after, serving, leaving, allow_even):
    if before == after:
        return
    majority = len(before) // 2 + 1
    down = sorted(set(before) - set(serving) - set(leaving))
    left = set(serving) - set(leaving)
    gone, come = set(before) - set(after), set(after) - set(before)
    if len(gone) > 1 or len(come) > 1:
        yield (
            f"{len(gone)} ZooKeeper members would leave and {len(come)} join at once, and two "
            "majorities could decide without each other: change one at a time"
        )
    if after and len(left) < majority:
        yield (
            f"only {len(left)} of {len(before)} ZooKeeper members would serve, and {majority} are "
            f"needed: bring back {', '.join(down) or 'another member'} first"
        )
    if after and len(after) % 2 == 0 and not allow_even:
        yield (
            f"{len(after)} ZooKeeper members survive no more losses than {len(after) - 1}: replace "
            "a host rather than remove it (`mesostk node replace OLD NEW`), change two one after "
            "the other, or say so (--allow-even, node_allow_even=true)"
        )
    if gone and come:
        old, new = gone.pop(), come.pop()
        if before[old] != after[new]:
            yield (
                f"{new} has zookeeper_id {after[new]}, but it takes the place of {old}: "
                f"give it {before[old]}"
            )


def _id_refusals(hostvars, after, serving):
    """Ids that would move, now or once the host that leaves is taken out of the inventory."""
    # What the inventory will mean without those that leave: implicit numbers are places in it.
    free = (
        number
        for number in range(1, 256)
        if not any(int(hostvars[h].get("zookeeper_id") or 0) == number for h in after)
    )
    future = {h: int(hostvars[h].get("zookeeper_id") or 0) or next(free) for h in after}
    for host, state in sorted(serving.items()):
        number = str(state.get("zookeeper_id") or "")
        if host in future and number.isdigit() and future[host] != int(number):
            yield (
                f"{host} runs as ZooKeeper {number} and would become {future[host]}, which it may "
                f"never do: write `zookeeper_id: {number}` to it in the inventory first"
            )


def _group_lines(groups, leaving, joining, later):
    lines, refusals = [], []
    for name, hosts in sorted(groups.items()):
        if name not in GROUPS:
            continue
        before = [h for h in hosts if h not in joining and h not in later]
        after = [h for h in hosts if h not in leaving and h not in later]
        if name != "zookeeper" and before != after:
            lines.append(f"{name}: {len(before)} now, {len(after)} afterwards")
        if not after and before and name in NEEDED:
            refusals.append(f"group {name} would have no host: add another one first")
    return lines, refusals


def _afterwards(groups, leaving, joining, after):
    lines = []
    for host in leaving:
        where = ", ".join(groups_of(host, groups))
        lines.append(f"In the inventory: delete {host} (groups {where}).")
    lines += [
        f"In the inventory: {host} has zookeeper_id: {after[host]}, for ever."
        for host in joining
        if host in after
    ]
    return lines


def weigh(groups, hostvars, leaving=(), joining=(), later=(), allow_even=False):
    """What the change comes to: {lines, refusals, concerns_all, zookeeper_ids, afterwards}.

    `later`: hosts of the inventory that join by a later run. A host's services are what living.yml
    left in its `living_state`.
    """
    if "" in (*leaving, *joining):
        raise AnsibleFilterError("name the hosts: -e node=HOST, or -e old=HOST -e new=HOST")
    unknown = [host for host in (*leaving, *joining) if not groups_of(host, groups)]
    if unknown:
        raise AnsibleFilterError(
            f"{', '.join(unknown)}: in no group of the inventory; add it to the groups of what it "
            "is to run"
        )
    before, after = _ensemble(groups, hostvars, leaving, joining, later)
    serving = _serving(hostvars, before)
    lines, refusals = _group_lines(groups, leaving, joining, later)
    if before != after:
        lines = [*_zookeeper_lines(before, after, serving, leaving), *lines]
        refusals += _zookeeper_refusals(before, after, serving, leaving, allow_even)
        refusals += _id_refusals(hostvars, after, serving)
    if leaving and joining:
        lacks = set(groups_of(leaving[0], groups)) - set(groups_of(joining[0], groups))
        if lacks:
            refusals.append(
                f"{joining[0]} is to do what {leaving[0]} does: add it to "
                + ", ".join(sorted(lacks))
            )
    for host in joining:
        if (hostvars[host].get("living_state") or {"unreachable": True}).get("unreachable"):
            refusals.append(f"{host} does not answer: it cannot be set up")
    touched = {name for host in (*leaving, *joining) for name in groups_of(host, groups)}
    return {
        "lines": lines,
        "refusals": refusals,
        "concerns_all": bool(touched - ALONE),
        "zookeeper_ids": after,
        "afterwards": _afterwards(groups, leaving, joining, after),
    }


class FilterModule:
    """What Ansible loads."""

    def filters(self):
        return {"weigh_change": weigh}
