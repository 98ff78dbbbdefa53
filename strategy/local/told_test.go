package local

import (
	"context"
	"errors"
	"math"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/covey-ml/covey/ckpt"
	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/comm/inproc"
	"github.com/covey-ml/covey/model"
	"github.com/covey-ml/covey/reduce"
)

// hearer is a Reducer that keeps what it is told, and takes a while.
type hearer struct {
	reduce.Reducer
	heard []reduce.Vector
	takes time.Duration
}

func (h *hearer) Sum(ctx context.Context, v reduce.Vector) error {
	v.Parts = slices.Clone(v.Parts) // they are the strategy's again after the call
	h.heard = append(h.heard, v)
	time.Sleep(h.takes)
	return h.Reducer.Sum(ctx, v)
}

// A round's loss is the mean over all samples of all its steps, each replica's at its own parameters; a quiet step's is that
// of this worker's replicas in the step. With fragments, each step's loss is told once.
func TestLossIsOfTheRound(t *testing.T) {
	at := func(y []float64, r int) (sum float64) {
		for i := range counts[r] {
			for k := range y {
				d := y[k] - target(100*r+i, k)
				sum += curve(k) * d * d / 2
			}
		}
		return sum
	}
	s, w := lone(t, "local:K=3", counts)
	x := make([]float64, dim)
	for round := range 2 {
		ys, want := [][]float64{x, x, x, x}, 0.0
		for i, said := range steps(t, s, w, 3, false) {
			now := 0.0
			for r := range ys {
				now += at(ys[r], r) / 8
				ys[r] = twin(ys[r], r, 1, 0)
			}
			want += now / 3
			if i == 2 {
				now = want
			}
			if math.Abs(said.Loss-now) > 1e-6*now {
				t.Errorf("round %d, step %d: loss %v, expected %v", round+1, i+1, said.Loss, now)
			}
		}
		x = mean(ys)
	}
	s, w = lone(t, "local:K=6,fragments=3,overlap=1", counts)
	told := 0
	w.Rate = 0 // so that all steps have the same loss
	w.Stop = true
	all := steps(t, s, w, 20, true)
	for i, said := range all {
		told += said.Steps
		if math.Abs(said.Loss-all[0].Loss) > 1e-6*all[0].Loss || said.Stop == said.Quiet {
			t.Errorf("step %d: report %+v", i+1, said)
		}
	}
	if told != 20 {
		t.Errorf("losses of %d steps were told, expected 20", told)
	}
}

// What reducers are told of an exchange: which elements, whose weight of how much in all, and a number that counts the
// exchanges of these elements, by which compressors draw anew each time.
func TestReducersAreTold(t *testing.T) {
	s, w := lone(t, "diloco:K=4,fragments=2", counts)
	h := &hearer{Reducer: w.Reducer}
	w.Reducer = h
	steps(t, s, w, 8, false)
	for i, v := range h.heard {
		name, off, n := "a", 0, 8
		if i%2 == 1 {
			name, off, n = "c", 8, 4
		}
		samples := 8 * 4.0
		if i == 0 {
			samples = 8 * 2
		}
		if v.Name != name || v.Off != off || v.Head != head || len(v.Parts[0]) != head+n || v.Step != i/2 || v.Weight != samples || v.Total != samples {
			t.Errorf("exchange %d: %s, %d elements from %d on, step %d, weight %v of %v", i+1, v.Name, len(v.Parts[0])-v.Head, v.Off, v.Step, v.Weight, v.Total)
		}
	}
	if len(h.heard) != 4 {
		t.Errorf("%d exchanges, expected 4", len(h.heard))
	}

	s, w = lone(t, "scaffold:K=2", counts)
	h, own := &hearer{Reducer: w.Reducer}, &hearer{Reducer: w.Reducer}
	w.Reducer = h
	w.Another = func(string) (reduce.Reducer, error) { return own, nil }
	w.Shares, w.Total = func(leaf int) int { return 10 + leaf }, 46
	steps(t, s, w, 6, false)
	for _, h := range []*hearer{h, own} {
		for i, v := range h.heard {
			if v.Name != "a" || v.Step != i || v.Weight != 46 || v.Total != 46 {
				t.Errorf("round %d: %s, step %d, weight %v of %v", i+1, v.Name, v.Step, v.Weight, v.Total)
			}
		}
		if len(h.heard) != 3 {
			t.Errorf("%d exchanges, expected 3", len(h.heard))
		}
	}
}

