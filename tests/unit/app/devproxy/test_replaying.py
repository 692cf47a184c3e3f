"""What a node asks of the proxy by `fly-replay`, and what a client by Fly's headers."""

import pytest

from app.devproxy.pool import Backend
from app.devproxy.replaying import BadReplay, Replay, failed, parse_replay, source
from app.devproxy.wishes import BadLatency, Latencies, parse_latency, wish_of
from cluster.address import Address

A, B, C = (
    Backend(address=Address(f"10.0.0.{number}", 80), name=name, region=region, ready=True)
    for number, name, region in ((1, "a", "ams"), (2, "b", "syd"), (3, "c", "syd"))
)


@pytest.mark.parametrize(
    ("value", "replay"),
    [
        ("instance=a", Replay(instance="a")),
        ("instance=a;state=x=1;fallback=force_self", Replay(instance="a", state="x=1", fallback="force_self")),
        ("region=syd, ams ;elsewhere=true", Replay(regions=("syd", "ams"), elsewhere=True)),
        (" prefer_instance=b ; timeout=5s", Replay(prefer_instance="b")),
    ],
)
def test_each_field_is_understood(value: str, replay: Replay) -> None:
    assert parse_replay(value) == replay


@pytest.mark.parametrize(
    "value", ["", "a", "state=x", "instance=", "app=other;instance=a", "instance=a;fallback=x", "instance=a;nothing=1"]
)
def test_what_cannot_be_done_is_refused(value: str) -> None:
    with pytest.raises(BadReplay):
        parse_replay(value)


@pytest.mark.parametrize(
    ("value", "fitting"),
    [("instance=b", "b"), ("region=syd", "bc"), ("elsewhere=true", "bc"), ("region=ams,syd;elsewhere=true", "bc")],
)
def test_who_gets_the_request(value: str, fitting: str) -> None:
    fits = parse_replay(value).fits(asker=A)
    assert "".join(one.name for one in (A, B, C) if fits(one)) == fitting


def test_who_gets_it_is_told_who_sent_it_on_and_who_gets_it_back_why() -> None:
    replay = parse_replay("instance=b;state=abc")
    assert source(A, replay, at_us=17) == b"instance=a;region=ams;t=17;state=abc"
    assert failed(replay, reason="no_instance") == b"instance=b;reason=no_instance;state=abc"


def test_what_a_client_forces_and_prefers() -> None:
    latencies = Latencies(dict([parse_latency("ams-syd=270")]))

    def order(region: str = "", **headers: str) -> str:
        wish = wish_of({name.replace("_", "-"): value for name, value in headers.items()}, region=region)
        return "".join(one.name for one in sorted(filter(wish.fits, (A, B, C)), key=wish.distance(latencies)))

    assert order() == "abc"
    assert order(region="syd") == order(fly_region="syd") == "bca"
    assert order(fly_force_instance_id="c") == "c"
    assert order(fly_force_region="syd") == "bc"
    assert order(fly_prefer_region="syd") == "bca"
    assert order(fly_prefer_region="nowhere") == "abc"
    assert order(fly_prefer_instance_id="c") == "cab"


def test_a_round_trip_takes_as_long_both_ways_and_none_within_a_region() -> None:
    latencies = Latencies(dict([parse_latency("ams-syd=270")]))
    assert latencies.round_trip_s("syd", "ams") == latencies.round_trip_s("ams", "syd") == 0.27
    assert latencies.round_trip_s("ams", "ams") == latencies.round_trip_s("ams", "iad") == 0.0


@pytest.mark.parametrize("text", ["", "ams", "ams-syd", "ams-syd=x", "ams-ams=1", "-syd=1", "ams-syd=-1", "a-b=1e9"])
def test_what_is_no_latency_is_told(text: str) -> None:
    with pytest.raises(BadLatency):
        parse_latency(text)
