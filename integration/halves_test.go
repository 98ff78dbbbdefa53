//go:build integration

package integration

import (
	"math"
	"testing"

	"github.com/covey-ml/covey/compress"
	"github.com/covey-ml/covey/rng"
	"github.com/covey-ml/covey/spec"
)

// fp16 and bf16 round as PyTorch does, to the bit, with ties and subnormal numbers among them. Our fp16 divides by a power
// of two first, which is 1 for a vector whose largest number is from 2^14 to below 2^15: such a one is compared.
func TestHalvesAgainstPyTorch(t *testing.T) {
	draw := rng.New(11, "test")
	patterns := []uint32{0, 0x80000000, 0x38800000, 0x387fe000, 0x33000000, 0x33000001, 0x46800000, 0x46ffe000, 0x3f801000, 0x3f803000, 0x3f808000, 0x3f818000, 0x46ffefff, 1, 0x007fffff}
	for len(patterns) < 4096 {
		p := uint32(draw.Uint64())
		if draw.IntN(2) == 0 {
			p = p&0x8fffffff | 0x38000000 // near 1, where fp16 is at home
		}
		if x := math.Abs(float64(math.Float32frombits(p))); x < math.Ldexp(1, 127) { // all of them finite in bf16
			patterns = append(patterns, p)
		}
	}
	var theirs map[string][]uint32
	ask(t, `
import json, sys, numpy, torch
x = torch.from_numpy(numpy.array(json.load(sys.stdin), dtype=numpy.uint32).view(numpy.float32))
back = lambda kind: x.to(kind).float().numpy().view(numpy.uint32).tolist()
json.dump({"fp16": back(torch.float16), "bf16": back(torch.bfloat16)}, sys.stdout)
`, patterns, &theirs)
	for _, name := range []string{"fp16", "bf16"} {
		c, err := compress.New(&spec.Spec{Name: name})
		if err != nil {
			t.Fatal(err)
		}
		var x []float32
		var want []uint32
		for i, p := range patterns {
			if v := math.Float32frombits(p); name != "fp16" || math.Abs(float64(v)) < 1<<15 {
				x, want = append(x, v), append(want, theirs[name][i])
			}
		}
		if len(x) < 2000 {
			t.Fatalf("%s: only %d numbers to compare", name, len(x))
		}
		code, err := c.Encode(nil, x, 1)
		if err != nil {
			t.Fatal(err)
		}
		got := make([]float32, len(x))
		if err := c.Decode(got, code); err != nil {
			t.Fatal(err)
		}
		for i, v := range got {
			if math.Float32bits(v) != want[i] {
				t.Errorf("%s: %v (%#x) is %#x, PyTorch has %#x", name, x[i], math.Float32bits(x[i]), math.Float32bits(v), want[i])
			}
		}
	}
}
