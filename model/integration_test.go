//go:build integration

package model_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/covey-ml/covey/data"
	"github.com/covey-ml/covey/internal/python"
	"github.com/covey-ml/covey/internal/realdata"
	"github.com/covey-ml/covey/model"
	"github.com/covey-ml/covey/model/zoo"
	"github.com/covey-ml/covey/rng"
	"github.com/covey-ml/covey/spec"
)

func build(t *testing.T, s string, info data.Info, n int, train data.Dataset) model.Model {
	t.Helper()
	sp, err := spec.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	m, err := zoo.New(sp, info, n, train)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

type torchParam struct {
	Name  string    `json:"name"`
	Shape []int     `json:"shape"`
	Data  []float32 `json:"data"`
}

type torchCase struct {
	Widths     []int        `json:"widths"`
	Activation string       `json:"activation"`
	Params     []torchParam `json:"params"`
	X          []float32    `json:"x"`
	Y          []float32    `json:"y"`
	Class      []int32      `json:"class"`
}

// TestPyTorch: losses, outputs and gradients of networks against PyTorch in float64, and our names and shapes through its
// load_state_dict. 3e-6 of the largest gradient is some thirty roundings of float32.
func TestPyTorch(t *testing.T) {
	py := python.With(t, "torch")
	const n, dim = 64, 20
	type ours struct {
		name string
		m    model.Model
		x    []float32
		b    *data.Batch
	}
	var cases []torchCase
	var mine []ours
	for _, activation := range []string{"relu", "tanh", "gelu"} {
		for _, hidden := range [][]int{{16, 8}, {300}} {
			for _, info := range []data.Info{
				{Task: data.Classification, Dim: dim, Classes: 5},
				{Task: data.Regression, Dim: dim, Targets: 3},
			} {
				name := "mlp:" + strings.Trim(strings.ReplaceAll(fmt.Sprint(hidden), " ", ","), "[]") + ",activation=" + activation
				m := build(t, name, info, n, nil)
				x := make([]float32, m.Layout().Len())
				m.Init(x, 42)
				r := rng.New(7, name)
				b := &data.Batch{N: n, Dim: dim, X: make([]float32, n*dim)}
				for i := range b.X {
					b.X[i] = 4*r.Float32() - 2
				}
				for i := range n {
					b.ID = append(b.ID, i)
					if info.Classes > 0 {
						b.Class = append(b.Class, int32(r.IntN(info.Classes)))
					}
					for range info.Targets {
						b.Y = append(b.Y, 2*r.Float32()-1)
					}
				}
				c := torchCase{Widths: append(append([]int{dim}, hidden...), info.Classes+info.Targets), Activation: activation, X: b.X, Y: b.Y, Class: b.Class}
				for _, s := range m.Layout() {
					c.Params = append(c.Params, torchParam{s.Name, s.Shape, x[s.Off : s.Off+s.Len]})
				}
				cases = append(cases, c)
				mine = append(mine, ours{fmt.Sprint(name, " ", info.Task), m, x, b})
			}
		}
	}
	in, err := json.Marshal(cases)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(py, filepath.Join("testdata", "pytorch_grad.py"))
	cmd.Stdin, cmd.Stderr = bytes.NewReader(in), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var theirs struct {
		Torch   string
		Answers []struct {
			Loss  float64
			Out   []float64
			Grad  map[string][]float64
			Bound map[string]float64
		}
	}
	if err := json.Unmarshal(out, &theirs); err != nil {
		t.Fatal(err)
	}
	if len(theirs.Answers) != len(mine) {
		t.Fatalf("%d answers to %d questions", len(theirs.Answers), len(mine))
	}
	var worst float64
	for i, o := range mine {
		want := theirs.Answers[i]
		g := make([]float32, len(o.x))
		loss, err := o.m.Grad(context.Background(), o.x, g, o.b, nil)
		if err != nil {
			t.Fatal(err)
		}
		if math.Abs(float64(loss.Sum)-want.Loss) > 1e-6*want.Loss {
			t.Errorf("%s: loss %v, PyTorch %v", o.name, loss.Sum, want.Loss)
		}
		p := o.m.(model.Predictor)
		predicted := make([]float32, n*p.Outputs())
		if err := p.Predict(context.Background(), o.x, o.b, predicted); err != nil {
			t.Fatal(err)
		}
		worst = max(worst, compare(t, o.name+" outputs", predicted, want.Out, 3e-6))
		if len(want.Grad) != len(o.m.Layout()) {
			t.Errorf("%s: %d parameters, PyTorch has %d", o.name, len(o.m.Layout()), len(want.Grad))
		}
		for _, s := range o.m.Layout() {
			worst = max(worst, compare(t, o.name+" "+s.Name, g[s.Off:s.Off+s.Len], want.Grad[s.Name], 3e-6))
			bound := want.Bound[s.Name]
			for _, v := range o.x[s.Off : s.Off+s.Len] {
				if math.Abs(float64(v)) > bound {
					t.Errorf("%s %s starts at %v, beyond torch.nn.Linear's %v", o.name, s.Name, v, bound)
				}
			}
		}
	}
	t.Logf("PyTorch %s: %d networks, largest difference %.1e of the largest value", theirs.Torch, len(mine), worst)
}

// compare fails unless got is want up to tol times the largest of want, and returns the largest difference in it.
func compare(t *testing.T, what string, got []float32, want []float64, tol float64) float64 {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%s: %d values, expected %d", what, len(got), len(want))
		return math.Inf(1)
	}
	var top, worst float64
	for i, v := range want {
		top = max(top, math.Abs(v))
		worst = max(worst, math.Abs(float64(got[i])-v))
	}
	if !(worst <= tol*top) {
		t.Errorf("%s: off by %v where the largest is %v", what, worst, top)
	}
	return worst / max(top, 1e-300)
}

