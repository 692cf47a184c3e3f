"""The live page in headless Chromium: it moves with the cluster, needs no other host, and fits a phone."""

import re
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from app.web.server import WebServer, bind
from cluster.counters import Count
from replication.measuring.watching import Measured
from tests.unit.app.web.fakes import FakeCluster
from tests.unit.app.web.reports import DRIFTED, EQUAL, UNKNOWN_REPORT
from tests.unit.app.web.statuses import LATE, UPLOADING, WELL

playwright_api = pytest.importorskip("playwright.async_api", reason="playwright is not installed (group: browser)")
from playwright.async_api import Browser, ConsoleMessage, Error, Page, Request, async_playwright, expect  # noqa: E402

CHROMIUM = next(
    (path for path in (Path("/usr/bin/chromium"), Path("/usr/bin/chromium-browser")) if path.exists()), None
)
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage"]

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium at /usr/bin/chromium"),
]


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    made = FakeCluster("alpha", "beta", "gamma")
    for node in made.nodes.values():
        node.repo.set("home", 400)
        node.repo.set("about", 20)
    yield made
    made.close()


@pytest.fixture
async def server(cluster: FakeCluster) -> AsyncIterator[WebServer]:
    made = WebServer(cluster.web("alpha"), bind("127.0.0.1", 0))
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        made = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield made
        await made.close()


