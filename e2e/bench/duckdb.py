"""Reads CSV with the types and checks of the suite `ingest`, and writes the rows that pass as Parquet."""

import pathlib
import sys

import duckdb

source, out, rows = sys.argv[1:]
TYPES = {
    "id": "BIGINT", "at": "TIMESTAMPTZ", "carrier": "VARCHAR", "flight": "BIGINT", "tail": "VARCHAR",
    "origin": "VARCHAR", "dest": "VARCHAR", "dep_delay": "DOUBLE", "arr_delay": "DOUBLE", "air_time": "DOUBLE",
    "distance": "BIGINT", "hour": "BIGINT", "temp": "DOUBLE", "wind": "DOUBLE", "cancelled": "BOOLEAN",
    "note": "VARCHAR",
}  # fmt: skip
NULLABLE = {"tail", "dep_delay", "arr_delay", "air_time", "temp", "wind", "note"}
AIRPORTS = "('EWR', 'JFK', 'LGA', 'ATL', 'ORD', 'LAX')"
CHECKS = [f'"{name}" IS NOT NULL' for name in TYPES if name not in NULLABLE] + [
    "id >= 0",
    "regexp_full_match(carrier, '[A-Z0-9]{2}')",
    "flight BETWEEN 1 AND 9999",
    f"origin IN {AIRPORTS}",
    f"dest IN {AIRPORTS}",
    "(dep_delay IS NULL OR dep_delay BETWEEN -120 AND 3000)",
    "(arr_delay IS NULL OR arr_delay BETWEEN -120 AND 3000)",
    "distance >= 1",
]
files = sorted(str(file) for file in pathlib.Path(source).glob("*.csv"))
duckdb.sql("SET TimeZone = 'UTC'")
table = duckdb.read_csv(files, dtype=TYPES, na_values=["NA"], header=True)
valid = table.filter(" AND ".join(CHECKS))
valid.write_parquet(out, compression="zstd")
found = duckdb.sql(f"SELECT count(*) FROM read_parquet('{out}')").fetchall()[0][0]
assert found == int(rows), f"{found} rows instead of {rows}"
