package local

import (
	"context"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/comm/inproc"
	"github.com/covey-ml/covey/data"
	"github.com/covey-ml/covey/model"
	"github.com/covey-ml/covey/optim"
	"github.com/covey-ml/covey/reduce"
	"github.com/covey-ml/covey/spec"
	"github.com/covey-ml/covey/strategy"
)

// bowls is a quadratic for each sample: half the sum over k of curve[k]*(x[k] - target)^2, where sample id's target of
// element k is targets(id, k). Its three segments have 3, 5 and 4 elements.
type bowls struct{}

const dim = 12

func target(id, k int) float64 { return math.Sin(float64(1 + 5*id + 11*k)) }
func curve(k int) float64      { return 0.5 + float64(k%3) }

func (bowls) Layout() model.Layout {
	return model.Layout{}.Add("a", 3).Add("b", 5).Add("c", 4)
}
func (bowls) Init(x []float32, _ uint64) { clear(x) }
func (bowls) Grad(_ context.Context, x, g []float32, b *data.Batch, _ func(model.Segment)) (model.Loss, error) {
	clear(g)
	loss := 0.0
	for _, id := range b.ID {
		for k := range g {
			d := float64(x[k]) - target(id, k)
			g[k] += float32(curve(k) * d)
			loss += curve(k) * d * d / 2
		}
	}
	return model.Loss{Sum: float32(loss), N: b.N}, nil
}
func (bowls) Eval(context.Context, []float32, *data.Batch) (model.Metrics, error) {
	return model.Metrics{}, nil
}

// counts is how many samples each of four replicas has in a step; the replica's samples are numbers of its own.
var counts = []int{2, 1, 3, 2}

const rate = 0.125

// lone makes a worker that hosts all replicas, and its strategy.
func lone(t *testing.T, method string, counts []int) (*Strategy, *strategy.Worker) {
	t.Helper()
	s, err := spec.Parse(method)
	if err != nil {
		t.Fatal(err)
	}
	c, err := Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	g := inproc.New(1, time.Minute)[0]
	return New(c), worker(g, counts)
}

func worker(g comm.Group, counts []int) *strategy.Worker {
	m, tree := bowls{}, comm.NewTree(len(counts), g.Size())
	frame, x := strategy.Frame(g, dim)
	exact := &reduce.Exact{Group: g, Tree: tree}
	w := &strategy.Worker{Group: g, Tree: tree, Model: m, Frame: frame, X: x, Reducer: exact, Rate: rate,
		NewOptimizer: func() (optim.Optimizer, error) { return optim.New(&spec.Spec{Name: "sgd"}, m.Layout()) },
		Another:      func(string) (reduce.Reducer, error) { return exact, nil },
		Counts:       func(leaf int) int { return counts[leaf] },
		Shares:       func(leaf int) int { return counts[leaf] },
		Microshard: func(leaf int) (*data.Batch, error) {
			b := &data.Batch{N: counts[leaf]}
			for i := range b.N {
				b.ID = append(b.ID, 100*leaf+i)
			}
			return b, nil
		}}
	for _, n := range counts {
		w.Samples += n
	}
	w.Total = w.Samples
	return w
}

// steps runs n steps, the last of which is the run's last when it says so, and returns what they reported.
func steps(t *testing.T, s *Strategy, w *strategy.Worker, n int, last bool) []strategy.Report {
	t.Helper()
	var all []strategy.Report
	for i := range n {
		w.Last = last && i == n-1
		said, err := s.Step(context.Background(), w)
		if err != nil {
			t.Fatalf("step %d: %v", w.Step, err)
		}
		all = append(all, said)
		w.Step++
	}
	return all
}

// twin computes in float64 what a replica's parameters are after so many plain steps from x, with mu(y - x) added to the
// gradients.
func twin(x []float64, replica, steps int, mu float64) []float64 {
	y := slices.Clone(x)
	for range steps {
		for k := range y {
			g := 0.0
			for i := range counts[replica] {
				g += curve(k) * (y[k] - target(100*replica+i, k)) / float64(counts[replica])
			}
			y[k] -= rate * (g + mu*(y[k]-x[k]))
		}
	}
	return y
}

