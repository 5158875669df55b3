"""mesostk: a Mesos-style container cluster in Python, with the Ansible that provisions it.

The vocabulary is the one of Apache Mesos; README.md has the table that defines each word once.
"""

__version__ = "0.1.0"

#: Release of Apache Mesos whose public interfaces are spoken; `/version` answers it, because
#: clients decide by it which calls they may use.
MESOS_VERSION = "1.11.0"

#: Release of Marathon whose API is spoken (`/v2/info`).
MARATHON_VERSION = "1.11.24"
