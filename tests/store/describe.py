"""Prints `docs/store.md` from the schema, so that the page cannot say something else.

`python -m tests.store.describe > docs/store.md` makes the page anew.
"""

import sys
from collections.abc import Iterator

import pyarrow as pa

from audit.store import query, schema
from audit.store.schema import HISTORY, SCHEMA_VERSION, TABLES, Table, description

EXAMPLES: tuple[tuple[str, str], ...] = (
    (
        "Which namespaces can reach the pods `default/web-…` on tcp/80?",
        """SELECT DISTINCT src_namespace
FROM cells
WHERE dst_namespace = 'default' AND dst_name LIKE 'web-%'
  AND protocol = 'tcp' AND port = 80
  AND src_kind = 'pod' AND verdict = 'reachable'
ORDER BY src_namespace""",
    ),
    (
        "How many cells of each verdict, and what is unproven?",
        """SELECT verdict, reason, count(*) AS cells
FROM cells
GROUP BY ALL
ORDER BY cells DESC, verdict, reason""",
    ),
    (
        "Which policies block most?",
        """SELECT blame_kind, blame_namespace, blame_name, blame_direction, count(*) AS cells
FROM cells
WHERE verdict = 'blocked'
GROUP BY ALL
ORDER BY cells DESC, blame_name
LIMIT 20""",
    ),
    (
        "Which policies decide no cell at all?",
        """SELECT kind, namespace, name
FROM policies
ANTI JOIN cells
  ON kind = blame_kind AND namespace = blame_namespace AND name = blame_name
ORDER BY ALL""",
    ),
    (
        "Who, by label, is exposed to other namespaces?",
        """SELECT labels['app'] AS app, port, count(DISTINCT src_namespace) AS namespaces
FROM cells
JOIN endpoints
  ON dst_kind = kind AND dst_namespace = namespace AND dst_name = name AND dst_node = node
WHERE verdict = 'reachable' AND src_namespace <> dst_namespace
GROUP BY ALL
ORDER BY namespaces DESC, app, port""",
    ),
    (
        "What did OVN say where `default/web-0` is blocked?",
        """SELECT DISTINCT stage, logical_flow, acl, microflow
FROM cells
JOIN traces USING (trace_id)
WHERE dst_namespace = 'default' AND dst_name = 'web-0' AND verdict = 'blocked'
ORDER BY ALL""",
    ),
)
"""Questions and the SQL that answers them; a test runs each."""

_HEAD = f"""\
# A run's Parquet files

<!-- Printed by `python -m tests.store.describe > docs/store.md`: edit the schema, not this. -->

Schema version {SCHEMA_VERSION}. A run is one directory:

| path | what |
| --- | --- |
| `run.json` | scope, inputs, versions, counts and coverage; `schema_version`; `outputs`: path, \
size and SHA-256 of every other file |
"""
_RULES = """
`run.json` is written last: a directory without it is not a run. The files say nothing of when they
were written, so the same cells are the same bytes.

A null means *not asked* or *none*. Unproven cells (`inconclusive`, `untraced`) are neither
reachable nor blocked: leave them out of both sides, or count them apart.

`audit query [RUN] SQL` has these tables as views. It can read nothing else and write nothing. The
files are plain Parquet (zstd), so pandas, Spark or DuckDB itself can read them as well. On a
terminal, rows that do not fit are printed as a line for each value.
"""


_BY_CLASS = """
## Cells by class

A run of the objects alone (`--planes intent`, `--manifests`, `-k`) has no `cells/*.parquet`: what
policies do not tell apart is decided once, and written once. Every other run has cells and no
blocks. `audit query` has `cells` in both, with the same columns; of blocks it makes only the cells
that the SQL asks for, in no order. With views `blocks` and `block_…` of the files, this is `cells`
to whoever reads them without `audit query`:

```sql
{}
```
"""


def describe() -> str:
    """Return the text of `docs/store.md`."""
    parts = [_HEAD, *(f"| `{t.pattern}` | {t.text} |\n" for t in TABLES)]
    parts += ["| `report.html` | the report |\n", _RULES]
    for table in TABLES:
        parts += _table(table)
    parts.append(_BY_CLASS.format(query.cells_of_blocks()))
    parts.append("\n## Examples\n")
    parts += [f"\n{question}\n\n```sql\n{sql}\n```\n" for question, sql in EXAMPLES]
    parts.append("\n## History of the schema\n\n| version | change |\n| --- | --- |\n")
    parts += [f"| {version} | {change} |\n" for version, change in HISTORY]
    return "".join(parts)


def _table(table: Table) -> Iterator[str]:
    """Yield the section of one table."""
    yield f"\n## {table.name}\n\n`{table.pattern}`. {table.text}\n\n"
    yield "| column | type | null | meaning |\n| --- | --- | --- | --- |\n"
    for field in table.schema:
        null = "yes" if field.nullable else ""
        yield f"| `{field.name}` | {_type(field.type)} | {null} | {description(field)} |\n"


def _type(kind: pa.DataType) -> str:
    """Return a column's type in the words of SQL."""
    names = {
        schema.WORD: "text",
        schema.TEXT: "text",
        schema.TEXTS: "list of text",
        schema.LABELS: "map of text to text",
        schema.DECLARED: "list of structs",
        pa.int32(): "integer",
        pa.bool_(): "boolean",
    }
    return names[kind]


if __name__ == "__main__":
    sys.stdout.write(describe())