// mean is the replicas' weighted mean.
func mean(ys [][]float64) []float64 {
	m := make([]float64, dim)
	for r, y := range ys {
		for k := range m {
			m[k] += float64(counts[r]) / 8 * y[k]
		}
	}
	return m
}

func near(t *testing.T, what string, got []float32, want []float64) {
	t.Helper()
	for k, w := range want {
		if d := math.Abs(float64(got[k]) - w); d > 0x1p-20*(1+math.Abs(w)) { // some dozens of roundings of numbers up to 2
			t.Errorf("%s: element %d is %v, expected %v", what, k, got[k], w)
			return
		}
	}
}

// all runs the replicas of a round in float64 from x.
func all(x []float64, steps int, mu float64) [][]float64 {
	var ys [][]float64
	for r := range counts {
		ys = append(ys, twin(x, r, steps, mu))
	}
	return ys
}

// FedAvg's round (McMahan et al., arXiv 1602.05629, algorithm 1): the mean of the clients' parameters weighted by samples.
// FedProx's local gradients have mu(y - x) added (Li et al., arXiv 1812.06127, section 3.2), x being the round's start.
func TestFedAvgAndFedProx(t *testing.T) {
	for method, mu := range map[string]float64{"local:K=3": 0, "fedprox:K=3,mu=0.5": 0.5, "hierarchical:K=3,groups=1,outer=1": 0} {
		s, w := lone(t, method, counts)
		want := make([]float64, dim)
		for round := range 3 {
			said := steps(t, s, w, 3, false)
			want = mean(all(want, 3, mu))
			near(t, fmt.Sprintf("%s, round %d", method, round+1), w.X, want)
			if !said[0].Quiet || !said[1].Quiet || said[2].Quiet || said[2].Round != round+1 || said[2].Steps != 3 {
				t.Errorf("%s, round %d: reports %+v", method, round+1, said)
			}
		}
	}
}

// Classical and Nesterov block momentum (Chen and Huo, ICASSP 2016, section 2) beside their formulas in float64: with the
// mean W of the replicas, G = W - Wg(t-1), D = mu D + rate G, W(t) = W(t-1) + D, and Wg(t) = W(t), or W(t) + mu D with
// Nesterov's. The parameters at the end of a run are W(t).
func TestBlockMomentum(t *testing.T) {
	for _, nesterov := range []bool{false, true} {
		for _, mu := range []float64{0.5, -1} { // -1 asks for 1 - 1/replicas
			method := fmt.Sprintf("bmuf:K=2,momentum=%v,rate=0.75,nesterov=%v", mu, nesterov)
			if mu < 0 {
				method, mu = fmt.Sprintf("bmuf:K=2,rate=0.75,nesterov=%v", nesterov), 0.75
			}
			s, w := lone(t, method, counts)
			at, start, d := make([]float64, dim), make([]float64, dim), make([]float64, dim)
			for round := range 4 {
				m := mean(all(start, 2, 0))
				for k := range m {
					d[k] = mu*d[k] + 0.75*(m[k]-start[k])
					at[k] += d[k]
					start[k] = at[k]
					if nesterov && round < 3 {
						start[k] += mu * d[k]
					}
				}
				steps(t, s, w, 2, round == 3)
				near(t, fmt.Sprintf("%s, round %d", method, round+1), w.X, start)
			}
		}
	}
}

// DiLoCo's outer step (Douillard et al., arXiv 2311.08105, algorithm 1) is SGD with Nesterov's momentum as PyTorch writes
// it, along the pseudo-gradient x - W.
func TestDiLoCo(t *testing.T) {
	s, w := lone(t, "diloco:K=3,rate=0.7,momentum=0.9", counts)
	x, v := make([]float64, dim), make([]float64, dim)
	for round := range 4 {
		m := mean(all(x, 3, 0))
		for k := range x {
			g := x[k] - m[k]
			v[k] = 0.9*v[k] + g
			x[k] -= 0.7 * (g + 0.9*v[k])
		}
		steps(t, s, w, 3, false)
		near(t, fmt.Sprintf("round %d", round+1), w.X, x)
	}
}

