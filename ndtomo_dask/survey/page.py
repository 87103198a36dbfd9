"""A survey as HTML, which notebooks show."""

import html
from collections.abc import Sequence

from ndtomo_dask.survey.finding import MARKS, WORDS, Finding

COLORS = {"fine": "inherit", "look": "inherit", "alarm": "#c2410c", "open": "#7a8794"}
"""Of the mark and the answer; what is fine has the page's own."""
CELL = "padding: .15rem .8rem .15rem 0; text-align: left; vertical-align: top;"


def survey_page(path: str, read: str, findings: Sequence[Finding], recipe: str | None) -> str:
    """Write findings as a table, a line each, and the recipe below it, folded."""
    rows = "".join(_row(one) for one in findings)
    folded = ""
    if recipe is not None:
        text = html.escape(recipe)
        folded = f"<details><summary>Recipe to be confirmed</summary><pre>{text}</pre></details>"
    return (
        f"<div><p><b>{html.escape(path)}</b>: {html.escape(read)}; {_counts(findings)}</p>"
        f"<table><thead><tr>{_cells('th', ('', 'Question', 'Answer', 'Evidence'))}</tr></thead>"
        f"<tbody>{rows}</tbody></table>{folded}</div>"
    )


def _counts(findings: Sequence[Finding]) -> str:
    """Say how many findings there are of each level that is not fine."""
    counted = {level: sum(one.level == level for one in findings) for level in WORDS}
    return ", ".join(f"{count} {WORDS[level]}" for level, count in counted.items() if count)


def _row(one: Finding) -> str:
    color = COLORS[one.level]
    told = _cells("td", (MARKS[one.level], one.question, one.answer), color)
    return f"<tr title='{WORDS[one.level]}'>{told}{_cells('td', (one.evidence,))}</tr>"


def _cells(tag: str, texts: Sequence[str], color: str = "inherit") -> str:
    style = f"{CELL} color: {color};"
    return "".join(f"<{tag} style='{style}'>{html.escape(text)}</{tag}>" for text in texts)
