package adapt

import (
	"context"
	"testing"
	"time"

	"github.com/covey-ml/covey/ckpt"
	"github.com/covey-ml/covey/comm/inproc"
	"github.com/covey-ml/covey/reduce"
	"github.com/covey-ml/covey/strategy"
)

// tuned is a strategy that only notes what it is told.
type tuned struct {
	strategy.Strategy
	said []int
}

func (f *tuned) Step(context.Context, *strategy.Worker) (strategy.Report, error) {
	return strategy.Report{}, nil
}
func (f *tuned) Tune(period int)          { f.said = append(f.said, period) }
func (f *tuned) String() string           { return "tuned" }
func (f *tuned) State() []ckpt.Tensor     { return nil }
func (f *tuned) Load([]ckpt.Tensor) error { return nil }

// The first arm's period holds from the first step on, also after resuming, an arm without one brings the strategy's own
// back, and arms that have none leave periods alone.
func TestPeriods(t *testing.T) {
	g := inproc.New(1, time.Second)[0]
	defer g.Close()
	exact := &reduce.Exact{Group: g}
	steps := func(s *Strategy, w *strategy.Worker, n int) (arm int) {
		for range n {
			d, err := s.Step(context.Background(), w)
			if err != nil {
				t.Fatal(err)
			}
			if d.Decided != nil && d.Decided.New {
				return s.bandit.Arm()
			}
		}
		return -1
	}
	worker := func() *strategy.Worker {
		return &strategy.Worker{Group: g, Reducer: reduce.NewSwitch(1, exact, exact)}
	}
	inner := &tuned{}
	arms := []Arm{{Compress: "none", Period: 4, Price: 1}, {Compress: "bf16", Price: 1}}
	s := New(inner, arms)
	w := worker()
	if arm := steps(s, w, window); arm != 1 {
		t.Fatalf("arm %d follows the first", arm)
	}
	if len(inner.said) != 2 || inner.said[0] != 4 || inner.said[1] != 0 {
		t.Errorf("the strategy was told periods of %v, expected 4 and its own again", inner.said)
	}
	again := &tuned{}
	r := New(again, arms)
	r.bandit.arm = 1
	before := New(&tuned{}, arms)
	if err := r.Load(before.State()); err != nil {
		t.Fatal(err)
	}
	steps(r, worker(), 1)
	if len(again.said) != 1 || again.said[0] != 4 {
		t.Errorf("after resuming the strategy was told %v, expected 4", again.said)
	}
	alone := &tuned{}
	s = New(alone, []Arm{{Compress: "none", Price: 1}, {Compress: "bf16", Price: 1}})
	if steps(s, worker(), window); len(alone.said) != 0 {
		t.Errorf("arms without periods told %v", alone.said)
	}
}
