"""Since when counts are as they must be."""

from collections.abc import Mapping

from app.demo.settling import Settling
from app.demo.traffic import Outcome


class World:
    """Files and visitors that say what they are told to, and a clock that stands still."""

    def __init__(self) -> None:
        self.said: dict[str, dict[str, int] | None] = {}
        self.answered: dict[str, int] = {}
        self.unknown: dict[str, int] = {}
        self.now_s = 0.0

    def read(self, page: str) -> Mapping[str, int] | None:
        return self.said[page]

    def tally(self, page: str, outcome: Outcome = Outcome.COUNTED) -> int:
        return (self.unknown if outcome is Outcome.UNKNOWN else self.answered).get(page, 0)

    def settling(self, *pages: str) -> Settling:
        return Settling(self, self, pages, monotonic=lambda: self.now_s)

    def look(self, settling: Settling, at_s: float) -> bool:
        self.now_s = at_s
        return settling.look()


def test_nodes_that_agree_on_a_wrong_number_have_not_settled() -> None:
    world = World()
    world.said, world.answered = {"home": {"alpha": 10, "beta": 10}}, {"home": 30}
    settling = world.settling("home")
    assert not world.look(settling, 1.0)
    world.said["home"] = {"alpha": 30, "beta": 30}
    assert world.look(settling, 2.0)
    assert settling.exact_since_s == 2.0


def test_time_counts_from_the_moment_after_which_all_stayed_exact() -> None:
    world = World()
    world.said, world.answered = {"home": {"alpha": 2, "beta": 2}}, {"home": 2}
    settling = world.settling("home")
    assert world.look(settling, 1.0)
    world.said["home"] = {"alpha": 2, "beta": 1}  # an old value came late
    assert not world.look(settling, 2.0)
    world.said["home"] = {"alpha": 2, "beta": 2}
    for at_s in (3.0, 4.0):
        assert world.look(settling, at_s)
    assert (settling.exact_since_s, settling.moved_s) == (3.0, 3.0)


def test_all_pages_must_be_exact() -> None:
    world = World()
    world.said, world.answered = {"a": {"alpha": 1}, "b": {"alpha": 0}}, {"a": 1, "b": 1}
    settling = world.settling("a", "b")
    assert not world.look(settling, 1.0)
    world.said["b"] = {"alpha": 1}
    assert world.look(settling, 2.0)


def test_a_view_of_unknown_outcome_may_have_been_counted() -> None:
    world = World()
    world.said, world.answered, world.unknown = {"a": {"alpha": 4, "beta": 4}}, {"a": 3}, {"a": 1}
    assert world.look(world.settling("a"), 1.0)


def test_a_file_that_cannot_be_read_just_now_is_no_news() -> None:
    world = World()
    world.said, world.answered = {"a": {"alpha": 1}}, {"a": 1}
    settling = world.settling("a")
    assert world.look(settling, 1.0)
    world.said["a"] = None
    assert world.look(settling, 2.0)
    assert (settling.exact_since_s, settling.moved_s) == (1.0, 1.0)
