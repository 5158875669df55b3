"""Whatever became of an agent's records, it takes up what is whole and never kills what runs."""

from __future__ import annotations

from hypothesis import assume, given
from hypothesis import strategies as st

from mesostk.agent.events import KillRun, RunSeen
from mesostk.agent.tests.agent_bench import BOOT, Bench, framework, of_type
from mesostk.testing.hostile import damaged, fuzz


@fuzz(50)
@given(st.data())
def test_damaged_records_cost_no_task_that_runs(data: st.DataObject) -> None:
    bench = Bench()
    bench.register()
    cid = bench.run(owner=framework("F"))
    files = bench.disk.files
    for path in data.draw(
        st.lists(st.sampled_from(sorted(files)), min_size=1, max_size=3, unique=True)
    ):
        files[path] = data.draw(damaged(files[path]))
    # A turned bit in the name of the field says that the framework never asked for more than tasks
    # that end with their agent, and only a checksum could tell.
    owner = bench.disk.recover(BOOT).frameworks.get("F")
    assume(owner is None or owner.checkpoint)
    bench.start({cid: RunSeen(alive=True)})
    effects = [*bench.effects, *bench.register()]
    assert not of_type(effects, KillRun)
