package linear

import (
	"context"
	"math"
	"testing"

	"github.com/covey-ml/covey/data"
	"github.com/covey-ml/covey/model"
)

// Coefficients, row by row, then intercepts, printed by model/testdata/linear_constants.py with scikit-learn 1.9.1.
var sklearn = map[string][]float64{
	"linear":            {3441.524271486506, 0.9371326145479374, -0.0017089679989583137, 5.9044866742228, -0.4910176661771893, -1.3927649376087322e-05, 62.18774570461329, 3.2921068867115912},
	"ridge":             {0.3728521384759649, 1.441670836642516, -0.0007507540094776281, 0.0005666524763360022, -0.48716011281517757, -1.3668279411917716e-05, 45.860620007646176, 3.312729105706861},
	"lasso":             {24.71783442984218, 3.3954417727876076, -5.345104923693476, -0.0, -1.6394633740947404, -0.0, 19.43450367564535, 2.837088923186513},
	"logistic":          {-0.024098139162224443, -0.3778399975368428, 0.379524929712396, -0.5501903410331332},
	"softmax":           {0.48604707971455535, -0.019275503598053967, -1.056583755530414, 0.37303746607584, -0.26462912207339523, 0.71436122111779, -0.8590845457903955, 0.2839046256714475, 0.34222253441262324, 0.5898904283130275, 0.048123999621258615, -0.6380144279342849},
	"linear, no bias":   {3329.5859177474176, 0.6978236449048422, 7.564238351991737e-05, -0.021327504517239526, -0.5036862506078968, 8.054639954921865e-05},
	"ridge, no bias":    {0.36380571412256796, 1.2523452117836775, 0.0005534675163088792, -8.681346575279757e-05, -0.5008359965651453, 8.054179903974794e-05},
	"lasso, no bias":    {25.842227616922, 2.5051776636862164, -1.3913229586456874, 0.0, -1.6717948717948716, 0.0},
	"logistic, no bias": {-0.033716273757547946, -0.35309961453458283, 0.32705031137966395},
	"collinear":         {0.15283089613798215, 4.346706661667291, 0.6721659792525956, -5.018872640919885, 0.45849268841394714, -0.04999999999999995, -0.20833333333333354, 0.2916666666666665, -0.08333333333333312, -0.14999999999999988, 19.563679540057493, 2.833333333333333},
	"wide":              {31.249706916764353, 7.3378663540445475, -12.042203985931991, 3.732708089097304, -0.6658851113716304, -2.4900351699882766, -1.1636869871043318, 0.2955927608440798},
}

// table makes the data of linear_constants.py: raw columns of very different size, or scaled ones of order one.
func table(scaled bool) (x, y []float32, two, three []int32) {
	for i := range 24 {
		row := []float64{float64((7*i+3)%11) / 1024, float64((5*i+1)%13) - 6, 30000 + 512*float64((3*i*i+2)%17)}
		y = append(y, float32(4*((3*i*i+5*i)%19)-7), float32(float64((11*i)%7)-row[1]/2))
		if scaled {
			row[0], row[1], row[2] = row[0]*128-0.625, row[1]/4, row[2]/4096-8.5
		}
		for _, v := range row {
			x = append(x, float32(v))
		}
		two, three = append(two, int32((i*i+3*i)/5%2)), append(three, int32((i*i+i/2)%3))
	}
	return x, y, two, three
}

// near fails unless got is want to tol relative to each value.
func near(t *testing.T, what string, got []float32, want []float64, tol float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d values, expected %d", what, len(got), len(want))
	}
	for i, v := range want {
		if d := math.Abs(float64(got[i]) - v); !(d <= tol*math.Abs(v)) {
			t.Errorf("%s: element %d is %v, expected %v", what, i, got[i], v)
		}
	}
}

// whole is all of ds in one batch.
func whole(ds data.Dataset) *data.Batch {
	ids := make([]int, ds.Len())
	for i := range ids {
		ids[i] = i
	}
	var b data.Batch
	ds.Gather(&b, ids)
	return &b
}

// solve is the closed form over batches of at most rows samples.
func solve(t *testing.T, m interface {
	model.Model
	model.Direct
}, ds data.Dataset, rows int) []float32 {
	t.Helper()
	s := make([]float64, m.StatLen())
	for lo := 0; lo < ds.Len(); lo += rows {
		var ids []int
		for i := lo; i < min(lo+rows, ds.Len()); i++ {
			ids = append(ids, i)
		}
		var b data.Batch
		ds.Gather(&b, ids)
		if err := m.Stats(s, &b); err != nil {
			t.Fatal(err)
		}
	}
	x := make([]float32, m.Layout().Len())
	if err := m.Solve(x, s, ds.Len()); err != nil {
		t.Fatal(err)
	}
	return x
}

