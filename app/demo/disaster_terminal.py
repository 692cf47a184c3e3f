"""What became of a total loss, as a terminal shows it."""

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from app.demo.lost import Loss
from app.demo.wording import duration, views


def show(console: Console, loss: Loss) -> None:
    """A table of the pages, and the sentences that follow."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, title="All nodes and all disks were lost")
    table.title_style = "bold"
    for name in ("views on", "answered", "reported safe", "there again", "lost", "of the last"):
        table.add_column(name, justify="left" if name == "views on" else "right")
    for page in loss.pages:
        cells = (page.answered, page.safe, page.there, page.lost)
        table.add_row(page.node, *(f"{cell:,}" for cell in cells), duration(page.lost_s) if page.lost else "")
    console.print()
    console.print(table)
    console.print()
    for line in said(loss):
        console.print(Text(line, style="bold red" if loss.problems else ""))
    for node, origin in loss.origins.items():
        console.print(Text(f"{node}: {origin}", style="dim"))


def said(loss: Loss) -> list[str]:
    """What the numbers say. Pure."""
    if loss.problems:
        return [f"{'; '.join(loss.problems)}. This is a defect of Litecast: please report it."]
    lost, safe = sum(page.lost for page in loss.pages), sum(page.safe for page in loss.pages)
    told = [f"All {views(safe)} that were reported as safe are there, on every node, and no more than came."]
    if lost:
        told.append(f"{views(lost)} of the last {duration(loss.lost_s)} are lost: they were not uploaded yet.")
    else:
        told.append("Nothing was lost: all was uploaded when the nodes were killed.")
    told.append(f"After {duration(loss.back_s)} all nodes answered again, and were equal.")
    return told
