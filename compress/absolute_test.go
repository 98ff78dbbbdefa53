package compress

import (
	"math"
	"testing"

	"github.com/covey-ml/covey/rng"
	"github.com/covey-ml/covey/spec"
)

// An Absolute's error stays below its bound whatever the vector's size (Sahu et al., arXiv 2108.00951: absolute compressors),
// where a contraction's grows with it, and comes near it for the vector that is worst.
func TestAbsolute(t *testing.T) {
	for _, c := range []struct {
		text     string
		worst    float32 // an element of the worst vector
		relative float64 // part of |x|^2 that rounding what is kept may cost beside
	}{
		{"threshold:0.5", 0.4999, 0}, {"threshold:0.5,values=fp16", 0.4999, 0x1p-21}, {"threshold:0.5,values=bf16", 0.4999, 0x1p-16},
		{"uniform:delta=0.5", 0.4999, 0}, {"random:delta=0.5", 0.25, 0},
	} {
		s, err := spec.Parse(c.text)
		if err != nil {
			t.Fatal(err)
		}
		codec, err := New(s)
		if err != nil {
			t.Fatal(err)
		}
		const n = 4000
		bound := codec.(Absolute).Bound(n)
		lost := func(x []float32) (d, norm float64) {
			p, err := codec.Encode(nil, x, 5)
			if err != nil {
				t.Fatal(err)
			}
			y := make([]float32, n)
			if err := codec.Decode(y, p); err != nil {
				t.Fatal(err)
			}
			for i := range x {
				d += (float64(y[i]) - float64(x[i])) * (float64(y[i]) - float64(x[i]))
				norm += float64(x[i]) * float64(x[i])
			}
			return d, norm
		}
		x := make([]float32, n)
		for _, size := range []float64{1e-30, 1e-3, 0.5, 1, 30, 5000, 16000} {
			r := rng.New(1, "test")
			for i := range x {
				x[i] = float32(size * (2*r.Float64() - 1))
			}
			if d, norm := lost(x); d > bound+c.relative*norm {
				t.Errorf("%s, numbers up to %v: %v is lost, more than %v", c.text, size, d, bound)
			}
		}
		for i := range x {
			x[i] = c.worst
		}
		if d, _ := lost(x); d < bound/4*0.9 {
			t.Errorf("%s: %v is lost at worst, the bound is %v", c.text, d, bound)
		}
		if math.Abs(bound/(n*0.25)-1) > 0.02 {
			t.Errorf("%s: the bound is %v, expected about n times the square of 0.5", c.text, bound)
		}
		if _, also := codec.(Contraction); also {
			t.Errorf("%s is a contraction", c.text)
		}
	}
}
