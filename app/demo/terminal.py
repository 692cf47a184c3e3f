"""The demo as a terminal shows it: what became of each act, run beside run, and what they say together."""

from collections.abc import Callable, Mapping, Sequence

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.status import Status
from rich.table import Table
from rich.text import Text

from app.config.model import Mode
from app.demo.clusters import acts_of
from app.demo.plan import NAMES, SHORT_NAMES, Act, Plan
from app.demo.results import PROMISING, ActResult, broken_promises, by_act
from app.demo.story import WHAT_HAPPENS, closing, count_of, outcome, sentences, traffic
from app.demo.wording import casts, duration

WIDTH_MAX = 100
BAR_WIDTH_MIN, BAR_WIDTH_MAX = 4, 24
_FRAME_WIDTH = 6  # what stands left and right of the table in its panel
_GAP = 2
_NODE_STYLES = ("blue", "yellow", "cyan", "magenta", "green", "red", "bright_blue", "bright_yellow", "bright_cyan")


class Terminal:
    """Tells the story on one console. With `story=False` (`--json`) it only says what is being done."""

    def __init__(self, console: Console, *, story: bool = True) -> None:
        self._console = console
        self._story = story
        self._status: Status | None = None
        self._regions: dict[str, str] = {}
        self._acts = len(Act)
        self._act = ""

    def begins(self, plan: Plan) -> None:
        """The title, and what is about to run."""
        self._regions = {node.name: node.region for node in plan.nodes}
        self._acts = len(acts_of(len(plan.nodes)))
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
        self._act = f"act {act.value} of {self._acts}: "
        if self._story:
            self._print("")
            self._print(Text.assemble((f"Act {act.value}  ", "bold cyan"), (NAMES[act], "bold")))
            self._print(Padding(Text(WHAT_HAPPENS[act], style="dim"), (0, 0, 0, 2)))

    def act_ended(self, runs: Sequence[ActResult]) -> None:
        """The act's story and its table, its runs side by side."""
        self._act = ""
        if not self._story:
            for run in runs:
                self._print(
                    Text(
                        f"act {run.act.value}, {run.mode}: expected {run.expected}, lost {run.lost}, "
                        f"drift {run.drift}, equal after {duration(run.converged_s)}"
                    )
                )
            return
        self.pause()
        told = Group(Text(traffic(runs)), self._stories(runs), "", self._table(runs))
        panel = Panel(told, box=box.ROUNDED, border_style="red" if broken_promises(runs) else "", padding=(0, 1))
        self._print(Padding(panel, (0, 0, 0, 2)))

    def ends(self, plan: Plan, results: list[ActResult]) -> None:
        """All acts in one table."""
        self.pause()
        if not self._story:
            return
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, title="What became of the counts")
        table.title_style = "bold"
        table.add_column("act")
        table.add_column("views", justify="right")
        table.add_column("naive")
        for mode in PROMISING:
            table.add_column(mode)
            table.add_column("equal\nafter", justify="right", no_wrap=True)
        for runs in by_act(results):
            first, by_mode = runs[0], {run.mode: run for run in runs}
            alone = by_mode.get(Mode.NONE)
            naive = by_mode.get(Mode.NAIVE)
            cells: list[str | Text] = [
                Text.assemble("none: ", _outcome(alone)) if alone else _outcome(naive) if naive else ""
            ]
            for mode in PROMISING:
                run = by_mode.get(mode)
                cells += [_outcome(run), duration(run.converged_s)] if run else ["", ""]
            table.add_row(f"{first.act.value} {SHORT_NAMES[first.act]}", f"{first.expected:,}", *cells)
        self._print("")
        self._print(table)
        self._print("")
        broken = broken_promises(results)
        for line in closing(results):
            self._print(Text(line, style="bold red" if broken and "promise was broken" in line else ""))
        self._print(Text(f"The same pages and requests again: --seed {plan.options.seed}", style="dim"))

    def wrote(self, path: str) -> None:
        """A report was written."""
        self._print(Text.assemble(("The report: ", "dim"), path))

    def kept(self, addresses: Mapping[str, Mapping[str, str]]) -> None:
        """Where the nodes are that go on running, by mode and name, and how they are stopped."""
        self.pause()
        self._print("")
        self._print(Text("The clusters run on. Each node: its counter, and its live page.", style="bold"))
        table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
        for mode, nodes in addresses.items():
            for name, url in nodes.items():
                table.add_row(Text(mode), Text(name, style="bold"), Text(url), Text(f"{url}/cluster"))
        self._print(table)
        self._print(Text("Ctrl-C stops them and removes their files."))

    def node_ended(self, mode: str, node: str, last_words: str) -> None:
        """A node ended by itself."""
        self._print(Text(f"{node} ({mode}) stopped: {last_words}", style="red"))

    def _stories(self, runs: Sequence[ActResult]) -> RenderableType:
        if len(runs) == 1:
            return Text(" ".join(sentences(runs[0])))
        table = Table(box=None, pad_edge=False, show_header=False, padding=(0, _GAP, 0, 0))
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for run in runs:
            table.add_row(Text(run.mode, style="bold"), Text(" ".join(sentences(run))))
        return table

    def _table(self, runs: Sequence[ActResult]) -> Table:
        """A row for each node and for each thing that was measured, two columns for each run: a number, and a bar."""
        labels = [self._label(node) for node in runs[0].counts]
        facts = _facts(runs)
        counts = [[count_of(run, node) for node in runs[0].counts] for run in runs]
        taken = max(map(len, [*(label.plain for label in labels), *(label for label, _ in facts)])) + _GAP
        taken += sum(max(map(len, [run.mode, *column])) + 2 * _GAP for run, column in zip(runs, counts, strict=True))
        room = (min(self._console.width, WIDTH_MAX) - _FRAME_WIDTH - taken) // len(runs)
        bar_width = max(BAR_WIDTH_MIN, min(BAR_WIDTH_MAX, room))

        table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0))
        table.add_column(Text(runs[0].page, style="bold"), no_wrap=True)
        for run in runs:
            table.add_column(run.mode, justify="right", no_wrap=True)
            table.add_column("", no_wrap=True)
        for index, node in enumerate(runs[0].counts):
            cells: list[Text] = [labels[index]]
            for run, column in zip(runs, counts, strict=True):
                cells += [Text(column[index]), _bar(run, node, bar_width, _NODE_STYLES[index % len(_NODE_STYLES)])]
            table.add_row(*cells)
        for label, values in facts:
            table.add_row(Text(label, style="dim"), *(cell for value in values for cell in value))
        return table

    def _label(self, node: str) -> Text:
        return Text.assemble((node, "bold"), " ", (self._regions.get(node, ""), "dim"))

    def _print(self, what: RenderableType) -> None:
        self._console.print(what, width=min(self._console.width, WIDTH_MAX), soft_wrap=False)


