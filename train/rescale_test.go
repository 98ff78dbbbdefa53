package train_test

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/covey-ml/covey/train"
)

// follows checks that a pace is that of so many workers by a rule.
func follows(t *testing.T, label string, c train.Config, p *train.Pace, workers int) {
	t.Helper()
	workers = min(workers, c.Microshards)
	batch := min(max(c.Batch*workers/c.Workers, c.Microshards), c.Train.Len())
	rate := float64(batch) / float64(c.Batch)
	if c.Rescale == "sqrt" {
		rate = math.Sqrt(rate)
	}
	if p == nil || p.Workers != workers || p.Of != c.Workers || p.Batch != batch || p.Rate != rate {
		t.Errorf("%s: %+v; expected a batch of %d, rate x%v: %d workers of %d", label, p, batch, rate, workers, c.Workers)
	}
}

// Whoever is lost, leaves or comes: batch and rate follow, the ledger is exact, and the run ends with the data.
func TestRescaleElastic(t *testing.T) {
	for _, m := range []struct{ rule, method, optimizer, compress string }{
		{"linear", "", "momentum", ""}, {"sqrt", "", "adam", ""}, {"linear", "local:K=3", "sgd", ""}, {"sqrt", "", "momentum", "topk:0.05+ef"},
	} {
		c := config(t, "mlp:24")
		c.Microshards, c.Epochs, c.Rate, c.Optimizer, c.Compress, c.Rescale, c.Workers = 6, 3, 0.02, m.optimizer, m.compress, m.rule, 3
		if m.method != "" {
			c = replicas(t, c, m.method)
		}
		seed := rand.Uint64()
		draw := rand.New(rand.NewPCG(seed, 1))
		for range 12 {
			what := changes{workers: 3, kill: map[int]int{}, leave: map[int]int{}}
			if draw.IntN(2) == 0 {
				what.kill[draw.IntN(3)] = 1 + draw.IntN(100)
			}
			if draw.IntN(2) == 0 {
				what.join = []int{1 + draw.IntN(8)}
			}
			if draw.IntN(2) == 0 {
				what.leave[draw.IntN(3)] = 1 + draw.IntN(10)
			}
			r, told, epochs := elastic(t, c, what)
			label := fmt.Sprintf("seed %d, %v, %v", seed, m, what)
			if r == nil || r.Epochs != 3 {
				t.Errorf("%s: %+v", label, r)
				continue
			}
			whole(t, label, epochs, 3)
			follows(t, label, c, r.Pace, r.Workers)
			for _, g := range told {
				follows(t, label, c, g.Pace, g.Workers)
				if (g.Pace.Step == g.Step || g.Workers != 3) != (g.Rescaled() != "") && g.Step > 0 {
					t.Errorf("%s: after step %d it is said %q of %+v", label, g.Step, g.Rescaled(), g.Pace)
				}
			}
		}
	}
}

// A worker that leaves an elastic run, and a run that is stopped at that step and resumed with one worker less, are the same.
func TestRescaleByAnotherRoad(t *testing.T) {
	for _, rule := range []string{"linear", "sqrt"} {
		c := config(t, "mlp:24")
		c.Microshards, c.Epochs, c.Rate, c.Optimizer, c.Schedule, c.Rescale, c.Workers = 6, 3, 0.02, "momentum", "cosine:warmup=4", rule, 3
		r, told, _ := elastic(t, c, changes{workers: 3, leave: map[int]int{1: 6}})
		if r == nil || len(told) == 0 {
			t.Fatalf("%s: nobody left: %+v", rule, r)
		}
		at := told[0].Step
		c.Dir = t.TempDir()
		c.Resume = stoppedAt(t, c, 3, at)
		other, err := train.Local(t.Context(), 2, timeout, c)
		if err != nil {
			t.Fatal(err)
		}
		if other.Weights != r.Weights || other.Steps != r.Steps || *other.Pace != *r.Pace {
			t.Errorf("%s: left after step %d: %d steps, weights %.12s, %v; resumed there: %d steps, weights %.12s, %v", rule, at, r.Steps, r.Weights, r.Pace,
				other.Steps, other.Weights, other.Pace)
		}
	}
}

