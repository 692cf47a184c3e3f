"""The demo as one HTML file that needs nothing else: the story, the numbers, a chart for each run of each act."""

from collections.abc import Sequence
from html import escape
from importlib import resources
from pathlib import Path

from app.config.model import Mode
from app.demo.chart import chart
from app.demo.plan import NAMES, SHORT_NAMES, Plan
from app.demo.results import PROMISING, ActResult, by_act
from app.demo.story import WHAT_HAPPENS, closing, count_of, outcome, sentences, traffic
from app.demo.wording import duration
from app.errors import AppError


def check_writable(path: Path) -> None:
    """Raises AppError if no report can be written to `path`. Leaves no file, and a file as it is."""
    there = path.exists()
    try:
        with path.open("ab"):
            pass
    except OSError as error:
        raise _cannot_write(path, error) from None
    if not there:
        path.unlink()


def write_report(path: Path, plan: Plan, results: list[ActResult]) -> None:
    """Writes the report. Raises AppError if that fails."""
    try:
        path.write_text(report(plan, results), encoding="utf-8")
    except OSError as error:
        raise _cannot_write(path, error) from None


def report(plan: Plan, results: list[ActResult]) -> str:
    """The report as HTML."""
    style = resources.files("app.demo").joinpath("report.css").read_text(encoding="utf-8")
    colours = "\n".join(
        f".line.n{index} {{ stroke: var(--n{index}); }} .key.n{index} {{ background: var(--n{index}); }}"
        for index in range(len(plan.nodes))
    )
    nodes = ", ".join(f"{node.name} ({node.region})" for node in plan.nodes)
    options = plan.options
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Litecast demo</title>
<style>
{style}{colours}
</style>
</head>
<body>
<header>
<h1>Does replicating every row keep the counts equal?</h1>
<p>{len(plan.nodes)} nodes on one machine, each a process with a SQLite file of its own: {escape(nodes)}.
Real requests over HTTP; every count was read from the node’s own file. Each act is played on a naive cluster, on a
convergent one and on one in mode primary, with the same traffic and the same faults.</p>
<p class="muted">litecast demo --nodes {options.nodes} --clicks {options.clicks} --seed {options.seed}</p>
</header>
<main>
{"".join(_act(plan, runs) for runs in by_act(results))}
{_summary(results)}
</main>
</body>
</html>
"""


def _act(plan: Plan, runs: Sequence[ActResult]) -> str:
    first = runs[0]
    regions = {node.name: node.region for node in plan.nodes}
    modes = "".join(f'<th class="number">{escape(run.mode)}</th>' for run in runs)
    rows = "\n".join(
        f'<tr><td><span class="key n{index}"></span>{escape(node)}</td><td>{escape(regions.get(node, ""))}</td>'
        + "".join(f'<td class="number">{count_of(run, node)}</td>' for run in runs)
        + "</tr>"
        for index, node in enumerate(first.counts)
    )
    expected = "".join(f'<td class="number">{run.expected:,}</td>' for run in runs)
    return f"""<section>
<h2><span class="number-of-act">Act {first.act.value}</span> {escape(NAMES[first.act])}</h2>
<p class="what">{escape(WHAT_HAPPENS[first.act])}</p>
<p>{escape(traffic(runs))}</p>
<div class="runs">
{"".join(_run(run, runs) for run in runs)}
</div>
<div class="scroll"><table>
<thead><tr><th>{escape(first.page)}</th><th>region</th>{modes}</tr></thead>
<tbody>
{rows}
<tr><td class="words"><span class="key answered"></span>views answered with 200</td><td></td>{expected}</tr>
</tbody></table></div>
</section>
"""


def _run(run: ActResult, runs: Sequence[ActResult]) -> str:
    title = f"<h3>{escape(run.mode)}</h3>" if len(runs) > 1 else ""
    story = "\n".join(f"<p>{escape(sentence)}</p>" for sentence in sentences(run))
    return f"""<article>
{title}
{story}
<ul class="facts">{_fact("lost", run.lost)}{_fact("drift", run.drift)}{_fact("actor crashes", run.crashes)}\
{_fact("casts dropped", run.dropped)}<li>equal after <b>{escape(duration(run.converged_s))}</b></li></ul>
{chart(run, runs)}
</article>
"""


def _fact(label: str, number: int) -> str:
    kind = ' class="bad"' if number else ' class="good"'
    return f"<li{kind}>{label} <b>{number:,}</b></li>"


def _summary(results: Sequence[ActResult]) -> str:
    rows = "\n".join(_summary_row(runs) for runs in by_act(results))
    told = "\n".join(f"<p>{escape(line)}</p>" for line in closing(results))
    headings = "".join(
        f"<th{kind}>{heading}</th>"
        for heading, kind in (
            ("views", ' class="number"'),
            ("naive", ""),
            *(heading for mode in PROMISING for heading in ((str(mode), ""), ("equal after", ' class="number"'))),
        )
    )
    return f"""<section>
<h2>What became of the counts</h2>
{told}
<div class="scroll"><table>
<thead><tr><th>act</th><th></th>{headings}</tr></thead>
<tbody>
{rows}
</tbody></table></div>
</section>"""


def _summary_row(runs: Sequence[ActResult]) -> str:
    first, by_mode = runs[0], {run.mode: run for run in runs}
    alone, naive = by_mode.get(Mode.NONE), by_mode.get(Mode.NAIVE)
    cells = [_outcome(alone, "none: ") if alone else _outcome(naive) if naive else "<td></td>"]
    for mode in PROMISING:
        run = by_mode.get(mode)
        cells.append(_outcome(run) if run else "<td></td>")
        cells.append(f'<td class="number">{escape(duration(run.converged_s)) if run else ""}</td>')
    return (
        f'<tr><td>{first.act.value}</td><td class="words">{escape(SHORT_NAMES[first.act])}</td>'
        f'<td class="number">{first.expected:,}</td>{"".join(cells)}</tr>'
    )


def _outcome(result: ActResult, mode: str = "") -> str:
    return f'<td class="words {"bad" if result.harmed else "good"}">{escape(mode)}{escape(outcome(result))}</td>'


def _cannot_write(path: Path, error: OSError) -> AppError:
    return AppError(f"--html: {path} cannot be written ({error.strerror}); give a file in a folder that is there")
