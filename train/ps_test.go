package train_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/covey-ml/covey/ckpt"
	"github.com/covey-ml/covey/spec"
	"github.com/covey-ml/covey/strategy"
	"github.com/covey-ml/covey/strategy/ps"
	"github.com/covey-ml/covey/train"
)

// served sets a parameter server.
func served(t *testing.T, c train.Config, choice string) (train.Config, ps.Config) {
	t.Helper()
	s, err := spec.Parse(choice)
	if err != nil {
		t.Fatal(err)
	}
	p, err := ps.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	c.Strategy = func() strategy.Strategy { return ps.New(p) }
	return c, p
}

// Synchronous training by way of servers has the bits of an all-reduce, for rules that treat each element alone and for those
// with norms, however many workers and servers there are; a bound of staleness of 0 is synchronous; and asynchronous training
// of one worker is that worker's.
func TestServersHaveTheBitsOfAllReduce(t *testing.T) {
	for _, optimizer := range []string{"sgd", "momentum", "adam", "lamb", "momentum:clip=0.5"} {
		c := config(t, "mlp:24,16,dropout=0.2")
		c.Optimizer = optimizer
		want, err := train.Local(t.Context(), 1, timeout, c)
		if err != nil {
			t.Fatal(err)
		}
		for _, choice := range []string{"ps", "ps:servers=2", "ps:servers=3", "ps:servers=2,deal=dynamic", "ps:servers=2,mode=ssp,staleness=0", "ps:mode=async", "ps:servers=2,mode=dc,lambda=0"} {
			c, p := served(t, c, choice)
			for _, workers := range []int{1, 2, 3, 4, 13} {
				if !p.Held() && workers > 1 || p.Servers > 1 && strings.Contains(optimizer, "clip") {
					continue
				}
				r, err := train.Local(t.Context(), workers+p.Servers, timeout, c)
				if err != nil {
					t.Fatalf("%s, %s, %d workers: %v", optimizer, choice, workers, err)
				}
				if r.Weights != want.Weights || *r.Accuracy != *want.Accuracy {
					t.Errorf("%s, %s, %d workers: weights %.12s, one worker's are %.12s", optimizer, choice, workers, r.Weights, want.Weights)
				}
				if r.Loss != want.Loss && p.Held() && !p.Deal {
					t.Errorf("%s, %s, %d workers: loss %v, one worker's is %v", optimizer, choice, workers, r.Loss, want.Loss)
				}
				if r.BytesSent != r.BytesExpected {
					t.Errorf("%s, %s, %d workers: %d bytes sent, %d expected\n%+v", optimizer, choice, workers, r.BytesSent, r.BytesExpected, r.Ops)
				}
				if !strings.HasSuffix(r.SamplesBooked, "each sample used exactly once") {
					t.Errorf("%s, %d workers: %s", choice, workers, r.SamplesBooked)
				}
			}
		}
	}
}

// Every mode learns, on goroutines and in the simulator, where it does so the same way each time.
func TestServersLearn(t *testing.T) {
	for _, mode := range append(ps.Modes(), "bsp,deal=dynamic") {
		c := config(t, "mlp:24")
		c.Optimizer, c.Rate, c.Epochs, c.Microshards = "sgd", 0.2, 20, 4
		c, p := served(t, c, "ps:servers=2,mode="+mode)
		r, err := train.Local(t.Context(), 4+p.Servers, timeout, c)
		if err != nil {
			t.Fatalf("%s: %v", mode, err)
		}
		if *r.Accuracy < 0.6 {
			t.Errorf("%s: accuracy %v", mode, *r.Accuracy)
		}
		var weights []string
		for range 2 {
			r, err := train.Simulate(t.Context(), worldFor(t, "home", 4+p.Servers, nil), c)
			if err != nil {
				t.Fatalf("%s, simulated: %v", mode, err)
			}
			weights = append(weights, r.Weights)
		}
		if weights[0] != weights[1] || p.Held() && weights[0] != r.Weights {
			t.Errorf("%s: simulated twice, weights %.12s; as goroutines %.12s", mode, weights, r.Weights)
		}
	}
}

// A served run that was stopped goes on as if it had not been, with other workers and servers.
func TestServedRunIsResumed(t *testing.T) {
	for _, mode := range []string{"bsp", "async"} {
		c := config(t, "mlp:24")
		c.Optimizer = "adam"
		c, p := served(t, c, "ps:servers=2,mode="+mode)
		calm, err := train.Local(t.Context(), 1+p.Servers, timeout, c)
		if err != nil {
			t.Fatal(err)
		}
		for at := 1; at < calm.Steps; at += 2 {
			c := c
			c.Dir = t.TempDir()
			step := 0
			c.Stop = func() bool { step++; return step == at }
			if _, err := train.Local(t.Context(), 1+p.Servers, timeout, c); !errors.Is(err, train.ErrStopped) {
				t.Fatalf("%s, stopped at step %d: error %v", mode, at, err)
			}
			c.Stop = nil
			if c.Resume, _, err = ckpt.Latest(c.Dir); err != nil {
				t.Fatal(err)
			}
			r, err := train.Local(t.Context(), 1+p.Servers, timeout, c)
			if err != nil {
				t.Fatalf("%s, resumed at step %d: %v", mode, at, err)
			}
			if r.Weights != calm.Weights {
				t.Errorf("%s, resumed at step %d: weights %.12s, the calm run's %.12s", mode, at, r.Weights, calm.Weights)
			}
		}
	}
}

// In every mode a request to stop ends all workers after the same step, with a checkpoint.
func TestServedRunStops(t *testing.T) {
	for _, mode := range append(ps.Modes(), "bsp,deal=dynamic") {
		c := config(t, "mlp:24")
		c.Microshards, c.Dir, c.Epochs = 4, t.TempDir(), 100
		c, p := served(t, c, fmt.Sprintf("ps:servers=2,mode=%s", mode))
		step := 0
		c.Stop = func() bool { step++; return step == 7 }
		r, err := train.Local(t.Context(), 4+p.Servers, timeout, c)
		if !errors.Is(err, train.ErrStopped) {
			t.Fatalf("%s: %v", mode, err)
		}
		if _, _, err := ckpt.Latest(c.Dir); err != nil || r.Steps < 7 || r.Steps > 100 {
			t.Errorf("%s: stopped at step %d; %v", mode, r.Steps, err)
		}
	}
}
