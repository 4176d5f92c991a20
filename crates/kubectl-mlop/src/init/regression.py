model = make_pipeline(SimpleImputer(), StandardScaler(), Ridge(alpha=float(PARAMETERS["alpha"])))
model.fit(x[:past], y[:past])
guess = model.predict(x[past:])
metrics = {"score": r2_score(y[past:], guess), "error": mean_absolute_error(y[past:], guess), "rows": past}
print(json.dumps(metrics))

mlflow.sklearn.save_model(
    model,
    OUTPUT / "model",
    signature=infer_signature(x[:10], model.predict(x[:10])),
    skops_trusted_types=["numpy.dtype"],
    pip_requirements=[],
)
(OUTPUT / "metrics.json").write_text(json.dumps(metrics))
