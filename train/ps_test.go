package train_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/fault"
	"github.com/covey-ml/covey/rng"
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
		if mode == ps.Async || mode == ps.Downpour || mode == ps.DC {
			c.Rate = 0.05 // each worker's push is a step
		}
		c, p := served(t, c, "ps:servers=2,mode="+mode)
		r, err := train.Local(t.Context(), 4+p.Servers, timeout, c)
		if err != nil {
			t.Fatalf("%s: %v", mode, err)
		}
		if *r.Accuracy < 0.6 {
			t.Errorf("%s: accuracy %v", mode, *r.Accuracy)
		}
		simulatedTwice(t, c, p, r)
	}
}

// simulatedTwice runs c, of four workers, in the simulator, where it comes out the same way each time: the way of r, of goroutines,
// where pushes are held.
func simulatedTwice(t *testing.T, c train.Config, p ps.Config, r *train.Report) {
	t.Helper()
	var weights []string
	for range 2 {
		r, err := train.Simulate(t.Context(), worldFor(t, "home", 4+p.Servers, nil), c)
		if err != nil {
			t.Fatalf("%v, simulated: %v", p, err)
		}
		weights = append(weights, r.Weights)
	}
	if weights[0] != weights[1] || p.Held() && weights[0] != r.Weights {
		t.Errorf("%v: simulated twice, weights %.12s; as goroutines %.12s", p, weights, r.Weights)
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
			c.Resume = stoppedAt(t, c, 1+p.Servers, at)
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
		if latest(t, c.Dir); r.Steps < 7 || r.Steps > 100 {
			t.Errorf("%s: stopped at step %d", mode, r.Steps)
		}
	}
}

// watched notes what a worker pushes and pulls: it begins step t when all servers have answered t times.
type watched struct {
	comm.Group
	comm.Faulty
	all *drift
}

func (g watched) Send(ctx context.Context, to comm.Rank, tag comm.Tag, p []byte) error {
	if tag.Op() == comm.OpPush && len(p) > 64 {
		g.all.pushed[g.Rank()]++
	}
	return g.Group.Send(ctx, to, tag, p)
}

func (g watched) Recv(ctx context.Context, from comm.Rank, tag comm.Tag, p []byte) (comm.Rank, int, error) {
	r, n, err := g.Group.Recv(ctx, from, tag, p)
	if tag.Op() == comm.OpPull && err == nil {
		g.all.pulled(g.Rank())
	}
	return r, n, err
}

// drift is how far workers are apart.
type drift struct {
	servers int
	pushed  []int // messages, by worker
	begun   []int // answers, by worker
	most    int   // steps that a worker was ahead of another when it began one
}

func (d *drift) pulled(who comm.Rank) {
	if d.begun[who]++; d.begun[who]%d.servers != 0 {
		return
	}
	for _, n := range d.pushed {
		d.most = max(d.most, d.begun[who]/d.servers-n/d.servers)
	}
}

// No worker starts a step before all have finished the one that lies the bound and one more before it (Ho et al., NIPS 2013,
// section 2), whatever the machines' speeds and the network's; and some come as far as it allows.
func TestStalenessIsBounded(t *testing.T) {
	reached := map[int]bool{}
	for seed := range uint64(12) {
		for _, bound := range []int{1, 3, 6} {
			const workers = 4
			c, p := served(t, config(t, "mlp:16"), fmt.Sprintf("ps:servers=2,mode=ssp,staleness=%d,guard=off", bound))
			c.Steps, c.Batch, c.Optimizer, c.Microshards, c.Test = 40, 7, "sgd", workers, nil // of one epoch, at whose end all meet
			draw := rng.New(seed, "drift", uint64(bound))
			text := ""
			for r := range workers {
				from := 1 + draw.IntN(20)
				text += fmt.Sprintf("slow %d x%d from step %d to step %d\n", r, 2+draw.IntN(100), from, from+1+draw.IntN(20))
			}
			script, err := fault.Parse("f.txt", []byte(text))
			if err != nil {
				t.Fatal(err)
			}
			w := worldFor(t, "10gigabit", workers+p.Servers, script)
			d := &drift{servers: p.Servers, pushed: make([]int, workers+p.Servers), begun: make([]int, workers+p.Servers)}
			for r := workers; r < len(d.pushed); r++ {
				d.pushed[r] = 1 << 30 // of a server
			}
			err = w.Run(t.Context(), func(g comm.Group) {
				c := c
				if _, err := train.Run(t.Context(), watched{g, g.(comm.Faulty), d}, c); err != nil {
					t.Errorf("seed %d, bound %d: %v", seed, bound, err)
				}
				g.Close()
			})
			if err != nil {
				t.Fatal(err)
			}
			if d.most > bound {
				t.Errorf("seed %d, bound %d: a worker was %d steps ahead; the machines: %s", seed, bound, d.most, text)
			}
			reached[bound] = reached[bound] || d.most == bound
		}
	}
	for bound, ok := range reached {
		if !ok {
			t.Errorf("nobody came as far as the bound of %d allows", bound)
		}
	}
}

// Asynchronous training with a rate that is too large for how late its gradients are ends with the reason, or if asked is
// held together more and more until it learns; synchronously it learns at that rate. In the simulator, where it always comes
// out the same.
func TestGuardOfAsynchronousTraining(t *testing.T) {
	run := func(choice string) (*train.Report, error) {
		c := config(t, "mlp:24")
		c.Optimizer, c.Rate, c.Epochs, c.Microshards = "momentum", 0.05, 20, 8
		c, p := served(t, c, choice)
		return train.Simulate(t.Context(), worldFor(t, "gigabit", 8+p.Servers, nil), c)
	}
	if r, err := run("ps"); err != nil || *r.Accuracy < 0.7 {
		t.Fatalf("synchronous: %+v, %v", r, err)
	}
	if _, err := run("ps:mode=async"); err == nil || !strings.Contains(err.Error(), "the run diverges: the mean loss of the last 40 pushes") {
		t.Errorf("with the guard: %v", err)
	}
	r, err := run("ps:mode=async,guard=off")
	if err != nil || *r.Accuracy > 0.5 {
		t.Errorf("without: %+v, %v", r, err)
	}
	r, err = run("ps:mode=async,guard=tighten")
	if err != nil || *r.Accuracy < 0.4 || len(r.Serving[0].Notes) == 0 {
		t.Errorf("held together: %+v, %v", r, err)
	}
}

// Nothing is said of the loss of pushes that have no samples: of a last batch of one sample, most have none, and the worker that has
// it is too slow for its push to count.
func TestServedStepsWithoutSamples(t *testing.T) {
	for _, mode := range []string{"backup", "async,guard=off", "downpour,fetch=2,push=2,guard=off"} {
		for workers := 4; workers <= 5; workers++ { // of 4 microshards
			c := config(t, "mlp:24")
			c.Batch, c.Microshards = 13, 4 // one sample is left of 300
			c, p := served(t, c, "ps:servers=2,mode="+mode)
			script, err := fault.Parse("f.txt", []byte("slow 3 x1000 from step 1 to step 100\n"))
			if err != nil {
				t.Fatal(err)
			}
			r, err := train.Simulate(t.Context(), worldFor(t, "10gigabit", workers+p.Servers, script), c)
			if err != nil {
				t.Errorf("%s, %d workers: %v", mode, workers, err)
			} else if !(r.Loss > 0 && r.Loss < 3) {
				t.Errorf("%s, %d workers: loss %v", mode, workers, r.Loss)
			}
		}
	}
}