class Watched:
    """A page, with everything it complained about and every host it asked."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.complaints: list[str] = []
        self.asked: set[str] = set()
        page.on("console", self._console)
        page.on("pageerror", self._error)
        page.on("request", self._request)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def _error(self, error: Error) -> None:
        self.complaints.append(str(error))

    def _request(self, request: Request) -> None:
        self.asked.add("/".join(request.url.split("/")[:3]))


async def open_page(
    browser: Browser, server: WebServer, *, width: int = 1400, path: str = "/cluster", dark: bool = False
) -> Watched:
    context = await browser.new_context(
        viewport={"width": width, "height": 800}, color_scheme="dark" if dark else "light", locale="en-GB"
    )
    watched = Watched(await context.new_page())
    await watched.page.goto(server.url + path)
    return watched


async def test_counts_and_drift_move_as_the_cluster_moves(
    cluster: FakeCluster, server: WebServer, browser: Browser
) -> None:
    watched = await open_page(browser, server)
    page = watched.page
    row = page.locator("#pages tbody tr", has_text="home").locator("td")
    await expect(page.locator("#link-text")).to_have_text("Live")
    await expect(row).to_have_text(["0", "400", "400", "400"])
    await expect(page.locator("#drift-total")).to_have_text("0")

    cluster.nodes["beta"].repo.set("home", 1407)
    cluster.nodes["gamma"].repo.set("about", 13)
    await expect(row).to_have_text(["1,007", "400", "1,407", "400"])
    await expect(page.locator("#drift-total")).to_have_text("1,014")
    await expect(page.locator("#page-drift")).to_have_text("1,007")
    await expect(page.locator("#drift-note")).to_contain_text("on 2 pages")
    await expect(page.locator("#counts-chart path.line")).to_have_count(3)
    await expect(page.locator("#counts-chart svg")).to_have_attribute(
        "aria-label", "Counts of the chosen page by node: alpha 400, beta 1,407, gamma 400"
    )

    await page.locator("#pages button", has_text="about").press("Enter")
    await expect(page.locator("#page-drift")).to_have_text("7")
    assert watched.complaints == []
    assert watched.asked == {server.url}


async def test_view_counted_from_the_page_reaches_every_node(
    cluster: FakeCluster, server: WebServer, browser: Browser
) -> None:
    watched = await open_page(browser, server)
    page = watched.page
    await page.locator("#page-name").fill("b/c ü <i>?")
    await page.get_by_role("button", name="Count one").click()
    await expect(page.locator("#count-result")).to_have_text("b/c ü <i>?: 1 on alpha")
    row = page.locator("#pages tbody tr", has_text="b/c ü <i>?").locator("td")
    await expect(row).to_have_text(["0", "1", "1", "1"])
    cluster.replicate = False
    await page.get_by_role("button", name="Count 25 at once").click()
    await expect(page.locator("#count-result")).to_have_text("b/c ü <i>?: 26 on alpha")
    await expect(row).to_have_text(["25", "26", "1", "1"])
    await expect(page.locator("#casts-dropped")).to_have_text("50")
    await expect(page.locator("#drops tbody")).to_contain_text("dropped queue full")
    assert watched.complaints == []


async def test_node_that_goes_down_is_shown_with_what_was_last_known(
    cluster: FakeCluster, server: WebServer, browser: Browser
) -> None:
    watched = await open_page(browser, server)
    page = watched.page
    await expect(page.locator("#nodes-up")).to_have_text("3")
    cluster.member("gamma").state = "down"
    for name in ("alpha", "beta"):
        cluster.nodes[name].repo.set("home", 500)
    row = page.locator("#pages tbody tr", has_text="home").locator("td")
    await expect(page.locator("#nodes-up")).to_have_text("2")
    await expect(row).to_have_text(["0", "500", "500", "400"])
    await expect(row.nth(3)).to_have_class("number stale")
    await expect(page.locator("#events")).to_contain_text("gamma: up → down")
    cluster.member("gamma").state = "up"
    await expect(row).to_have_text(["100", "500", "500", "400"])
    assert watched.complaints == []


async def test_tables_are_compared_while_somebody_looks(
    cluster: FakeCluster, server: WebServer, browser: Browser
) -> None:
    watched = await open_page(browser, server)
    page = watched.page
    await expect(page.locator("#link-text")).to_have_text("Live")
    await expect(page.locator("#tables-verdict")).to_have_text("No comparison has been made yet.")
    assert cluster.drift.looks > 0
    cluster.drift.latest = EQUAL
    await expect(page.locator("#tables-verdict")).to_have_text("All tables are equal.")
    cluster.drift.latest = DRIFTED
    await expect(page.locator("#tables-verdict")).to_have_text(
        "Nodes differ: page_counts: 2 rows differ; count by 41; events: rows differ."
    )
    await expect(page.locator("#tables tbody tr")).to_have_text(["page_counts2count 41", "notes0–", "eventsmany–"])
    cluster.drift.latest = Measured(report=UNKNOWN_REPORT, at_s=time.time())
    await expect(page.locator("#tables-verdict")).to_have_text(
        "It could not be told: gamma did not answer (it is down)."
    )
    await expect(page.locator("#tables-when")).to_have_text(re.compile(r"^2 nodes, (just now|\d s ago)$"))
    assert watched.complaints == []


async def test_beside_a_program_there_are_tables_and_no_counts(cluster: FakeCluster, browser: Browser) -> None:
    for node in cluster.nodes.values():
        node.counts_nothing()
    server = WebServer(cluster.web("alpha"), bind("127.0.0.1", 0))
    await server.start()
    try:
        watched = await open_page(browser, server, path="/")
        page = watched.page
        await expect(page.locator("#link-text")).to_have_text("Live")
        for card in ("#card-counts", "#card-chart"):
            await expect(page.locator(card)).to_be_hidden()
        await expect(page.locator("#drift-note")).to_have_text("no rows are known to differ")
        cluster.drift.latest = DRIFTED
        await expect(page.locator("#drift-total")).to_have_text("2")
        await expect(page.locator("#drift-card")).to_have_class(re.compile("is-bad"))
        await expect(page.locator("#tables tbody tr")).to_have_count(3)
        assert watched.complaints == []
    finally:
        await server.stop()


async def test_each_node_says_how_its_replication_stands(
    cluster: FakeCluster, server: WebServer, browser: Browser
) -> None:
    watched = await open_page(browser, server)
    page = watched.page
    cards = page.locator("#nodes .node")
    await expect(cards).to_have_count(3)
    await expect(cards.locator(".replication li")).to_have_count(0)  # mode naive has nothing to say of it
    cluster.nodes["beta"].stands(WELL)
    await expect(cards.nth(1).locator(".replication li")).to_have_text(["has merged all that its peers have"])
    cluster.nodes["beta"].stands(LATE)
    await expect(cards.nth(1).locator(".replication li")).to_have_text(
        [
            "merging stands still: disk full",
            "catching up: journal from gamma: 1,200 changesets, 3.1 MB",
            "behind by 3 sites",
            "7 changesets waiting",
            "not replicated: table t has no key",
        ]
    )
    await expect(page.locator("#events")).to_contain_text("beta: merging stands still: disk full")
    cluster.nodes["beta"].stands(WELL)
    await expect(page.locator("#events")).to_contain_text("beta: its problem is gone")
    assert watched.complaints == []


async def test_the_backup_is_shown_where_there_is_one(
    cluster: FakeCluster, server: WebServer, browser: Browser
) -> None:
    watched = await open_page(browser, server, width=375)
    page = watched.page
    card, verdict = page.locator("#card-backup"), page.locator("#backup-verdict")
    await expect(page.locator("#nodes .node")).to_have_count(3)
    await expect(card).to_be_hidden()  # mode naive has none
    for name in ("beta", "gamma"):
        cluster.nodes[name].stands(replace(WELL, backup=replace(UPLOADING, age_s=0.0)))
    await expect(verdict).to_have_text("All that these nodes have comes back with a restore.")
    await expect(page.locator("#backup-url")).to_have_text("s3://bucket/folder")
    await expect(page.locator("#backup-nodes tbody tr")).to_have_text(["beta3–all is well", "gamma3–all is well"])
    cluster.nodes["beta"].stands(replace(WELL, backup=replace(UPLOADING, age_s=71.2)))
    await expect(verdict).to_have_text("With a restore all comes back but what was written in the last 72 seconds.")
    cluster.nodes["beta"].stands(replace(WELL, backup=replace(UPLOADING, age_s=80.0, problem="the store is down")))
    await expect(verdict).to_have_text("beta uploads nothing: the store is down")
    await expect(page.locator("#events")).to_contain_text("beta uploads nothing: the store is down")
    await expect(page.locator("#backup-nodes tbody tr").first).to_have_text("beta380 suploads nothing")
    assert await page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    cluster.nodes["beta"].stands(replace(WELL, backup=replace(UPLOADING, snapshot=0)))
    await expect(page.locator("#backup-nodes tbody tr").first).to_contain_text("none")
    await expect(page.locator("#events")).to_contain_text("beta: its backup goes on")
    assert watched.complaints == []


async def test_address_where_nobody_answered_yet_is_a_card_and_not_a_column(
    cluster: FakeCluster, server: WebServer, browser: Browser
) -> None:
    cluster.members[2].name = ""
    cluster.members[2].state = "connecting"
    watched = await open_page(browser, server)
    await expect(watched.page.locator("#nodes .node")).to_have_count(3)
    await expect(watched.page.locator("#nodes")).to_contain_text("tcp://127.0.0.1:7402")
    row = watched.page.locator("#pages tbody tr", has_text="home").locator("td")
    await expect(row).to_have_text(["0", "400", "400"])


async def test_page_says_when_it_lost_its_node_and_finds_it_again(
    cluster: FakeCluster, server: WebServer, browser: Browser
) -> None:
    watched = await open_page(browser, server)
    page = watched.page
    await expect(page.locator("#link-text")).to_have_text("Live")
    port = int(server.url.rpartition(":")[2])
    await server.stop()
    await expect(page.locator("#link-text")).to_have_text("Reconnecting")
    await expect(page.locator("body")).to_have_attribute("data-link", "lost")
    again = WebServer(cluster.web("alpha"), bind("127.0.0.1", port))
    await again.start()
    cluster.nodes["beta"].repo.set("home", 401)
    await expect(page.locator("#link-text")).to_have_text("Live", timeout=10_000)
    await expect(page.locator("#drift-total")).to_have_text("1")
    await again.stop()


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("path", ["/cluster", "/"])
async def test_phone_has_no_sideways_scroll(
    cluster: FakeCluster, server: WebServer, browser: Browser, path: str, dark: bool
) -> None:
    for node in cluster.nodes.values():
        node.repo.set("a page with quite a long name " * 5, 123_456_789)
        node.counters.increment(Count.CASTS_SENT, 1_234_567)
    cluster.members[1].address = "tcp://[2001:db8:1234:5678:9abc:def0:1234:5678]:65535"
    watched = await open_page(browser, server, width=360, path=path, dark=dark)
    page = watched.page
    if path == "/cluster":
        await expect(page.locator("#casts-sent")).to_have_text("3,703,701")
    widths = await page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert widths[0] <= widths[1] == 360
    assert watched.complaints == []
    assert watched.asked == {server.url}


async def test_home_counts_each_visit_once(cluster: FakeCluster, server: WebServer, browser: Browser) -> None:
    watched = await open_page(browser, server, path="/")
    await expect(watched.page.locator("#count")).to_have_text("401")
    await watched.page.get_by_role("link", name="Count another view").click()
    await expect(watched.page.locator("#count")).to_have_text("402")
    await expect(watched.page.locator("tbody td.number")).to_have_text(["402", "402", "402"])
