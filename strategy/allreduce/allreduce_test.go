package allreduce

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
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

// layered is a model of four segments whose gradient is 1 everywhere; between reports it calls hook.
type layered struct {
	hook func(segment string)
	skip string // a segment that it forgets to report
	err  error  // of every Grad
}

func (*layered) Layout() model.Layout {
	return model.Layout{}.Add("a", 40).Add("b", 10).Add("c", 30).Add("d", 20)
}
func (*layered) Init(x []float32, _ uint64) { clear(x) }
func (m *layered) Grad(_ context.Context, _, g []float32, b *data.Batch, done func(model.Segment)) (model.Loss, error) {
	for _, s := range slices.Backward(m.Layout()) {
		for i := range s.Len {
			g[s.Off+i] = float32(b.N)
		}
		if done != nil && s.Name != m.skip {
			done(s)
			if m.hook != nil {
				m.hook(s.Name)
			}
		}
	}
	return model.Loss{Sum: 2 * float32(b.N), N: b.N}, m.err
}
func (*layered) Eval(context.Context, []float32, *data.Batch) (model.Metrics, error) {
	return model.Metrics{}, nil
}

// spy tells which buckets it was given.
type spy struct {
	reduce.Reducer
	summed chan string
}

func (s *spy) Sum(ctx context.Context, v reduce.Vector) error {
	err := s.Reducer.Sum(ctx, v)
	s.summed <- fmt.Sprintf("%s@%d+%d", v.Name, v.Off, len(v.Parts[0]))
	return err
}

func worker(t *testing.T, g comm.Group, m model.Model, leaves int) *strategy.Worker {
	t.Helper()
	s, err := spec.Parse("sgd")
	if err != nil {
		t.Fatal(err)
	}
	o, err := optim.New(s, m.Layout())
	if err != nil {
		t.Fatal(err)
	}
	tree := comm.NewTree(leaves, g.Size())
	frame, x := strategy.Frame(g, m.Layout().Len())
	return &strategy.Worker{Group: g, Tree: tree, Model: m, Optimizer: o, Frame: frame, X: x, Rate: 0.5,
		Samples: 8, Bucket: 4 * 30, Reducer: &reduce.Exact{Group: g, Tree: tree},
		Microshard: func(int) (*data.Batch, error) { return &data.Batch{N: 8 / leaves}, nil }}
}

// The reduction of a bucket ends while Grad has not yet returned, alone and with a peer: Grad waits for it.
func TestReductionStartsDuringBackward(t *testing.T) {
	for _, workers := range []int{1, 2} {
		errs := make(chan error, workers)
		for _, g := range inproc.New(workers, 10*time.Second) {
			m := &layered{}
			w := worker(t, g, m, 4)
			summed := make(chan string, 8)
			w.Reducer = &spy{w.Reducer, summed}
			var during []string
			m.hook = func(segment string) {
				if segment == "a" { // the bucket of c and d is full since c was final
					during = append(during, <-summed)
				}
			}
			go func() {
				defer g.Close()
				rep, err := New().Step(context.Background(), w)
				switch last := <-summed; {
				case err != nil:
				case !slices.Equal(during, []string{"c@50+50"}):
					err = fmt.Errorf("reduced during the backward pass: %v", during)
				case last != "a@0+66": // head and the segments a and b
					err = fmt.Errorf("reduced last: %s", last)
				case rep.Loss != 2 || rep.Stop:
					err = fmt.Errorf("report %+v", rep)
				case slices.Min(w.X) != -0.5 || slices.Max(w.X) != -0.5: // mean gradient 1, rate 0.5
					err = fmt.Errorf("parameters from %v to %v", slices.Min(w.X), slices.Max(w.X))
				}
				errs <- err
			}()
		}
		for range workers {
			if err := <-errs; err != nil {
				t.Errorf("%d workers: %v", workers, err)
			}
		}
	}
}

func TestForgottenSegmentIsAnError(t *testing.T) {
	g := inproc.New(1, 10*time.Second)[0]
	defer g.Close()
	_, err := New().Step(t.Context(), worker(t, g, &layered{skip: "d"}, 2))
	if err == nil || !strings.Contains(err.Error(), "did not report 1 segments") {
		t.Errorf("error %v", err)
	}
}

