"""Two programs, each beside a node: what the middleware does with requests between them, in every framework."""

import contextlib
import importlib.util
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from cluster.lease.boot_clock import boot_clock_s
from replication.engine import epochs
from replication.engine.epochs import epoch_site
from replication.engine.stamps import Stamp
from replication.epoch_position import EpochPosition
from replication.middleware import token
from replication.middleware.node_file import OtherNode
from replication.middleware.received import FORWARDED, NOT_PRIMARY, POSITION
from replication.middleware.routing import READ_WAIT_S
from tests.support.program_frameworks import FRAMEWORKS, Program
from tests.support.programs import EPOCH, KEY, NOWHERE, Two, browser

pytestmark = pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume:Warning")


@dataclass(kw_only=True)
class Pair:
    """Alpha, the primary, and beta, with a client that keeps cookies before each."""

    two: Two
    programs: dict[str, Program]
    urls: dict[str, str]
    alpha: httpx.Client
    beta: httpx.Client


@pytest.fixture(params=FRAMEWORKS)
def each(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Pair]:
    """In every framework."""
    with pair_of(request.param, tmp_path) as found:
        yield found


@pytest.fixture(params=["flask", "starlette"])
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Pair]:
    """One for each face of the middleware."""
    with pair_of(request.param, tmp_path) as found:
        yield found


@contextlib.contextmanager
def pair_of(framework: str, folder: Path, **options: Any) -> Iterator[Pair]:
    module = framework.split()[0]
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed")
    make, middleware, served = FRAMEWORKS[framework]
    two = Two(folder)
    with contextlib.ExitStack() as stack:
        stack.callback(two.close)
        programs, urls = {}, {}
        for one in (two.alpha, two.beta):
            program = programs[one.says.node] = Program(one.path, one.says.node)
            app = middleware(make(program), database=one.path, **options)
            urls[one.says.node] = stack.enter_context(served(app))
        two.introduce(urls["alpha"], urls["beta"])
        alpha, beta = (stack.enter_context(browser(urls[name])) for name in ("alpha", "beta"))
        yield Pair(two=two, programs=programs, urls=urls, alpha=alpha, beta=beta)


def add(client: httpx.Client, email: str, **options: Any) -> httpx.Response:
    return client.post("/users", params={"email": email}, **options)


def test_a_write_on_a_replica_is_done_on_the_primary_and_can_be_read_here_when_it_is_answered(each: Pair) -> None:
    each.two.beta.tell(visible_s=20.0)  # the machine may be busy
    for number in range(5):
        answer = add(each.beta, f"{number}@x")
        assert (answer.status_code, answer.json()) == (201, {"id": number + 1, "node": "alpha"})
        assert f"{number}@x" in each.two.beta.emails()
    assert each.programs["beta"].asked == []
    assert add(each.beta, "3@x").status_code == 409  # UNIQUE, of the whole cluster
    assert each.beta.get("/users").json() == {"users": [f"{number}@x" for number in range(5)], "node": "beta"}


def test_a_write_on_the_primary_is_done_there_and_gives_a_position(each: Pair) -> None:
    answer = add(each.alpha, "a@x")
    assert answer.json()["node"] == "alpha"
    position = token.parse(answer.headers[POSITION], KEY)
    assert answer.cookies[POSITION] == answer.headers[POSITION]
    assert "HttpOnly" in answer.headers["set-cookie"]
    assert position.epoch == EPOCH


def test_reads_of_who_has_not_written_stay_here_and_carry_nothing(pair: Pair) -> None:
    answer = pair.beta.get("/users")
    assert answer.json()["node"] == "beta"
    assert POSITION not in answer.headers
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("by", ["cookie", "header"])
def test_who_wrote_on_one_node_sees_it_on_another_that_gets_it_in_time(each: Pair, by: str) -> None:
    each.two.is_carrying = False
    given = add(each.alpha, "a@x").headers[POSITION]
    assert each.two.beta.emails() == []
    each.two.is_carrying = True
    sent = {POSITION: given} if by == "header" else {"cookie": f"other=1; {POSITION}={given}; more=2"}
    answer = each.beta.get("/users", headers=sent)
    assert answer.json() == {"users": ["a@x"], "node": "beta"}
    newer = answer.headers.get(POSITION, given)  # what was told before it was folded has a later stamp by now
    assert token.parse(newer, KEY) >= token.parse(given, KEY)
    assert POSITION not in each.beta.get("/users", headers={"cookie": "", POSITION: newer}).headers  # it has that
    add(each.alpha, "b@x")
    later = each.alpha.get("/users", headers={"cookie": "", POSITION: given}).headers[POSITION]
    assert token.parse(later, KEY) > token.parse(given, KEY)  # what was seen stays seen


