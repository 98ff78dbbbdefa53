package bench_test

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/covey-ml/covey/bench"
	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/compress"
)

func TestMeasureCodec(t *testing.T) {
	all, err := bench.CodecChoices()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, c := range all {
		name, _, _ := strings.Cut(c.String(), ":")
		names = append(names, name)
	}
	for _, n := range compress.Names() {
		if !slices.Contains(names, n.Name) {
			t.Errorf("%s is not among those that are measured", n.Name)
		}
	}
	x := bench.Gradient(20_000)
	for _, c := range append(all, bench.Copy{}) {
		r, err := bench.MeasureCodec(comm.RealClock(), c, x, few)
		if err != nil {
			t.Errorf("%v: %v", c, err)
			continue
		}
		if r.Compressor != c.String() || r.Elements != len(x) || !(r.Bits > 0 && r.Error >= 0) || r.Encode.Blocks != few.Blocks {
			t.Errorf("%+v", r)
		}
		both := 4e-3 * float64(len(x)) / (r.Encode.Us + r.Decode.Us)
		if math.Abs(r.BothGBps-both) > 1e-9*both || !(r.AddGBps > 0) {
			t.Errorf("%+v: both are %v GB/s", r, both)
		}
		if _, ok := c.(compress.Unbiased); ok != (r.Omega != nil) {
			t.Errorf("%s: omega %v", c, r.Omega)
		}
	}
}

// boaster claims more than it keeps.
type boaster struct{ compress.RandomK }

func (boaster) Delta(int) float64 { return 0.9 }

// brief has longer codes than it says.
type brief struct{ compress.Identity }

func (brief) MaxLen(int) int { return 7 }

// odd adds something else than it decodes.
type odd struct{ compress.Identity }

func (odd) Add(x []float32, _ []byte, _ float32) error { x[5] = 1; return nil }

func TestMeasureCodecChecks(t *testing.T) {
	c, err := bench.Codec("randomk:0.1")
	if err != nil {
		t.Fatal(err)
	}
	for c, want := range map[compress.Compressor]string{
		boaster{c.(compress.RandomK)}: "and Delta is 0.9",
		brief{}:                       "a code of 400 bytes, announced were 7",
		odd{}:                         "when decoded and 0 when added to 0",
	} {
		if _, err := bench.MeasureCodec(comm.RealClock(), c, bench.Gradient(100), few); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%T: %v, want %s", c, err, want)
		}
	}
}
