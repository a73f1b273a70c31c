"""`audit query`: SQL over a run."""

import csv
import sys
from collections.abc import Iterable, Sequence

import click
from click.shell_completion import CompletionItem
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from audit.cli import groups, options, run_arguments, say
from audit.commands import explain as command
from audit.errors import UsageError
from audit.report import printing


def _complete(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return the runs that begin so, of the first word; a shell knows no SQL."""
    if context.params.get("words"):
        return []
    return run_arguments.Run().shell_complete(context, parameter, incomplete)


@groups.command()
@click.argument("words", metavar="[RUN] SQL", nargs=-1, shell_complete=_complete)
@click.option("--sql", "spelled", metavar="SQL", help="The same, as audit history takes it.")
@options.output_option("table", "json", "csv")
def query(*, words: tuple[str, ...], spelled: str | None, output: str) -> None:
    """Ask a run in SQL.

    RUN is the newest unless given. The tables are cells, endpoints, policies, traces and probes; of
    a run of the objects alone also blocks, block_sources, block_destinations, block_states and
    block_exceptions (docs/store.md).

    \b
    Examples:
      audit query "SELECT verdict, count(*) FROM cells GROUP BY ALL"
      audit query runs/20261123T043457Z-9510 "SELECT DISTINCT src_namespace FROM cells
        WHERE dst_namespace = 'default' AND dst_name LIKE 'web-%'
          AND protocol = 'tcp' AND port = 80 AND verdict = 'reachable'"
    """
    run, sql = _parts(words, spelled)
    show(*command.query(run_arguments.Run()(run), sql), output)


def _parts(words: Sequence[str], spelled: str | None) -> tuple[str, str]:
    """Return the run, `latest` unless one is named, and the SQL; UsageError unless it is there."""
    match [*words, *([spelled] if spelled else [])]:
        case [sql] if sql and not run_arguments.names_run(sql):
            return run_arguments.LATEST, sql
        case [run, sql] if sql:
            return run, sql
        case _:
            raise UsageError("say once what to ask: audit query [RUN] SQL")


def show(columns: Sequence[str], rows: Iterable[Sequence[object]], output: str) -> None:
    """Print rows as a `table`, as `json` or as `csv`."""
    if output == "json":
        records = [dict(zip(columns, row, strict=True)) for row in rows]
        say.json(records)
    elif output == "csv":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(map(_inert, columns))
        writer.writerows(map(_inert, row) for row in rows)
    else:
        _print(columns, rows)


_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What makes a spreadsheet take a cell for a formula (OWASP, CSV Injection)."""


def _inert(value: object) -> object:
    """Return a value as a spreadsheet will show it and not run it; a name may be anything."""
    if not isinstance(value, str):
        return value
    inert = f"'{value}" if value.startswith(_FORMULA) else value
    return "\t".join(map(printing.line, inert.split("\t")))


_UNFOLDED = 10_000
"""Columns of a page that is no terminal: nothing is folded, so a row is a line."""


_LONGEST = 120
"""Characters of a value that stands beside others in a table: a manifest has thousands."""


def _print(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows as a table, or on a terminal where that has no room a line for each value."""
    texts = [["" if value is None else str(value) for value in row] for row in rows]
    console = _Console(width=None if sys.stdout.isatty() else _UNFOLDED)
    if sys.stdout.isatty() and not _fits(columns, texts, console.width):
        _print_values(columns, texts)
    else:
        _print_table(columns, texts, console)
    if not texts:
        say.line("0 rows", err=True)


_GAP = 2
"""Spaces between the columns of a table."""


def _fits(columns: Sequence[str], texts: Sequence[Sequence[str]], width: int) -> bool:
    """Say whether a table of these texts has room, and a line for each."""
    widths = (max(map(cell_len, column)) for column in zip(columns, *texts, strict=True))
    short = sum(widths) + _GAP * (len(columns) - 1) <= width
    return short and not any("\n" in text for row in texts for text in row)


def _print_values(columns: Sequence[str], texts: Iterable[Sequence[str]]) -> None:
    """Print each value behind its column, lines of one below it, and an empty line between rows."""
    for number, row in enumerate(texts):
        if number:
            say.line("")
        for column, text in zip(columns, row, strict=True):
            value = text.splitlines() if "\n" in text else [text]
            if len(value) == 1:
                say.line(f"{column}: {value[0]}".rstrip())
            else:
                say.line(f"{column}:")
                say.text("".join(f"  {printing.line(line)}".rstrip() + "\n" for line in value))


def _print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], console: Console) -> None:
    """Print a table; what is in the cells is text, never markup.

    Long values beside others are cut, and a note says so.
    """
    cut = 0
    table = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(Text(printing.line(column)), overflow="fold")
    for row in rows:
        texts = [printing.line(value) for value in row]
        if len(texts) > 1:
            cut += sum(len(text) > _LONGEST for text in texts)
            texts = [t if len(t) <= _LONGEST else f"{t[: _LONGEST - 1]}…" for t in texts]
        table.add_row(*map(Text, texts))
    console.print(table)
    if cut:
        values = "a long value is" if cut == 1 else f"{cut:,} long values are"
        whole = "-o csv, -o json, or a query for that column alone prints all of it"
        say.message("note", f"{values} cut; {whole}", err=True)


class _Console(Console):
    """A console that leaves it to `main` what a reader who went away means."""

    def on_broken_pipe(self) -> None:
        """Let the error be."""
        raise BrokenPipeError
