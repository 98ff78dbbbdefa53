//go:build integration

package integration

import (
	"encoding/json"
	"math"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/covey-ml/covey/ckpt"
	"github.com/covey-ml/covey/internal/python"
	"github.com/covey-ml/covey/internal/realdata"
)

// reference runs a Python program and reads the JSON that it prints.
func reference(t *testing.T, out any, program string, args ...string) {
	t.Helper()
	cmd := exec.Command(python.With(t, "sklearn, safetensors.numpy"), append([]string{"-c", program}, args...)...)
	b, err := cmd.Output()
	if err != nil {
		var stderr []byte
		if e, ok := err.(*exec.ExitError); ok {
			stderr = e.Stderr
		}
		t.Fatalf("%v\n%s", err, stderr)
	}
	if err := json.Unmarshal(b, out); err != nil {
		t.Fatal(err)
	}
}

// a9a logistic regression ends at the optimum that scikit-learn's Newton method finds.
func TestA9aReachesTheOptimum(t *testing.T) {
	a9a := filepath.Join(realdata.Need(t, "a9a"), "a9a.gz")
	job, err := filepath.Abs("../examples/a9a.yaml")
	if err != nil {
		t.Fatal(err)
	}
	r := train(t, job, "--data", a9a)
	if r.Accuracy < 0.847 {
		t.Errorf("test accuracy %v, expected at least 0.847", r.Accuracy)
	}
	model := filepath.Join(latest(t, r.Run), ckpt.ModelFile)
	var ref struct{ Optimum, Ours float64 }
	reference(t, &ref, `
import gzip, json, sys, numpy as np
from safetensors.numpy import load_file
from sklearn.datasets import load_svmlight_file
from sklearn.linear_model import LogisticRegression
X, y = load_svmlight_file(gzip.open(sys.argv[1]), n_features=123)
objective = lambda w: 0.5 * w @ w + np.logaddexp(0, -y * (X @ w)).sum()
best = LogisticRegression(C=1, fit_intercept=False, solver="newton-cg", tol=1e-12, max_iter=5000).fit(X, y).coef_[0]
ours = load_file(sys.argv[2])["weight"].astype(np.float64).reshape(-1)
print(json.dumps({"optimum": objective(best), "ours": objective(ours)}))
`, a9a, model)
	t.Logf("objective %.6f, the optimum is %.6f, relative distance %.2g", ref.Ours, ref.Optimum, ref.Ours/ref.Optimum-1)
	if rel := ref.Ours/ref.Optimum - 1; math.Abs(rel) > 1e-9 {
		t.Errorf("objective %v is %.2g beyond the optimum %v", ref.Ours, rel, ref.Optimum)
	}
	if math.Abs(r.Objective/ref.Ours-1) > 1e-9 {
		t.Errorf("the report says %v, evaluated outside it is %v", r.Objective, ref.Ours)
	}
}

func latest(t *testing.T, run string) string {
	t.Helper()
	dir, _, err := ckpt.Latest(run)
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// Linear regression gives scikit-learn's coefficients.
func TestLinearCoefficients(t *testing.T) {
	diabetes := filepath.Join(realdata.Need(t, "uci-small"), "diabetes_data.csv.gz")
	housing := filepath.Join(realdata.Need(t, "california-housing"), "housing.csv.gz")
	for _, c := range []struct {
		name, prepare string
		args          []string
	}{
		{"diabetes", `
X = np.loadtxt(sys.argv[1]); y = np.loadtxt(sys.argv[1].replace("_data", "_target"))`, []string{diabetes, "--model", "linear"}},
		{"california", `
d = np.genfromtxt(gzip.open(sys.argv[1], "rt"), delimiter=",", skip_header=1, usecols=range(9))
d = d[~np.isnan(d).any(axis=1)]
X, y = d[:, :8], d[:, 8]`, []string{housing, "--model", "linear", "--target", "median_house_value", "--missing", "drop", "--drop", "ocean_proximity"}},
	} {
		for _, workers := range []string{"1", "3"} {
			r := train(t, append([]string{"--workers", workers, "--test", "none", "--data"}, c.args...)...)
			var worst float64
			reference(t, &worst, `
import gzip, json, sys, numpy as np
from safetensors.numpy import load_file
from sklearn.linear_model import LinearRegression
`+c.prepare+`
ref = LinearRegression().fit(X, y)
ours = load_file(sys.argv[2])
want = np.append(ref.coef_, ref.intercept_)
got = np.append(ours["weight"].reshape(-1), ours["bias"])
print(json.dumps(float(np.max(np.abs(got - want) / np.abs(want)))))
`, c.args[0], filepath.Join(latest(t, r.Run), ckpt.ModelFile))
			t.Logf("%s, %s workers: coefficients within %.2g", c.name, workers, worst)
			if worst > 1e-4 {
				t.Errorf("%s, %s workers: a coefficient is off by %.2g of itself", c.name, workers, worst)
			}
		}
	}
}
