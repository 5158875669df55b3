"""Records as on the wire, and the two codings that carry them; no behaviour.

::

    bytes ──recordio.Decoder──▶ records ──json.decode(record, Type)──▶ frozen structs
      ▲                                                                    │
      └────────recordio.encode_record ◀──── json.encode(struct) ◀──────────┘

    mesos.py ◀── scheduler, executor, operator, agent_operator, link   structs in the v1 spelling
       └──────▶ legacy.py                                           /state, /slaves, /tasks: dicts

Everything outside is wrong until decoded: `WireError` is the only exception that leaves here.
"""
