"""Hierarchical dominant-resource fairness: who is served next.

::

    root ── eng ── web     (role eng/web)     each node: allocated quantities of its subtree
         │      └─ "."     (role eng itself)  share = max over r of allocated[r] / total[r] / weight
         └─ ops            (role ops)         siblings in order of (share, allocations, name)

A role that has children and frameworks of its own is represented among its children by a virtual
leaf. Only the node whose allocation changed and its ancestors move, once they are walked through:
few by one bisection each, many by one merge, so that thousands that come, change or go together
cost no more than one look at each. A change of the cluster's total re-sorts everything, once, at
the next question.

With `rng` the order is drawn instead (`--role_sorter=random`): a client comes the earlier the more
weight it has, its own times its part of what its parents weigh among their active siblings.

Quantities are thousandths, by resource name (`Resources.quantities()`).
Source: Mesos `src/master/allocator/mesos/sorter/{drf,random}/sorter.cpp`, rules as in spec/mesos.md
§7.3.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Mapping
from operator import itemgetter
from random import Random

import msgspec

Quantities = Mapping[str, int]

#: Name of the virtual leaf; sorts before every legal role component and is not one itself.
_SELF = "."

_Key = tuple[float, int, str]

#: Siblings that a merge may look at for each that moves; a bisection costs about as much.
_MERGED_PER_MOVE = 16

_key_of = itemgetter(0)


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
    key: _Key = (0.0, 0, "")
    #: Children, some where they stood before they moved; and those that have moved.
    order: list[tuple[_Key, _Node]] = msgspec.field(default_factory=list)
    moved: list[_Node] = msgspec.field(default_factory=list)
    #: Where this node stands in its parent's order, if it does; and whether it has moved since.
    placed: _Key | None = None
    is_moved: bool = False
    is_gone: bool = False


class Sorter:
    """Clients (roles, or frameworks of one role) in order of their dominant share."""

    def __init__(
        self,
        total: Quantities | None = None,
        excluded: frozenset[str] = frozenset(),
        rng: Random | None = None,
    ):
        """`excluded` names resources that do not count, e.g. gpus; `rng` draws each order.

        `total` is kept, not copied: whoever changes it sets another one.
        """
        self._total: Quantities = {} if total is None else total
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
        """The cluster's total changed: every share does. Nothing happens if it is the one known."""
        if total is not self._total:
            self._total = total
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
        if node.allocated:
            self._change(node, {name: -amount for name, amount in node.allocated.items()}, 0)
        node.client, node.active, node.allocations = None, False, 0
        self._prune(node)

    def _prune(self, node: _Node) -> None:
        """Take out a node that serves nobody, then its parent if that does neither."""
        parent = node.parent
        if parent is None or node.client is not None or node.children:
            return
        node.is_gone = True
        _moves(node, parent)
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

    def clients(self) -> Iterable[str]:
        """All clients, in no particular order."""
        return self._leaves.keys()

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
        keys = [key for key, _ in node.order]
        assert keys == sorted(keys)
        assert all(child.placed == key for key, child in node.order)
        assert all(child.is_moved for child in node.moved)
        standing = {name for (_, _, name), child in node.order if not child.is_moved}
        moving = {child.name for child in node.moved if not child.is_gone}
        assert not standing & moving
        assert standing | moving == node.children.keys()
        for child in node.children.values():
            assert child.key == (self._share(child), child.allocations, child.name)
            assert child.is_moved or child.placed == child.key
            assert child.client is None or not child.children
            self._check_node(child)

    # -- the tree -------------------------------------------------------------------------------

    def _walk(self, node: _Node) -> Iterator[str]:
        _settle(node)
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
        _moves(child, node)
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
        if not node.allocated:
            return 0.0
        share = 0.0
        for name, amount in node.allocated.items():
            total = self._total.get(name, 0)
            if total > 0 and name not in self._excluded:
                share = max(share, amount / total)
        return share / node.weight

    def _reposition(self, node: _Node) -> None:
        if node.parent is not None:
            node.key = (self._share(node), node.allocations, node.name)
            _moves(node, node.parent)

    def _sort(self, node: _Node) -> None:
        for child in node.children.values():
            child.key = (self._share(child), child.allocations, child.name)
            if child.children:
                self._sort(child)
        _settle(node)
        node.order = sorted(((child.key, child) for _, child in node.order), key=_key_of)
        for key, child in node.order:
            child.placed = key


# -- the order of siblings ----------------------------------------------------------------------


def _moves(node: _Node, parent: _Node) -> None:
    """Have the node take its place among its siblings when they are walked through."""
    if not node.is_moved:
        node.is_moved = True
        parent.moved.append(node)


def _settle(node: _Node) -> None:
    """Put the children that moved where they belong."""
    moved, node.moved = node.moved, []
    if len(moved) * _MERGED_PER_MOVE > len(node.order):
        staying = [item for item in node.order if not item[1].is_moved]
        coming = sorted(((child.key, child) for child in moved if not child.is_gone), key=_key_of)
        # Both are runs in order: sorting them together is one merge.
        node.order = sorted(staying + coming, key=_key_of)
    else:
        for child in moved:
            if child.placed is not None:
                del node.order[bisect_left(node.order, child.placed, key=_key_of)]
        for child in moved:
            if not child.is_gone:
                insort(node.order, (child.key, child), key=_key_of)
    for child in moved:
        child.placed, child.is_moved = child.key, False


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
