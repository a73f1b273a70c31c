"""SQL over a run's Parquet, for questions no report answers.

The SQL may come from anywhere, so DuckDB gets no way out: no file, no network, no extension, no
Python variable, and the configuration is locked. It reads the tables through pyarrow, which opened
the run's own files beforehand. (DuckDB can allow a directory, but that allows writing in it too:
`WITH x AS (COPY …)` counts as a SELECT.)
"""

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime, time
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.dataset as pads

from audit.errors import UsageError
from audit.store.layout import read_manifest, reading, table_files
from audit.store.schema import BLOCK_STATES, BLOCKS, BY_CLASS, CELLS, ENDPOINT_KEY, TABLES, Table

_SRC = [f"src_{name}" for name in ENDPOINT_KEY]
_COLUMN = [*(f"dst_{name}" for name in ENDPOINT_KEY), "family", "protocol", "port", "port_end"]


def cells_of_blocks() -> str:
    """Return the SQL that makes `cells` of blocks: only what is asked of it is made."""
    names = BLOCK_STATES.schema.names[1:]
    types = {pa.bool_(): "BOOLEAN"}
    columns = _lines(
        name
        if name in {*_SRC, *_COLUMN, *names}
        else f"NULL::{types.get(CELLS.schema.field(name).type, 'VARCHAR')} AS {name}"
        for name in CELLS.schema.names
    )
    cell = _lines((*_SRC, *_COLUMN, "state"))
    return f"""CREATE VIEW cells AS
SELECT
  {columns}
FROM (
  SELECT
  {cell}
  FROM blocks
  JOIN block_sources USING (src_class)
  JOIN block_destinations USING (dst_class)
  ANTI JOIN block_exceptions USING (source, destination)
  UNION ALL
  SELECT
  {cell}
  FROM block_exceptions
  JOIN block_sources USING (source)
  JOIN block_destinations USING (destination)
)
JOIN block_states USING (state)"""  # noqa: S608 - of names of our own


def _lines(words: Iterable[str]) -> str:
    return "\n  ".join(textwrap.wrap(", ".join(words), 90))


Plain = None | bool | int | float | str | list["Plain"] | dict[str, "Plain"]
"""What JSON can say; dates and times are ISO text, anything else its own text."""

SANDBOX = {
    "enable_external_access": "false",
    "autoload_known_extensions": "false",
    "autoinstall_known_extensions": "false",
    "python_enable_replacements": "false",  # else SQL could name this module's variables
    "temp_directory": "",  # nothing is spilled to disk either
}
_ROWS_AT_A_TIME = 1024


def query(path: Path | str, sql: str) -> tuple[list[str], Iterator[tuple[Plain, ...]]]:
    """Run `sql` on the run at `path`; return the column names and the rows, as they are asked for.

    The tables are those of `docs/store.md`. Raises UsageError with DuckDB's sentence when the SQL
    is wrong or wants more than to read them (also while rows are fetched), RunReadError when
    `path` is no run.
    """
    return run_locked(_connect(Path(path)), sql)


def run_locked(
    connection: duckdb.DuckDBPyConnection, sql: str
) -> tuple[list[str], Iterator[tuple[Plain, ...]]]:
    """Run `sql` where the tables are and nothing else can be reached or changed any more."""
    connection.execute("SET lock_configuration = true")
    with _sentences(), _naming_tables(connection):
        connection.execute(sql)
        columns = [name for name, *_ in connection.description or ()]
    if not columns:
        connection.close()
        raise UsageError("the SQL asks for nothing: write a SELECT")
    return columns, _rows(connection)


def rows_of(files: Sequence[Path], table: Table) -> pads.Dataset | pa.Table:
    """Return a table's rows, which stay in its files; none where there is no file."""
    if not files:
        return table.schema.empty_table()
    return pads.dataset([str(file) for file in files], schema=table.schema)


def _connect(path: Path) -> duckdb.DuckDBPyConnection:
    """Return a DuckDB with the run's tables as views."""
    manifest = read_manifest(path)
    connection = duckdb.connect(":memory:", config=dict(SANDBOX))
    by_class = bool(table_files(path, manifest, BLOCKS))
    for table in TABLES:
        if table is CELLS and by_class:
            continue
        files = table_files(path, manifest, table)
        with reading(path):
            rows = rows_of(files, table)
        if table not in BY_CLASS:
            connection.register(table.name, rows)
            continue
        # As tables of its own, whose sizes DuckDB knows: else it may put all cells in memory.
        connection.register(f"{table.name}_", rows)
        connection.execute(f"CREATE TABLE {table.name} AS SELECT * FROM {table.name}_")  # noqa: S608
        connection.unregister(f"{table.name}_")
    if by_class:
        connection.execute(cells_of_blocks())
    return connection


def _rows(connection: duckdb.DuckDBPyConnection) -> Iterator[tuple[Plain, ...]]:
    """Yield the rows of the query that ran last, then close."""
    with connection:
        while True:
            with _sentences():
                rows = connection.fetchmany(_ROWS_AT_A_TIME)
            if not rows:
                return
            yield from (tuple(_plain(value) for value in row) for row in rows)


@contextmanager
def _naming_tables(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Have an error about a table that is not there say which are: UsageError."""
    try:
        yield
    except duckdb.CatalogException as error:
        sentence = _sentence(error)
        if not sentence.startswith("Catalog Error: Table "):
            raise
        names = ", ".join(name for (name,) in connection.execute("SHOW TABLES").fetchall())
        raise UsageError(f"{sentence} The tables are {names}.") from error


def _sentence(error: duckdb.Error) -> str:
    """Return an error in one line: what DuckDB draws below the query points nowhere here."""
    return " ".join(str(error).partition("\n\n")[0].split())


@contextmanager
def _sentences() -> Iterator[None]:
    """Turn DuckDB's errors into UsageError, in its own words."""
    try:
        yield
    except duckdb.OutOfMemoryException as error:
        raise MemoryError from error
    except duckdb.Error as error:
        raise UsageError(_sentence(error)) from error


def _plain(value: object) -> Plain:
    """Return `value` as JSON can say it."""
    match value:
        case None | bool() | int() | float() | str():
            return value
        case list() | tuple():
            return [_plain(item) for item in value]
        case Mapping():
            return {str(key): _plain(item) for key, item in value.items()}
        case datetime() | date() | time():
            return value.isoformat()
        case _:
            return str(value)