// changing trains with two workers to step 3, with four to step 6, and with one to the end, beside so many servers.
func changing(t *testing.T, c train.Config, servers int) (took []train.StepInfo, began []train.StartInfo, last *train.Report) {
	t.Helper()
	c.Events = train.Events{Step: func(i train.StepInfo) { took = append(took, i) }, Start: func(i train.StartInfo) { began = append(began, i) }}
	c.Dir = t.TempDir()
	for i, workers := range []int{2, 4, 1} {
		stop := []int{3, 6, 0}[i] // steps in all
		c.Stop = func() bool { return len(took)+1 == stop }
		own := c
		own.Workers = workers // whom the resumed job asks for: what counts is whom the first did
		r, err := train.Local(t.Context(), workers+servers, timeout, own)
		if stop > 0 && !errors.Is(err, train.ErrStopped) || stop == 0 && err != nil {
			t.Fatalf("%d workers: %v", workers, err)
		}
		follows(t, fmt.Sprint(workers, " workers"), c, r.Pace, workers)
		c.Resume, last = latest(t, c.Dir), r
	}
	return took, began, last
}

// A run that is resumed goes on with the batch that its workers make, from the middle of an epoch on, and its schedule still ends
// with the data; one with as many workers as were asked for is the run that it would be without a rule.
func TestRescaleResumed(t *testing.T) {
	c := config(t, "mlp:24")
	c.Rate, c.Optimizer, c.Schedule, c.Epochs = 0.02, "sgd", "linear", 3
	plain, err := train.Local(t.Context(), 2, timeout, c)
	if err != nil {
		t.Fatal(err)
	}
	c.Rescale, c.Workers = "linear", 2
	same, err := train.Local(t.Context(), 2, timeout, c)
	if err != nil || same.Weights != plain.Weights || same.Pace.Rate != 1 {
		t.Fatalf("%+v, %v; without a rule the weights are %.12s", same, err, plain.Weights)
	}
	took, began, last := changing(t, c, 0)
	byServer, _ := served(t, c, "ps")
	if _, _, other := changing(t, byServer, 1); other.Weights != last.Weights {
		t.Errorf("by way of a server the weights are %.12s, else %.12s", other.Weights, last.Weights)
	}
	// 300 samples in batches of 64; after three of them 108 are left, and batches are of 128; two more of those into the second
	// epoch they are of 32.
	batches := []int{64, 64, 64, 108, 128, 128}
	for used := 256; used < 300; used += 32 {
		batches = append(batches, min(32, 300-used))
	}
	for range 10 {
		batches = append(batches, []int{32, 32, 32, 32, 32, 32, 32, 32, 32, 12}[len(batches)-8])
	}
	if len(took) != len(batches) {
		t.Fatalf("%d steps, expected %d", len(took), len(batches))
	}
	epoch, used := 0, 0
	for i, s := range took {
		times := []float64{1, 2, 0.5}[min(i/3, 2)]
		if want := 0.02 * times * float64(15-epoch*5-used/64) / 15; s.Samples != batches[i] || s.Epoch != epoch+1 || math.Abs(s.Rate-want) > 1e-8 {
			t.Errorf("step %d: %d samples of epoch %d at a rate of %v, expected %d of %d at %v", s.Step, s.Samples, s.Epoch, s.Rate, batches[i], epoch+1, want)
		}
		if used += s.Samples; used == 300 {
			epoch, used = epoch+1, 0
		}
	}
	for i, want := range []string{"", "from step 4 on batch 128, rate x2: 4 workers in place of 2", "from step 7 on batch 32, rate x0.5: 1 worker in place of 2"} {
		if got := began[i].Rescaled(); got != want || began[i].Epochs != 3 {
			t.Errorf("start %d: %q of %d epochs, expected %q", i, got, began[i].Epochs, want)
		}
	}
}

func TestRescaleErrors(t *testing.T) {
	c := config(t, "mlp:24")
	c.Rescale = "lienar"
	if _, err := train.Local(t.Context(), 2, timeout, c); err == nil || !strings.Contains(err.Error(), `rescale: unknown rule "lienar": did you mean "linear"?`) {
		t.Errorf("%v", err)
	}
	c.Rescale = "linear"
	c.Microshards, c.Clients = 2, [][]int{{0, 1}, {2}}
	if _, err := train.Local(t.Context(), 2, timeout, c); err == nil || !strings.Contains(err.Error(), "rescale: a client draws from data of its own") {
		t.Errorf("%v", err)
	}
}
