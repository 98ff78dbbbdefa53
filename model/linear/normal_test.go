package linear

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/covey-ml/covey/data"
	"github.com/covey-ml/covey/rng"
)

// badly makes n samples whose columns have the given means and deviations (two thirds of them zeros where sparse), and
// targets from known weights and a bias.
func badly(seed uint64, n int, mean, deviation, w []float64, bias float64, zeros bool) (x, y []float32) {
	r := rng.New(seed, "badly scaled")
	for range n {
		t := bias
		for j := range mean {
			v := float32(mean[j] + deviation[j]*(2*r.Float64()-1))
			if zeros && r.IntN(3) > 0 {
				v = 0
			}
			x = append(x, v)
			t += w[j] * float64(v)
		}
		y = append(y, float32(t))
	}
	return x, y
}

// TestBadScales finds known weights where columns differ by fourteen orders of magnitude or sit a million deviations from
// zero, to what rounding the targets to float32 leaves of them.
func TestBadScales(t *testing.T) {
	mean := []float64{4e6, 0, -3e-7, 5000}
	deviation := []float64{1, 2e7, 1e-7, 0.5}
	w := []float64{2, -3e-7, 4e7, -8}
	x, y := badly(1, 500, mean, deviation, w, -7.96e6, false)
	ds := data.DenseTargets("badly", 4, x, y, 1)
	m, err := NewLinear(Config{Dim: 4, Outputs: 1, Train: ds})
	if err != nil {
		t.Fatal(err)
	}
	near(t, "weights", solve(t, m, ds, 100)[:4], w, 1e-4)
	// The test has teeth: without the reference the same equations lose the weights.
	blind, err := NewLinear(Config{Dim: 4, Outputs: 1})
	if err != nil {
		t.Fatal(err)
	}
	if got := solve(t, blind, ds, 100); math.Abs(float64(got[0])-2) < 0.01 {
		t.Errorf("without a reference the weights are right all the same: %v", got)
	}
}

// TestSparseStats: dense and sparse forms of the same samples have one solution, with columns on either side of
// being mostly zero.
func TestSparseStats(t *testing.T) {
	x, y := badly(2, 300, []float64{100, 0, -5, 2}, []float64{3, 2, 5, 2}, []float64{2, -3, 4, -8}, 7, true)
	for i := range 300 { // a dense column in sparse data, and a constant one
		x[4*i+2] = float32(1000 + i%7)
		x[4*i+3] = 5
	}
	ds := data.DenseTargets("some zeros", 4, x, y, 1)
	sp := sparse{ds}
	for _, noBias := range []bool{false, true} {
		var got [][]float32
		for _, form := range []data.Dataset{ds, sp} {
			m, err := NewLinear(Config{Dim: 4, Outputs: 1, NoBias: noBias, Train: form})
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, solve(t, m, form, 64))
		}
		var want []float64
		for _, v := range got[0] {
			want = append(want, float64(v))
		}
		near(t, "sparse", got[1], want, 2e-6)
	}
	m, err := NewLinear(Config{Dim: 4, Outputs: 1, Train: sp})
	if err != nil {
		t.Fatal(err)
	}
	ref, err := m.reference()
	if err != nil {
		t.Fatal(err)
	}
	if ref.Shift[0] != 0 || ref.Shift[2] < 1000 || ref.Shift[3] != 5 {
		t.Errorf("shifts of sparse columns: %v", ref.Shift)
	}
	if w := solve(t, m, sp, 64); w[3] != 0 {
		t.Errorf("a column that does not vary has weight %v", w[3])
	}
}

// TestStandard: shifts are means, scales powers of two of the deviation's size, and the same samples give the same
// bits.
func TestStandard(t *testing.T) {
	x := []float32{1, 7, 0.5, 2, 7, 0.5, 3, 7, -1, 6, 7, 0}
	ds := data.DenseTargets("t", 3, x, []float32{10, 20, 30, 40}, 1)
	ref := standard(ds, true)
	if !slices.Equal(ref.Shift, []float64{3, 7, 0, 25}) || !slices.Equal(ref.Scale, []float64{2, 1, 1, 16}) {
		t.Errorf("reference %v", ref)
	}
	ref = standard(ds, false)
	if !slices.Equal(ref.Shift, []float64{0, 0, 0, 0}) || !slices.Equal(ref.Scale, []float64{4, 8, 1, 32}) {
		t.Errorf("reference without shift %v", ref)
	}
}

