"""Fixtures of the base package."""

from mesostk.testing.zookeeper import ensemble, zk_path, zookeeper

__all__ = ["ensemble", "zk_path", "zookeeper"]