// EASGD's exchange is symmetric: what the replicas lose the center gains, so that it leaves the sum of all as it is, and
// with beta = 1 the center becomes the replicas' mean (Zhang, Choromanska and LeCun, arXiv 1412.6651, section
// 3, equations 5 and 6: the center becomes (1-beta) x + beta mean, with beta = p alpha).
func TestElasticExchange(t *testing.T) {
	for method, alpha := range map[string]float64{"easgd:K=2": 0.9 / 4, "easgd:K=2,beta=1": 0.25, "easgd:K=2,alpha=0.1": 0.1} {
		s, w := lone(t, method, counts)
		center := make([]float64, dim)
		ys := [][]float64{center, center, center, center}
		for round := range 5 { // the last step of a run leaves replicas where they are, should it be made longer
			steps(t, s, w, 2, round == 3)
			sum, fixed := make([]float64, dim), make([]float64, dim)
			for r := range ys {
				ys[r] = twin(ys[r], r, 2, 0)
				for k := range sum {
					sum[k] += ys[r][k] - center[k]
				}
			}
			next := make([]float64, dim)
			for k := range next {
				fixed[k] = center[k]
				next[k] = center[k] + alpha*sum[k]
				for r := range ys {
					fixed[k] += ys[r][k]
					ys[r][k] -= alpha * (ys[r][k] - center[k])
				}
			}
			center = next
			near(t, fmt.Sprintf("%s, round %d, the center", method, round+1), w.X, center)
			total := make([]float32, dim)
			for k := range total {
				got := float64(w.X[k])
				for _, r := range s.replicas {
					got += float64(r.x[k])
				}
				total[k] = float32(got)
			}
			near(t, fmt.Sprintf("%s, round %d, the sum of center and replicas", method, round+1), total, fixed)
			for r := range ys {
				near(t, fmt.Sprintf("%s, round %d, replica %d", method, round+1, r), s.replicas[r].x, ys[r])
			}
		}
	}
}

// SCAFFOLD (Karimireddy et al., arXiv 1910.06378, algorithm 1) beside its formulas in float64, with both options; option 1
// takes the gradient of the round's samples, here all that a client has, at the round's start.
func TestScaffoldBesideItsFormulas(t *testing.T) {
	for option := 1; option <= 2; option++ {
		s, w := lone(t, fmt.Sprintf("scaffold:K=3,option=%d,rate=0.8", option), counts)
		x, c := make([]float64, dim), make([]float64, dim)
		cs := make([][]float64, len(counts))
		for r := range cs {
			cs[r] = make([]float64, dim)
		}
		for round := range 4 {
			move, change := make([]float64, dim), make([]float64, dim)
			for r := range counts {
				p := float64(counts[r]) / 8
				for k := range x {
					grad := func(y float64) (g float64) {
						for i := range counts[r] {
							g += curve(k) * (y - target(100*r+i, k)) / float64(counts[r])
						}
						return g
					}
					y := x[k]
					for range 3 {
						y -= rate * (grad(y) - cs[r][k] + c[k])
					}
					next := cs[r][k] - c[k] + (x[k]-y)/(3*rate)
					if option == 1 {
						next = grad(x[k])
					}
					move[k] += p * (y - x[k])
					change[k] += p * (next - cs[r][k])
					cs[r][k] = next
				}
			}
			for k := range x {
				x[k] += 0.8 * move[k]
				c[k] += change[k]
			}
			steps(t, s, w, 3, false)
			near(t, fmt.Sprintf("option %d, round %d, parameters", option, round+1), w.X, x)
			near(t, fmt.Sprintf("option %d, round %d, c", option, round+1), s.scaffold.c, c)
			for r := range cs {
				near(t, fmt.Sprintf("option %d, round %d, variate %d", option, round+1, r), s.scaffold.of(s.scaffold.cs, r), cs[r])
			}
		}
	}
}

