package train_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/covey-ml/covey/reduce"
	"github.com/covey-ml/covey/strategy"
	"github.com/covey-ml/covey/strategy/allreduce"
	"github.com/covey-ml/covey/train"
)

// A compressed run that was stopped after any step and goes on with as many workers ends with the weights of the calm
// one: residuals, momentum and factors come back bit for bit. With others it goes on, and its ledger closes.
func TestStopAndResumeCompressed(t *testing.T) {
	for compress, optimizer := range map[string]string{"powersgd:2+ef": "momentum", "vote:momentum=0.9": "sgd",
		"topk:0.05+ef": "momentum", "topk:0.1+ef21": "momentum", "dgc:0.02,warmup=6": "sgd", "onebit+ef": "momentum", "uniform:8+ef": "momentum"} {
		c := config(t, "mlp:24")
		c.Compress, c.Optimizer, c.Rate = compress, optimizer, 0.0005
		calm, err := train.Local(t.Context(), 3, timeout, c)
		if err != nil {
			t.Fatal(err)
		}
		for at := 1; at < calm.Steps; at += 2 {
			c := c
			c.Dir = t.TempDir()
			c.Resume, c.Dir = stoppedAt(t, c, 3, at), ""
			for _, n := range []int{3, 1 + at%5} {
				r, err := train.Local(t.Context(), n, timeout, c)
				if err != nil {
					t.Fatalf("%s, resumed at step %d with %d workers: %v", compress, at, n, err)
				}
				if same := r.Weights == calm.Weights; n == 3 && !same {
					t.Errorf("%s, resumed at step %d: weights %.12s, the calm run's are %.12s", compress, at, r.Weights, calm.Weights)
				}
				if r.BytesSent != r.BytesExpected || r.Steps != calm.Steps {
					t.Errorf("%s, resumed at step %d with %d workers: %d bytes sent, %d expected, %d steps", compress, at, n, r.BytesSent, r.BytesExpected, r.Steps)
				}
			}
		}
	}
}

// twice trains as allreduce does and sums a vector of its own by a second reducer, in the first and the last steps.
type twice struct {
	*allreduce.Strategy
	sum []float32
}

func (s *twice) Step(ctx context.Context, w *strategy.Worker) (strategy.Report, error) {
	said, err := s.Strategy.Step(ctx, w)
	if err != nil || w.Step >= 4 && w.Step < 6 {
		return said, err
	}
	red, err := w.Another("second")
	if err != nil {
		return said, err
	}
	parts := make([][]float32, w.Tree.Vectors(w.Group.Rank()))
	for i := range parts {
		parts[i] = make([]float32, len(w.X))
		for k := range parts[i] {
			parts[i][k] = float32(value(int(w.Group.Rank()), w.Step+i, k))
		}
	}
	err = red.Sum(ctx, reduce.Vector{Name: "second", Parts: parts, Weight: 1, Total: float64(w.Group.Size()), Step: w.Step})
	s.sum = parts[0]
	return said, err
}

// A second reducer has state of its own, which a checkpoint brings back when the strategy asks for the reducer, and which
// stays in the checkpoints of a run that has not asked for it yet.
func TestAnotherReducerIsResumed(t *testing.T) {
	c := config(t, "mlp:24")
	c.Compress, c.Optimizer, c.Rate, c.Steps = "powersgd:2+ef", "momentum", 0.0005, 8
	// run trains, asked to stop after so many steps, and returns what a worker got from the last sum, and the weights.
	run := func(stop int) ([]float32, string) {
		t.Helper()
		var mu sync.Mutex
		var all []*twice
		c := c
		c.Strategy = func() strategy.Strategy {
			mu.Lock()
			defer mu.Unlock()
			all = append(all, &twice{Strategy: allreduce.New()})
			return all[len(all)-1]
		}
		step := 0
		c.Stop = func() bool { step++; return step == stop }
		r, err := train.Local(t.Context(), 3, timeout, c)
		if stopped := errors.Is(err, train.ErrStopped); err != nil && !stopped || stopped != (stop > 0) {
			t.Fatalf("asked to stop after %d steps: %v", stop, err)
		}
		if r.BytesSent != r.BytesExpected {
			t.Errorf("%d bytes sent, %d expected", r.BytesSent, r.BytesExpected)
		}
		return all[0].sum, r.Weights
	}
	want, weights := run(0)
	c.Dir = t.TempDir()
	run(4)
	c.Resume = latest(t, c.Dir)
	if got, _ := run(1); got != nil {
		t.Fatal("the second reducer was asked for in step 5: nothing waited")
	}
	c.Resume = latest(t, c.Dir)
	if got, after := run(0); after != weights || !slices.Equal(got, want) {
		t.Errorf("resumed: weights %.12s, the calm run's are %.12s; the second sums are the same: %v", after, weights, slices.Equal(got, want))
	}
}

// A run that chooses its arms from measured times: all workers choose alike, or the books would not close; every choice is
// an event with its reason; a resumed run goes on with what was measured.
func TestAdapt(t *testing.T) {
	c := config(t, "mlp:24")
	c.Adapt, c.Optimizer, c.Rate, c.Epochs = "none; topk:0.05+ef price=1.2; powersgd:2+ef price=1.1 bucket=4KiB", "momentum", 0.01, 40
	c.Dir = t.TempDir()
	var choices []strategy.Decision
	steps, stop := 0, 90
	c.Events.Step = func(i train.StepInfo) {
		if i.Decided != nil {
			choices = append(choices, *i.Decided)
		}
	}
	c.Stop = func() bool { steps++; return steps == stop }
	if _, err := train.Local(t.Context(), 3, timeout, c); !errors.Is(err, train.ErrStopped) {
		t.Fatal(err)
	}
	before := len(choices)
	if before < 3 || choices[0].What != "topk:0.05+ef" || !choices[0].New || choices[1].What != "powersgd:2+ef bucket=4KiB" || choices[0].Why == "" {
		t.Fatalf("chosen: %+v", choices)
	}
	c.Resume, c.Stop = latest(t, c.Dir), nil
	r, err := train.Local(t.Context(), 3, timeout, c)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range choices[before:] {
		if strings.Contains(d.Why, "not measured yet") {
			t.Errorf("after resuming %s is chosen since %s", d.What, d.Why)
		}
	}
	if len(choices) == before || r.BytesSent != r.BytesExpected {
		t.Errorf("%d choices after resuming; %d bytes sent, %d expected", len(choices)-before, r.BytesSent, r.BytesExpected)
	}
}

// What is chosen for the first reducer is chosen for the second, too: SCAFFOLD's variates go as its parameters do.
func TestAdaptChoosesForAll(t *testing.T) {
	c := replicas(t, config(t, "mlp:24"), "scaffold:K=2")
	c.Adapt, c.Optimizer, c.Rate, c.Epochs, c.Microshards = "none; topk:0.05+ef price=0.001", "sgd", 0.05, 10, 4
	r, err := train.Local(t.Context(), 2, timeout, c)
	if err != nil {
		t.Fatal(err)
	}
	// Were the second vector exact, half of what exact rounds send would go in each round.
	if half := r.BytesExact / 2; r.BytesSent != r.BytesExpected || r.BytesSent > half {
		t.Errorf("%d bytes sent, %d expected, fewer than %d if both vectors were compressed", r.BytesSent, r.BytesExpected, half)
	}
}