// descend minimises by accelerated full-batch steps (Beck and Teboulle, SIAM J. Imaging Sciences 2, 2009, section 4)
// with the regulariser as a gradient or as a proximal step, whichever the model has.
func descend(t *testing.T, m model.Model, ds data.Dataset, rate float32, steps int) []float32 {
	t.Helper()
	b := whole(ds)
	n := m.Layout().Len()
	x, last, y, g := make([]float32, n), make([]float32, n), make([]float32, n), make([]float32, n)
	m.Init(x, 1)
	copy(y, x)
	k := 1.0
	for range steps {
		if _, err := m.Grad(context.Background(), y, g, b, nil); err != nil {
			t.Fatal(err)
		}
		for i := range g {
			g[i] /= float32(b.N)
		}
		if p, ok := m.(model.Penalised); ok {
			p.AddPenaltyGrad(y, g[:n], 0)
		}
		copy(last, x)
		for i := range x {
			x[i] = y[i] - rate*g[i]
		}
		if p, ok := m.(model.Proximal); ok {
			p.Prox(x, 0, n, rate)
		}
		next := (1 + math.Sqrt(1+4*k*k)) / 2
		for i := range y {
			y[i] = x[i] + float32((k-1)/next)*(x[i]-last[i])
		}
		k = next
	}
	return x
}

// TestScikitLearn finds scikit-learn's coefficients to 1e-4 of each: in closed form on raw columns, by descent on scaled
// ones.
func TestScikitLearn(t *testing.T) {
	for _, noBias := range []bool{false, true} {
		tag := ""
		if noBias {
			tag = ", no bias"
		}
		x, y, _, _ := table(false)
		raw := data.DenseTargets("raw", 3, x, y, 2)
		x, y, two, three := table(true)
		scaled := data.DenseTargets("scaled", 3, x, y, 2)
		c := Config{Dim: 3, Outputs: 2, N: 24, NoBias: noBias, Train: raw}

		lin, err := NewLinear(c)
		if err != nil {
			t.Fatal(err)
		}
		near(t, "linear"+tag, solve(t, lin, raw, 24), sklearn["linear"+tag], 1e-6)
		ridge, err := NewRidge(c, 2)
		if err != nil {
			t.Fatal(err)
		}
		near(t, "ridge"+tag, solve(t, ridge, raw, 7), sklearn["ridge"+tag], 1e-6)
		lasso, err := NewLasso(c, 0.3)
		if err != nil {
			t.Fatal(err)
		}
		near(t, "lasso"+tag, descend(t, lasso, scaled, 0.3, 2000), sklearn["lasso"+tag], 1e-4)
		logistic, err := NewLogistic(c, 0.5)
		if err != nil {
			t.Fatal(err)
		}
		near(t, "logistic"+tag, descend(t, logistic, data.Dense("two", 3, x, two, 2), 1, 2000), sklearn["logistic"+tag], 1e-4)
		if noBias {
			continue
		}
		c.Outputs = 3
		softmax, err := NewSoftmax(c, 0.7)
		if err != nil {
			t.Fatal(err)
		}
		w := descend(t, softmax, data.Dense("three", 3, x, three, 3), 1, 4000)
		// The same number added to all biases changes nothing, and rounding adds some: scikit-learn's sum is zero.
		drift := (w[9] + w[10] + w[11]) / 3
		for i := range 3 {
			w[9+i] -= drift
		}
		near(t, "softmax", w, sklearn["softmax"], 1e-4)
	}
}

// TestLeastNorm: where columns are collinear, or more than samples, the solution of least norm, as scikit-learn's.
func TestLeastNorm(t *testing.T) {
	x, y, _, _ := table(false)
	var w []float32
	for i := range 24 {
		row := []float32{x[3*i+1], 0, 0, 0, 3 * x[3*i+1]}
		row[1+i%3] = 1
		w = append(w, row...)
	}
	ds := data.DenseTargets("collinear", 5, w, y, 2)
	for _, train := range []data.Dataset{ds, nil} {
		m, err := NewLinear(Config{Dim: 5, Outputs: 2, Train: train})
		if err != nil {
			t.Fatal(err)
		}
		near(t, "collinear", solve(t, m, ds, 5), sklearn["collinear"], 1e-6)
	}
	x, y, _, _ = table(true)
	ds = data.DenseTargets("wide", 3, x[:9], y[:6], 2)
	m, err := NewLinear(Config{Dim: 3, Outputs: 2, Train: ds})
	if err != nil {
		t.Fatal(err)
	}
	near(t, "wide", solve(t, m, ds, 2), sklearn["wide"], 1e-6)
}