// TestScikitLearn: coefficients of the linear family on diabetes and california housing, each within 1e-4 of
// scikit-learn's; and on a9a, which is sparse and poorly conditioned, the objective within 1e-6.
func TestScikitLearn(t *testing.T) {
	dir := realdata.Path(t, ".")
	py := python.With(t, "sklearn")
	out := t.TempDir()
	cmd := exec.Command(py, filepath.Join("testdata", "sklearn_fit.py"), dir, out)
	if msg, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, msg)
	}
	var a struct {
		Sklearn string
		Tables  map[string]struct{ Rows, Dim, Targets, Values int }
		Answers []struct {
			Table, Model string
			Weight, Bias []float64
			Objective    float64
		}
	}
	raw, err := os.ReadFile(filepath.Join(out, "answers.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &a); err != nil {
		t.Fatal(err)
	}
	for _, c := range a.Answers {
		t.Run(c.Table+" "+c.Model, func(t *testing.T) {
			tab := a.Tables[c.Table]
			file := func(kind string, v any) { load(t, filepath.Join(out, c.Table+"."+kind), v) }
			class := make([]int32, tab.Rows)
			file("class.i32", class)
			var ds data.Dataset
			if tab.Values > 0 {
				row64, row := make([]int64, tab.Rows+1), make([]int, tab.Rows+1)
				col, val := make([]int32, tab.Values), make([]float32, tab.Values)
				file("row.i64", row64)
				file("col.i32", col)
				file("val.f32", val)
				for i, v := range row64 {
					row[i] = int(v)
				}
				var err error
				if ds, err = data.CSR(c.Table, tab.Dim, row, col, val, class, 2, nil); err != nil {
					t.Fatal(err)
				}
			} else {
				x, y := make([]float32, tab.Rows*tab.Dim), make([]float32, tab.Rows*tab.Targets)
				file("x.f32", x)
				file("y.f32", y)
				ds = data.DenseTargets(c.Table, tab.Dim, x, y, tab.Targets)
				if strings.HasPrefix(c.Model, "logistic") {
					ds = data.Dense(c.Table, tab.Dim, x, class, 2)
				}
			}
			m := build(t, c.Model, ds.Info(), ds.Len(), ds)
			want := append(append([]float64{}, c.Weight...), c.Bias...)
			var got []float32
			if d, ok := m.(model.Direct); ok {
				got = direct(t, m, d, ds)
			} else {
				got = descend(t, m, ds, 1500)
			}
			if len(got) != len(want) {
				t.Fatalf("%d parameters, scikit-learn has %d", len(got), len(want))
			}
			var worst float64
			for i, v := range want {
				off := math.Abs(float64(got[i]) - v)
				if v != 0 || off != 0 {
					off /= math.Abs(v)
				}
				worst = max(worst, off)
				if !(off <= 1e-4) && tab.Values == 0 {
					t.Errorf("parameter %d is %v, scikit-learn's %v", i, got[i], v)
				}
			}
			f := m.(model.Objective).Objective(got, ds)
			if !(math.Abs(f-c.Objective) <= 1e-6*c.Objective) {
				t.Errorf("objective %v, scikit-learn's %v", f, c.Objective)
			}
			t.Logf("scikit-learn %s: parameters within %.1e, objective within %.1e", a.Sklearn, worst, f/c.Objective-1)
		})
	}
}

