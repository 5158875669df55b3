"""Output of runs that is kept, while other commands run and clean up, too."""

import os
import threading
from pathlib import Path

from mesostk.ops.ansible import errors_in, forget_runs


def made(directory: Path, count: int) -> list[str]:
    """Names of runs, the oldest first; each began long ago and wrote its one line then."""
    names = [f"look-site-{number:02}" for number in range(count)]
    for number, name in enumerate(names):
        (directory / name / "fact_cache").mkdir(parents=True)
        (directory / name / "stdout").write_text("PLAY\n")
        for path in (directory / name / "stdout", directory / name):
            os.utime(path, (1000 + number, 1000 + number))
    return names


def test_the_newest_are_kept_and_an_old_one_that_still_writes(tmp_path: Path) -> None:
    names = made(tmp_path, 23)
    with (tmp_path / names[0] / "stdout").open("a") as file:
        file.write("TASK\n")
    forget_runs(tmp_path, 20)
    assert {path.name for path in tmp_path.iterdir()} == {names[0], *names[4:]}
    forget_runs(tmp_path / "none")


def test_many_that_clean_up_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    names = made(tmp_path, 60)
    failures = []
    begin = threading.Barrier(8)

    def clean() -> None:
        begin.wait()
        try:
            forget_runs(tmp_path, 20)
        except OSError as error:
            failures.append(error)

    threads = [threading.Thread(target=clean) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert {path.name for path in tmp_path.iterdir()} == set(names[40:])


def test_error_outside_of_any_task_is_read_from_ansibles_own_output(tmp_path: Path) -> None:
    log = tmp_path / "stdout"
    assert errors_in(log) == ""
    log.write_text("PLAY [a] ***\n[ERROR]: no password was given\nOrigin: x.yml:3\n")
    assert errors_in(log) == "no password was given\nOrigin: x.yml:3"
    log.write_text("PLAY [a] ***\nTerminated\n")
    assert errors_in(log) == "Terminated"
