package compress

import (
	"fmt"
	"math"
	"testing"

	"github.com/covey-ml/covey/rng"
	"github.com/covey-ml/covey/spec"
	"github.com/covey-ml/covey/vec"
)

func decoded(t *testing.T, c Compressor, x []float32, key uint64) []float32 {
	t.Helper()
	p, err := c.Encode(nil, x, key)
	if err != nil {
		t.Fatalf("%s: %v", c, err)
	}
	y := make([]float32, len(x))
	if err := c.Decode(y, p); err != nil {
		t.Fatalf("%s: %v", c, err)
	}
	return y
}

// squares is |x|^2 and |x-y|^2.
func squares(x, y []float32) (all, lost float64) {
	for i := range x {
		a, b := float64(x[i]), float64(y[i])
		all += a * a
		lost += (a - b) * (a - b)
	}
	return all, lost
}

// TestTopKContracts is Stich et al., arXiv 1809.07599, lemma A.1: |x - C(x)|^2 <= (1 - k/n) |x|^2 for every vector, with
// equality where all magnitudes are equal; and of Adaptive what it promises in the same way.
func TestTopKContracts(t *testing.T) {
	for _, choice := range []string{"topk:0.01", "topk:0.3", "topk:k=7", "topk:1", "topk:0.05,values=fp16", "topk:1,values=fp16", "topk:0.05,values=bf16",
		"topk:1,values=bf16", "adaptive:energy=0.9", "adaptive:energy=0.5,values=fp16", "adaptive:bytes=16", "adaptive:bytes=1KiB",
		"adaptive:bytes=500,values=bf16", "adaptive:energy=0.99,bytes=200"} {
		c := sparsifier(t, choice)
		for _, n := range sparseLengths[1:] {
			delta := c.(Contraction).Delta(n)
			if !(delta > 0 && delta <= 1) {
				t.Fatalf("%s: Delta is %v of %d elements", choice, delta, n)
			}
			for name, x := range vectors(n) {
				if name == "tiny" && c.(interface{ rounds() Values }).rounds() == BF16 {
					continue // below 2^-126
				}
				all, lost := squares(x, decoded(t, c, x, 0))
				if lost > (1-delta)*all*(1+1e-12)+1e-14*all {
					t.Errorf("%s of %s, %d elements: lost %v of %v, Delta is %v", choice, name, n, lost, all, delta)
				}
				top, ok := c.(TopK)
				if ok && name == "flat" && top.Values == F32 && math.Abs(lost-(1-delta)*all) > 1e-12*all {
					t.Errorf("%s of equal elements: lost %v of %v, Delta is %v", choice, lost, all, delta)
				}
			}
		}
	}
}

// rounds tells tests how numbers are written.
func (c TopK) rounds() Values      { return c.Values }
func (c Adaptive) rounds() Values  { return c.Values }
func (c Threshold) rounds() Values { return c.Values }

// TestTopKTies: of equals the first are kept.
func TestTopKTies(t *testing.T) {
	y := decoded(t, TopK{K: 3}, []float32{1, -2, 2, 1, -1, 2, 2}, 0)
	if fmt.Sprint(y) != "[0 -2 2 0 0 2 0]" {
		t.Error(y)
	}
}

// TestUnbiased draws many codes of a vector whose elements are all alike but for the sign and checks the mean and the
// variance, over draws and elements, of y/x: their standard deviations are a few tenths of a percent, and they are held to
// five of those, so that a bias of 1 % cannot pass. Then E|C(x)-x|^2 of a heavy-tailed vector against Omega |x|^2, which all
// three reach.
func TestUnbiased(t *testing.T) {
	for _, choice := range []string{"bernoulli:0.1", "bernoulli:0.5", "bernoulli:0.7", "randomk:0.1,rescale=true", "randomk:0.6,rescale=true", "randomk:k=30,rescale=true"} {
		c := sparsifier(t, choice)
		const n, draws = 300, 36000
		omega := c.(Unbiased).Omega(n)
		x := make([]float32, n)
		for i := range x {
			x[i] = float32(1 - 2*(i%2))
		}
		mean := make([]float64, n)
		for key := range uint64(draws) {
			y := decoded(t, c, x, rng.Key(71, "unbiased", key))
			for i := range y {
				mean[i] += float64(y[i]*x[i]) / draws
			}
		}
		deviation := math.Sqrt(omega / draws) // of one element's mean
		var all, worst, chi float64
		for _, m := range mean {
			all += m / n
			worst = max(worst, math.Abs(m-1))
			chi += (m - 1) * (m - 1) / (deviation * deviation) / n
		}
		// For RandomK the sum over elements is always n.
		if bound := 5 * deviation / math.Sqrt(n); bound > 0.005 || math.Abs(all-1) > bound+1e-6 {
			t.Errorf("%s: the mean over all elements is %v, want 1 to within %v", choice, all, bound)
		}
		if worst > 5*deviation {
			t.Errorf("%s: an element's mean is off by %v, whose deviation is %v", choice, worst, deviation)
		}
		// Squared errors of the means, over their variance, have mean 1, and deviate by sqrt(2/n) of that.
		if math.Abs(chi-1) > 5*math.Sqrt(2.0/n) {
			t.Errorf("%s: the variance is %v of what Omega says", choice, chi)
		}

		h := heavy(3, n)
		norm, _ := squares(h, h)
		var got, fourth float64
		for key := range uint64(draws) {
			_, lost := squares(h, decoded(t, c, h, rng.Key(72, "unbiased", key)))
			got += lost / norm / draws
			fourth += lost * lost / norm / norm / draws
		}
		off := math.Sqrt(max(0, fourth-got*got) / draws)
		if math.Abs(got-omega) > 5*off+1e-5*omega || 5*off > 0.1*omega {
			t.Errorf("%s: E|C(x)-x|^2 is %v |x|^2, to within %v, and Omega is %v", choice, got, off, omega)
		}
	}
}