// An exchange is communication, and waiting as far as training stands still for it.
func TestTimesOfExchanges(t *testing.T) {
	const takes = time.Second
	for _, c := range []struct {
		method     string
		comm, wait time.Duration
		beside     time.Duration // for which the worker is busy with other things after an exchange has begun
	}{
		{"local:K=2", takes, takes, 0}, {"scaffold:K=2", 2 * takes, 2 * takes, 0}, {"hierarchical:K=1,groups=1,outer=2", takes, takes, 0},
		{"local:K=2,overlap=1", takes, takes, 0}, {"local:K=2,overlap=1", takes, takes / 4, 3 * takes / 4}, {"local:K=2,overlap=1", takes, 0, 2 * takes},
	} {
		synctest.Test(t, func(t *testing.T) {
			s, w := lone(t, c.method, counts)
			h := &hearer{Reducer: w.Reducer, takes: takes}
			w.Reducer = h
			w.Another = func(string) (reduce.Reducer, error) { return h, nil }
			said := steps(t, s, w, 2, false)[1]
			if s.flight != nil {
				time.Sleep(c.beside)
				said = steps(t, s, w, 1, false)[0]
			}
			if said.Quiet || said.Comm != c.comm || said.Wait != c.wait || said.Compute != 0 {
				t.Errorf("%s: %+v, expected to communicate for %v and wait for %v", c.method, said, c.comm, c.wait)
			}
		})
	}
}

// SCAFFOLD weights clients by the samples they own, whatever they used in the round (scaffold.go says why), for x and c alike.
func TestScaffoldWeightsByWhatIsOwned(t *testing.T) {
	for _, method := range []string{"scaffold:K=2", "scaffold:K=2,option=1"} {
		s, w := lone(t, method, counts)
		owned := []int{5, 1, 1, 1}
		w.Shares = func(leaf int) int { return owned[leaf] }
		steps(t, s, w, 2, false)
		ys := all(make([]float64, dim), 2, 0) // control variates are 0 in the first round
		x, c := make([]float64, dim), make([]float64, dim)
		for r, y := range ys {
			for k := range x {
				x[k] += float64(owned[r]) / 8 * y[k]
				c[k] += float64(owned[r]) / 8 * float64(s.scaffold.of(s.scaffold.cs, r)[k])
			}
		}
		near(t, method+", parameters", w.X, x)
		near(t, method+", c", s.scaffold.c, c)
	}
}

// With one client SCAFFOLD is SGD: c and the client's variate are the same, and cancel.
func TestScaffoldOfOneIsSGD(t *testing.T) {
	for _, method := range []string{"scaffold:K=3", "scaffold:K=3,option=1"} {
		s, w := lone(t, method, counts[:1])
		steps(t, s, w, 10, true)
		near(t, method, w.X, twin(make([]float64, dim), 0, 10, 0))
		if size := slices.Max(s.scaffold.c); size < 0.01 {
			t.Errorf("%s: c is at most %v: it did not say anything that could cancel", method, size)
		}
	}
}

// ridged is bowls with a penalty of x^2/4 an element.
type ridged struct{ bowls }

func (ridged) Penalty(x []float32) (sum float64) {
	for _, v := range x {
		sum += float64(v) * float64(v) / 4
	}
	return sum
}

func (ridged) AddPenaltyGrad(x, g []float32, lo int) {
	for i := range g {
		g[i] += x[lo+i] / 2
	}
}

// shrunk is bowls with a proximal step that takes half of each element.
type shrunk struct{ bowls }

func (shrunk) Penalty([]float32) float64 { return 0 }
func (shrunk) Prox(x []float32, lo, hi int, rate float32) {
	for i := lo; i < hi; i++ {
		x[i] *= 1 - 4*rate
	}
}

var (
	_ model.Penalised = ridged{}
	_ model.Proximal  = shrunk{}
)