// One vote stops all, spares included.
func TestStopVote(t *testing.T) {
	const n = 3
	groups := inproc.New(n, 10*time.Second)
	stops := make(chan error, n)
	for r, g := range groups {
		w := worker(t, g, &layered{}, 2) // rank 2 is a spare
		w.Stop = r == 1
		go func() {
			rep, err := New().Step(context.Background(), w)
			if err == nil && (!rep.Stop || rep.Loss != 2 || w.X[0] != -0.5) {
				err = fmt.Errorf("worker %d: %+v, x %v", r, rep, w.X[0])
			}
			stops <- err
		}()
	}
	for range groups {
		if err := <-stops; err != nil {
			t.Error(err)
		}
	}
}

// When a worker dies in the middle, the others' Step says who, and nobody hangs.
func TestLostWorker(t *testing.T) {
	const n = 3
	groups := inproc.New(n, 10*time.Second)
	errs := make(chan error, n)
	for r, g := range groups {
		m := &layered{}
		if r == 1 {
			m.hook = func(segment string) {
				if segment == "b" {
					inproc.Kill(g)
				}
			}
		}
		w := worker(t, g, m, 8)
		go func() {
			_, err := New().Step(context.Background(), w)
			if r == 1 {
				err = nil
			} else if err == nil {
				err = errors.New("no error")
			} else if pe := (*comm.PeerError)(nil); errors.As(err, &pe) && pe.Rank == 1 && pe.Op == comm.OpAllReduce {
				err = nil
			}
			errs <- err
		}()
	}
	for range groups {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

// A worker whose model fails while a bucket is being reduced tells the others why, and leaves nobody at work on its
// vectors when Step returns.
func TestFailingModelIsTheReason(t *testing.T) {
	groups := inproc.New(2, time.Minute)
	wrong := errors.New("no such number")
	books := comm.NewLedger()
	m := &layered{err: wrong}
	m.hook = func(segment string) {
		for b := books.Totals(); segment == "c" && b[comm.OpAllReduce].Messages == 0; b = books.Totals() {
			runtime.Gosched() // until the first bucket is on its way; the peer has not come yet
		}
	}
	w := worker(t, comm.Count(groups[0], books), m, 2)
	w.Reducer.(*reduce.Exact).Algorithm = comm.Direct // what has been sent can be seen in the books
	summing := &counter{Reducer: w.Reducer}
	w.Reducer = summing
	if _, err := New().Step(t.Context(), w); err != wrong {
		t.Errorf("the failing worker says: %v", err)
	}
	if n := summing.at.Load(); n != 0 {
		t.Errorf("%d reductions go on after Step has returned", n)
	}
	var pe *comm.PeerError
	peer := worker(t, groups[1], &layered{}, 2)
	peer.Reducer.(*reduce.Exact).Algorithm = comm.Direct
	_, err := New().Step(t.Context(), peer)
	if !errors.As(err, &pe) || pe.Rank != 0 || !strings.Contains(err.Error(), wrong.Error()) {
		t.Errorf("its peer says: %v", err)
	}
}

// counter counts the calls under way.
type counter struct {
	reduce.Reducer
	at atomic.Int32
}

func (c *counter) Sum(ctx context.Context, v reduce.Vector) error {
	c.at.Add(1)
	defer c.at.Add(-1)
	return c.Reducer.Sum(ctx, v)
}

// weigh keeps the weight of every vector that it is given.
type weigh struct{ got []float64 }

func (w *weigh) Sum(_ context.Context, v reduce.Vector) error {
	w.got = append(w.got, v.Weight)
	return nil
}

// TestWeight: a vector weighs the samples behind this rank's parts, which all ranks together make the batch.
func TestWeight(t *testing.T) {
	const ranks, leaves, samples = 5, 4, 10 // the last rank is a spare
	groups := inproc.New(ranks, time.Minute)
	for r, want := range []float64{2, 3, 2, 3, 0} {
		seen := &weigh{}
		w := worker(t, groups[r], &layered{}, leaves)
		w.Samples, w.Bucket, w.Reducer = samples, 0, seen
		if _, err := New().Step(t.Context(), w); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(seen.got, []float64{want}) {
			t.Errorf("rank %d: weights %v, want %v", r, seen.got, want)
		}
	}
}
