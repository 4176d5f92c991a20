"""Feast's side of the suite `features`: `load` materializes the rows of a CSV file into Redis, `serve` starts its server.

The columns of the file are `id`, `at`, and features with the type as the first letter of their name.
"""

import datetime
import json
import pathlib
import sys
import time

mode, directory, *arguments = sys.argv[1:]
repository = pathlib.Path(directory)


def load(source, redis):
    import pandas
    from feast import Entity, FeatureStore, FeatureView, Field, FileSource, ValueType
    from feast.types import Float64, Int64, String

    types = {"d": Float64, "i": Int64, "s": String}
    rows = pandas.read_csv(source, parse_dates=["at"])
    rows.to_parquet(repository / "rows.parquet")
    config = {
        "project": "bench",
        "provider": "local",
        "registry": str(repository / "registry.db"),
        "online_store": {"type": "redis", "connection_string": redis},
        "entity_key_serialization_version": 3,
    }
    # JSON is YAML.
    (repository / "feature_store.yaml").write_text(json.dumps(config))
    store = FeatureStore(str(repository))
    entity = Entity(name="id", join_keys=["id"], value_type=ValueType.INT64)
    view = FeatureView(
        name="wide",
        entities=[entity],
        ttl=datetime.timedelta(0),
        schema=[Field(name="id", dtype=Int64)]
        + [Field(name=name, dtype=types[name[0]]) for name in rows.columns if name not in ("id", "at")],
        source=FileSource(path=str(repository / "rows.parquet"), timestamp_field="at"),
    )
    store.apply([entity, view])
    begin, cpu = time.perf_counter(), time.process_time()
    store.materialize(rows["at"].min() - datetime.timedelta(days=1), rows["at"].max() + datetime.timedelta(days=1))
    # Start and imports do not count.
    cost = {"seconds": time.perf_counter() - begin, "cpuSeconds": time.process_time() - cpu}
    (repository / "cost.json").write_text(json.dumps(cost))


def serve(port):
    from feast.cli.cli import cli

    # By default a worker is replaced after 1,000 requests, which stall meanwhile.
    cli(["--chdir", directory, "serve", "--port", port, "--no-access-log", "--max-requests", "1000000000"])


{"load": load, "serve": serve}[mode](*arguments)