// A group's replicas are averaged by themselves every K steps and all of them every K times Outer, by their samples since.
func TestHierarchical(t *testing.T) {
	s, w := lone(t, "hierarchical:K=2,groups=2,outer=2", counts)
	x := make([]float64, dim)
	for round := range 2 {
		said := steps(t, s, w, 2, false)
		if slices.Max(s.groups.counts) != 0 {
			t.Errorf("round %d: after groups met, counts of samples since are %v", round+1, s.groups.counts)
		}
		said = append(said, steps(t, s, w, 2, false)...)
		if slices.Max(s.groups.counts) != 0 {
			t.Errorf("round %d: after all met, counts of samples since are %v", round+1, s.groups.counts)
		}
		ys := all(x, 2, 0)
		for _, g := range [][]int{{0, 1}, {2, 3}} { // leaves 0 and 1, 2 and 3
			n := float64(counts[g[0]] + counts[g[1]])
			m := make([]float64, dim)
			for _, r := range g {
				for k := range m {
					m[k] += float64(counts[r]) / n * ys[r][k]
				}
			}
			for _, r := range g {
				ys[r] = twin(m, r, 2, 0)
			}
		}
		x = mean(ys)
		near(t, fmt.Sprintf("round %d", round+1), w.X, x)
		if !said[1].Quiet || said[3].Quiet || said[3].Steps != 4 {
			t.Errorf("round %d: reports %+v", round+1, said)
		}
	}
}

// Until step start there is an exchange after each step, then every K (Lin et al., arXiv 1808.07217, section 3).
func TestPostLocal(t *testing.T) {
	s, w := lone(t, "postlocal:K=4,start=3", counts)
	var talked []int
	for i, said := range steps(t, s, w, 13, true) {
		if !said.Quiet {
			talked = append(talked, i+1)
		}
	}
	if want := []int{1, 2, 3, 7, 11, 13}; !slices.Equal(talked, want) {
		t.Errorf("exchanges after steps %v, expected %v", talked, want)
	}
}

// An overlapped exchange is put to use exactly T steps after it began, and a replica then is where it would be had it moved
// from the new common parameters as it did from its own; with alpha, at alpha of its own and the rest of the common ones
// (Douillard et al., arXiv 2501.18512, section 2.3). The last step waits for it, and brings all together.
func TestOverlapIsExact(t *testing.T) {
	const k, late = 5, 3
	for _, alpha := range []float64{-1, 0.25} {
		method := fmt.Sprintf("local:K=%d,overlap=%d", k, late)
		if alpha >= 0 {
			method += fmt.Sprintf(",alpha=%v", alpha)
		}
		s, w := lone(t, method, counts)
		x := make([]float64, dim)
		ys := [][]float64{x, x, x, x}
		var sent [][]float64
		for step := 1; step <= 17; step++ {
			said := steps(t, s, w, 1, step == 17)[0]
			for r := range ys {
				ys[r] = twin(ys[r], r, 1, 0)
			}
			lands := step > k && step%k == late || step == 17
			if lands { // at 17 the exchange of 15 is put to use early, and then all come together
				next := mean(sent)
				for r := range ys {
					for i := range x {
						if alpha >= 0 {
							ys[r][i] = alpha*ys[r][i] + (1-alpha)*next[i]
						} else {
							ys[r][i] = next[i] + (ys[r][i] - sent[r][i])
						}
					}
				}
				x = next
			}
			if step == 17 {
				x = mean(ys)
			}
			if step%k == 0 {
				sent = nil
				for _, y := range ys {
					sent = append(sent, slices.Clone(y))
				}
			}
			if said.Quiet == lands {
				t.Errorf("%s: step %d is quiet: %v", method, step, said.Quiet)
			}
			near(t, fmt.Sprintf("%s, step %d", method, step), w.X, x)
		}
	}
}

