package bench

import (
	"bytes"
	"errors"
	"fmt"
	"math"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/compress"
	"github.com/covey-ml/covey/rng"
	"github.com/covey-ml/covey/spec"
	"github.com/covey-ml/covey/vec"
)

// Copy is the yardstick of compressors: its code is a copy of the memory.
type Copy struct{ compress.Identity }

// String is what its row is called.
func (Copy) String() string { return "copy" }

// CodecRow is one compressor on one vector. Speeds are the vector's bytes as float32, in units of 1e9 a second.
type CodecRow struct {
	Compressor string   `json:"compressor"`
	Elements   int      `json:"elements"`
	Kernels    string   `json:"kernels"`
	Bits       float64  `json:"bits"`            // of the code, an element
	Kept       *float64 `json:"kept,omitempty"`  // part of the elements, of sparse ones
	Error      float64  `json:"error"`           // |x-C(x)| / |x|: the root of the mean square over some draws
	Omega      *float64 `json:"omega,omitempty"` // as claimed
	Delta      *float64 `json:"delta,omitempty"`
	Encode     Timing   `json:"encode"`
	Decode     Timing   `json:"decode"`
	Add        Timing   `json:"add"`
	EncodeGBps float64  `json:"encode_gbps"`
	DecodeGBps float64  `json:"decode_gbps"`
	BothGBps   float64  `json:"both_gbps"` // by the sum of both times
	AddGBps    float64  `json:"add_gbps"`
	Allocs     float64  `json:"allocs"` // objects that one of each takes
}

// CodecChoices are compressors to compare: each that there is, with parameters that suit Gradient. Their choices are in the
// order of compress.Names.
func CodecChoices() ([]compress.Compressor, error) {
	some := map[string][]string{
		"topk":      {"topk:0.01", "topk:0.01,values=fp16"},
		"randomk":   {"randomk:0.01", "randomk:0.01,rescale=true"},
		"threshold": {"threshold:0.004"},
		"adaptive":  {"adaptive:energy=0.9", "adaptive:bytes=64KiB"},
	}
	var out []compress.Compressor
	for _, name := range compress.Names() {
		choices := some[name.Name]
		if choices == nil {
			choices = []string{name.Name}
		}
		for _, text := range choices {
			c, err := Codec(text)
			if err != nil {
				return nil, err
			}
			out = append(out, c)
		}
	}
	return out, nil
}

// Codec makes one compressor of a choice as a job writes it, without what only sums know: error feedback and the like.
func Codec(text string) (compress.Compressor, error) {
	s, err := spec.Parse(text)
	if err != nil {
		return nil, err
	}
	return compress.New(s)
}

// Gradient draws a vector with many small elements and few large ones: products of three draws from a bell, with mean 0,
// deviation 0.001 and a fourth moment 17.6 times the square of the second.
func Gradient(n int) []float32 {
	r := rng.New(1, "bench gradient")
	bell := func() float64 { return 2 * (r.Float64() + r.Float64() + r.Float64() - 1.5) }
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(0.001 * bell() * bell() * bell())
	}
	return x
}

// MeasureCodec checks a compressor on x and times it: coding, decoding and adding to a vector, a third of the time each.
func MeasureCodec(clock comm.Clock, c compress.Compressor, x []float32, e Effort) (CodecRow, error) {
	n := len(x)
	row := CodecRow{Compressor: c.String(), Elements: n, Kernels: vec.Kernels()}
	if n == 0 {
		return row, errors.New("bench: no elements to compress")
	}
	if err := row.check(c, x); err != nil {
		return row, fmt.Errorf("%s, %d elements: %w", c, n, err)
	}
	e = e.fill()
	e.Time /= 3
	code, err := c.Encode(nil, x, 0)
	y, scratch := make([]float32, n), make([]float32, n)
	repeat := func(f func() error) func(int) {
		return func(times int) {
			for range times {
				err = errors.Join(err, f())
			}
		}
	}
	row.Encode = timesAlone(clock, e, repeat(func() (err error) { code, err = c.Encode(code[:0], x, 0); return err }))
	row.Decode = timesAlone(clock, e, repeat(func() error { return c.Decode(y, code) }))
	row.Add = timesAlone(clock, e, repeat(func() error { return compress.Add(c, y, code, 1, scratch) }))
	speed := func(us float64) float64 { return 4 * float64(n) / us / 1e3 }
	row.EncodeGBps, row.DecodeGBps, row.AddGBps = speed(row.Encode.Us), speed(row.Decode.Us), speed(row.Add.Us)
	row.BothGBps = speed(row.Encode.Us + row.Decode.Us)
	row.Allocs = row.Encode.Allocs + row.Decode.Allocs + row.Add.Allocs
	return row, err
}

// check encodes and decodes x under several keys and holds the code's length, the error and the sum against what c says.
func (row *CodecRow) check(c compress.Compressor, x []float32) error {
	n := len(x)
	y, sum, scratch := make([]float32, n), make([]float32, n), make([]float32, n)
	norm := vec.SumSquares(x)
	draws := min(64, max(4, 1<<22/n))
	var first []byte
	random := false
	var lost, kept float64 // on average
	for key := range uint64(draws) {
		code, err := c.Encode(nil, x, rng.Key(key, "bench draw"))
		if err != nil {
			return err
		}
		if _, fixed := c.(compress.Fixed); len(code) > c.MaxLen(n) || fixed && len(code) != c.MaxLen(n) {
			return fmt.Errorf("a code of %d bytes, announced were %d", len(code), c.MaxLen(n))
		}
		row.Bits += 8 * float64(len(code)) / float64(n) / float64(draws)
		if err := c.Decode(y, code); err != nil {
			return err
		}
		clear(sum)
		if err := compress.Add(c, sum, code, 1, scratch); err != nil {
			return err
		}
		for i, v := range y {
			d := float64(v) - float64(x[i])
			lost += d * d / float64(draws)
			if sum[i] != v {
				return fmt.Errorf("element %d is %v when decoded and %v when added to 0", i, v, sum[i])
			}
		}
		if s, ok := c.(compress.Sparse); ok {
			idx, err := s.Kept(nil, code, n)
			if err != nil {
				return err
			}
			kept += float64(len(idx)) / float64(n) / float64(draws)
			row.Kept = &kept
		}
		if key == 0 {
			first = code
		}
		random = random || !bytes.Equal(first, code)
	}
	row.Error = math.Sqrt(lost / norm)
	// Claims are about the mean over all draws, and these are a few.
	slack := 1 + 1e-6
	if random {
		slack = 1.5
	}
	if u, ok := c.(compress.Unbiased); ok {
		omega := u.Omega(n)
		if row.Omega = &omega; lost > slack*omega*norm {
			return fmt.Errorf("|C(x)-x|^2 is %.4g |x|^2 over %d draws, and Omega is %.4g", lost/norm, draws, omega)
		}
	}
	if k, ok := c.(compress.Contraction); ok {
		delta := k.Delta(n)
		if row.Delta = &delta; lost > slack*(1-delta)*norm+1e-12*norm {
			return fmt.Errorf("|C(x)-x|^2 is %.4g |x|^2 over %d draws, and Delta is %.4g", lost/norm, draws, delta)
		}
	}
	return nil
}
