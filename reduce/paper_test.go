package reduce

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/covey-ml/covey/model"
	"github.com/covey-ml/covey/rng"
	"github.com/covey-ml/covey/vec"
)

// PowerSGD's result is a projection (Vogels et al., arXiv 1905.13727, algorithm 1): it is never longer than the sum, the
// distance to the sum and its length are the legs of a right triangle, and over random starts it contracts by more than the
// rank's share of the columns.
func TestPowerSGDProjects(t *testing.T) {
	w := newWorld(t, 2, 2, "powersgd:4", nil)
	seg := w.layout[0]
	lo, hi := testHead+seg.Off, testHead+seg.Off+seg.Len
	lost := 0.0
	const tries = 20
	for try := range tries {
		for _, r := range w.red {
			clear(r.(*Compressed).segments[0].q) // a new start, drawn for this step
		}
		got, exact := w.must(try, 0, nil)
		var g, e, d float64
		for i := lo; i < hi; i++ {
			g += float64(got[i]) * float64(got[i])
			e += exact[i] * exact[i]
			d += (float64(got[i]) - exact[i]) * (float64(got[i]) - exact[i])
		}
		if g > e*(1+1e-6) {
			t.Errorf("try %d: the result is longer than the sum, %v against %v", try, g, e)
		}
		if math.Abs(g+d-e) > 1e-4*e {
			t.Errorf("try %d: no projection: %v + %v is not %v", try, g, d, e)
		}
		lost += d / e / tries
	}
	if most := 1 - 4.0/48; lost >= most {
		t.Errorf("of the sum's square %.4f is lost, expected less than %.4f on average", lost, most)
	}
}

// The factors keep their places from step to step: on a matrix that stays the same the approximation comes to the best of
// its rank, which here is the matrix itself.
func TestPowerSGDWarmStart(t *testing.T) {
	w := newWorld(t, 2, 2, "powersgd:2", nil)
	rows, cols := 48, 64
	low := func(parts [][][]float32) { // of rank 2, the same on both
		for _, p := range parts {
			for i := range rows {
				for j := range cols {
					p[0][testHead+i*cols+j] = float32(i+1)*float32(j%5-2) + 3*float32(i%7)*float32(j%3)
				}
			}
		}
	}
	for step := range 3 {
		got, exact := w.must(step, 0, low)
		if d := distance(got[testHead:testHead+rows*cols], exact[testHead:testHead+rows*cols]); step > 0 && d > 1e-5 {
			t.Errorf("step %d: off by %v", step, d)
		}
	}
}

func TestOrthonormal(t *testing.T) {
	const rows, n = 5, 200
	p := make([]float32, rows*n)
	r := rng.New(1, "test")
	for i := range p {
		p[i] = normal(r)
	}
	copy(p[3*n:4*n], p[:n]) // depends on the first
	vec.Axpy(1e-3, p[n:2*n], p[:n])
	orthonormal(p, rows, n)
	for i := range rows {
		for j := range i + 1 {
			want := 0.0
			if i == j && i != 3 {
				want = 1
			}
			dot := 0.0
			for k := range n {
				dot += float64(p[i*n+k]) * float64(p[j*n+k])
			}
			if i == 3 && j == 3 { // all of it was rounding, or a direction of its own that the 1e-3 left
				if dot != 0 && math.Abs(dot-1) > 1e-5 {
					t.Errorf("row 3 is %v long", math.Sqrt(dot))
				}
				continue
			}
			if math.Abs(dot-want) > 1e-5 {
				t.Errorf("rows %d and %d: %v", i, j, dot)
			}
		}
	}
}

// Majority vote (Bernstein et al., arXiv 1810.05291, algorithm 1): the sign that most workers have, in whatever size; ties
// go both ways.
func TestMajority(t *testing.T) {
	for voters := 1; voters <= 17; voters++ {
		const n = 1003
		r := rng.New(1, "test", uint64(voters))
		count := make([]int, n)
		votes := make([][]byte, voters)
		for v := range votes {
			x := make([]float32, n)
			for i := range x {
				if x[i] = 1; r.IntN(2) == 0 {
					x[i] = -1
				}
				count[i] += int(x[i])
			}
			votes[v] = make([]byte, vec.PackedLen(n, 1))
			vec.PackSigns(votes[v], x)
		}
		sum := make([]float32, n)
		new(counter).majority(sum, votes, 3, 99)
		ties, up := 0, 0
		for i, v := range sum {
			switch {
			case count[i] == 0:
				ties++
				if v == 3 {
					up++
				}
				if v != 3 && v != -3 {
					t.Fatalf("%d voters, element %d: a tie gives %v", voters, i, v)
				}
			case count[i] > 0 && v != 3, count[i] < 0 && v != -3:
				t.Fatalf("%d voters, element %d: %d votes give %v", voters, i, count[i], v)
			}
		}
		if voters%2 == 0 && (up < ties/4 || up > ties*3/4) {
			t.Errorf("%d voters: %d of %d ties go up", voters, up, ties)
		}
	}
}

