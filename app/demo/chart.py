"""The counts of one run of an act over time, as an SVG that stands in a page. Pure.

Colours are the page's: the line of node i has the class `n{i}`. Where lines lie on each other, the earlier ones are
wider, so that all can be seen. Charts that stand side by side have the same scales.
"""

from collections.abc import Sequence
from html import escape
from itertools import pairwise

from app.demo.results import ActResult

WIDTH, HEIGHT = 720, 260
HALF_WIDTH = 430
LEFT, RIGHT, TOP, BOTTOM = 58, 12, 36, 34
REST_SHARE = 0.3
_STEPS = (1, 2, 5)
_TICKS_MAX = 5


def chart(result: ActResult, runs: Sequence[ActResult] = ()) -> str:
    """The chart as an `<svg>` element; it scales with its container and needs the page's style.

    `runs` are those that stand side by side, this one among them.
    """
    plot = _Plot(runs or [result])
    kind = "chart half" if len(runs) > 1 else "chart"
    title = escape(f"Counts of {result.page} over time, act {result.act.value}, mode {result.mode}")
    parts = [
        f'<svg viewBox="0 0 {plot.width} {HEIGHT}" role="img" aria-label="{title}" class="{kind}">',
        *_axes(plot),
    ]
    nodes = list(result.counts)
    for index, node in enumerate(nodes):
        width = 2 + 2.2 * (len(nodes) - 1 - index)
        line = plot.path([(sample.at_s, sample.counts.get(node, 0)) for sample in result.samples])
        parts.append(f'<path class="line n{index}" style="stroke-width:{width:.1f}" d="{line}"/>')
    parts.append(f'<path class="answered" d="{plot.path([(s.at_s, s.expected) for s in result.samples])}"/>')
    for position, mark in enumerate(result.marks):
        x = plot.x(mark.at_s)
        anchor = "end" if x > plot.width * 0.6 else "start"
        shift = -5 if anchor == "end" else 5
        y = 4 + 14 * (position % 2)
        parts.append(
            f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{y + 3:.1f}" y2="{HEIGHT - BOTTOM}"/>'
            f'<text class="mark" x="{x + shift:.1f}" y="{y + 8:.1f}" text-anchor="{anchor}">{escape(mark.text)}</text>'
        )
    parts.append("</svg>")
    return "\n".join(parts)


def ticks(highest: float) -> list[float]:
    """Round numbers from 0 up to `highest`, at most six of them, evenly apart."""
    if highest <= 0:
        return [0.0]
    power = -3
    while True:
        for step in _STEPS:
            size = step * 10.0**power
            if highest / size <= _TICKS_MAX:
                return [round(size * index, 6) for index in range(int(highest / size + 1e-9) + 1)]
        power += 1


class _Plot:
    """The scales, which all runs fit in."""

    def __init__(self, runs: Sequence[ActResult]) -> None:
        self.width = HALF_WIDTH if len(runs) > 1 else WIDTH
        self.end_s = max(map(_end_s, runs))
        self.highest = max(map(_highest, runs))

    def x(self, at_s: float) -> float:
        return LEFT + (self.width - LEFT - RIGHT) * min(at_s / self.end_s, 1)

    def y(self, count: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * count / self.highest

    def path(self, points: Sequence[tuple[float, int]]) -> str:
        """Steps: a count holds until the next sample."""
        commands: list[str] = []
        for at_s, count in points:
            if commands:
                commands.append(f"H{self.x(at_s):.1f}V{self.y(count):.1f}")
            else:
                commands.append(f"M{self.x(at_s):.1f} {self.y(count):.1f}")
        return "".join(commands)


def _end_s(result: ActResult) -> float:
    samples = result.samples
    # How long nothing moved any more at the end is of no interest, beyond that it is seen.
    moved = [
        now.at_s for before, now in pairwise(samples) if (before.counts, before.expected) != (now.counts, now.expected)
    ]
    last_s = max([0.0, *moved, *(mark.at_s for mark in result.marks)])
    return min(samples[-1].at_s, last_s * (1 + REST_SHARE)) if samples and last_s else 1.0


def _highest(result: ActResult) -> int:
    return max(
        [1, result.largest, *(s.expected for s in result.samples), *(max(s.counts.values()) for s in result.samples)]
    )


def _axes(plot: _Plot) -> list[str]:
    parts: list[str] = []
    for count in ticks(plot.highest):
        if count != int(count):
            continue
        y = plot.y(count)
        parts.append(
            f'<line class="grid" x1="{LEFT}" x2="{plot.width - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text class="tick" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{int(count):,}</text>'
        )
    for second in ticks(plot.end_s):
        x = plot.x(second)
        anchor = "end" if x > plot.width - RIGHT - 14 else "middle"
        parts.append(
            f'<text class="tick" x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="{anchor}">{second:g} s</text>'
        )
    return parts
