"""Which instances are started, drained, stopped or killed."""

from hypothesis import given
from hypothesis import strategies as st

from entrepot.cloud.host.plan import SILENT_SECONDS, START_SECONDS, Crashes, Phase, Steps, View, backoff, plan

QUIET = Crashes()
NOW = 1000.0


def view(name: str, phase: Phase = Phase.READY, *, revision: int = 1, started: float = NOW, heard: float = NOW) -> View:
    return View(id=name, revision=revision, phase=phase, started=started, heard=heard)


def test_missing_instances_are_started() -> None:
    assert plan(3, 1, [view("a")], crashes=QUIET, now=NOW) == Steps(start=2)


def test_those_that_drain_do_not_count() -> None:
    assert plan(1, 1, [view("a", Phase.DRAINING)], crashes=QUIET, now=NOW) == Steps(start=1)


def test_the_youngest_are_drained_first_and_those_not_ready_are_stopped() -> None:
    views = [view("old", started=1), view("new", started=2), view("unready", Phase.STARTING, started=NOW)]
    assert plan(1, 1, views, crashes=QUIET, now=NOW) == Steps(drain=("new",), stop=("unready",))


def test_stop_cuts_all_at_once_even_those_that_drain() -> None:
    views = [view("a"), view("b", Phase.DRAINING), view("c", Phase.STOPPING), view("d", Phase.STARTING)]
    assert plan(0, 1, views, crashes=QUIET, now=NOW) == Steps(stop=("a", "b", "d"))


def test_an_old_revision_serves_until_the_new_one_is_ready() -> None:
    old = view("old", revision=1)
    assert plan(1, 2, [old], crashes=QUIET, now=NOW) == Steps(start=1)
    assert plan(1, 2, [old, view("new", Phase.STARTING, revision=2)], crashes=QUIET, now=NOW) == Steps()
    assert plan(1, 2, [old, view("new", revision=2)], crashes=QUIET, now=NOW) == Steps(drain=("old",))


def test_silent_and_stuck_instances_are_killed_and_replaced() -> None:
    silent = view("silent", heard=NOW - SILENT_SECONDS - 1)
    stuck = view("stuck", Phase.STARTING, started=NOW - START_SECONDS - 1)
    steps = plan(2, 1, [silent, stuck], crashes=QUIET, now=NOW)
    assert steps == Steps(start=2, kill=("silent", "stuck"))


def test_restarts_wait_longer_and_longer_until_an_instance_ran_steadily() -> None:
    assert [backoff(count) for count in range(9)] == [0, 0, 0.5, 1, 2, 4, 8, 16, 30]
    crashes = QUIET
    for _ in range(3):
        crashes = crashes.after(ran=1, now=NOW)
    assert plan(1, 1, [], crashes=crashes, now=NOW + 0.9) == Steps()
    assert plan(1, 1, [], crashes=crashes, now=NOW + 1.1) == Steps(start=1)
    assert crashes.after(ran=100, now=NOW).count == 1


PHASES = st.sampled_from(list(Phase))


@given(
    wanted=st.integers(min_value=0, max_value=6),
    views=st.lists(st.tuples(PHASES, st.integers(1, 2), st.floats(0, NOW), st.floats(0, NOW)), max_size=8),
)
def test_laws(wanted: int, views: list[tuple[Phase, int, float, float]]) -> None:
    """Whatever runs: never fewer ready ones than wanted by our own doing, and repeated steps come to rest."""
    known = [
        View(id=str(index), phase=phase, revision=revision, started=started, heard=heard)
        for index, (phase, revision, started, heard) in enumerate(views)
    ]
    steps = plan(wanted, 2, known, crashes=QUIET, now=NOW)
    touched = [*steps.drain, *steps.stop, *steps.kill]
    assert len(touched) == len(set(touched))
    hung = set(steps.kill)
    ready = [one for one in known if one.phase is Phase.READY and one.id not in hung]
    staying = [one for one in ready if one.id not in touched]
    if wanted:
        assert len(staying) >= min(wanted, len(ready))
    current = [one for one in known if one.phase in (Phase.STARTING, Phase.READY) and one.revision == 2]
    alive = [one for one in current if one.id not in hung]
    assert len(alive) - len([one for one in alive if one.id in touched]) + steps.start == max(0, wanted)
    for _ in range(3):
        leaving = {*steps.drain, *steps.stop, *steps.kill}
        known = [one for one in known if one.id not in leaving]
        known += [view(f"n{index}-{len(known)}", revision=2) for index in range(steps.start)]
        known = [View(id=one.id, phase=Phase.READY, revision=one.revision, started=NOW, heard=NOW) for one in known]
        steps = plan(wanted, 2, known, crashes=QUIET, now=NOW)
    assert steps == Steps()