func load(t *testing.T, name string, v any) {
	t.Helper()
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := binary.Read(bytes.NewReader(raw), binary.LittleEndian, v); err != nil {
		t.Fatal(err)
	}
}

// direct sums statistics over four workers' parts, as training does.
func direct(t *testing.T, m model.Model, d model.Direct, ds data.Dataset) []float32 {
	t.Helper()
	s := make([]float64, d.StatLen())
	for w := range 4 {
		var b data.Batch
		var ids []int
		for i := w * ds.Len() / 4; i < (w+1)*ds.Len()/4; i++ {
			ids = append(ids, i)
		}
		ds.Gather(&b, ids)
		part := make([]float64, len(s))
		if err := d.Stats(part, &b); err != nil {
			t.Fatal(err)
		}
		for i, v := range part {
			s[i] += v
		}
	}
	x := make([]float32, m.Layout().Len())
	if err := d.Solve(x, s, ds.Len()); err != nil {
		t.Fatal(err)
	}
	return x
}

// descend minimises by accelerated full-batch steps (Beck and Teboulle, SIAM J. Imaging Sciences 2, 2009, section 4),
// started afresh whenever a step goes against the last one (O'Donoghue and Candes, Found. Comput. Math. 15, 2015,
// section 3.2). The rate is 1/(largest curvature), found by power iteration on gradients.
func descend(t *testing.T, m model.Model, ds data.Dataset, steps int) []float32 {
	t.Helper()
	n := m.Layout().Len()
	var b data.Batch
	ids := make([]int, ds.Len())
	for i := range ids {
		ids[i] = i
	}
	ds.Gather(&b, ids)
	grad := func(x, g []float32) {
		if _, err := m.Grad(context.Background(), x, g, &b, nil); err != nil {
			t.Fatal(err)
		}
		for i := range g {
			g[i] /= float32(b.N)
		}
		if p, ok := m.(model.Penalised); ok {
			p.AddPenaltyGrad(x, g[:n], 0)
		}
	}
	x, last, y, g, g0 := make([]float32, n), make([]float32, n), make([]float32, n), make([]float32, n), make([]float32, n)
	m.Init(x, 1)
	grad(x, g0)
	curve := 0.0
	for i := range y {
		y[i] = 1 / float32(math.Sqrt(float64(n)))
	}
	for range 100 {
		grad(y, g)
		curve = 0
		for i := range g {
			curve += math.Pow(float64(g[i]-g0[i]), 2)
		}
		curve = math.Sqrt(curve)
		for i := range y {
			y[i] = (g[i] - g0[i]) / float32(curve)
		}
	}
	rate := float32(0.9 / curve)
	copy(y, x)
	k := 1.0
	for range steps {
		grad(y, g)
		copy(last, x)
		for i := range x {
			x[i] = y[i] - rate*g[i]
		}
		if p, ok := m.(model.Proximal); ok {
			p.Prox(x, 0, n, rate)
		}
		var against float64
		for i := range x {
			against += float64(y[i]-x[i]) * float64(x[i]-last[i])
		}
		if against > 0 {
			k = 1
		}
		next := (1 + math.Sqrt(1+4*k*k)) / 2
		for i := range y {
			y[i] = x[i] + float32((k-1)/next)*(x[i]-last[i])
		}
		k = next
	}
	return x
}
