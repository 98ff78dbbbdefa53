"""Fits scikit-learn's linear models to real data and leaves tables and answers in a folder.

Usage: python3 sklearn_fit.py DATA OUT

DATA holds uci-small/, california-housing/ and a9a/. Each table NAME is written to OUT as NAME.x.f32, NAME.y.f32 (little-endian
float32, row-major) and NAME.class.i32, a sparse one with NAME.row.i64, .col.i32 and .val.f32 for x, and OUT/answers.json lists for each fit the table, the model as a job writes it,
coefficients, intercepts and scikit-learn's objective in the convention of package linear. All fits are in float64
on the float32 values written.
"""
import csv
import gzip
import json
import os
import sys
import warnings
import numpy as np
import sklearn
from sklearn.datasets import load_svmlight_file
from sklearn.linear_model import Lasso, LinearRegression, LogisticRegression, Ridge

warnings.simplefilter("error")
data, out = sys.argv[1:]
answers, tables = [], {}


def table(name, x, y):
    x, y = np.asarray(x, "<f4"), np.asarray(y, "<f4").reshape(len(x), -1)
    c = (y[:, 0] > np.median(y[:, 0])).astype("<i4")
    x.tofile(f"{out}/{name}.x.f32")
    y.tofile(f"{out}/{name}.y.f32")
    c.tofile(f"{out}/{name}.class.i32")
    tables[name] = {"rows": x.shape[0], "dim": x.shape[1], "targets": y.shape[1]}
    return x.astype(float), y.astype(float), c


def answer(name, spec, m, objective):
    answers.append({"table": name, "model": spec, "weight": np.ravel(m.coef_).tolist(),
                    "bias": np.ravel(m.intercept_).tolist() if m.fit_intercept else [], "objective": float(objective)})


def fits(name, x, y, c, closed_only=False):
    for bias in (True, False):
        tag = "bias=true" if bias else "bias=false"
        m = LinearRegression(fit_intercept=bias, tol=1e-14).fit(x, y)
        answer(name, f"linear:{tag}", m, ((y - m.predict(x).reshape(y.shape)) ** 2).sum())
        for alpha in (0.01, 1, 100):
            m = Ridge(alpha=alpha, fit_intercept=bias, solver="svd").fit(x, y)
            answer(name, f"ridge:alpha={alpha},{tag}", m,
                   ((y - m.predict(x).reshape(y.shape)) ** 2).sum() + alpha * (m.coef_ ** 2).sum())
        if closed_only:
            continue
        for alpha in (0.1, 2):
            m = Lasso(alpha=alpha, fit_intercept=bias, tol=1e-12, max_iter=10**6).fit(x, y[:, 0])
            answer(name, f"lasso:alpha={alpha},{tag}", m,
                   ((y[:, 0] - m.predict(x)) ** 2).mean() / 2 + alpha * np.abs(m.coef_).sum())
        for C in (0.1, 1):
            m = LogisticRegression(C=C, fit_intercept=bias, tol=1e-10, solver="newton-cholesky").fit(x, c)
            s = 2 * c - 1
            answer(name, f"logistic:C={C},{tag}", m,
                   (m.coef_ ** 2).sum() / 2 + C * np.log1p(np.exp(-s * m.decision_function(x))).sum())


x = np.loadtxt(gzip.open(f"{data}/uci-small/diabetes_data.csv.gz", "rt"))
y = np.loadtxt(gzip.open(f"{data}/uci-small/diabetes_target.csv.gz", "rt"))
fits("diabetes", *table("diabetes", x, y), closed_only=True)
# Columns of deviation one, so that methods of the first order get there.
fits("diabetes-scaled", *table("diabetes-scaled", (x - x.mean(0)) / x.std(0), np.stack([y], 1)))

rows = list(csv.DictReader(gzip.open(f"{data}/california-housing/housing.csv.gz", "rt")))
rows = [r for r in rows if r["total_bedrooms"]]
numbers = [k for k in rows[0] if k not in ("median_house_value", "ocean_proximity")]
kinds = sorted({r["ocean_proximity"] for r in rows})
x = np.array([[float(r[k]) for k in numbers] for r in rows])
y = np.array([float(r["median_house_value"]) for r in rows])
hot = np.array([[float(r["ocean_proximity"] == k) for k in kinds] for r in rows])
fits("california", *table("california", x, y), closed_only=True)
# A full set of indicators: collinear with the intercept.
fits("california-kinds", *table("california-kinds", np.concatenate([x, hot], 1), y), closed_only=True)
fits("california-scaled", *table("california-scaled", (x - x.mean(0)) / x.std(0), np.stack([y / 1e5], 1)))

x, y = load_svmlight_file(f"{data}/a9a/a9a.gz", n_features=123)
c = (y > 0).astype("<i4")
c.tofile(f"{out}/a9a.class.i32")
x.indptr.astype("<i8").tofile(f"{out}/a9a.row.i64")
x.indices.astype("<i4").tofile(f"{out}/a9a.col.i32")
x.data.astype("<f4").tofile(f"{out}/a9a.val.f32")
tables["a9a"] = {"rows": x.shape[0], "dim": x.shape[1], "targets": 0, "values": x.nnz}
m = LogisticRegression(C=1, fit_intercept=False, tol=1e-10, solver="newton-cholesky").fit(x, c)
answer("a9a", "logistic:C=1,bias=false", m,
       (m.coef_ ** 2).sum() / 2 + np.log1p(np.exp(-(2 * c - 1) * m.decision_function(x))).sum())

with open(f"{out}/answers.json", "w") as f:
    json.dump({"sklearn": sklearn.__version__, "tables": tables, "answers": answers}, f)
