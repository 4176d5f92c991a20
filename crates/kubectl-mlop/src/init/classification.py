y = y.astype("bool")
model = make_pipeline(
    SimpleImputer(), StandardScaler(), LogisticRegression(C=float(PARAMETERS["c"]), random_state=SEED)
)
model.fit(x[:past], y[:past])
metrics = {"score": roc_auc_score(y[past:], model.predict_proba(x[past:])[:, 1]), "rows": past}
print(json.dumps(metrics))

mlflow.sklearn.save_model(
    model,
    OUTPUT / "model",
    signature=infer_signature(x[:10], model.predict_proba(x[:10])),
    pyfunc_predict_fn="predict_proba",
    skops_trusted_types=["numpy.dtype"],
    pip_requirements=[],
)
(OUTPUT / "metrics.json").write_text(json.dumps(metrics))
