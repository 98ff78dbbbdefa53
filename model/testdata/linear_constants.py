"""Prints the constants of model/linear/sklearn_test.go: coefficients that scikit-learn finds for a table made by formula.

Run: python3 linear_constants.py   (pip install scikit-learn)
"""
import warnings
import numpy as np
import sklearn
from sklearn.linear_model import LinearRegression, Ridge, Lasso, LogisticRegression

warnings.simplefilter("error")
i = np.arange(24)
# Columns of very different size, one of them far from zero. All values are exact in float32.
X = np.stack([((7 * i + 3) % 11) / 1024, ((5 * i + 1) % 13) - 6.0, 30000 + 512.0 * ((3 * i * i + 2) % 17)], axis=1)
Y = np.stack([4.0 * ((3 * i * i + 5 * i) % 19) - 7, ((11 * i) % 7) - X[:, 1] / 2], axis=1)
two = ((i * i + 3 * i) // 5) % 2
three = (i * i + i // 2) % 3
S = X / [1 / 128, 4, 4096] - [0.625, 0, 8.5]  # of order one, also exact


def show(name, w, b):
    print(f'"{name}": {{{", ".join(repr(float(v)) for v in np.ravel(w))}, {", ".join(repr(float(v)) for v in np.ravel(b))}}},')


print("scikit-learn", sklearn.__version__)
for bias in (True, False):
    tag = "" if bias else ", no bias"
    m = LinearRegression(fit_intercept=bias, tol=1e-12).fit(X, Y)
    show("linear" + tag, m.coef_, m.intercept_ if bias else [])
    m = Ridge(alpha=2, fit_intercept=bias, solver="cholesky").fit(X, Y)
    show("ridge" + tag, m.coef_, m.intercept_ if bias else [])
    m = Lasso(alpha=0.3, fit_intercept=bias, tol=1e-12, max_iter=10**6).fit(S, Y)
    show("lasso" + tag, m.coef_, m.intercept_ if bias else [])
    m = LogisticRegression(C=0.5, fit_intercept=bias, tol=1e-12, solver="newton-cg", max_iter=10**5).fit(S, two)
    show("logistic" + tag, m.coef_, m.intercept_ if bias else [])
    if bias:
        m = LogisticRegression(C=1 / 0.7, tol=1e-12, solver="newton-cg", max_iter=10**5).fit(S, three)
        show("softmax", m.coef_, m.intercept_)

# Too many columns: a full set of indicators beside the intercept, and a column that is three times another.
hot = np.eye(3)[i % 3]
W = np.concatenate([X[:, 1:2], hot, 3 * X[:, 1:2]], axis=1)
m = LinearRegression().fit(W, Y)
show("collinear", m.coef_, m.intercept_)
# More columns than samples.
m = LinearRegression().fit(S[:3], Y[:3])
show("wide", m.coef_, m.intercept_)
