"""What the CLI does to hosts: make them, reach them, provision them, take them away.

::

    lab.py       the six hosts of the tutorial as records; state directory; drivers by name
      docker_lab.py  ── lab_image.py ── engine.py      hosts are systemd containers, reached by SSH
      local_lab.py   ── zookeeper.py ── processes.py   daemons are processes on loopback addresses
      vagrant_lab.py                                 hosts are the machines of the Vagrantfile
    inventory.py     hosts → Ansible inventory
    ansible.py       inventory + playbook → events → progress
    bundle.py        packages, wheels and images as one file, for hosts without a way out
    dump.py          a store in ZooKeeper as lines of JSON, and back: runs on a host
    backup.py        dumps, configurations and inventory as one file with sums
    ledger.py        who changed what when, and how long it took
    restarts.py      what a run would change, and the restarts that follow
    rolling.py       the steps of an upgrade and of hosts that come and go
    impact.py        what is lost with a host
    diagnosis.py     what is wrong in a running cluster, and what mends it
    progress.py      the one way in which all of them say how far they are
    paths.py         where playbooks/, roles/ and lab/ are: the checkout, or the installed wheel

    docker:  lab up ─▶ engine ─▶ image ─▶ network ─▶ hosts ─▶ ssh ready ─▶ inventory ─▶ site.yml
    local:   lab up ─▶ zookeeper? ─▶ masters ─▶ marathon ─▶ agents ─▶ registered
"""
