"""When an address is dialled again, when it rests, and when it is forgotten."""

from random import Random

from cluster.address import Address
from cluster.dialing import DialBook, DialSettings

ONE, TWO = Address("127.0.0.1", 1), Address("127.0.0.1", 2)
SETTINGS = DialSettings(first_pause_s=1.0, longest_pause_s=8.0, rest_s=30.0, addresses_max=3)


def book() -> DialBook:
    return DialBook(SETTINGS, Random(1))


def test_new_address_is_due_at_once_and_once() -> None:
    known = book()
    known.add([ONE, TWO, ONE], 0.0)
    assert known.due(0.0) == [ONE, TWO]
    assert known.due(100.0) == []


def test_wildcard_is_no_place_to_dial() -> None:
    known = book()
    known.add([Address("*", 7400), Address("::", 7400), Address("0.0.0.0", 7400)], 0.0)
    assert len(known) == 0


def test_pauses_grow_to_their_bound_and_are_never_longer_nor_shorter_than_half() -> None:
    known = book()
    known.add([ONE], 0.0)
    now_s, pauses = 0.0, []
    for _ in range(7):
        assert known.due(now_s) == [ONE]
        known.lost(ONE, now_s)
        begun_s = now_s
        while not known._entries[ONE].next_s <= now_s:
            now_s += 0.01
        pauses.append(now_s - begun_s)
    for pause, longest in zip(pauses, [1, 2, 4, 8, 8, 8, 8], strict=True):
        assert longest / 2 - 0.02 <= pause <= longest + 0.02


def test_address_that_led_nowhere_for_long_is_tried_less_often_until_it_is_mentioned_again() -> None:
    known = DialBook(DialSettings(longest_pause_s=5.0, stale_after_s=600.0, stale_pause_s=60.0), Random(1))

    def attempts(begin_s: int, end_s: int) -> int:
        count = 0
        for now_s in range(begin_s, end_s):
            for address in known.due(float(now_s)):
                count += 1
                known.lost(address, float(now_s))
        return count

    known.add([ONE], 0.0)
    assert attempts(0, 600) > 600 / 6
    attempts(600, 1_200)
    assert 3_600 / 60 <= attempts(1_200, 4_800) <= 3_600 / 29
    known.add([ONE], 4_800.0)
    attempts(4_800, 4_870)
    assert attempts(4_870, 5_170) > 300 / 6


def test_connection_that_stood_begins_again_with_the_shortest_pause() -> None:
    known = book()
    known.add([ONE], 0.0)
    for now_s in (0.0, 10.0, 20.0):
        assert known.due(now_s) == [ONE]
        known.lost(ONE, now_s)
    assert known.due(30.0) == [ONE]
    known.connected(ONE, "n")
    known.lost(ONE, 40.0)
    assert known.due(41.0) == [ONE]


def test_alias_rests_and_is_looked_at_again() -> None:
    known = book()
    known.add([ONE], 0.0)
    known.due(0.0)
    known.rest(ONE, 0.0)
    assert known.connecting() == []
    assert known.due(29.9) == []
    assert known.due(30.0) == [ONE]


def test_hurry_dials_at_once_unless_it_is_being_dialled() -> None:
    known = book()
    known.add([ONE], 0.0)
    known.due(0.0)
    known.lost(ONE, 0.0)
    known.hurry(ONE, 0.1)
    assert known.due(0.1) == [ONE]
    known.hurry(ONE, 0.2)
    assert known.due(0.2) == []


def test_address_of_a_list_is_dialled_for_ever() -> None:
    known = book()
    known.add([ONE], 0.0)
    for now_s in range(0, 100_000, 1_000):
        assert known.due(float(now_s)) == [ONE]
        known.lost(ONE, float(now_s))


def test_full_book_gives_up_the_idle_address_that_was_mentioned_longest_ago() -> None:
    known = book()
    other = [Address("10.0.0.1", port) for port in range(1, 4)]
    known.add([ONE], 0.0)
    known.add([TWO], 1.0)
    known.add(other[:1], 2.0)
    known.due(2.0)
    known.lost(TWO, 2.0)
    known.lost(other[0], 2.0)
    known.add(other[1:2], 3.0)  # ONE is older, but on the line
    assert set(known._entries) == {ONE, *other[:2]}
    assert len(known) == 3


def test_address_that_led_to_a_node_until_now_is_not_the_first_to_make_room() -> None:
    known = book()
    known.add([ONE, TWO], 0.0)
    known.due(0.0)
    known.connected(ONE, "n")
    known.add([TWO, Address("10.0.0.1", 1)], 3_000.0)
    known.lost(TWO, 3_000.0)
    known.lost(ONE, 3_600.0)
    known.add([Address("10.0.0.1", 2)], 3_601.0)
    assert ONE in known._entries


def test_no_answer_of_a_name_server_fills_the_memory() -> None:
    known = book()
    known.add([Address("10.0.0.1", port) for port in range(1, 1000)], 0.0)
    assert len(known) == 3
    known.due(0.0)
    known.hurry(Address("10.0.0.2", 1), 0.0)  # all others are on the line
    assert len(known) == 3


def test_attempts_at_once_are_bounded_and_nobody_waits_for_ever() -> None:
    many = [Address("10.0.0.1", port) for port in range(1, 101)]
    known = DialBook(DialSettings(first_pause_s=1.0, longest_pause_s=2.0, attempts_max=10), Random(1))
    known.add(many, 0.0)
    tried: set[Address] = set()
    for now_s in range(0, 50, 5):  # each attempt takes five seconds to fail, longer than any pause
        due = known.due(float(now_s))
        assert len(due) == 10
        assert known.due(now_s + 1.0) == []
        tried.update(due)
        for address in due:
            known.lost(address, now_s + 4.9)
    assert tried == set(many)


def test_connection_that_stands_is_no_attempt() -> None:
    known = DialBook(DialSettings(attempts_max=1), Random(1))
    known.add([ONE, TWO], 0.0)
    assert known.due(0.0) == [ONE]
    assert known.due(0.0) == []
    known.connected(ONE, "n")
    assert known.due(0.0) == [TWO]


def test_who_just_dialled_us_is_dialled_before_all_that_wait() -> None:
    known = DialBook(DialSettings(attempts_max=1), Random(1))
    known.add([ONE, Address("10.0.0.1", 1)], 0.0)
    known.hurry(TWO, 100.0)
    assert known.due(100.0) == [TWO]


def test_news_of_an_address_that_is_not_known_is_passed_over() -> None:
    known = book()
    known.lost(ONE, 0.0)
    known.rest(ONE, 0.0)
    known.connected(ONE, "n")
    assert len(known) == 0
