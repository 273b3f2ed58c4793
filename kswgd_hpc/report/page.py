"""Sections to HTML. All text is escaped here, and nowhere else."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from html import escape
from importlib import resources
from itertools import count
from pathlib import Path
from string import Template

from matplotlib.figure import Figure

from kswgd_hpc.report.canvas import encode

NAME = "report.html"


@dataclass(frozen=True)
class Picture:
    """A figure, or its data address once it is drawn, with a caption that says how to read it."""

    figure: Figure | str
    caption: str


@dataclass(frozen=True)
class Table:
    """Cells of text with a caption; the first column is the name of the row."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Parameters
    ----------
    title : heading
    finding : what was found, in a sentence with numbers; repeated at the head of the page
    parts : pictures and tables in order
    """

    title: str
    finding: str
    parts: Sequence[Picture | Table]


def drawn(section: Section) -> Section:
    """The section with all figures drawn, so that it can be sent to another rank."""
    return replace(section, parts=[_drawn(part) if isinstance(part, Picture) else part for part in section.parts])


def _drawn(picture: Picture) -> Picture:
    return picture if isinstance(picture.figure, str) else replace(picture, figure=encode(picture.figure))


def render(title: str, sections: Sequence[Section], configuration: str) -> str:
    """The whole page; the first section is its summary.

    Parameters
    ----------
    title : of the run
    sections : in order
    configuration : its text, shown at the end

    Returns
    -------
    HTML without references to anything outside itself
    """
    summary, *others = map(drawn, sections)
    figures, tables = count(1), count(1)
    body = [_head(summary, others)]
    body += [_section(section, f"section-{i}", figures, tables) for i, section in enumerate(others, 1)]
    if configuration:
        body.append(f"<section><h2>Configuration</h2>\n<pre>{escape(configuration)}</pre></section>")
    template = Template(resources.files(__package__).joinpath("page.html").read_text(encoding="utf-8"))
    return template.substitute(title=escape(title), body="\n".join(body))


def _head(summary: Section, others: Sequence[Section]) -> str:
    """Summary of the run, then the finding of each section with a link to it."""
    found = "\n".join(
        f'<li><a href="#section-{i}">{escape(section.title)}</a>: {escape(section.finding)}</li>'
        for i, section in enumerate(others, 1)
    )
    tables = "\n".join(_table(part, "") for part in summary.parts if isinstance(part, Table))
    return f'<p class="lead">{escape(summary.finding)}</p>\n<ul>{found}</ul>\n<div class="row">{tables}</div>'


def _section(section: Section, anchor: str, figures: Iterator[int], tables: Iterator[int]) -> str:
    parts = [f'<section id="{anchor}"><h2>{escape(section.title)}</h2>\n<p>{escape(section.finding)}</p>']
    for part in section.parts:
        if isinstance(part, Table):
            parts.append(_table(part, f"Table {next(tables)}. "))
        else:
            parts.append(_picture(part, f"Figure {next(figures)}. "))
    return "\n".join([*parts, "</section>"])


def _picture(picture: Picture, label: str) -> str:
    caption = escape(picture.caption)
    return (
        f'<figure><img src="{picture.figure}" alt="{caption}">\n'
        f"<figcaption><b>{label}</b>{caption}</figcaption></figure>"
    )


def _table(table: Table, label: str) -> str:
    header = "".join(f"<th>{escape(cell)}</th>" for cell in table.header)
    rows = "\n".join(
        f'<tr><th scope="row">{escape(first)}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in rest)}</tr>'
        for first, *rest in table.rows
    )
    head = f"<thead><tr>{header}</tr></thead>" if any(table.header) else ""
    return f"<table><caption><b>{label}</b>{escape(table.caption)}</caption>{head}<tbody>{rows}</tbody></table>"


def write(directory: Path, text: str) -> Path:
    """Put a page into a directory, whole or not at all. Returns its path."""
    target = directory / NAME
    partial = target.with_name(".report.html.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
    return target