// Fragments are runs of whole segments that take turns, spread over the period; each is averaged every K steps.
func TestFragmentsTakeTurns(t *testing.T) {
	s, w := lone(t, "local:K=4,fragments=2", counts)
	x := make([]float64, dim)
	ys := [][]float64{x, x, x, x}
	for step := 1; step <= 9; step++ {
		steps(t, s, w, 1, false)
		for r := range ys {
			ys[r] = twin(ys[r], r, 1, 0)
		}
		lo, hi := 0, 0
		switch step % 4 {
		case 2:
			hi = 8 // segments a and b
		case 0:
			lo, hi = 8, dim
		}
		m := mean(ys)
		for k := lo; k < hi; k++ {
			x = slices.Clone(x)
			x[k] = m[k]
			for r := range ys {
				ys[r][k] = m[k]
			}
		}
		near(t, fmt.Sprintf("step %d", step), w.X, x)
	}
}

// cut makes as many fragments as it was asked for where there are segments enough, and covers everything in order.
func TestCut(t *testing.T) {
	var layout model.Layout
	for i, n := range []int{7, 1, 1, 30, 2, 2, 9, 1, 40, 3} {
		layout = layout.Add(fmt.Sprint("s", i), n)
	}
	for p := 1; p <= 12; p++ {
		s := New(Config{K: 100, Fragments: p})
		s.cut(layout)
		at := 0
		for _, f := range s.fragments {
			if f.lo != at || f.hi <= f.lo {
				t.Errorf("%d fragments: one from %d to %d after %d", p, f.lo, f.hi, at)
			}
			if !slices.ContainsFunc(layout, func(g model.Segment) bool { return g.Off == f.lo && g.Name == f.name }) {
				t.Errorf("%d fragments: one begins at %d, which is not segment %s", p, f.lo, f.name)
			}
			at = f.hi
		}
		if at != layout.Len() || len(s.fragments) > p || p <= 3 && len(s.fragments) != p {
			t.Errorf("%d fragments asked for, %d made, up to element %d of %d", p, len(s.fragments), at, layout.Len())
		}
	}
}

// A replica without samples in a step, and one without any in a whole round, change nothing and count nothing.
func TestEmptyMicroshards(t *testing.T) {
	for _, method := range []string{"local:K=2", "scaffold:K=2", "scaffold:K=2,option=1", "hierarchical:K=1,groups=2,outer=2"} {
		s, w := lone(t, method, []int{2, 0, 0, 0})
		steps(t, s, w, 4, true)
		alone, one := lone(t, "local:K=2", []int{2})
		steps(t, alone, one, 4, true)
		for k := range w.X {
			if d := math.Abs(float64(w.X[k] - one.X[k])); d > 0x1p-20 || math.IsNaN(d) {
				t.Errorf("%s: element %d is %v, of the one replica that has samples %v", method, k, w.X[k], one.X[k])
				break
			}
		}
	}
}

// A vote to stop that was cast amid a round is heard by all at its end.
func TestStopIsHeardAtTheExchange(t *testing.T) {
	const workers = 3
	heard := make(chan []bool, workers)
	for i, g := range inproc.New(workers, time.Minute) {
		go func() {
			defer g.Close()
			w := worker(g, counts)
			s := New(Config{Method: Local, K: 4, Fragments: 1, Mix: -1})
			var stops []bool
			for step := range 4 {
				w.Step, w.Stop = step, i == 1 && step == 1
				said, err := s.Step(context.Background(), w)
				if err != nil {
					t.Error(err)
				}
				stops = append(stops, said.Stop)
			}
			heard <- stops
		}()
	}
	for range workers {
		if stops := <-heard; !slices.Equal(stops, []bool{false, false, false, true}) {
			t.Errorf("heard after steps: %v, expected the last", stops)
		}
	}
}
