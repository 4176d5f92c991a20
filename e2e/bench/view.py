"""DuckDB's side of the suite `features`: `prepare` keeps CSV files as Parquet, `compute` writes the sorted rows of a query."""

import pathlib
import sys

import duckdb

mode, directory, *arguments = sys.argv[1:]
table = pathlib.Path(directory) / "flights.parquet"
duckdb.sql("SET TimeZone = 'UTC'")


def prepare():
    files = sorted(str(file) for file in pathlib.Path(directory).glob("*.csv"))
    duckdb.read_csv(files, na_values=["NA"], header=True, dtype={"at": "TIMESTAMPTZ"}).write_parquet(str(table))


def compute(sql, order, rows):
    duckdb.sql(f"CREATE VIEW flights AS SELECT * FROM read_parquet('{table}')")
    out = table.with_name("view.parquet")
    duckdb.sql(f"COPY ({sql} ORDER BY {order}) TO '{out}' (FORMAT parquet, COMPRESSION zstd)")
    found = duckdb.sql(f"SELECT count(*) FROM read_parquet('{out}')").fetchall()[0][0]
    assert found == int(rows), f"{found} rows instead of {rows}"


{"prepare": prepare, "compute": compute}[mode](*arguments)
