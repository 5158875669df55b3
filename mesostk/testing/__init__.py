"""What tests stand on; left out of the wheel.

::

    strategies    hypothesis strategies for the records and values of the cluster
    requirements  what a test needs of the machine: skipped with the reason, failed in CI
    zookeeper     fixtures: real servers on loopback
"""
