"""The order of dominant shares."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from mesostk.master.sorter import Sorter

TOTAL = {"cpus": 100_000, "mem": 1_000_000}


def sorter(*clients: str) -> Sorter:
    made = Sorter(TOTAL)
    for client in clients:
        made.add(client)
        made.activate(client)
    return made


def order(made: Sorter) -> list[str]:
    return list(made.in_order())


def test_the_poorest_comes_first_and_ties_go_by_name() -> None:
    made = sorter("b", "a", "c")
    assert order(made) == ["a", "b", "c"]
    made.allocate("a", {"cpus": 1000})
    assert order(made) == ["b", "c", "a"]


def test_the_dominant_resource_counts() -> None:
    made = sorter("cpu", "mem")
    made.allocate("cpu", {"cpus": 10_000})
    made.allocate("mem", {"mem": 200_000})
    assert made.share("cpu") == 0.1
    assert order(made) == ["cpu", "mem"]


def test_a_weight_divides_the_share() -> None:
    made = sorter("heavy", "light")
    made.set_weight("heavy", 4.0)
    made.allocate("heavy", {"cpus": 3000})
    made.allocate("light", {"cpus": 1000})
    assert order(made) == ["heavy", "light"]


def test_roles_compete_with_their_siblings_and_share_their_parents_part() -> None:
    made = sorter("eng", "eng/web", "ops")
    made.allocate("eng/web", {"cpus": 2000})
    made.allocate("ops", {"cpus": 1000})
    assert order(made) == ["ops", "eng", "eng/web"]
    made.allocate("eng", {"cpus": 5000})
    assert order(made) == ["ops", "eng/web", "eng"]


def test_a_role_that_gets_children_keeps_what_it_has() -> None:
    made = sorter("eng")
    made.allocate("eng", {"cpus": 5000})
    made.add("eng/web")
    assert made.allocated("eng") == {"cpus": 5000}
    made.remove("eng")
    made.add("eng")
    assert made.allocated("eng") == {}


def test_excluded_resources_do_not_count() -> None:
    made = Sorter({"gpus": 8000, "cpus": 1000}, frozenset({"gpus"}))
    made.add("a")
    made.allocate("a", {"gpus": 8000})
    assert made.share("a") == 0.0


NAMES = ("a", "a/b", "a/b/c", "a/d", "e", "e/f", "g")


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_random_changes_keep_every_node_in_its_place(seed: int) -> None:
    rng = Random(seed)
    made = Sorter(TOTAL)
    held: dict[str, dict[str, int]] = {}
    for _ in range(60):
        name = rng.choice(NAMES)
        choice = rng.randrange(7)
        if choice == 0:
            made.set_total({"cpus": rng.randrange(1, 9) * 1000, "mem": 5000})
            order(made)
        elif choice == 1:
            made.set_weight(name, rng.choice((0.5, 1.0, 3.0)))
        elif name not in made:
            made.add(name)
            made.activate(name)
            held[name] = {}
        elif choice == 2:
            made.remove(name)
            del held[name]
        elif choice == 3:
            made.deactivate(name)
        else:
            amount = {"cpus": rng.randrange(1, 5) * 500}
            made.allocate(name, amount)
            held[name] = {"cpus": held[name].get("cpus", 0) + amount["cpus"]}
        if rng.random() < 0.5:
            order(made)
        made.check(held)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_it_does_not_matter_when_the_order_was_last_asked_for(seed: int) -> None:
    rng = Random(seed)
    asked, unasked = Sorter(TOTAL), Sorter(TOTAL)
    names = [*NAMES, *(f"m{number}" for number in range(40))]
    for _ in range(120):
        name, choice, amount = rng.choice(names), rng.randrange(6), rng.randrange(1, 5) * 500
        total = {"cpus": amount * 10, "mem": 5000}
        for made in (asked, unasked):
            if choice == 0:
                made.set_total(total)
            elif name not in made:
                made.add(name)
                made.activate(name)
            elif choice == 1:
                made.remove(name)
            else:
                made.allocate(name, {"cpus": amount})
        order(asked)
    assert order(asked) == order(unasked)
    assert sorted(asked.clients()) == sorted(unasked.clients())


def drawn(seed: int = 1) -> Sorter:
    return Sorter(TOTAL, rng=Random(seed))


def firsts(made: Sorter, draws: int = 4000) -> dict[str, float]:
    """How often each client comes first, as a part of all draws."""
    heads = [order(made)[0] for _ in range(draws)]
    return {client: heads.count(client) / draws for client in made.active()}


def test_a_random_order_is_drawn_anew_from_active_clients_by_weight() -> None:
    made = drawn()
    for client in ("heavy", "light", "idle"):
        made.add(client)
    made.activate("heavy")
    made.activate("light")
    made.set_weight("heavy", 3.0)
    made.allocate("heavy", {"cpus": 90_000})  # what one has does not matter
    shares = firsts(made)
    assert abs(shares["heavy"] - 0.75) < 0.05
    assert sorted(order(made)) == ["heavy", "light"]
    made.deactivate("heavy")
    assert order(made) == ["light"]
    made.remove("light")
    made.activate("idle")
    assert order(made) == ["idle"]


def test_children_draw_for_the_part_of_their_parent() -> None:
    made = drawn(2)
    for client in ("eng", "eng/web", "eng/db", "ops", "gone/idle"):
        made.add(client)
        made.activate(client)
    made.deactivate("gone/idle")  # a parent without active children takes no part
    made.set_weight("eng", 2.0)
    made.set_weight("eng/web", 2.0)
    shares = firsts(made)
    wanted = {"ops": 1 / 3, "eng": 2 / 3 / 4, "eng/web": 2 / 3 / 2, "eng/db": 2 / 3 / 4}
    assert {
        name: abs(shares[name] - part) < 0.05 for name, part in wanted.items()
    } == dict.fromkeys(wanted, True)


def test_the_same_seed_draws_the_same_orders() -> None:
    both = [drawn(5), drawn(5)]
    for made in both:
        for client in "abcdef":
            made.add(client)
            made.activate(client)
    assert [order(both[0]) for _ in range(9)] == [order(both[1]) for _ in range(9)]