// DGC (Lin et al., arXiv 1712.01887, algorithm 4: momentum correction and factor masking) against the paper's lines in
// float64, on one worker.
func TestDGC(t *testing.T) {
	w := newWorld(t, 1, 1, "dgc:ratio=0.05,momentum=0.9", nil)
	seg := w.layout[0]
	u, v := make([]float64, seg.Len), make([]float64, seg.Len)
	bias := make([]float64, w.layout[1].Len)
	for step := range 12 {
		var g []float32
		got, _ := w.must(step, 0, func(parts [][][]float32) { g = slices.Clone(parts[0][0]) })
		sent := 0
		for i := range u {
			u[i] = float64(float32(float32(0.9)*float32(u[i]))) + float64(g[testHead+i])
			u[i] = float64(float32(u[i]))
			v[i] = float64(float32(v[i] + u[i]))
			if s := got[testHead+i]; s != 0 {
				sent++
				if float64(s) != v[i] {
					t.Fatalf("step %d, element %d: sent %v, expected %v", step, i, s, v[i])
				}
				u[i], v[i] = 0, 0
			}
		}
		if want := (seg.Len + 19) / 20; sent != want {
			t.Fatalf("step %d: %d elements were sent, expected %d", step, sent, want)
		}
		off := testHead + w.layout[1].Off // small segments: plain momentum, exact
		for i := range bias {
			bias[i] = float64(float32(float64(float32(0.9*float32(bias[i]))) + float64(g[off+i])))
			if float64(got[off+i]) != bias[i] {
				t.Fatalf("step %d: element %d of a small segment is %v, expected %v", step, i, got[off+i], bias[i])
			}
		}
	}
}

// The warm-up of section 3.3: 25 %, then a quarter of that, until the ratio that was asked for.
func TestDGCWarmUp(t *testing.T) {
	r, err := ParseRules("dgc:0.001,warmup=100")
	if err != nil {
		t.Fatal(err)
	}
	c := r.of(model.Segment{Name: "w", Shape: []int{100, 100}, Len: 10000})
	var ratios []string
	for step := range 102 {
		if s := c.at(step).String(); len(ratios) == 0 || ratios[len(ratios)-1] != s {
			ratios = append(ratios, s)
		}
	}
	if len(ratios) != 5 || ratios[0] != "topk:ratio=0.25" && ratios[0] != "topk:0.25" {
		t.Errorf("the stages are %v", ratios)
	}
}

// Error feedback around an absolute compressor, whose error does not grow with what is compressed (Sahu et al., arXiv
// 2108.00951), keeps no more than the compressor's error for one vector, however many came: of K sums of one gradient the
// mean is off by a K-th of that. Without it what is below the threshold is never said.
func TestAbsoluteFeedback(t *testing.T) {
	const ranks, steps = 3, 60
	for _, c := range []struct {
		rules    string
		keeps    float64 // at most of an element, each rank
		owner    float64 // at most of an element of a sum: none, since multiples of a step add up to one
		rounding float64
	}{
		{"threshold:24+ef", 24, 0, 1e-3}, {"uniform:delta=4+ef", 4, 0, 1e-3}, {"random:delta=4+ef", 4, 0, 1e-3},
	} {
		mean := func(rules string) (off float64, w *world) { // the most of an element
			w = newWorld(t, ranks, ranks, rules, nil)
			handed := make([]float64, testHead+w.layout.Len())
			var exact []float64
			for step := range steps {
				var got []float32
				got, exact = w.must(step, 64, func(parts [][][]float32) {
					for rank, p := range parts {
						copy(p[0], w.vectors(rank, 0)[0])
					}
				})
				for i, v := range got {
					handed[i] += float64(v)
				}
			}
			for i := range handed {
				off = max(off, math.Abs(handed[i]/steps-exact[i]))
			}
			return off, w
		}
		off, w := mean(c.rules)
		if most := (ranks*c.keeps + c.owner + c.rounding) / steps; off > most {
			t.Errorf("%s: the mean of %d sums is off by %v, more than %v", c.rules, steps, off, most)
		}
		some := false
		for rank, r := range w.red {
			for i := range r.(*Compressed).segments {
				s := &r.(*Compressed).segments[i]
				kept, both := float64(vec.MaxAbs(s.kept)), float64(vec.MaxAbs(s.both))
				if kept > c.keeps+c.rounding || both > c.owner+c.rounding {
					t.Errorf("%s: rank %d keeps up to %v of %s, and %v of sums", c.rules, rank, kept, s.Name, both)
				}
				some = some || kept > c.keeps/4
			}
		}
		if !some {
			t.Errorf("%s: next to nothing is kept: nothing was tested", c.rules)
		}
		if without, _ := mean(strings.TrimSuffix(c.rules, "+ef")); without < 4*off && !strings.HasPrefix(c.rules, "random") {
			t.Errorf("%s: the mean is off by %v, and %v without error feedback", c.rules, off, without)
		}
	}
}
