//go:build integration

package optim

import (
	"bytes"
	"encoding/json"
	"math"
	"os/exec"
	"slices"
	"testing"

	"github.com/covey-ml/covey/internal/python"
	"github.com/covey-ml/covey/model"
	"github.com/covey-ml/covey/rng"
)

// TestAgainstPyTorch makes 20 updates along the same random gradients here and in torch.optim, both in float32. Each
// side rounds in its own order: the bound is the one of TestAgainstFloat64, twice.
func TestAgainstPyTorch(t *testing.T) {
	py := python.With(t, "torch")
	const seed, steps, n = 8, 20, 200
	type kind struct {
		Rule  string         `json:"-"`
		Class string         `json:"class"`
		Args  map[string]any `json:"args"`
		Clip  float64        `json:"clip"`
	}
	arg := func(kv ...any) map[string]any {
		m := map[string]any{"lr": 0.01}
		for i := 0; i < len(kv); i += 2 {
			m[kv[i].(string)] = kv[i+1]
		}
		return m
	}
	cases := []kind{
		{"sgd", "SGD", arg(), 0},
		{"sgd:weight_decay=0.1", "SGD", arg("weight_decay", 0.1), 0},
		{"momentum", "SGD", arg("momentum", 0.9), 0},
		{"momentum:0.8,dampening=0.3,weight_decay=0.01", "SGD", arg("momentum", 0.8, "dampening", 0.3, "weight_decay", 0.01), 0},
		{"nesterov", "SGD", arg("momentum", 0.9, "nesterov", true), 0},
		{"sgd:clip=0.5", "SGD", arg(), 0.5},
		{"adagrad", "Adagrad", arg(), 0},
		{"adagrad:lr_decay=0.1,initial_accumulator_value=0.5,eps=1e-3,weight_decay=0.1", "Adagrad", arg("lr_decay", 0.1, "initial_accumulator_value", 0.5, "eps", 1e-3, "weight_decay", 0.1), 0},
		{"rmsprop", "RMSprop", arg(), 0},
		{"rmsprop:alpha=0.9,momentum=0.5,weight_decay=0.1", "RMSprop", arg("alpha", 0.9, "momentum", 0.5, "weight_decay", 0.1), 0},
		{"rmsprop:centered=true,momentum=0.9", "RMSprop", arg("centered", true, "momentum", 0.9), 0},
		{"adam", "Adam", arg(), 0},
		{"adam:beta1=0.8,beta2=0.9,eps=1e-3,weight_decay=0.1", "Adam", arg("betas", []float64{0.8, 0.9}, "eps", 1e-3, "weight_decay", 0.1), 0},
		{"adam:amsgrad=true,clip=2", "Adam", arg("amsgrad", true), 2},
		{"adamw", "AdamW", arg(), 0},
		{"adamw:weight_decay=0.3", "AdamW", arg("weight_decay", 0.3), 0},
	}
	r := rng.New(seed, "test")
	x0 := random(r, n)
	var grads [][]float32
	for range steps {
		grads = append(grads, random(r, n))
	}
	in, err := json.Marshal(map[string]any{"x": x0, "grads": grads, "cases": cases})
	if err != nil {
		t.Fatal(err)
	}
	const script = `
import json, sys, torch
d = json.load(sys.stdin)
out = []
for c in d["cases"]:
    x = torch.nn.Parameter(torch.tensor(d["x"], dtype=torch.float32))
    o = getattr(torch.optim, c["class"])([x], **c["args"])
    xs = []
    for g in d["grads"]:
        x.grad = torch.tensor(g, dtype=torch.float32)
        if c["clip"]: torch.nn.utils.clip_grad_norm_([x], c["clip"])
        o.step()
        xs.append(x.detach().tolist())
    out.append(xs)
json.dump(out, sys.stdout)
`
	cmd := exec.Command(py, "-c", script)
	cmd.Stdin = bytes.NewReader(in)
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	b, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, complaint.String())
	}
	var theirs [][][]float64
	if err := json.Unmarshal(b, &theirs); err != nil {
		t.Fatal(err)
	}
	if len(theirs) != len(cases) {
		t.Fatalf("%d answers to %d cases", len(theirs), len(cases))
	}
	for k, c := range cases {
		o := make1(t, c.Rule, model.Layout{}.Add("x", n))
		x := slices.Clone(x0)
		way := make([]float64, n)
		for step, g := range grads {
			was := slices.Clone(x)
			o.Begin(step+1, 0.01)
			o.Apply(x, slices.Clone(g), 0, 1)
			for i, want := range theirs[k][step] {
				way[i] += math.Abs(float64(x[i] - was[i]))
				bound := 2 * (float64(step+1)*6e-8*(math.Abs(want)+way[i]) + 2e-6*way[i])
				if d := math.Abs(float64(x[i]) - want); !(d <= bound) {
					t.Fatalf("seed %d: %s: after update %d x[%d] is %v, PyTorch has %v: off by %g, bound %g", seed, c.Rule, step+1, i, x[i], want, d, bound)
				}
			}
		}
	}
}