// A regulariser is each replica's own, at its own parameters, once a step; in SCAFFOLD a part of the gradients that the
// control variates guess, with both options.
func TestRegularisers(t *testing.T) {
	step := func(y []float64, r int, change func(g, y float64) (float64, float64)) {
		for k := range y {
			g := 0.0
			for i := range counts[r] {
				g += curve(k) * (y[k] - target(100*r+i, k)) / float64(counts[r])
			}
			g, at := change(g, y[k])
			y[k] = at - rate*g
		}
	}
	for name, change := range map[string]func(g, y float64) (float64, float64){
		"penalty":  func(g, y float64) (float64, float64) { return g + y/2, y },
		"proximal": nil,
	} {
		s, w := lone(t, "local:K=3", counts)
		w.Model = model.Model(ridged{})
		if change == nil {
			w.Model = shrunk{}
		}
		x := make([]float64, dim)
		for range 2 {
			steps(t, s, w, 3, false)
			var ys [][]float64
			for r := range counts {
				y := slices.Clone(x)
				for range 3 {
					if change != nil {
						step(y, r, change)
						continue
					}
					step(y, r, func(g, y float64) (float64, float64) { return g, y })
					for k := range y {
						y[k] /= 2
					}
				}
				ys = append(ys, y)
			}
			x = mean(ys)
		}
		near(t, name, w.X, x)
	}
	for _, method := range []string{"scaffold:K=1", "scaffold:K=1,option=1"} { // in rounds of one step the options agree
		s, w := lone(t, method, counts)
		w.Model = ridged{}
		steps(t, s, w, 1, false)
		x := slices.Clone(w.X)
		steps(t, s, w, 1, false)
		for r := range counts {
			want := make([]float64, dim)
			for k := range want {
				for i := range counts[r] {
					want[k] += curve(k) * (float64(x[k]) - target(100*r+i, k)) / float64(counts[r])
				}
				want[k] += float64(x[k]) / 2
			}
			near(t, method+", a variate", s.scaffold.of(s.scaffold.cs, r), want)
		}
	}
}

// With a rate that changes amid a round, option 2's variate is the mean of the client's gradients weighted by their rates.
func TestScaffoldWithASchedule(t *testing.T) {
	s, w := lone(t, "scaffold:K=2", counts)
	x := make([]float64, dim)
	for i, r := range []float32{0.1, 0.3} {
		w.Rate = r
		steps(t, s, w, 1, i == 1)
	}
	for r := range counts {
		want := make([]float64, dim)
		for k := range want {
			y := x[k]
			for _, rate := range []float64{0.1, 0.3} {
				g := 0.0
				for i := range counts[r] {
					g += curve(k) * (y - target(100*r+i, k)) / float64(counts[r])
				}
				want[k] += rate * g / 0.4
				y -= rate * g
			}
		}
		near(t, "a variate", s.scaffold.of(s.scaffold.cs, r), want)
	}
}

// An exchange under way that nobody joins ends with its context, and the step that wants it says so.
func TestOverlapEndsWithItsContext(t *testing.T) {
	gs := inproc.New(2, time.Minute)
	defer gs[1].Close()
	defer gs[0].Close()
	w := worker(gs[0], counts)
	s := New(Config{Method: Local, K: 4, Fragments: 1, Overlap: 2, Mix: -1})
	steps(t, s, w, 5, false)
	if s.flight == nil {
		t.Fatal("no exchange is under way")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Settle(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("settled with error %v", err)
	}
	if _, err := s.Step(context.Background(), w); !errors.Is(err, context.Canceled) {
		t.Errorf("the step that puts it to use: error %v", err)
	}
}

// A peer that goes ends an overlapped exchange, with its name.
func TestOverlapEndsWithAPeer(t *testing.T) {
	gs := inproc.New(2, time.Minute)
	defer gs[0].Close()
	w := worker(gs[0], counts)
	s := New(Config{Method: DiLoCo, K: 4, Fragments: 1, Overlap: 2, Mix: -1, Rate: 1})
	steps(t, s, w, 5, false)
	gs[1].Close()
	_, err := s.Step(context.Background(), w)
	var peer *comm.PeerError
	if !errors.As(err, &peer) || peer.Rank != 1 {
		t.Errorf("error %v, expected one that names rank 1", err)
	}
}

// An exchange of another size that is refused leaves the one under way whole.
func TestRefusedFlightLeavesTheOther(t *testing.T) {
	s, w := lone(t, "diloco:K=8,fragments=2,overlap=3", counts)
	steps(t, s, w, 5, false) // fragment 0's is under way
	good := snapshot(s.State())
	bad := snapshot(good)
	for i := range bad {
		if bad[i].Name == "flight" {
			bad[i].Data[0] = 1
		}
	}
	if err := s.Load(bad); err == nil {
		t.Fatal("a sum of 8 elements is taken for a fragment of 4")
	}
	if !slices.EqualFunc(s.State(), good, func(a, b ckpt.Tensor) bool { return a.Name == b.Name && slices.Equal(a.Data, b.Data) }) {
		t.Error("the state is another")
	}
	other, v := lone(t, "diloco:K=8,fragments=2,overlap=3", counts)
	steps(t, other, v, 5, false)
	steps(t, s, w, 6, true)
	steps(t, other, v, 6, true)
	if !slices.Equal(w.X, v.X) {
		t.Errorf("goes on to %v, expected %v", w.X, v.X)
	}
}
