"""The demo as a terminal shows it: a few sentences and a table for each act, and what they say together."""

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.status import Status
from rich.table import Table
from rich.text import Text

from app.demo.plan import Act, Plan
from app.demo.story import NAMES, WHAT_HAPPENS, ActResult, closing, count_of, lesson, sentences

WIDTH_MAX = 100
BAR_WIDTH = 24
_NODE_STYLES = ("blue", "yellow", "cyan", "magenta", "green", "red", "bright_blue", "bright_yellow", "bright_cyan")


class Terminal:
    """Tells the story on one console. With `story=False` (`--json`) it only says what is being done."""

    def __init__(self, console: Console, *, story: bool = True) -> None:
        self._console = console
        self._story = story
        self._status: Status | None = None
        self._regions: dict[str, str] = {}
        self._act = ""

    def begins(self, plan: Plan) -> None:
        """The title, and what is about to run."""
        self._regions = {node.name: node.region for node in plan.nodes}
        nodes = ", ".join(f"{node.name} ({node.region})" for node in plan.nodes)
        if self._story:
            text = Text.assemble(
                ("Does replicating every row keep the counts equal?\n", "bold"),
                f"{len(plan.nodes)} nodes on this machine, each a process with a SQLite file of its own:\n{nodes}.\n",
                ("Every number below was measured just now. ", "dim"),
                (f"--seed {plan.options.seed}", "dim bold"),
                (f" --clicks {plan.options.clicks}", "dim"),
            )
            self._print(Panel(text, title="Litecast demo", title_align="left", box=box.ROUNDED, padding=(0, 1)))
        else:
            self._print(Text(f"litecast demo: {nodes}; --seed {plan.options.seed}"))

    def step(self, text: str) -> None:
        """What is being done now: a line that moves in a terminal, a line of its own nowhere."""
        line = f"{self._act}{text} ..."
        if not self._console.is_terminal:
            if not self._story:
                self._print(Text(line))
            return
        if self._status is None:
            self._status = self._console.status(Text(line, style="dim"), spinner="dots")
            self._status.start()
        else:
            self._status.update(Text(line, style="dim"))

    def pause(self) -> None:
        """Takes the moving line away."""
        if self._status is not None:
            self._status.stop()
            self._status = None

    def act_begins(self, act: Act) -> None:
        """The act's title and what is done in it."""
        self.pause()
        self._act = f"act {act.value} of {len(Act)}: "
        if self._story:
            self._print("")
            self._print(Text.assemble((f"Act {act.value}  ", "bold cyan"), (NAMES[act], "bold")))
            self._print(Padding(Text(WHAT_HAPPENS[act], style="dim"), (0, 0, 0, 2)))

    def act_ended(self, result: ActResult) -> None:
        """The act's story and its table."""
        self._act = ""
        if not self._story:
            self._print(
                Text(f"act {result.act.value}: expected {result.expected}, lost {result.lost}, drift {result.drift}")
            )
            return
        self.pause()
        story = Text("\n".join(sentences(result)))
        bad = result.lost or result.drift or result.crashes
        self._print(
            Padding(
                Panel(
                    Group(story, "", self._table(result), _verdict(result)),
                    box=box.ROUNDED,
                    border_style="red" if bad else "green",
                    padding=(0, 1),
                ),
                (0, 0, 0, 2),
            )
        )

    def ends(self, plan: Plan, results: list[ActResult]) -> None:
        """All acts in one table."""
        self.pause()
        if not self._story:
            return
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, expand=False, title="What became of the counts")
        table.title_style = "bold"
        table.add_column("act", justify="right")
        for heading in ("views", "lost", "drift", "crashes", "dropped"):
            table.add_column(heading, justify="right")
        table.add_column("", overflow="fold")
        for result in results:
            bad = result.lost or result.drift or result.crashes
            table.add_row(
                str(result.act.value),
                f"{result.expected:,}",
                _number(result.lost),
                _number(result.drift),
                _number(result.crashes),
                _number(result.dropped),
                Text(lesson(result), style="red" if bad else "green"),
            )
        self._print("")
        self._print(table)
        for line in closing(results):
            self._print(Text(line))
        self._print(Text(f"The same pages and requests again: --seed {plan.options.seed}", style="dim"))

    def wrote(self, path: str) -> None:
        """A report was written."""
        self._print(Text.assemble(("The report: ", "dim"), path))

    def kept(self, addresses: dict[str, str]) -> None:
        """Where the nodes are that go on running, and how they are stopped."""
        self.pause()
        table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
        for name, url in addresses.items():
            table.add_row(
                Text(name, style="bold"), Text(self._regions.get(name, "")), Text(url), Text(f"{url}/cluster")
            )
        self._print("")
        self._print(
            Text("The cluster runs on, in naive mode. Each node: its counter, and its live page.", style="bold")
        )
        self._print(table)
        self._print(Text("Ctrl-C stops it and removes its files."))

    def node_ended(self, node: str, last_words: str) -> None:
        """A node ended by itself."""
        self._print(Text(f"{node} stopped: {last_words}", style="red"))

    def _table(self, result: ActResult) -> Table:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        table.add_column("node", style="bold")
        table.add_column("region")
        table.add_column(result.page, justify="right", no_wrap=True)
        table.add_column("")
        whole = max(result.expected, result.largest, 1)
        for index, (node, count) in enumerate(result.counts.items()):
            filled = round(BAR_WIDTH * count / whole)
            bar = Text("█" * filled, style=_NODE_STYLES[index % len(_NODE_STYLES)])
            bar.append("·" * (BAR_WIDTH - filled), style="dim")
            table.add_row(node, self._regions.get(node, ""), count_of(result, node), bar)
        return table

    def _print(self, what: RenderableType) -> None:
        self._console.print(what, width=min(self._console.width, WIDTH_MAX), soft_wrap=False)


def _verdict(result: ActResult) -> Text:
    text = Text()
    for label, number in (("lost", result.lost), ("drift", result.drift)):
        text.append(f"{label} ", style="dim")
        text.append(f"{number:,}", style="bold red" if number else "bold green")
        text.append("   ")
    text.append("expected ", style="dim")
    text.append(f"{result.expected:,}", style="bold")
    if result.crashes or result.dropped:
        text.append(f"   crashes {result.crashes:,}   casts dropped {result.dropped:,}", style="red")
    return text


def _number(number: int) -> Text:
    return Text(f"{number:,}", style="bold red" if number else "dim")