// TestRandomKContracts: E|C(x)-x|^2 = (1-k/n) |x|^2 (Stich et al., arXiv 1809.07599, lemma A.1).
func TestRandomKContracts(t *testing.T) {
	c := sparsifier(t, "randomk:0.1")
	x := heavy(4, 500)
	var got, second float64
	const draws = 4000
	for key := range uint64(draws) {
		all, lost := squares(x, decoded(t, c, x, rng.Key(73, "contracts", key)))
		got += lost / all / draws
		second += lost * lost / all / all / draws
	}
	if off := math.Sqrt((second - got*got) / draws); off > 0.005 || math.Abs(got-0.9) > 5*off {
		t.Errorf("%v of |x|^2 is lost, to within %v, want 0.9", got, off)
	}
}

// TestDrawsAreFair: each pair of elements is as likely in RandomK, C(n-2, k-2) of C(n, k), and independent in Bernoulli.
func TestDrawsAreFair(t *testing.T) {
	const n, rounds = 9, 40000
	for _, choice := range []string{"randomk:k=2", "randomk:k=4", "randomk:k=7", "bernoulli:0.3"} {
		c := sparsifier(t, choice).(Lister)
		want := 0.3 * 0.3
		if r, ok := c.(RandomK); ok {
			want = float64(r.K*(r.K-1)) / (n * (n - 1))
		}
		x := fill(n, 1)
		var pairs [n][n]int
		for key := range uint64(rounds) {
			p, err := c.(Compressor).Encode(nil, x, rng.Key(74, "fair", key))
			if err != nil {
				t.Fatal(err)
			}
			idx, err := c.Kept(nil, p, n)
			if err != nil {
				t.Fatal(err)
			}
			for _, i := range idx {
				for _, j := range idx {
					pairs[i][j]++
				}
			}
		}
		for i := range n {
			for j := range i {
				if got := float64(pairs[i][j]) / rounds; math.Abs(got-want) > 5*math.Sqrt(want*(1-want)/rounds) {
					t.Errorf("%s: %d and %d are kept together %v times, want %v", choice, i, j, got, want)
				}
			}
		}
	}
}

// TestIndexBits: of elements kept with probability 1 %, indices take at most 8.2 bits; the entropy is
// (-p log p - (1-p) log (1-p)) / p = 8.08.
func TestIndexBits(t *testing.T) {
	const n = 1 << 20
	var l list
	l.drawEach(drawsOf(5, "test"), n, 0.01)
	k := len(l.idx)
	if off := math.Abs(float64(k) - 0.01*n); off > 5*math.Sqrt(0.01*0.99*n) {
		t.Errorf("%d of %d elements with probability 1 %%", k, n)
	}
	b, size := bestGaps(l.idx, n)
	if each := float64(size) / float64(k); each > 8.2 || each < 8.0 || b != 6 {
		t.Errorf("%v bits an index, b = %d", each, b)
	}
	top := TopK{Ratio: 0.01}
	p, err := top.Encode(nil, heavy(6, n), 0)
	if each := 8 * float64(len(p)) / float64(top.Most(n)); err != nil || each > 40.2 {
		t.Errorf("%v bits an element kept, %v", each, err)
	}
}

// TestAdaptiveChoosesTheBest: one more element would not fit; one fewer would not hold the energy.
func TestAdaptiveChoosesTheBest(t *testing.T) {
	for seed := range uint64(20) {
		x := heavy(seed, int(100+977*seed))
		if seed%3 == 0 {
			for i := range x {
				x[i] = float32(int(x[i])) // ties and zeros
			}
		}
		n := len(x)
		largest := func(k int) (idx []int32, energy float64) {
			idx = make([]int32, k)
			vec.TopK(idx, x)
			for _, j := range idx {
				energy += float64(x[j]) * float64(x[j])
			}
			return idx, energy
		}
		_, all := largest(n)
		for _, size := range []int{16, 50, 333, 1000, 1 << 20} {
			c := Adaptive{Bytes: spec.Bytes(size), Values: Values(seed % 3)}
			p, err := c.Encode(nil, x, 0)
			if err != nil || len(p) > size {
				t.Fatalf("%s of %d elements: %d bytes, %v", c, n, len(p), err)
			}
			idx, err := c.Kept(nil, p, n)
			if err != nil {
				t.Fatal(err)
			}
			if k := len(idx); k < n {
				if more, _ := largest(k + 1); EntriesLen(more, n, c.Values) <= size {
					t.Errorf("%s of %d elements keeps %d, and one more would fit", c, n, k)
				}
			}
		}
		for _, part := range []float64{0.01, 0.5, 0.9, 0.999, 1 - 0x1p-53} {
			c := Adaptive{Energy: part}
			p, err := c.Encode(nil, x, 0)
			if err != nil {
				t.Fatal(err)
			}
			idx, err := c.Kept(nil, p, n)
			if err != nil {
				t.Fatal(err)
			}
			_, held := largest(len(idx))
			_, fewer := largest(max(0, len(idx)-1))
			if held < part*all*(1-1e-12) || fewer >= part*all*(1+1e-12) {
				t.Errorf("%s of %d elements keeps %d, with %v and without the last %v of %v", c, n, len(idx), held, fewer, all)
			}
		}
	}
}
