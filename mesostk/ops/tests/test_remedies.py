"""What an operator can do about a failure, by what Ansible says of it."""

import pytest

from mesostk.ops.ansible import remedies, remedy_for

SSH = "Failed to connect to the host via ssh: ssh: connect to host m1 port 22: Connection refused"


def test_what_ssh_says_of_a_host_has_its_remedy() -> None:
    assert (
        remedy_for(SSH, unreachable=True)
        == "nothing listens on its SSH port: is sshd running there?"
    )


def test_what_a_service_says_is_not_taken_for_what_ssh_says() -> None:
    assert (
        remedy_for("Mesos-DNS 10.0.3.60:53 does not answer: Connection refused", unreachable=False)
        == ""
    )


@pytest.mark.parametrize("unreachable", [False, True])
def test_a_full_disk_is_one_wherever_it_is_told(unreachable: bool) -> None:
    (full,) = (one for one in remedies() if "disk is full" in one.remedy)
    assert remedy_for("tar: No space left on device", unreachable=unreachable) == full.remedy
