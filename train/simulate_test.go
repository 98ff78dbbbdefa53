package train_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/comm/sim"
	"github.com/covey-ml/covey/fault"
	"github.com/covey-ml/covey/network"
	"github.com/covey-ml/covey/reduce"
	"github.com/covey-ml/covey/strategy/local"
	"github.com/covey-ml/covey/train"
)

// worldFor makes a simulated world of so many workers.
func worldFor(t testing.TB, choice string, workers int, s fault.Script) *sim.World {
	t.Helper()
	net, err := network.New(choice, workers)
	if err != nil {
		t.Fatal(err)
	}
	w, err := sim.New(sim.Config{Network: net, Workers: workers, Timeout: timeout, Seed: 5, Faults: s})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// On the simulated network a job has the bits that it has as goroutines, for every strategy and compressor, and its books
// close.
func TestSimulatedBits(t *testing.T) {
	for _, network := range []string{"10gigabit", "home", "fattree:hosts=2,workers=2"} {
		for _, method := range append([]string{""}, local.Names()...) {
			c := config(t, "mlp:24")
			c.Optimizer = "momentum"
			c.Microshards = 6
			if method != "" {
				c = replicas(t, c, method)
			}
			sameBits(t, network, c, method)
			if network != "home" {
				break
			}
		}
	}
	for _, choice := range reduce.Names() {
		c := config(t, "mlp:24")
		c.Microshards = 6
		c.Compress = choice.Name + map[string]string{"threshold": ":0.001", "adaptive": ":energy=0.9"}[choice.Name]
		sameBits(t, "gigabit", c, c.Compress)
	}
}

func sameBits(t *testing.T, network string, c train.Config, what string) {
	t.Helper()
	const n = 5
	want, err := train.Local(t.Context(), n, timeout, c)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	w := worldFor(t, network, n, nil)
	got, err := train.Simulate(t.Context(), w, c)
	if err != nil {
		t.Fatalf("%s on %s: %v", what, network, err)
	}
	if got.Weights != want.Weights || got.Accuracy == nil || *got.Accuracy != *want.Accuracy {
		t.Errorf("%s on %s: weights %.12s, as goroutines %.12s", what, network, got.Weights, want.Weights)
	}
	if got.BytesSent != got.BytesExpected || got.BytesSent == 0 {
		t.Errorf("%s on %s: %d bytes sent, %d expected", what, network, got.BytesSent, got.BytesExpected)
	}
	if got.Wall <= 0 || got.Compute <= 0 || got.Wall > w.Now().Seconds() {
		t.Errorf("%s on %s: %v s, of which %v computing, in a world that ends at %v", what, network, got.Wall, got.Compute, w.Now())
	}
}

// A hollow world, where nothing is computed, has the steps and the messages of the full one, in which workers meet before the
// first step and so begin it at other times. That a program without numbers has the same times to the nanosecond is held in
// comm/sim.
func TestHollowTimes(t *testing.T) {
	for _, method := range []string{"", "local:K=3", "diloco:K=2"} {
		for _, alg := range []comm.Algorithm{comm.Direct, comm.Binomial} {
			const n = 16
			c := config(t, "mlp:24")
			c.Microshards, c.Algorithm, c.Test, c.Batch = n, alg, nil, 20
			c.Epochs = 1
			if method != "" {
				c = replicas(t, c, method)
			}
			times := func(hollow bool) (took time.Duration, r *train.Report) {
				net, err := network.New("gigabit:spread=0.3", n)
				if err != nil {
					t.Fatal(err)
				}
				w, err := sim.New(sim.Config{Network: net, Workers: n, Timeout: time.Hour, Seed: 5, Hollow: hollow})
				if err != nil {
					t.Fatal(err)
				}
				c := c
				var at []time.Duration
				c.Events.Step = func(i train.StepInfo) { at = append(at, i.At) }
				if r, err = train.Simulate(t.Context(), w, c); err != nil {
					t.Fatal(err)
				}
				return at[14] - at[5], r
			}
			full, a := times(false)
			hollow, b := times(true)
			if off := full - hollow; full <= 0 || off.Abs() > full/50 {
				t.Errorf("%s, %v: nine steps take %v, without numbers %v", method, alg, full, hollow)
			}
			sum := func(r *train.Report) train.OpSum {
				i := slices.IndexFunc(r.Ops, func(o train.OpSum) bool { return o.Op == "all-reduce" })
				return r.Ops[i]
			}
			if sum(a) != sum(b) || sum(b).Payload+sum(b).Header != sum(b).Expected {
				t.Errorf("%s, %v: sums took %+v, without numbers %+v", method, alg, sum(a), sum(b))
			}
		}
	}
}

// A worker that a fault kills is named by the others, as a process that is killed is.
func TestSimulatedKill(t *testing.T) {
	script, err := fault.Parse("f.txt", []byte("kill 3 at step 4\n"))
	if err != nil {
		t.Fatal(err)
	}
	w := worldFor(t, "gigabit", 5, script)
	_, err = train.Simulate(t.Context(), w, config(t, "mlp:24"))
	var pe *comm.PeerError
	if !errors.As(err, &pe) || pe.Rank != 3 || pe.Step != 4 {
		t.Errorf("%v", err)
	}
	if o := w.Outcomes(); len(o) != 1 || o[0].Fired != 1 || o[0].Step != 4 {
		t.Errorf("%+v", o)
	}
}

// A corrupted gradient changes what is learned, the same on every repeat; the books count it.
func TestSimulatedCorruption(t *testing.T) {
	weights := map[string]string{}
	for _, how := range []string{"", "corrupt gradient of 2 sign-flip", "corrupt gradient of 2 noise:0.1 from step 3 to step 5"} {
		script, err := fault.Parse("f.txt", []byte(how))
		if err != nil {
			t.Fatal(err)
		}
		for _, method := range []string{"", "local:K=2"} {
			c := config(t, "mlp:24")
			c.Microshards = 4
			if method != "" {
				c = replicas(t, c, method)
			}
			for range 2 {
				w := worldFor(t, "gigabit", 4, script)
				r, err := train.Simulate(t.Context(), w, c)
				if err != nil {
					t.Fatal(err)
				}
				key := how + method
				if was := weights[key]; was != "" && was != r.Weights {
					t.Errorf("%s, %s: weights %.12s, before %.12s", how, method, r.Weights, was)
				}
				weights[key] = r.Weights
				for _, o := range w.Outcomes() {
					if want := map[bool]int{true: 10, false: 2}[o.Fault.From.Step == 0]; o.Fired != want {
						t.Errorf("%v fired %d times, want %d", o.Fault, o.Fired, want)
					}
				}
			}
		}
	}
	seen := map[string]string{}
	for key, w := range weights {
		if other, twice := seen[w]; twice {
			t.Errorf("%q and %q end with the same parameters", key, other)
		}
		seen[w] = key
	}
}

// Chaos finds a wait without a deadline, and shrinks what brings it out; without that bug it finds nothing.
func TestChaosFindsAWaitWithoutADeadline(t *testing.T) {
	for _, planted := range []bool{false, true} {
		c := config(t, "mlp:8")
		c.Epochs = 1
		const workers = 4
		chaos := train.Chaos{Config: c, Faults: fault.Chaos{Faults: 6, Kinds: []fault.Kind{fault.Kill, fault.Stop, fault.Slow, fault.Partition}},
			World: func(s fault.Script) (*sim.World, error) {
				net, err := network.New("gigabit", workers)
				if err != nil {
					return nil, err
				}
				return sim.New(sim.Config{Network: net, Workers: workers, Timeout: 2 * time.Second, Seed: 1, Faults: s, Endless: planted})
			}}
		if _, err := chaos.Begin(t.Context(), 2*time.Second); err != nil {
			t.Fatal(err)
		}
		var found *train.Verdict
		for seed := uint64(1); seed <= 40 && found == nil; seed++ {
			v, err := chaos.Try(t.Context(), seed)
			if err != nil {
				t.Fatal(err)
			}
			if v.Wrong != "" {
				found = &v
			}
		}
		switch {
		case !planted && found != nil:
			t.Errorf("%s\n%s", found.Wrong, found.Script)
		case planted && found == nil:
			t.Error("40 schedules do not find a wait without a deadline")
		case planted:
			v, err := chaos.Shrink(t.Context(), *found, 200)
			if err != nil {
				t.Fatal(err)
			}
			if n := strings.Count(v.Script.String(), "\n"); n < 1 || n > 3 || v.Wrong == "" {
				t.Errorf("shrunk from %d faults to %d lines:\n%s%s", len(found.Script), n, v.Script, v.Wrong)
			}
		}
	}
}
