package reduce

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/covey-ml/covey/ckpt"
	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/comm/inproc"
	"github.com/covey-ml/covey/compress"
	"github.com/covey-ml/covey/model"
	"github.com/covey-ml/covey/rng"
	"github.com/covey-ml/covey/vec"
)

// layout has a matrix, small vectors that stay exact, and a vector without a second dimension.
func testLayout() model.Layout {
	return model.Layout{}.Add("0.weight", 48, 64).Add("0.bias", 48).Add("1.weight", 1500).Add("1.bias", 3)
}

// world is one reducer a rank.
type world struct {
	t      *testing.T
	groups []comm.Group
	books  []*comm.Ledger
	tree   comm.Tree
	layout model.Layout
	red    []Reducer
}

func newWorld(t *testing.T, ranks, leaves int, rules string, hosts comm.Hosts) *world {
	t.Helper()
	w := &world{t: t, tree: comm.NewTree(leaves, ranks), layout: testLayout()}
	r, err := ParseRules(rules)
	if err != nil {
		t.Fatal(err)
	}
	w.red = make([]Reducer, ranks)
	for _, g := range inproc.New(ranks, 20*time.Second) {
		l := comm.NewLedger()
		w.groups, w.books = append(w.groups, comm.Count(g, l)), append(w.books, l)
	}
	t.Cleanup(func() {
		for _, g := range w.groups {
			g.Close()
		}
	})
	for rank, g := range w.groups {
		c := Config{Group: g, Tree: w.tree, Exact: &Exact{Group: g, Tree: w.tree}, Layout: w.layout, Rules: r, Seed: 7}
		if w.red[rank], err = New(c, hosts); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

// head is the exact elements in front of the vectors of these tests.
const testHead = 16

// vectors returns what a rank brings to a step: head and layout, by part.
func (w *world) vectors(rank, step int) [][]float32 {
	parts := make([][]float32, w.tree.Vectors(comm.Rank(rank)))
	for i := range parts {
		parts[i] = make([]float32, testHead+w.layout.Len())
		r := rng.New(3, "test", uint64(rank), uint64(step), uint64(i))
		for k := range parts[i] {
			parts[i][k] = float32(r.IntN(2001)-1000) / 256
			if k%7 == 0 {
				parts[i][k] *= 8
			}
		}
	}
	return parts
}

// sum does one step and returns the errors by rank; the results are in parts.
func (w *world) sum(parts [][][]float32, step int, total float64) []error {
	errs := make([]error, len(w.groups))
	done := make(chan bool)
	for rank := range w.groups {
		go func() {
			errs[rank] = w.red[rank].Sum(context.Background(), Vector{Name: "all", Head: testHead, Parts: parts[rank], Step: step, Total: total})
			done <- true
		}()
	}
	for range w.groups {
		<-done
	}
	return errs
}

// must does one step whose result must be the same on all ranks, and returns it with the exact sum in float64.
func (w *world) must(step int, total float64, change func(parts [][][]float32)) (got []float32, exact []float64) {
	w.t.Helper()
	parts := make([][][]float32, len(w.groups))
	for rank := range parts {
		parts[rank] = w.vectors(rank, step)
	}
	if change != nil {
		change(parts)
	}
	exact = make([]float64, testHead+w.layout.Len())
	for rank := range parts {
		if lo, hi := w.tree.Run(comm.Rank(rank)); lo == hi {
			continue
		}
		for _, p := range parts[rank] {
			for i, v := range p {
				exact[i] += float64(v)
			}
		}
	}
	for rank, err := range w.sum(parts, step, total) {
		if err != nil {
			w.t.Fatalf("rank %d: %v", rank, err)
		}
	}
	for rank := range parts {
		if !slices.Equal(vec.Bytes(parts[rank][0]), vec.Bytes(parts[0][0])) {
			w.t.Fatalf("ranks 0 and %d have different sums", rank)
		}
	}
	for rank, l := range w.books {
		if _, b := l.Take(); true {
			if s := b.Sum(); !s.Closes() {
				w.t.Fatalf("rank %d: the books do not close:\n%v", rank, b.String())
			}
		}
	}
	return parts[0][0], exact
}

// The identity compressor equals none, bit for bit, wherever a rank speaks for one node of the tree.
func TestIdentityIsNone(t *testing.T) {
	for _, c := range [][2]int{{1, 1}, {1, 5}, {2, 2}, {3, 3}, {5, 5}, {2, 8}, {4, 16}, {5, 3}, {8, 8}} {
		for _, rules := range []string{"identity", "*.weight: identity; *: none", "bias: none; *: identity"} {
			a, b := newWorld(t, c[0], c[1], rules, nil), newWorld(t, c[0], c[1], "none", nil)
			x, _ := a.must(0, 0, nil)
			y, _ := b.must(0, 0, nil)
			if !slices.Equal(vec.Bytes(x), vec.Bytes(y)) {
				t.Errorf("%d ranks, %d leaves, %s: other bits", c[0], c[1], rules)
			}
		}
	}
}

// What is summed by every choice is near the sum, and what must be exact is.
func TestSums(t *testing.T) {
	for _, c := range []struct {
		rules string
		most  float64 // relative error of the compressed segments: two-way, that of both codes
	}{
		{"identity", 1e-6}, {"uniform:bits=8", 0.03}, {"random:bits=8", 0.05}, {"qsgd:levels=127", 0.15}, {"natural", 0.5}, {"fp16", 1e-3}, {"bf16", 8e-3},
		{"topk:0.5", 0.6}, {"powersgd:48", 1e-5}, {"onebit", 0.95}, {"topk:0.25+ef", 0.9}, {"uniform:bits=4+ef21", 0.4},
	} {
		for _, size := range [][2]int{{1, 1}, {2, 2}, {3, 7}, {4, 4}, {5, 3}} {
			t.Run(fmt.Sprintf("%s/%dx%d", c.rules, size[0], size[1]), func(t *testing.T) {
				w := newWorld(t, size[0], size[1], c.rules, nil)
				got, exact := w.must(0, 64, nil)
				for i, s := range append(w.layout, model.Segment{Off: -testHead, Len: testHead}) {
					lossy := s.Len >= least && !(strings.HasPrefix(c.rules, "powersgd") && len(s.Shape) < 2)
					most := 1e-6
					if lossy {
						most = c.most
					}
					lo := testHead + s.Off
					if e := distance(got[lo:lo+s.Len], exact[lo:lo+s.Len]); !(e <= most) {
						t.Errorf("segment %d is off by %.3g of its norm", i, e)
					}
				}
			})
		}
	}
}

// distance is |a-b| / |b|.
func distance(a []float32, b []float64) float64 {
	var d, n float64
	for i := range a {
		d += (float64(a[i]) - b[i]) * (float64(a[i]) - b[i])
		n += b[i] * b[i]
	}
	return math.Sqrt(d / n)
}

// Error feedback loses nothing: what was handed out over the steps, and what is kept, add up to the sum of all gradients.
// With integers and a compressor that keeps or drops whole elements all of it is exact in float32.
func TestFeedbackIdentity(t *testing.T) {
	w := newWorld(t, 3, 3, "topk:0.01+ef", nil)
	n := testHead + w.layout.Len()
	handed, brought := make([]float64, n), make([]float64, n)
	for step := range 40 {
		got, exact := w.must(step, 32, func(parts [][][]float32) {
			for _, p := range parts {
				for i := range p[0] {
					p[0][i] = float32(math.Round(float64(p[0][i])))
				}
			}
		})
		for i := range got {
			handed[i] += float64(got[i])
			brought[i] += exact[i]
		}
	}
	kept := make([]float64, n)
	for _, r := range w.red {
		for i := range r.(*Compressed).segments {
			s := &r.(*Compressed).segments[i]
			for k, v := range s.kept {
				kept[testHead+s.Off+k] += float64(v)
			}
		}
	}
	dropped := 0
	for i := range handed {
		if kept[i] != 0 {
			dropped++
		}
		if handed[i]+kept[i] != brought[i] {
			t.Fatalf("element %d: %v handed out and %v kept of %v", i, handed[i], kept[i], brought[i])
		}
	}
	if dropped < n/2 {
		t.Errorf("only %d of %d elements have something kept: nothing was tested", dropped, n)
	}
}

// The same holds two-way, where owners keep what their codes of the sums lost, to rounding.
func TestFeedbackBothWays(t *testing.T) {
	w := newWorld(t, 4, 4, "onebit+ef", nil)
	n := testHead + w.layout.Len()
	left := make([]float64, n)
	for step := range 30 {
		got, exact := w.must(step, 32, nil)
		for i := range got {
			left[i] += exact[i] - float64(got[i])
		}
	}
	var worst, norm float64
	for _, r := range w.red {
		for i := range r.(*Compressed).segments {
			s := &r.(*Compressed).segments[i]
			for k := range s.kept {
				left[testHead+s.Off+k] -= float64(s.kept[k]) + float64(s.both[k])
				norm = max(norm, math.Abs(float64(s.kept[k])))
			}
		}
	}
	for _, v := range left {
		worst = max(worst, math.Abs(v))
	}
	if worst > 1e-4*norm || norm == 0 {
		t.Errorf("%v is neither handed out nor kept; the residuals go up to %v", worst, norm)
	}
}

// EF21 (Richtarik, Sokolov and Fatkhullin, arXiv 2106.05203, algorithm 1): what all have is the sum of the estimates, and
// the estimates of a gradient that stays the same come to it.
func TestEF21(t *testing.T) {
	w := newWorld(t, 3, 3, "topk:0.2+ef21", nil)
	same := make([][][]float32, 3)
	for rank := range same {
		same[rank] = w.vectors(rank, 0)
	}
	far := math.Inf(1)
	for step := range 25 {
		got, exact := w.must(step, 32, func(parts [][][]float32) {
			for rank := range parts {
				copy(parts[rank][0], same[rank][0])
			}
		})
		d := distance(got, exact)
		if d > far*1.0001 {
			t.Errorf("step %d: the estimate goes away, %v after %v", step, d, far)
		}
		far = d
	}
	if far > 1e-6 {
		t.Errorf("after 25 steps at 20 %% the estimate is still off by %v", far)
	}
}

// A short batch changes what is kept in proportion: kept for 64 samples a sum, it counts half in a sum of 32.
func TestShortBatch(t *testing.T) {
	w := newWorld(t, 2, 2, "topk:0.01+ef", nil)
	w.must(0, 64, nil)
	s := &w.red[1].(*Compressed).segments[0]
	before := slices.Clone(s.kept)
	s.rescale(32)
	for i := range before {
		if s.kept[i] != before[i]/2 {
			t.Fatalf("element %d: %v of %v", i, s.kept[i], before[i])
		}
	}
}

// A NaN on one rank ends the call on every rank, each way, with the group in order.
func TestNotFinite(t *testing.T) {
	for _, rules := range []string{"uniform:bits=8+ef", "topk:0.01+ef", "powersgd:2+ef", "vote", "dgc:0.01"} {
		w := newWorld(t, 4, 3, rules, nil)
		parts := make([][][]float32, 4)
		for rank := range parts {
			parts[rank] = w.vectors(rank, 0)
		}
		parts[1][0][testHead+70] = float32(math.NaN())
		for rank, err := range w.sum(parts, 0, 64) {
			if !errors.Is(err, ErrNotFinite) {
				t.Errorf("%s, rank %d: %v", rules, rank, err)
			}
		}
		for rank, g := range w.groups {
			if e := g.(comm.Poisoner).Poisoned(); e != nil {
				t.Errorf("%s, rank %d: the group is broken: %v", rules, rank, e)
			}
		}
	}
}

// A vector that has no code for another reason than that it is not finite is told apart: its rank says why, and the others
// whose it is. The first vector does, or the owner's sum.
func TestNoCode(t *testing.T) {
	for rules, rank := range map[string]int{"uniform:delta=0.01+ef": 1, "uniform:delta=0.01": 1, "uniform:delta=0.00025": 0, "uniform:delta=0.01+ef+hosts": 2} {
		var hosts comm.Hosts
		if strings.HasSuffix(rules, "hosts") {
			hosts = comm.Hosts{0, 2}
		}
		w := newWorld(t, 4, 3, rules, hosts)
		parts := make([][][]float32, 4)
		for r := range parts {
			parts[r] = w.vectors(r, 0)
			for i := range parts[r][0] {
				parts[r][0][i] = 4 // of which the sum is too large for a step of 0.00025, and one is not
			}
		}
		if rank > 0 {
			parts[rank][0][testHead+70] = 1000
		}
		var own *compress.StepError
		for r, err := range w.sum(parts, 0, 64) {
			if !errors.Is(err, ErrNoCode) || errors.Is(err, ErrNotFinite) {
				t.Errorf("%s, rank %d: %v", rules, r, err)
			}
			if r == rank && !errors.As(err, &own) {
				t.Errorf("%s, rank %d: %v, expected to hear why", rules, r, err)
			}
		}
		for r, g := range w.groups {
			if e := g.(comm.Poisoner).Poisoned(); e != nil {
				t.Errorf("%s, rank %d: the group is broken: %v", rules, r, e)
			}
		}
	}
}

// Ranks that speak for hosts give what one rank a host would, whose vector is the host's sum; the books close.
func TestBetween(t *testing.T) {
	hosts := comm.Hosts{0, 2, 3}
	for _, rules := range []string{"identity+hosts", "topk:0.05+ef+hosts", "powersgd:2+ef+hosts"} {
		w := newWorld(t, 5, 5, rules, hosts)
		alone := newWorld(t, 3, 3, strings.TrimSuffix(rules, "+hosts"), nil)
		for step := range 4 {
			byHost := make([][]float32, 3)
			got, _ := w.must(step, 64, func(parts [][][]float32) {
				for h, first := range hosts {
					byHost[h] = slices.Clone(parts[first][0])
				}
				vec.Add(byHost[0], parts[1][0])
				vec.Add(byHost[2], parts[4][0])
			})
			want, _ := alone.must(step, 64, func(parts [][][]float32) {
				for h := range parts {
					copy(parts[h][0], byHost[h])
				}
			})
			if !slices.Equal(vec.Bytes(got), vec.Bytes(want)) {
				t.Fatalf("%s, step %d: not what three workers give", rules, step)
			}
		}
	}
	g := inproc.New(2, time.Second)
	defer g[0].Close()
	defer g[1].Close()
	r, _ := ParseRules("topk:0.01+hosts")
	if _, err := New(Config{Group: g[0], Tree: comm.NewTree(2, 2), Layout: testLayout(), Rules: r}, nil); err == nil {
		t.Error("one host was not refused")
	}
}

// What was saved and loaded goes on with the same bits.
func TestState(t *testing.T) {
	for _, rules := range []string{"topk:0.05+ef", "onebit+ef", "powersgd:2+ef", "topk:0.1+ef21", "dgc:0.05,warmup=4", "vote:momentum=0.9", "powersgd:2+ef+hosts"} {
		var hosts comm.Hosts
		if strings.HasSuffix(rules, "hosts") {
			hosts = comm.Hosts{0, 2}
		}
		a, b := newWorld(t, 3, 3, rules, hosts), newWorld(t, 3, 3, rules, hosts)
		for step := range 3 {
			a.must(step, float64(64-step), nil)
		}
		for rank := range a.red {
			if err := b.red[rank].(ckpt.Stateful).Load(a.red[rank].(ckpt.Stateful).State()); err != nil {
				t.Fatal(err)
			}
		}
		for step := 3; step < 6; step++ {
			x, _ := a.must(step, 64, nil)
			y, _ := b.must(step, 64, nil)
			if !slices.Equal(vec.Bytes(x), vec.Bytes(y)) {
				t.Errorf("%s: step %d differs after loading", rules, step)
			}
		}
		if err := a.red[0].(ckpt.Stateful).Load(nil); err == nil {
			t.Errorf("%s: loaded nothing", rules)
		}
	}
}

// A message that its sender cannot have meant fails the collective with the sender's name.
func TestCorruptMessages(t *testing.T) {
	for _, rules := range []string{"uniform:bits=8", "topk:0.01", "vote"} {
		w := newWorld(t, 2, 2, rules, nil)
		bad := &spoiled{Group: w.groups[1]}
		r, _ := ParseRules(rules)
		w.red[1] = NewCompressed(Config{Group: bad, Tree: w.tree, Exact: w.red[1], Layout: w.layout, Rules: r, Seed: 7})
		errs := w.sum([][][]float32{w.vectors(0, 0), w.vectors(1, 0)}, 0, 64)
		var peer *comm.PeerError
		if !errors.As(errs[0], &peer) || peer.Rank != 1 {
			t.Errorf("%s: %v", rules, errs[0])
		}
		if bad.hits == 0 {
			t.Errorf("%s: no message was spoiled", rules)
		}
	}
}

// spoiled cuts a byte off everything that it sends, but for the last one.
type spoiled struct {
	comm.Group
	hits int
}

func (s *spoiled) Send(ctx context.Context, to comm.Rank, tag comm.Tag, p []byte) error {
	if n := len(p); n > 2 {
		s.hits++
		p = append(slices.Clone(p[:n-2]), p[n-1])
	}
	return s.Group.Send(ctx, to, tag, p)
}

func TestRules(t *testing.T) {
	for text, want := range map[string]string{
		"topk:0.01+eff":           `unknown wrapper "eff": did you mean "ef"?`,
		"topkk":                   `did you mean "topk"`,
		"vote+ef":                 "no contraction",
		"dgc+ef":                  "leave the +ef out",
		"none+ef":                 "nothing is lost",
		"powersgd:0":              "a rank of 0",
		"powersgd:2+ef21":         "powersgd+ef",
		"topk:0.01+ef+ef21":       "not both",
		"bias: none;":             "expected a choice",
		"[: none":                 "syntax error in pattern",
		"threshold:0.1+ef21":      "use threshold:0.1+ef",
		"uniform:delta=0.5+ef21":  "use uniform:delta=0.5+ef",
		"dgc:momentum=1":          "momentum is 1",
		"powersgd:rank=4,warm=no": "parameter",
	} {
		if _, err := ParseRules(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
	for _, text := range []string{"threshold:0.1+ef", "uniform:delta=0.5+ef", "random:delta=0.5+ef"} {
		if r, err := ParseRules(text); err != nil || r.rules[0].choice.feedback != remember {
			t.Errorf("%s: %v", text, err)
		}
	}
	r, err := ParseRules("bias: none; *: powersgd:4+ef")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]way{"0.bias": exactly, "0.weight": lowRank} {
		if c := r.of(model.Segment{Name: name, Shape: []int{64, 64}, Len: 4096}); c.way != want {
			t.Errorf("%s goes by %v", name, c.text)
		}
	}
}