def test_and_on_another_that_does_not_get_it_from_the_primary(pair: Pair) -> None:
    pair.two.is_carrying = False
    given = add(pair.alpha, "a@x").headers[POSITION]
    began_s = time.monotonic()
    answer = pair.beta.get("/users", headers={POSITION: given})
    assert answer.json() == {"users": ["a@x"], "node": "alpha"}
    assert time.monotonic() - began_s >= READ_WAIT_S
    alone = {"users": [], "node": "beta"}
    pair.two.beta.tell(primary=None)
    assert pair.beta.get("/users", headers={POSITION: given}).json() == alone
    pair.two.beta.tell(primary="alpha", others={"alpha": OtherNode(region="here", url=NOWHERE)})
    assert pair.beta.get("/users", headers={POSITION: given}).json() == alone


def test_the_primary_never_waits_and_a_lost_epoch_or_a_foreign_token_stalls_nobody(pair: Pair) -> None:
    def signed(epoch: int, key: bytes = KEY) -> str:
        return token.signed(EpochPosition.of(epoch_site(epoch, "0" * 19), Stamp(2**62)), key)

    far = token.signed(EpochPosition.of(*_site_of(pair)), KEY)
    began_s = time.monotonic()
    assert pair.alpha.get("/users", headers={POSITION: far}).json()["node"] == "alpha"
    for text in (signed(EPOCH - 1), signed(9, b"another cluster's"), "x" * 55, "x", ""):
        assert pair.beta.get("/users", headers={POSITION: text}).json()["node"] == "beta"
    assert time.monotonic() - began_s < READ_WAIT_S


def _site_of(pair: Pair) -> tuple[Any, Any]:
    position = token.parse(add(pair.alpha, "site@x").headers[POSITION], KEY)
    return position.site, Stamp(2**62)


def test_what_cannot_be_read_here_in_time_is_202_with_the_position(each: Pair) -> None:
    each.two.is_carrying = False
    answer = add(each.beta, "a@x")
    assert answer.status_code == 202
    assert answer.json() == {"id": 1, "node": "alpha"}
    assert not each.two.beta.emails()
    each.two.is_carrying = True
    assert each.beta.get("/users").json()["users"] == ["a@x"]  # by the cookie that came along


def test_a_write_that_was_lost_with_its_primary_is_not_acknowledged(pair: Pair) -> None:
    pair.two.is_carrying = False
    pair.two.beta.tell(visible_s=20.0)

    def another_epoch() -> None:
        with contextlib.closing(sqlite3.connect(pair.two.beta.path, isolation_level=None)) as connection:
            epochs.begin(connection, epoch_site(EPOCH + 1, "0" * 19), now_ms=int(time.time() * 1000))

    pair.programs["alpha"].after_write = another_epoch
    answer = add(pair.beta, "a@x")
    assert answer.status_code == 502
    assert "unknown" in answer.json()["error"]


def test_a_write_that_changes_nothing_is_visible_at_once(pair: Pair) -> None:
    add(pair.beta, "a@x")
    began_s = time.monotonic()
    assert pair.beta.post("/touch").status_code == 200
    assert time.monotonic() - began_s < pair.two.beta.says.visible_s


def test_a_write_is_held_until_there_is_a_primary(pair: Pair) -> None:
    pair.two.beta.tell(primary=None, hold_s=20.0)
    soon = threading.Timer(0.3, lambda: pair.two.beta.tell(primary="alpha"))
    soon.start()
    assert add(pair.beta, "a@x").status_code == 201
    soon.join()


def test_without_a_primary_a_write_is_503_after_a_while_and_nothing_is_done(pair: Pair) -> None:
    pair.two.beta.tell(primary=None)
    answer = add(pair.beta, "a@x")
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    assert "there is no primary" in answer.json()["error"]
    assert pair.beta.get("/users").status_code == 200
    pair.two.beta.tell(primary="alpha", others={"alpha": OtherNode(region="here", url=NOWHERE)})
    assert add(pair.beta, "a@x").status_code == 503
    assert pair.programs["alpha"].asked == []