// TestStatsAddUp: statistics of parts add up to those of the whole, and of nothing are nothing.
func TestStatsAddUp(t *testing.T) {
	x, y, _, _ := table(false)
	ds := data.DenseTargets("t", 3, x, y, 2)
	m, err := NewRidge(Config{Dim: 3, Outputs: 2, N: 24, Train: ds}, 1)
	if err != nil {
		t.Fatal(err)
	}
	if m.StatLen() != 21 {
		t.Fatalf("%d statistics, expected 6*7/2", m.StatLen())
	}
	var b data.Batch
	parts := make([]float64, 21)
	all := make([]float64, 21)
	for _, ids := range [][]int{{0, 1, 2}, {}, {23, 3, 9}, {4, 5, 6, 7, 8, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22}} {
		ds.Gather(&b, ids)
		s := make([]float64, 21)
		if err := m.Stats(s, &b); err != nil {
			t.Fatal(err)
		}
		if len(ids) == 0 && slices.ContainsFunc(s, func(v float64) bool { return v != 0 }) {
			t.Errorf("nothing has the statistics %v", s)
		}
		for i, v := range s {
			parts[i] += v
		}
	}
	if err := m.Stats(all, whole(ds)); err != nil {
		t.Fatal(err)
	}
	for i, v := range all {
		if math.Abs(parts[i]-v) > 1e-13*24 || math.Abs(v) > 4*24 {
			t.Errorf("statistic %d: the parts' sum is %v, the whole's %v", i, parts[i], v)
		}
	}
}

// TestSolveIsStationary: at the closed form the gradient of the objective that Grad and Penalty define is zero, up to
// the rounding of the weights.
func TestSolveIsStationary(t *testing.T) {
	x, y, _, _ := table(true)
	ds := data.DenseTargets("t", 3, x, y, 2)
	m, err := NewRidge(Config{Dim: 3, Outputs: 2, N: 24, Train: ds}, 3)
	if err != nil {
		t.Fatal(err)
	}
	w := solve(t, m, ds, 24)
	g := make([]float32, len(w))
	if _, err := m.Grad(context.Background(), w, g, whole(ds), nil); err != nil {
		t.Fatal(err)
	}
	for i := range g {
		g[i] /= 24
	}
	m.AddPenaltyGrad(w, g, 0)
	for i, v := range g {
		if math.Abs(float64(v)) > 2e-5 { // targets are of order 40
			t.Errorf("gradient %d is %v at the solution %v", i, v, w)
		}
	}
}

func TestSolveRefuses(t *testing.T) {
	x, y, _, _ := table(true)
	ds := data.DenseTargets("t", 3, x, y, 2)
	m, err := NewLinear(Config{Dim: 3, Outputs: 2, Train: ds})
	if err != nil {
		t.Fatal(err)
	}
	s := make([]float64, m.StatLen())
	b := whole(ds)
	if err := m.Stats(s, b); err != nil {
		t.Fatal(err)
	}
	w := make([]float32, 8)
	if err := m.Solve(w, s, 23); err == nil || !strings.Contains(err.Error(), "of 24 samples, not of 23") {
		t.Error(err)
	}
	s[3] = math.Inf(1)
	if err := m.Solve(w, s, 24); err == nil || !strings.Contains(err.Error(), "statistic 3 is +Inf") {
		t.Error(err)
	}
	b.Y = b.Y[:24]
	if err := m.Stats(s, b); err == nil || !strings.Contains(err.Error(), "24 samples have 24 targets in all; the model predicts 2 each") {
		t.Error(err)
	}
	b.Dim = 4
	if err := m.Stats(s, b); err == nil || !strings.Contains(err.Error(), "samples have 4 features, the model takes 3") {
		t.Error(err)
	}
	other, err := NewLinear(Config{Dim: 3, Outputs: 2, Train: data.DenseTargets("t", 4, make([]float32, 8), make([]float32, 2), 1)})
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Stats(s, whole(ds)); err == nil || !strings.Contains(err.Error(), "the training set has 4 features and 1 targets, the model 3 and 2") {
		t.Error(err)
	}
}

