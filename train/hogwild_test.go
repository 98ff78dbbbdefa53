package train_test

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/covey-ml/covey/ckpt"
	"github.com/covey-ml/covey/data"
	"github.com/covey-ml/covey/internal/realdata"
	"github.com/covey-ml/covey/strategy"
	"github.com/covey-ml/covey/strategy/convex"
	"github.com/covey-ml/covey/strategy/hogwild"
	"github.com/covey-ml/covey/train"
)

// hogged has all workers change one vector.
func hogged(c train.Config) train.Config {
	shared := hogwild.NewShared(c.Train)
	c.Strategy = func() strategy.Strategy { return hogwild.New(shared) }
	c.Optimizer = "sgd"
	return c
}

// least is the least objective that there is.
func least(t *testing.T, c train.Config) float64 {
	t.Helper()
	c.Strategy = func() strategy.Strategy {
		s, err := convex.New(convex.Options{Method: convex.Newton, Tol: 1e-6}, c.Model.Layout().Len())
		if err != nil {
			t.Error(err)
		}
		return s
	}
	c.Optimizer, c.Batch, c.Microshards, c.Epochs, c.Schedule = "sgd", c.Train.Len(), 8, 50, ""
	r, err := train.Local(t.Context(), 2, timeout, c)
	if err != nil {
		t.Fatal(err)
	}
	return *r.Objective
}

// Workers that write over each other's updates come as near to the least objective as one worker does, which is SGD: on sparse data
// of many features, and on a9a.
func TestHogwildReachesSGD(t *testing.T) {
	for name, open := range map[string]func(t *testing.T) data.Dataset{
		"clicks": func(t *testing.T) data.Dataset { return clicks(t, "train", 2000) },
		"a9a": func(t *testing.T) data.Dataset {
			tr, _, err := data.Open(t.Context(), realdata.Path(t, "a9a"), data.Options{})
			if err != nil {
				t.Fatal(err)
			}
			return tr
		},
	} {
		t.Run(name, func(t *testing.T) {
			tr := open(t)
			c := train.Config{Model: build(t, "logistic", tr), Train: tr, Batch: 256, Microshards: 8, Epochs: 10, Rate: 0.1, Schedule: "cosine", Seed: 3}
			best := least(t, c)
			for _, workers := range []int{1, 2, 4} {
				r, err := train.Local(t.Context(), workers, timeout, hogged(c))
				if err != nil {
					t.Fatal(err)
				}
				if *r.Objective > 1.01*best {
					t.Errorf("%d workers: the objective is %v, and the least is %v", workers, *r.Objective, best)
				}
				if !strings.HasSuffix(r.SamplesBooked, "each sample used exactly once") || math.IsNaN(r.Loss) || r.Loss <= 0 {
					t.Errorf("%d workers: loss %v, %s", workers, r.Loss, r.SamplesBooked)
				}
			}
		})
	}
}

// A request to stop ends all workers after the same step, and the run goes on from there, with others; that of one worker to the bits of
// the run that was not stopped.
func TestHogwildIsResumed(t *testing.T) {
	tr := clicks(t, "train", 300)
	c := train.Config{Model: build(t, "logistic", tr), Train: tr, Batch: 20, Microshards: 4, Epochs: 3, Rate: 0.05, Seed: 3}
	calm, err := train.Local(t.Context(), 1, timeout, hogged(c))
	if err != nil {
		t.Fatal(err)
	}
	for _, workers := range []int{1, 3} {
		for at := 1; at < calm.Steps; at += 6 {
			c := hogged(c)
			c.Dir = t.TempDir()
			step := 0
			c.Stop = func() bool { step++; return step == at }
			part, err := train.Local(t.Context(), workers, timeout, c)
			if part != nil && part.Steps == calm.Steps && err == nil { // the others were that far ahead
				continue
			}
			if !errors.Is(err, train.ErrStopped) || part.Steps < at {
				t.Fatalf("%d workers, asked to stop at step %d: %+v, %v", workers, at, part, err)
			}
			c = hogged(c)
			c.Stop = nil
			if c.Resume, _, err = ckpt.Latest(c.Dir); err != nil {
				t.Fatal(err)
			}
			r, err := train.Local(t.Context(), workers, timeout, c)
			if err != nil || r.Steps != calm.Steps || workers == 1 && r.Weights != calm.Weights {
				t.Errorf("%d workers, resumed at step %d: %+v, %v", workers, at, r, err)
			}
		}
	}
}

// What cannot go by one vector is refused before anything is trained, with what can be done instead.
func TestHogwildIsRefused(t *testing.T) {
	tr := clicks(t, "train", 100)
	dense, _ := digits(t)
	for _, of := range []struct {
		c   train.Config
		why string
	}{
		{train.Config{Model: build(t, "softmax", tr), Train: tr}, "use ps:mode=async"},
		{train.Config{Model: build(t, "mlp:8", dense), Train: dense}, "use allreduce, or sparse data"},
	} {
		_, err := train.Local(t.Context(), 2, timeout, hogged(of.c))
		var config *train.ConfigError
		if !errors.As(err, &config) || config.Key != "strategy" || !strings.Contains(err.Error(), of.why) {
			t.Errorf("%v, expected %q", err, of.why)
		}
	}
	// Workers that do not share memory each have a vector of their own.
	c := train.Config{Model: build(t, "logistic", tr), Train: tr, Optimizer: "sgd"}
	c.Strategy = func() strategy.Strategy { return hogwild.New(hogwild.NewShared(tr)) }
	if _, err := train.Local(t.Context(), 2, timeout, c); err == nil || !strings.Contains(err.Error(), "1 of 2 workers are in this process") {
		t.Errorf("two processes: %v", err)
	}
}
