"""The failure detector: silence always ends in DOWN, and who is heard in time never does."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from cluster.detector import Change, DetectorSettings, FailureDetector, Opinion

SETTINGS = DetectorSettings()
TICK_S = SETTINGS.tick_interval_s
ORDER = [Opinion.ALIVE, Opinion.SUSPECT, Opinion.DOWN]

gaps = st.floats(0.0, SETTINGS.suspect_after_s - 2 * TICK_S)


@dataclass
class Run:
    """A detector that watches `n` from 0 on, ticked as its bus does."""

    now_s: float = 0.0
    next_tick_s: float = TICK_S

    def __post_init__(self) -> None:
        self.detector = FailureDetector(SETTINGS, 0.0)
        self.detector.watch("n", 0.0)
        self.changes: list[tuple[float, Change]] = []

    def until(self, time_s: float) -> None:
        while self.next_tick_s <= time_s:
            self.tick(self.next_tick_s)
        self.now_s = max(self.now_s, time_s)

    def tick(self, time_s: float) -> None:
        self.changes += [(time_s, change) for change in self.detector.tick(time_s)]
        self.next_tick_s = time_s + TICK_S

    def down_s(self) -> float | None:
        return next((at_s for at_s, change in self.changes if change.opinion is Opinion.DOWN), None)


@given(st.lists(gaps, max_size=40))
def test_node_that_is_heard_in_time_is_never_even_suspect(pauses: list[float]) -> None:
    run = Run()
    for pause in pauses:
        run.until(run.now_s + pause)
        run.detector.heard("n", run.now_s)
    assert run.changes == []
    assert run.detector.opinion("n") is Opinion.ALIVE


@given(st.lists(gaps, max_size=10))
def test_silence_ends_in_suspect_and_then_down_within_the_bound(pauses: list[float]) -> None:
    run = Run()
    for pause in pauses:
        run.until(run.now_s + pause)
        run.detector.heard("n", run.now_s)
    silent_since_s = run.now_s
    run.until(silent_since_s + SETTINGS.down_after_s + 2 * TICK_S)
    assert [change.opinion for _, change in run.changes] == [Opinion.SUSPECT, Opinion.DOWN]
    (suspect_s, _), (down_s, _) = run.changes
    assert SETTINGS.suspect_after_s <= suspect_s - silent_since_s <= SETTINGS.suspect_after_s + TICK_S
    assert SETTINGS.down_after_s <= down_s - silent_since_s <= SETTINGS.down_after_s + TICK_S


@given(st.lists(st.tuples(st.floats(0.05, 2.0), st.floats(0.0, 3.0)), max_size=60))
def test_vouches_delay_down_and_never_beyond_the_longest_suspicion(vouches: list[tuple[float, float]]) -> None:
    run = Run()
    newest_s = 0.0
    for pause, age_s in vouches:
        if run.down_s() is not None:
            break
        run.until(run.now_s + pause)
        run.detector.vouched("n", age_s, run.now_s)
        if run.down_s() is None:
            newest_s = max(newest_s, run.now_s - age_s)
    run.until(run.now_s + SETTINGS.suspicion_max_s)
    down_s = run.down_s()
    assert down_s is not None
    assert SETTINGS.down_after_s <= down_s <= SETTINGS.suspicion_max_s + TICK_S
    assert down_s <= newest_s + SETTINGS.down_after_s + TICK_S


def test_vouch_of_the_future_is_worth_no_more_than_now() -> None:
    run = Run()
    run.until(3.0)
    run.detector.vouched("n", -1_000.0, 3.0)
    run.until(20.0)
    assert run.down_s() == 3.0 + SETTINGS.down_after_s


@given(st.lists(st.floats(0.001, 30.0), max_size=20), st.floats(0.0, 1.0))
def test_whoever_stood_still_blames_nobody_for_it(stalls: list[float], heard_after_s: float) -> None:
    """However long this node's own loop stood, a peer that is heard soon after is not down."""
    run = Run()
    for stall in stalls:
        run.until(run.now_s + TICK_S)
        late_s = run.now_s + TICK_S + SETTINGS.stall_s + stall
        run.tick(late_s)
        run.until(late_s + heard_after_s)
        run.detector.heard("n", run.now_s)
    assert run.down_s() is None
    assert run.detector.stalls == len(stalls)


@given(st.lists(st.floats(TICK_S, 4.0), min_size=200, max_size=200))
def test_silence_ends_in_down_even_on_a_machine_that_always_stalls(intervals: list[float]) -> None:
    run = Run()
    for interval in intervals:
        run.tick(run.next_tick_s - TICK_S + interval)
    assert run.down_s() is not None


@given(st.lists(st.tuples(st.sampled_from(["tick", "heard", "vouch"]), st.floats(0.0, 6.0)), max_size=50))
def test_time_alone_only_makes_it_worse_and_down_is_final(events: list[tuple[str, float]]) -> None:
    run = Run()
    opinion = Opinion.ALIVE
    for event, pause in events:
        before = run.detector.opinion("n")
        match event:
            case "heard":
                run.detector.heard("n", run.now_s)
                opinion = run.detector.opinion("n")
                assert opinion is (Opinion.DOWN if before is Opinion.DOWN else Opinion.ALIVE)
            case "vouch":
                run.detector.vouched("n", pause, run.now_s)
                assert run.detector.opinion("n") is before
            case _:
                run.now_s += pause
                vouched = any(name == "vouch" for name, _ in events)
                run.detector.tick(run.now_s)
                after = run.detector.opinion("n")
                assert vouched or ORDER.index(after) >= ORDER.index(before)


def test_who_is_heard_while_suspect_is_alive_again_and_that_is_told() -> None:
    run = Run()
    run.until(3.0)
    assert run.detector.opinion("n") is Opinion.SUSPECT
    assert run.detector.heard("n", 3.0)
    assert not run.detector.heard("n", 3.1)
    assert run.detector.opinion("n") is Opinion.ALIVE
    assert run.detector.heard_ago_s("n", 5.0) == 5.0 - 3.1


def test_who_is_not_watched_is_down_and_of_no_interest() -> None:
    detector = FailureDetector(SETTINGS, 0.0)
    assert detector.opinion("x") is Opinion.DOWN
    assert not detector.heard("x", 1.0)
    assert detector.heard_ago_s("x", 1.0) is None
    detector.vouched("x", 0.0, 1.0)
    detector.watch("x", 1.0)
    detector.forget("x")
    assert detector.tick(100.0) == []