// TestCholesky factors random matrices of known rank, and solves them.
func TestCholesky(t *testing.T) {
	for seed := uint64(1); seed <= 40; seed++ {
		r := rng.New(seed, "cholesky")
		n := 1 + r.IntN(12)
		rank := 1 + r.IntN(n)
		// A = B B' with unit diagonal, B of n x rank.
		b := make([]float64, n*rank)
		for i := range n {
			row := b[i*rank : (i+1)*rank]
			for j := range row {
				row[j] = 2*r.Float64() - 1
			}
			normalise(row)
		}
		a := make([]float64, n*n)
		for i := range n {
			for j := range n {
				for k := range rank {
					a[i*n+j] += b[i*rank+k] * b[j*rank+k]
				}
			}
		}
		f := factor(slices.Clone(a), n, 1e-12)
		if f.rank != rank {
			t.Fatalf("seed %d: rank %d of %d found, expected %d", seed, f.rank, n, rank)
		}
		v, want, raw := make([]float64, n), make([]float64, n), make([]float64, n)
		for i := range v {
			raw[i] = math.Ldexp(1, r.IntN(20)-10)
			v[i] = 2*r.Float64() - 1
		}
		for i := range want {
			for j := range v {
				want[i] += a[i*n+j] * v[j]
			}
		}
		u := slices.Clone(want)
		f.solve(u, raw)
		var long, short float64
		for i := range u {
			short, long = short+u[i]*u[i], long+math.Pow(v[i]*raw[i], 2)
			var got float64
			for j := range u {
				got += a[i*n+j] * u[j] / raw[j]
			}
			if math.Abs(got-want[i]) > 1e-7 {
				t.Errorf("seed %d: row %d of A v is %v, expected %v", seed, i, got, want[i])
			}
		}
		if short > long*(1+1e-9) {
			t.Errorf("seed %d: the solution's squared norm is %v, and one of %v exists", seed, short, long)
		}
	}
}

// TestGolden holds the bits of the reference, the statistics and the solution, collinear and not, so that they are the
// same on every processor.
func TestGolden(t *testing.T) {
	x, y := badly(9, 200, []float64{100, 0.3, -5, 2}, []float64{3, 2, 5, 0.1}, []float64{2.1, -3.3, 4.7, -8.9}, 7, true)
	for i := range 200 { // collinear up to rounding
		x[4*i+3] = 0.7 * x[4*i]
	}
	ds := data.DenseTargets("golden", 4, x, y, 1)
	for form, want := range map[data.Dataset]string{ds: "07bdbd2fc7fbccc8", sparse{ds}: "d5067c1e26b17698"} {
		m, err := NewLinear(Config{Dim: 4, Outputs: 1, Train: form})
		if err != nil {
			t.Fatal(err)
		}
		h := sha256.New()
		ref := standard(form, true)
		s := make([]float64, m.StatLen())
		if err := m.Stats(s, whole(form)); err != nil {
			t.Fatal(err)
		}
		w := solve(t, m, form, 200)
		if err := errors.Join(binary.Write(h, binary.LittleEndian, ref.Shift), binary.Write(h, binary.LittleEndian, ref.Scale),
			binary.Write(h, binary.LittleEndian, s), binary.Write(h, binary.LittleEndian, w)); err != nil {
			t.Fatal(err)
		}
		if got := hex.EncodeToString(h.Sum(nil)[:8]); got != want {
			t.Errorf("sparse %v: digest %s, expected %s; weights %v", form.Info().Sparse, got, want, w)
		}
	}
}
