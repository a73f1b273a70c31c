"""SQL answers questions about the run and can do nothing else."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from audit.errors import ExitCode, RunReadError, UsageError
from audit.store.query import query

if TYPE_CHECKING:
    from tests.store.conftest import Example

ESCAPES = [
    "COPY cells TO '{dir}/out.csv'",
    "COPY cells TO '{run}/out.csv'",
    "WITH x AS (COPY cells TO '{dir}/out.csv') SELECT 1",
    "WITH x AS (COPY cells TO '{run}/out.csv') SELECT 1",
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM read_blob('{run}/run.json')",
    "SELECT * FROM '/etc/passwd'",
    "SELECT * FROM glob('/etc/*')",
    "SELECT * FROM read_parquet('https://example.invalid/x.parquet')",
    "ATTACH '{dir}/out.db'",
    "INSTALL httpfs",
    "LOAD httpfs",
    "EXPORT DATABASE '{dir}/out'",
    "SET enable_external_access = true",
    "SET lock_configuration = false",
    "SET temp_directory = '{dir}/out'",
    "CALL enable_logging('QueryLog', storage = 'file', storage_config = {{'path': '{dir}/out'}})",
    "PRAGMA enable_profiling; PRAGMA profiling_output = '{dir}/out'; SELECT 1",
    "SELECT * FROM connection",
    "SELECT * FROM files",
]


def test_which_namespaces_can_reach_a_pod(run_path: Path) -> None:
    columns, rows = query(
        run_path,
        "SELECT DISTINCT src_namespace FROM cells WHERE dst_namespace = 'default' AND "
        "dst_name = 'web' AND protocol = 'tcp' AND port = 80 AND verdict = 'reachable'",
    )

    assert columns == ["src_namespace"]
    assert list(rows) == [("shop",)]


@pytest.mark.parametrize(
    ("where", "count"),
    [
        ("blame_kind IS NULL", 3),
        ("blame_kind IS NOT NULL", 2),
        ("verdict <> 'blocked'", 3),
        ("verdict IN ('blocked', 'exits')", 3),
        ("src_name >= 'probe'", 3),
        ("dst_name LIKE 'w%'", 4),
        ("reply = 'reachable' OR drift", 2),
        ("blame_rule = 0", 1),
        ("intent = logical", 0),
        ("NOT coalesce(drift, false)", 5),
        ("src_namespace = 'nowhere'", 0),
    ],
)
def test_conditions_on_encoded_and_null_columns(run_path: Path, where: str, count: int) -> None:
    _, rows = query(run_path, f"SELECT count(*) FROM cells WHERE {where}")

    assert list(rows) == [(count,)]


def test_all_four_tables_are_there(run_path: Path) -> None:
    counts = {
        table: next(query(run_path, f"SELECT count(*) FROM {table}")[1])[0]
        for table in ("cells", "endpoints", "policies", "traces")
    }

    assert counts == {"cells": 5, "endpoints": 5, "policies": 2, "traces": 5}


def test_rows_are_what_json_can_say(run_path: Path) -> None:
    _, rows = query(
        run_path,
        "SELECT labels, addresses, declared, host_network, DATE '2024-02-29', 1.5::DECIMAL(4, 2), "
        "INTERVAL 1 HOUR, sum(1) OVER (), NULL FROM endpoints WHERE name = 'web'",
    )
    (row,) = rows

    assert json.loads(json.dumps(row)) == [
        {"app": "web", "tier": "front"},
        ["10.244.0.1", "fd00::1"],
        [
            {"name": "http", "protocol": "tcp", "port": 80},
            {"name": "", "protocol": "udp", "port": 53},
        ],
        False,
        "2024-02-29",
        "1.50",
        "1:00:00",
        1,
        None,
    ]


@pytest.mark.parametrize("sql", ESCAPES)
def test_sql_reaches_nothing_but_the_tables(run_path: Path, tmp_path: Path, sql: str) -> None:
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}

    with pytest.raises(UsageError):
        list(query(run_path, sql.format(dir=tmp_path, run=run_path))[1])
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_an_error_is_in_the_words_of_duckdb(run_path: Path) -> None:
    with pytest.raises(UsageError, match=r'column "verdit" not found.*verdict') as caught:
        query(run_path, "SELECT verdit FROM cells")
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code is ExitCode.USAGE


def test_an_unknown_table_is_told_with_those_that_are_there(run_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r'Did you mean "cells"\? The tables are .*probes, traces\.$'
    ):
        query(run_path, "SELECT * FROM cels")


def test_an_error_while_rows_are_made_is_one_too(run_path: Path) -> None:
    with pytest.raises(UsageError, match="Could not convert"):
        list(query(run_path, "SELECT src_name::INTEGER FROM cells")[1])


@pytest.mark.parametrize("sql", ["", " ; ", "-- only a remark"])
def test_no_sql_is_a_usage_error(run_path: Path, sql: str) -> None:
    with pytest.raises(UsageError, match="asks for nothing"):
        query(run_path, sql)


def test_no_run_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(RunReadError):
        query(tmp_path, "SELECT 1")


def test_a_path_that_looks_like_a_pattern_is_a_path(example: "Example", tmp_path: Path) -> None:
    writer = example.write(tmp_path / "it's [a] run *?")
    writer.finish({})

    assert list(query(writer.path, "SELECT count(*) FROM cells")[1]) == [(5,)]
