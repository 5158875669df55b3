"""Hierarchical dominant-resource fairness: who is served next.

::

    root ── eng ── web     (role eng/web)     each node: allocated quantities of its subtree
         │      └─ "."     (role eng itself)  share = max over r of allocated[r] / total[r] / weight
         └─ ops            (role ops)         siblings in order of (share, allocations, name)

A role that has children and frameworks of its own is represented among its children by a virtual
leaf. Only the node whose allocation changed and its ancestors move, each by one bisection; a
change of the cluster's total re-sorts everything, once, at the next question.

With `rng` the order is drawn instead (`--role_sorter=random`): a client comes the earlier the more
weight it has, its own times its part of what its parents weigh among their active siblings.

Quantities are thousandths, by resource name (`Resources.quantities()`).
Source: Mesos `src/master/allocator/mesos/sorter/{drf,random}/sorter.cpp`, rules as in spec/mesos.md
§7.3.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping
from random import Random

import msgspec

Quantities = Mapping[str, int]

#: Name of the virtual leaf; sorts before every legal role component and is not one itself.
_SELF = "."

_Key = tuple[float, int, str]


class _Node(msgspec.Struct, eq=False):
    """A component of a role. `client` is the full name where this node is a leaf that is asked."""

    name: str
    parent: _Node | None
    weight: float = 1.0
    client: str | None = None
    active: bool = False
    allocated: dict[str, int] = msgspec.field(default_factory=dict)
    allocations: int = 0
    children: dict[str, _Node] = msgspec.field(default_factory=dict)
    order: list[tuple[_Key, _Node]] = msgspec.field(default_factory=list)
    key: _Key = (0.0, 0, "")


class Sorter:
    """Clients (roles, or frameworks of one role) in order of their dominant share."""

    def __init__(
        self,
        total: Quantities | None = None,
        excluded: frozenset[str] = frozenset(),
        rng: Random | None = None,
    ):
        """`excluded` names resources that do not count, e.g. gpus; `rng` draws each order."""
        self._total: dict[str, int] = dict(total or {})
        self._excluded = excluded
        self._root = _Node("", None)
        self._leaves: dict[str, _Node] = {}
        self._weights: dict[str, float] = {}
        self._stale = False
        self._rng = rng
        #: Active clients and what each weighs in a draw; None if that has changed.
        self._odds: list[tuple[float, str]] | None = None

    def __contains__(self, client: str) -> bool:
        return client in self._leaves

    def __len__(self) -> int:
        return len(self._leaves)

    def set_total(self, total: Quantities) -> None:
        """The cluster's total changed: every share does."""
        self._total = dict(total)
        self._stale = True

    def set_weight(self, path: str, weight: float) -> None:
        """`weight` of the role `path` among its siblings."""
        self._odds = None
        self._weights[path] = weight
        node = self._root
        for part in path.split("/"):
            if part not in node.children:
                return
            node = node.children[part]
        node.weight = weight
        self._reposition(node)

    def add(self, client: str) -> None:
        """A new client, inactive, with nothing allocated. Known clients stay as they are."""
        if client in self._leaves:
            return
        self._odds = None
        node = self._root
        path = ""
        for part in client.split("/"):
            path = part if path == "" else f"{path}/{part}"
            node = self._child(node, part, path)
        if node.children:
            node = self._child(node, _SELF, path)
        node.client = client
        self._leaves[client] = node

    def remove(self, client: str) -> None:
        """Forget a client, with what it was allocated."""
        node = self._leaves.pop(client, None)
        if node is None:
            return
        self._odds = None
        self._change(node, {name: -amount for name, amount in node.allocated.items()}, 0)
        node.client, node.active, node.allocations = None, False, 0
        self._prune(node)

    def _prune(self, node: _Node) -> None:
        """Take out a node that serves nobody, then its parent if that does neither."""
        parent = node.parent
        if parent is None or node.client is not None or node.children:
            return
        self._take_out(node)
        del parent.children[node.name]
        self._prune(parent)

    def activate(self, client: str) -> None:
        self._odds = None
        self._leaves[client].active = True

    def deactivate(self, client: str) -> None:
        """The client is passed over; what it holds still counts."""
        self._odds = None
        self._leaves[client].active = False

    def allocate(self, client: str, amounts: Quantities) -> None:
        self._change(self._leaves[client], amounts, 1)

    def release(self, client: str, amounts: Quantities) -> None:
        """Take back; a client that is gone was forgotten with all it held."""
        node = self._leaves.get(client)
        if node is not None:
            self._change(node, {name: -amount for name, amount in amounts.items()}, 0)

    def share(self, client: str) -> float:
        """Dominant share of a client's own leaf, its weight applied."""
        return self._share(self._leaves[client])

    def allocated(self, client: str) -> Quantities:
        return self._leaves[client].allocated

    def in_order(self) -> Iterator[str]:
        """Active clients, poorest first, as of now; allocate only after leaving the iteration."""
        if self._rng is not None:
            yield from self._drawn(self._rng)
            return
        if self._stale:
            self._sort(self._root)
            self._stale = False
        yield from self._walk(self._root)

    def active(self) -> list[str]:
        """Active clients, in no particular order."""
        return [client for client, leaf in self._leaves.items() if leaf.active]

    def _drawn(self, rng: Random) -> list[str]:
        """Active clients in a new order: who would come first in a race at rates of their odds,
        which is a draw by weight without putting back."""
        if self._odds is None:
            self._odds = list(_odds(self._root, 1.0))
        times = ((rng.expovariate(odds), client) for odds, client in self._odds)
        return [client for _, client in sorted(times)]

    def check(self, held: Mapping[str, Quantities]) -> None:
        """Assert that clients hold exactly `held`, and that every node is in its place."""
        for client, leaf in self._leaves.items():
            assert leaf.allocated == held.get(client, {}), (client, leaf.allocated, held)
        assert held.keys() <= self._leaves.keys()
        if not self._stale:
            self._check_node(self._root)

    def _check_node(self, node: _Node) -> None:
        assert [child for _, child in node.order] == sorted(
            node.children.values(), key=lambda child: (self._share(child), child.key[1:])
        )
        for child in node.children.values():
            assert child.client is None or not child.children
            self._check_node(child)

    # -- the tree -------------------------------------------------------------------------------

    def _walk(self, node: _Node) -> Iterator[str]:
        for _, child in node.order:
            if child.client is not None:
                if child.active:
                    yield child.client
            else:
                yield from self._walk(child)

    def _child(self, node: _Node, part: str, path: str) -> _Node:
        """The child `part` of `node`, made if missing; a leaf that gets its first child steps
        down to a virtual leaf, keeping what it was allocated."""
        if part in node.children:
            return node.children[part]
        if node.client is not None and part != _SELF:
            self._step_down(node)
        weight = 1.0 if part == _SELF else self._weights.get(path, 1.0)
        child = _Node(part, node, weight=weight)
        child.key = (0.0, 0, part)
        node.children[part] = child
        insort(node.order, (child.key, child), key=lambda item: item[0])
        return child

    def _step_down(self, node: _Node) -> None:
        client, active = node.client, node.active
        node.client, node.active = None, False
        leaf = self._child(node, _SELF, "")
        leaf.client, leaf.active = client, active
        leaf.allocated, leaf.allocations = dict(node.allocated), node.allocations
        assert client is not None
        self._leaves[client] = leaf
        self._reposition(leaf)

    def _change(self, leaf: _Node, amounts: Quantities, count: int) -> None:
        node: _Node | None = leaf
        while node is not None and node.parent is not None:
            for name, amount in amounts.items():
                left = node.allocated.get(name, 0) + amount
                if left:
                    node.allocated[name] = left
                else:
                    node.allocated.pop(name, None)
            node.allocations += count
            self._reposition(node)
            node = node.parent

    def _share(self, node: _Node) -> float:
        share = 0.0
        for name, amount in node.allocated.items():
            total = self._total.get(name, 0)
            if total > 0 and name not in self._excluded:
                share = max(share, amount / total)
        return share / node.weight

    def _take_out(self, node: _Node) -> None:
        assert node.parent is not None
        order = node.parent.order
        del order[bisect_left(order, node.key, key=lambda item: item[0])]

    def _reposition(self, node: _Node) -> None:
        if node.parent is None:
            return
        self._take_out(node)
        node.key = (self._share(node), node.allocations, node.name)
        insort(node.parent.order, (node.key, node), key=lambda item: item[0])

    def _sort(self, node: _Node) -> None:
        for child in node.children.values():
            child.key = (self._share(child), child.allocations, child.name)
            self._sort(child)
        node.order = sorted(
            ((child.key, child) for child in node.children.values()), key=lambda item: item[0]
        )


def _is_active(node: _Node) -> bool:
    if node.client is not None:
        return node.active
    return any(_is_active(child) for child in node.children.values())


def _odds(node: _Node, part: float) -> Iterator[tuple[float, str]]:
    """What the active clients below `node` weigh, of the `part` that it has itself."""
    active = [child for child in node.children.values() if _is_active(child)]
    together = sum(child.weight for child in active)
    for child in active:
        own = part * child.weight / together
        if child.client is not None:
            yield own, child.client
        else:
            yield from _odds(child, own)
