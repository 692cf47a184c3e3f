"""The demo as one HTML file that needs nothing else: the story, the numbers, a chart for each act."""

from html import escape
from importlib import resources
from pathlib import Path

from app.demo.chart import chart
from app.demo.plan import Plan
from app.demo.story import WHAT_HAPPENS, ActResult, closing, count_of, lesson, sentences
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
Real requests over HTTP; every count was read from the node’s own file.</p>
<p class="muted">litecast demo --nodes {options.nodes} --clicks {options.clicks} --seed {options.seed}</p>
</header>
<main>
{"".join(_act(plan, result) for result in results)}
{_summary(results)}
</main>
</body>
</html>
"""


def _act(plan: Plan, result: ActResult) -> str:
    regions = {node.name: node.region for node in plan.nodes}
    story = "\n".join(f"<p>{escape(sentence)}</p>" for sentence in sentences(result))
    rows = "\n".join(
        f'<tr><td><span class="key n{index}"></span>{escape(node)}</td><td>{escape(regions.get(node, ""))}</td>'
        f'<td class="number">{count_of(result, node)}</td></tr>'
        for index, node in enumerate(result.counts)
    )
    return f"""<section>
<h2><span class="number-of-act">Act {result.act.value}</span> {escape(result.name)}</h2>
<p class="what">{escape(WHAT_HAPPENS[result.act])}</p>
{story}
<ul class="facts">{_fact("expected", result.expected, neutral=True)}{_fact("lost", result.lost)}\
{_fact("drift", result.drift)}{_fact("actor crashes", result.crashes)}{_fact("casts dropped", result.dropped)}</ul>
{chart(result)}
<div class="scroll"><table>
<thead><tr><th>node</th><th>region</th><th class="number">{escape(result.page)}</th></tr></thead>
<tbody>
{rows}
<tr><td class="words"><span class="key answered"></span>views answered with 200</td><td></td>\
<td class="number">{result.expected:,}</td></tr>
</tbody></table></div>
</section>
"""


def _fact(label: str, number: int, *, neutral: bool = False) -> str:
    kind = "" if neutral else ' class="bad"' if number else ' class="good"'
    return f"<li{kind}>{label} <b>{number:,}</b></li>"


def _summary(results: list[ActResult]) -> str:
    rows = "\n".join(
        f'<tr><td>{result.act.value}</td><td class="words">{escape(lesson(result))}</td>'
        + "".join(_cell(number) for number in (result.lost, result.drift, result.crashes, result.dropped))
        + "</tr>"
        for result in results
    )
    told = "\n".join(f"<p>{escape(line)}</p>" for line in closing(results))
    headings = "".join(f'<th class="number">{heading}</th>' for heading in ("lost", "drift", "crashes", "dropped"))
    return f"""<section>
<h2>What became of the counts</h2>
{told}
<div class="scroll"><table>
<thead><tr><th>act</th><th></th>{headings}</tr></thead>
<tbody>
{rows}
</tbody></table></div>
</section>"""


def _cell(number: int) -> str:
    return f'<td class="number{" bad" if number else ""}">{number:,}</td>'


def _cannot_write(path: Path, error: OSError) -> AppError:
    return AppError(f"--html: {path} cannot be written ({error.strerror}); give a file in a folder that is there")