def test_a_large_body_is_not_sent_again_and_what_was_refused_is_503(pair: Pair) -> None:
    pair.two.alpha.tell(primary=None, good_until_s=0.0)
    began_s = time.monotonic()
    answer = pair.beta.post("/size", content=b"x" * 3_000_000)
    assert answer.status_code == 503
    assert "not the primary any more" in answer.json()["error"]
    assert time.monotonic() - began_s < 10
    assert pair.programs["alpha"].asked == []


@pytest.mark.parametrize("reply", [b"", b"HTTP/1.1 200 OK\r\ncontent-le", b"nonsense\r\n\r\n"])
def test_a_request_that_may_have_arrived_is_not_sent_again(pair: Pair, reply: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        asked: list[bytes] = []

        def answer() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:  # the test is over
                    return
                with connection:
                    asked.append(connection.recv(65_536))
                    connection.sendall(reply)

        answering = threading.Thread(target=answer)
        answering.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        pair.two.beta.tell(others={"alpha": OtherNode(region="here", url=url)})
        found = add(pair.beta, "a@x")
        listener.shutdown(socket.SHUT_RDWR)
    answering.join()
    assert found.status_code == 502
    assert "unknown" in found.json()["error"]
    assert len(asked) == 1


def test_a_program_whose_node_is_gone_or_whose_lease_is_over_writes_nothing(pair: Pair) -> None:
    pair.two.alpha.tell(good_until_s=boot_clock_s() - 0.01)
    refused = add(pair.alpha, "a@x")
    assert refused.status_code == 503
    assert "lease" in refused.json()["error"]
    pair.two.alpha.tell(good_until_s=boot_clock_s() + 3600)
    assert add(pair.alpha, "a@x").status_code == 201
    pair.two.alpha.heart_beats = False
    time.sleep(1.1)  # the lease's own heartbeat
    refused = add(pair.alpha, "b@x")
    assert refused.status_code == 503
    assert "does not run or hangs" in refused.json()["error"]
    assert pair.two.alpha.emails() == ["a@x"]


def test_what_was_written_when_the_lease_was_over_is_not_acknowledged(each: Pair) -> None:
    each.programs["alpha"].after_write = lambda: each.two.alpha.tell(good_until_s=0.0, primary=None)
    answer = add(each.alpha, "a@x")
    assert answer.status_code == 500
    assert "unknown" in answer.json()["error"]
    assert POSITION not in answer.headers


def test_who_is_not_the_primary_any_more_sends_a_forwarded_request_back_and_it_goes_to_the_next(pair: Pair) -> None:
    pair.two.beta.tell(hold_s=20.0)
    pair.two.alpha.tell(primary=None, good_until_s=0.0)
    soon = threading.Timer(0.3, lambda: pair.two.alpha.tell(primary="alpha", good_until_s=boot_clock_s() + 3600))
    soon.start()
    answer = pair.beta.post("/size", content=b"x" * 1000)
    assert (answer.status_code, answer.json()) == (200, {"size": 1000, "node": "alpha"})  # the body was sent again
    soon.join()


def test_a_body_that_was_kept_is_the_programs_if_this_node_becomes_the_primary(each: Pair) -> None:
    each.two.beta.tell(hold_s=20.0)
    each.two.alpha.tell(primary=None, good_until_s=0.0)
    soon = threading.Timer(0.3, lambda: each.two.beta.tell(primary="beta", good_until_s=boot_clock_s() + 3600))
    soon.start()
    answer = each.beta.post("/size", content=b"x" * 1000)
    assert (answer.status_code, answer.json()) == (200, {"size": 1000, "node": "beta"})
    soon.join()


def test_two_nodes_that_each_take_the_other_for_the_primary_do_not_send_a_request_round(pair: Pair) -> None:
    pair.two.alpha.tell(primary="beta", good_until_s=0.0)
    answer = add(pair.beta, "a@x")
    assert answer.status_code == 503
    assert NOT_PRIMARY not in answer.headers
    assert pair.programs["alpha"].asked == pair.programs["beta"].asked == []


def test_a_large_body_goes_through_whole(each: Pair) -> None:
    body = bytes(range(256)) * 12_000
    answer = each.beta.post("/size", content=body)
    assert (answer.status_code, answer.json()) == (200, {"size": len(body), "node": "alpha"})


def test_the_program_sees_the_request_as_it_came_to_the_first_node(each: Pair) -> None:
    headers = {
        "host": "shop.example:8443",
        "x-forwarded-for": "203.0.113.9",
        "connection": "x-own",
        "x-own": "1",
    }
    answer = each.beta.put("/a%20b/%C3%A9?q=%20x&q=y", content=b"1", headers=headers).json()
    assert answer["node"] == "alpha"
    assert answer["method"] == "PUT"
    assert answer["query"] == "q=%20x&q=y"
    assert answer["path"].endswith("/a b/é")
    assert answer["client"] == "127.0.0.1"
    seen = {name.lower(): value for name, value in answer["headers"].items()}
    assert seen["host"] == "shop.example:8443"
    assert seen["x-forwarded-for"] == "203.0.113.9"
    assert "x-own" not in seen  # for the first hop alone


def test_what_a_client_says_of_itself_in_the_nodes_own_header_counts_for_nothing(pair: Pair) -> None:
    forged = f"alpha;203.0.113.66;https;{'0' * 64}"
    answer = pair.beta.put("/x", headers={FORWARDED: forged}).json()
    assert answer["node"] == "alpha"  # not taken for a request that may go no further
    assert (answer["client"], answer["scheme"]) == ("127.0.0.1", "http")


def test_one_clients_cookies_do_not_travel_with_anothers_request(pair: Pair) -> None:
    assert "set-cookie" in add(pair.beta, "a@x").headers
    with browser(pair.urls["beta"]) as another:
        seen = another.put("/x").json()["headers"]
    assert "cookie" not in {name.lower() for name in seen}


def test_a_read_goes_to_the_region_that_is_preferred_and_comes_from_nowhere_else(pair: Pair) -> None:
    assert pair.alpha.get("/users?region=there").json()["node"] == "beta"
    assert pair.alpha.get("/users", headers={"fly-prefer-region": "there"}).json()["node"] == "beta"
    for region in ("here", "nowhere", "http://127.0.0.1:9", ""):
        assert pair.alpha.get("/users", params={"region": region}).json()["node"] == "alpha"
    pair.two.alpha.tell(others={"beta": OtherNode(region="there", url=NOWHERE)})
    assert pair.alpha.get("/users?region=there").json()["node"] == "alpha"  # nobody there can be reached


def test_on_fly_the_answer_tells_the_proxy_where_to_and_a_replayed_request_is_forwarded(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    monkeypatch.setenv("FLY_MACHINE_ID", "beta")
    (tmp_path / "fly").mkdir()
    with pair_of(request.node.callspec.params["pair"], tmp_path / "fly") as fly:
        answer = add(fly.beta, "a@x")
        assert answer.headers["fly-replay"] == "instance=alpha;fallback=force_self"
        assert fly.alpha.get("/users?region=there").headers["fly-replay"] == "region=there;fallback=force_self"
        assert fly.programs["beta"].asked == fly.programs["alpha"].asked == []
        answer = add(fly.beta, "a@x", headers={"fly-replay-src": "instance=alpha;region=here;t=1"})
        assert (answer.status_code, answer.json()["node"]) == (201, "alpha")
        large = fly.beta.post("/size", content=b"x" * 1_000_001)
        assert large.json() == {"size": 1_000_001, "node": "alpha"}


def test_a_program_can_say_which_requests_write(tmp_path: Path, pair: Pair, request: pytest.FixtureRequest) -> None:
    assert pair.beta.get("/login?email=a@x").status_code == 500  # SQLite refuses it on a replica
    (tmp_path / "said").mkdir()
    framework = request.node.callspec.params["pair"]
    with pair_of(framework, tmp_path / "said", is_write=lambda method, path: path == "/login") as said:
        assert said.beta.get("/login?email=a@x").json()["node"] == "alpha"
        assert said.beta.get("/users").json() == {"users": ["a@x"], "node": "beta"}


def test_where_no_node_ever_ran_the_program_answers_everything(pair: Pair) -> None:
    for one in (pair.two.alpha, pair.two.beta):
        one.heart_beats = False
    time.sleep(0.05)
    pair.two.alpha.path.with_name("alpha.db-node").unlink()
    assert add(pair.alpha, "a@x").json()["node"] == "alpha"
    pair.two.beta.path.with_name("beta.db-node").write_text("{}")
    refused = add(pair.beta, "a@x")
    assert refused.status_code == 503
    assert "is not what this version's nodes write" in refused.json()["error"]
    assert pair.beta.get("/users").json()["node"] == "beta"
