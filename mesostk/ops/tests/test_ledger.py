"""The run ledger: what is written, what is withheld, what is learnt, who may begin."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from mesostk.errors import ConfigError, Rejected, Unavailable
from mesostk.ops.ledger import (
    KEPT,
    Entry,
    Ledger,
    Outcome,
    Run,
    Step,
    StepTime,
    estimate_run,
    estimate_steps,
    why_not_resumed,
    withhold,
)


class Wall:
    """A clock that is set."""

    def __init__(self) -> None:
        self.now = 1_795_000_000.0

    def __call__(self) -> float:
        return self.now


def entry(
    number: int,
    *,
    verb: str = "cluster deploy",
    outcome: Outcome = "done",
    seconds: float = 60.0,
    inventory: str = "/a",
    steps: tuple[Step, ...] = (),
    arguments: tuple[str, ...] = ("cluster", "deploy"),
    withheld: tuple[str, ...] = (),
) -> Entry:
    return Entry(
        id=f"20261122-{number:06d}-0000",
        verb=verb,
        arguments=arguments,
        withheld=withheld,
        directory="/",
        who="anna",
        machine="here",
        version="1",
        started_at=float(number),
        ended_at=number + seconds,
        outcome=outcome,
        inventory=inventory,
        steps=steps,
    )


# -- what is withheld -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "kept", "lost"),
    [
        (("scale", "web", "3"), ("scale", "web", "3"), ()),
        (("-e", "mesostk_version=1.2"), ("-e", "mesostk_version=1.2"), ()),
        (("-e", "stats_password=x=y"), ("-e", "stats_password=(withheld)"), ("stats_password",)),
        (
            ("--extra-var=ZK_SECRET=x",),
            ("--extra-var=ZK_SECRET=(withheld)",),
            ("ZK_SECRET",),
        ),
        (
            ("--lb", "http://me:pw@10.0.3.11:9090"),
            ("--lb", "http://(withheld)@10.0.3.11:9090"),
            ("http://…",),
        ),
        (("deploy", "password=1"), ("deploy", "password=1"), ()),
    ],
)
def test_secrets_among_the_arguments_are_withheld(
    given: tuple[str, ...], kept: tuple[str, ...], lost: tuple[str, ...]
) -> None:
    assert withhold(given) == (kept, lost)


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (entry(1, outcome="done"), "nothing left"),
        (entry(1, outcome="running"), "wait until it has ended"),
        (entry(1, outcome="failed", withheld=("token",)), "token"),
        (entry(1, outcome="failed", arguments=("deploy", "-")), "standard input"),
        (entry(1, outcome="failed"), None),
        (entry(1, outcome="interrupted"), None),
    ],
)
def test_a_run_is_resumed_unless_there_is_a_reason(one: Entry, words: str | None) -> None:
    why = why_not_resumed(one)
    assert why is None if words is None else why is not None and words in why


# -- what is learnt -------------------------------------------------------------------------------


def test_the_last_runs_of_a_kind_tell_how_long_the_next_takes() -> None:
    old = [entry(number, seconds=1000.0) for number in range(5)]
    new = [entry(10 + number, seconds=10.0 + number) for number in range(5)]
    failed = entry(20, outcome="failed", seconds=1.0)
    found = estimate_run([*new, *old, failed], "cluster deploy")
    assert found is not None
    assert (found.seconds, found.runs) == (12.0, 5)
    assert estimate_run(new, "cluster upgrade") is None


def test_runs_on_the_same_hosts_count_before_others() -> None:
    runs = [entry(1, inventory="/a", seconds=10.0), entry(2, inventory="/b", seconds=20.0)]
    same, other = (estimate_run(runs, "cluster deploy", where) for where in ("/a", "/c"))
    assert same is not None
    assert same.seconds == 10.0
    assert other is not None
    assert other.seconds == 15.0


def test_steps_add_up_as_often_as_they_come() -> None:
    runs = [
        entry(1, steps=(Step("Restart mesos-master", 8.0), Step("Restart mesos-master", 10.0))),
        entry(2, steps=(Step("Restart mesos-master", 9.0), Step("Restart marathon", 4.0))),
        entry(3, steps=(Step("Restart marathon", 40.0),), inventory="/b"),
    ]
    wanted = {"Restart mesos-master": 3, "Restart marathon": 1, "Restart haproxy": 2}
    found = estimate_steps(runs, wanted, "/a")
    assert found.seconds == 3 * 9.0 + 4.0
    assert found.runs == 1
    assert found.steps[0] == StepTime("Restart mesos-master", 3, 9.0)
    assert found.unknown == ("Restart haproxy",)
    elsewhere = estimate_steps(runs, {"Restart marathon": 1, "Restart mesos-master": 1}, "/b")
    assert elsewhere.seconds == 40.0 + 9.0


# -- the files ------------------------------------------------------------------------------------


def begin(book: Ledger, inventory: str = "") -> Run:
    return book.begin(
        "cluster deploy",
        ["cluster", "deploy"],
        version="1",
        inventory=inventory,
        environ={"SUDO_USER": "anna", "MESOSTK_RESUMES": "before"},
    )


def test_a_run_is_written_before_it_is_worked_at_and_at_each_step(tmp_path: Path) -> None:
    wall = Wall()
    book = Ledger(tmp_path / "ledger", wall)
    with begin(book) as run:
        (seen,) = book.entries()
        assert (seen.outcome, seen.resumes) == ("running", "before")
        assert seen.who.startswith("anna")
        run.step("one")
        wall.now += 2.5
        run.log(Path("/log"))
        run.step("two")
        (seen,) = book.entries()
        assert seen.steps == (Step("one", 2.5),)
        wall.now += 1
        run.counted(hosts=3, changed=2)
        run.counted(hosts=2, changed=1)
        run.end("done")
    (seen,) = book.entries()
    assert seen == run.entry
    assert seen.steps[-1] == Step("two", 1.0)
    assert (seen.hosts, seen.changed, seen.seconds, seen.logs) == (3, 3, 3.5, ("/log",))
    path = tmp_path / "ledger" / seen.id / "entry.json"
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_step_that_a_run_failed_in_teaches_nothing(tmp_path: Path) -> None:
    book = Ledger(tmp_path)
    with begin(book) as run:
        run.step("one")
        run.end("failed", "no")
    assert book.entries()[0].steps == ()


def test_a_run_whose_process_is_gone_was_interrupted(tmp_path: Path) -> None:
    book = Ledger(tmp_path)
    pid = os.fork()
    if pid == 0:
        with begin(book) as run:
            run.step("one")
            os._exit(9)
    os.waitpid(pid, 0)
    (seen,) = book.entries()
    assert seen.outcome == "interrupted"
    assert book.last_unfinished() == seen


def test_a_command_was_cut_off_on_the_same_hosts_with_the_same_words(tmp_path: Path) -> None:
    book = Ledger(tmp_path)
    words = ["node", "replace", "old", "new", "--context", "lab"]
    run = book.begin("node replace", words, version="1", inventory="/inventory/lab", environ={})
    asked = ("node replace", ["old", "new"], "/inventory/lab")
    with run:
        assert not book.was_cut_off(*asked), "it is at work"
        run.end("interrupted")
    assert book.was_cut_off(*asked)
    assert not book.was_cut_off("node replace", ["old", "other"], "/inventory/lab")
    assert not book.was_cut_off("node remove", ["old"], "/inventory/lab")
    assert not book.was_cut_off("node replace", ["old", "new"], "/inventory/prod")
    again = book.begin("node replace", words, version="1", inventory="/inventory/lab", environ={})
    with again:
        again.end("done")
    assert not book.was_cut_off(*asked), "it was gone on with since"


def test_two_runs_do_not_change_the_same_hosts_at_once(tmp_path: Path) -> None:
    book = Ledger(tmp_path)
    with begin(book, "/inventory/prod") as run:
        with pytest.raises(Unavailable, match=run.id), begin(book, "/inventory/prod"):
            pytest.fail("it was begun")
        with begin(book, "/inventory/test"):
            pass
    with begin(book, "/inventory/prod"):
        pass


def test_an_entry_is_found_by_either_end_of_its_id(tmp_path: Path) -> None:
    book = Ledger(tmp_path)
    with begin(book) as run:
        run.end("done")
    assert book.find(run.id[-4:]) == book.find(run.id) == book.find(run.id[:12])
    with pytest.raises(Rejected, match="no run"):
        book.find("nothing")


def test_an_unreadable_entry_hides_no_other(tmp_path: Path) -> None:
    book = Ledger(tmp_path)
    with begin(book) as run:
        run.end("done")
    broken = tmp_path / "20000101-000000-0000"
    broken.mkdir()
    (broken / "entry.json").write_text("{")
    (tmp_path / "20000101-000000-0001").mkdir()
    assert [one.id for one in book.entries()] == [run.id]
    (reason,) = book.unreadable
    assert str(broken) in reason


def test_the_oldest_entries_make_room(tmp_path: Path) -> None:
    for number in range(KEPT):
        (tmp_path / f"20000101-{number:06d}-0000").mkdir()
    with begin(Ledger(tmp_path)) as run:
        run.end("done")
    names = sorted(path.name for path in tmp_path.iterdir())
    assert len(names) == KEPT
    assert names[0] == "20000101-000001-0000"
    assert names[-1] == run.id


def test_nothing_is_begun_where_it_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="MESOSTK_LEDGER_DIR"):
        begin(Ledger(tmp_path / "file" / "ledger"))


def test_an_entry_is_the_same_after_writing_and_reading() -> None:
    one = entry(1, steps=(Step("a", 1.5),))
    assert msgspec.json.decode(msgspec.json.encode(one), type=Entry) == one
