package reduce

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/comm/inproc"
	"github.com/covey-ml/covey/rng"
)

// oneWayRules are those of every kind that go one way.
var oneWayRules = []string{"topk:0.05+ef", "topk:0.1", "uniform:8+ef", "onebit+ef", "qsgd:127,elias", "fp16", "natural+ef", "randomk:0.2+ef", "dgc:0.05,momentum=0", "topk:0.2+ef21",
	"a: uniform:4+ef; b: bf16; c: topk:0.1+ef"}

func oneWay(t testing.TB, g comm.Group, text string) *OneWay {
	t.Helper()
	rules, err := ParseRules(text)
	if err != nil {
		t.Fatal(err)
	}
	o, err := NewOneWay(Config{Group: g, Layout: hostileLayout(), Rules: rules, Seed: 5})
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// drawn is a vector of normally distributed numbers.
func drawn(seed uint64, n int) []float32 {
	draw := rng.New(seed, "oneway test")
	x := make([]float32, n)
	for i := range x {
		x[i] = normal(draw)
	}
	return x
}

// ranges cuts so many elements as servers do: not at segments' borders.
func ranges(n int) [][2]int { return [][2]int{{0, 100}, {100, 1216}, {1216, n}} }

// With error feedback nothing is lost: what was sent and what is kept are what was given, whatever the ranges and the samples.
// EF21's sums follow what is sent.
func TestOneWayLosesNothing(t *testing.T) {
	g := inproc.New(1, time.Second)[0]
	for _, text := range oneWayRules {
		o := oneWay(t, g, text)
		n := hostileLayout().Len()
		given, came := make([]float64, n), make([]float64, n) // for one sample
		x, y := make([]float32, n), make([]float32, n)
		fixed := drawn(99, n)
		total := 0.0
		for step := range 12 {
			total = float64(8 * (1 + step%3))
			copy(x, drawn(uint64(step), n))
			if o.Follows() { // the same for a sample in every step
				for i := range x {
					x[i] = fixed[i] * float32(total)
				}
			}
			for i, v := range x {
				given[i] += float64(v) / total
			}
			o.Begin(x, total)
			for _, r := range ranges(n) {
				p, err := o.Encode(nil, r[0], r[1], step)
				if err != nil || len(p) > o.Most(r[0], r[1]) {
					t.Fatalf("%s: %d bytes of at most %d, %v", text, len(p), o.Most(r[0], r[1]), err)
				}
				rest, err := o.Decode(y[r[0]:r[1]], append(p, 7, 7), r[0], r[1], step)
				if err != nil || len(rest) != 2 {
					t.Fatalf("%s: %d bytes left, %v", text, len(rest), err)
				}
			}
			for i, v := range y {
				came[i] += float64(v) / total
			}
		}
		worst := 0.0
		for i := range o.segments {
			s := &o.segments[i]
			for j := range s.Len {
				at := s.Off + j
				switch s.feedback {
				case remember, momentous:
					worst = max(worst, math.Abs(given[at]-came[at]-float64(s.kept[j])/total))
				case follow: // its own estimate has come near
					worst = max(worst, math.Abs(float64(s.kept[j])/total-float64(fixed[at])))
				}
			}
		}
		if limit := map[bool]float64{false: 1e-5, true: 0.9}[o.Follows()]; worst > limit {
			t.Errorf("%s: off by %v", text, worst)
		}
	}
}

// A shadow comes as near to a vector that stays as its compressor lets it, and both ends have the same bits.
func TestShadowFollows(t *testing.T) {
	g := inproc.New(1, time.Second)[0]
	n := hostileLayout().Len()
	for _, text := range []string{"topk:0.1", "uniform:8", "bf16", "natural", "onebit", "randomk:0.2"} {
		rules, err := ParseShadow(text)
		if err != nil {
			t.Fatal(err)
		}
		c := Config{Group: g, Layout: hostileLayout(), Rules: rules, Seed: 5}
		x, there := drawn(1, n), make([]float32, n)
		far := NewShadow(c, 0, there)
		for _, r := range ranges(n) {
			near := NewShadow(c, r[0], make([]float32, r[1]-r[0]))
			for step := range 60 {
				p, err := near.Encode(nil, x[r[0]:r[1]], step)
				if err != nil {
					t.Fatal(err)
				}
				if rest, err := far.Decode(p, r[0], r[1], step); err != nil || len(rest) > 0 {
					t.Fatalf("%s: %d bytes left, %v", text, len(rest), err)
				}
			}
			off, all := 0.0, 0.0
			for i, v := range near.have {
				if there[r[0]+i] != v {
					t.Fatalf("%s: element %d is %v there and %v here", text, r[0]+i, there[r[0]+i], v)
				}
				off, all = off+math.Pow(float64(v-x[r[0]+i]), 2), all+math.Pow(float64(x[r[0]+i]), 2)
			}
			if off > 0.05*all {
				t.Errorf("%s: elements %v are off by %v of %v", text, r, off, all)
			}
		}
	}
}

// A number that is none has no code, and the error says where it is.
func TestOneWayNotFinite(t *testing.T) {
	o := oneWay(t, inproc.New(1, time.Second)[0], "topk:0.05+ef")
	x := drawn(1, hostileLayout().Len())
	x[1300] = float32(math.Inf(1))
	o.Begin(x, 1)
	if _, err := o.Encode(nil, 0, len(x), 0); !errors.Is(err, ErrNotFinite) || !strings.Contains(err.Error(), "of b") {
		t.Error(err)
	}
}

// What a shadow cannot go by is refused, with what can be taken instead.
func TestShadowsAreRefused(t *testing.T) {
	for text, why := range map[string]string{"none": "leave it out", "powersgd": "use uniform:8 or topk:0.05", "vote": "use uniform:8", "dgc:0.01": "use uniform:8", "topk:0.1+ef": "leave out what follows",
		"threshold:0.1": "needs a contraction", "topkk": "topk"} {
		if _, err := ParseShadow(text); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v, expected %q", text, err, why)
		}
	}
}

// FuzzOneWay: whatever comes is refused, or read as numbers, in the bytes that there are.
func FuzzOneWay(f *testing.F) {
	g := inproc.New(1, time.Second)[0]
	n := hostileLayout().Len()
	for i, text := range oneWayRules {
		o := oneWay(f, g, text)
		o.Begin(drawn(uint64(i), n), 1)
		p, err := o.Encode(nil, 100, 1216, 0)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(i), p)
	}
	f.Fuzz(func(t *testing.T, which uint8, p []byte) {
		o := oneWay(t, g, oneWayRules[int(which)%len(oneWayRules)])
		x := make([]float32, 1116)
		rest, err := o.Decode(x, p, 100, 1216, 0)
		if err == nil && len(p)-len(rest) > o.Most(100, 1216) {
			t.Errorf("%d bytes were read, of at most %d", len(p)-len(rest), o.Most(100, 1216))
		}
	})
}
