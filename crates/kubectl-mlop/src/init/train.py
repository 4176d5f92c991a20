import json
import os
from pathlib import Path

import mlflow.sklearn
import pandas as pd
from mlflow.models import infer_signature
from sklearn.impute import SimpleImputer
from sklearn.linear_model import {{MODEL}}
from sklearn.metrics import {{METRICS}}
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

INPUTS = Path(os.environ["MLOP_INPUTS"])
OUTPUT = Path(os.environ["MLOP_OUTPUT"])
PARAMETERS = json.loads(Path(os.environ["MLOP_HYPERPARAMETERS"]).read_text())
SEED = int(os.environ["MLOP_SEED"])

TIME, ENTITY, TARGET = {{TIME}}, {{ENTITY}}, {{TARGET}}
NUMBERS = {{NUMBERS}}
FEATURES = {{FEATURES}}


def table(name):
    # A table is a directory of Parquet files.
    rows = pd.concat([pd.read_parquet(part) for part in sorted((INPUTS / name).rglob("*.parquet"))])
    if TIME:
        rows[TIME] = pd.to_datetime(rows[TIME])
        return rows.sort_values(TIME, kind="stable")
    return rows.sample(frac=1, random_state=SEED)


rows = table({{TABLE}}).dropna(subset=[TARGET])
if FEATURES:
    # Point in time: each row gets the newest features of its entity that were true then.
    rows = pd.merge_asof(rows, table("features"), on=TIME, by=ENTITY)
x = rows[[*NUMBERS, *FEATURES]].astype("float64")
y = rows[TARGET]
past = int(len(rows) * 0.8)  # the last fifth is not learned from

