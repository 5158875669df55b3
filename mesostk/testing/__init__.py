"""What tests stand on; left out of the wheel.

::

    strategies    hypothesis strategies for the records and values of the cluster
    requirements  what a test needs of the machine: skipped with the reason, failed in CI
    world         a seeded cluster of real cores in virtual time, with faults (docs/testing.md)
    sim…, faults  its parts: network, ZooKeeper, disk, tasks, shells of the daemons, oracle
    zookeeper     fixtures: real servers on loopback
"""