def _bar(run: ActResult, node: str, width: int, style: str) -> Text:
    filled = round(width * run.counts[node] / max(run.expected, run.largest, 1))
    return Text.assemble(("█" * filled, style), ("·" * (width - filled), "dim"))


def _facts(runs: Sequence[ActResult]) -> list[tuple[str, list[tuple[Text, Text]]]]:
    """What was measured beside the counts: a label, and for each run a value and what stands behind it."""
    facts: list[tuple[str, Callable[[ActResult], Text]]] = [
        ("expected", lambda run: Text(f"{run.expected:,}")),
        ("lost", lambda run: _number(run.lost)),
        ("drift", lambda run: _number(run.drift)),
        ("equal after", lambda run: Text(duration(run.converged_s), style="red" if run.converged_s is None else "")),
    ]
    shown = [(label, [(value(run), Text("")) for run in runs]) for label, value in facts]
    if any(run.crashes or run.dropped for run in runs):
        shown.append(("crashes", [(_number(run.crashes), _dropped(run)) for run in runs]))
    return shown


def _dropped(run: ActResult) -> Text:
    return Text(f"{casts(run.dropped)} dropped" if run.dropped else "", style="red")


def _outcome(result: ActResult) -> Text:
    return Text(outcome(result), style="red" if result.harmed else "green")


def _number(number: int) -> Text:
    return Text(f"{number:,}", style="bold red" if number else "green")
