"""What goes through the entry, and what ends there."""

from app.devproxy.headers import for_client, for_node, has_body
from replication.middleware.headers import end_to_end


def test_hop_by_hop_headers_end_here_and_those_that_connection_names_too() -> None:
    given = [
        (b"Connection", b"close, X-Once"),
        (b"X-Once", b"1"),
        (b"Keep-Alive", b"timeout=5"),
        (b"TE", b"trailers"),
        (b"Transfer-Encoding", b"chunked"),
        (b"Upgrade", b"h2c"),
        (b"Proxy-Authorization", b"Basic eA=="),
        (b"Accept", b"*/*"),
    ]
    assert end_to_end(given) == [(b"accept", b"*/*")]


def test_repeated_headers_stay_repeated_and_in_order() -> None:
    cookies = [(b"set-cookie", b"a=1"), (b"x-b", b"2"), (b"set-cookie", b"c=3")]
    assert for_client(cookies, served_by="alpha") == [*cookies, (b"x-served-by", b"alpha")]


def test_node_learns_of_the_client_and_what_it_asked_for() -> None:
    sent = dict(for_node([(b"host", b"localhost:8080"), (b"accept", b"*/*")], client="192.0.2.7", scheme="http"))
    assert sent == {
        b"host": b"localhost:8080",
        b"accept": b"*/*",
        b"x-forwarded-for": b"192.0.2.7",
        b"x-forwarded-host": b"localhost:8080",
        b"x-forwarded-proto": b"http",
    }


def test_client_is_added_behind_those_that_forwarded_before() -> None:
    given = [(b"x-forwarded-for", b"198.51.100.1"), (b"x-forwarded-proto", b"https"), (b"x-forwarded-for", b"10.0.0.9")]
    sent = for_node(given, client="192.0.2.7", scheme="http")
    assert sent == [(b"x-forwarded-for", b"198.51.100.1, 10.0.0.9, 192.0.2.7"), (b"x-forwarded-proto", b"http")]


def test_node_cannot_claim_to_be_another_and_sets_no_second_date() -> None:
    sent = for_client([(b"x-served-by", b"beta"), (b"date", b"yesterday")], served_by="alpha")
    assert sent == [(b"x-served-by", b"alpha")]


def test_request_has_a_body_if_it_says_so() -> None:
    assert has_body([(b"Content-Length", b"3")])
    assert has_body([(b"transfer-encoding", b"chunked")])
    assert not has_body([(b"content-length", b"0")])
    assert not has_body([(b"host", b"a")])
