package train_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/covey-ml/covey/ckpt"
	"github.com/covey-ml/covey/data"
	"github.com/covey-ml/covey/spec"
	"github.com/covey-ml/covey/strategy"
	"github.com/covey-ml/covey/strategy/local"
	"github.com/covey-ml/covey/train"
)

// replicas sets a local method.
func replicas(t *testing.T, c train.Config, method string) train.Config {
	t.Helper()
	s, err := spec.Parse(method)
	if err != nil {
		t.Fatal(err)
	}
	m, err := local.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	c.Strategy = func() strategy.Strategy { return local.New(m) }
	return c
}

// checkpoint trains and returns the last checkpoint.
func checkpoint(t *testing.T, workers int, c train.Config) ckpt.Checkpoint {
	t.Helper()
	c.Dir = t.TempDir()
	r, err := train.Local(t.Context(), workers, timeout, c)
	if err != nil {
		t.Fatal(err)
	}
	if r.BytesSent != r.BytesExpected {
		t.Errorf("%d bytes sent, %d expected", r.BytesSent, r.BytesExpected)
	}
	last, err := ckpt.Load(latest(t, c.Dir))
	if err != nil {
		t.Fatal(err)
	}
	return last
}

// apart is the largest difference of two models' parameters, and the largest parameter.
func apart(t *testing.T, a, b []ckpt.Tensor) (most, size float64) {
	t.Helper()
	for i := range a {
		x, y := floats(t, a[i]), floats(t, b[i])
		for k := range x {
			most, size = max(most, math.Abs(x[k]-y[k])), max(size, math.Abs(x[k]))
		}
	}
	return most, size
}

// Local SGD that exchanges after every step is synchronous SGD (Stich, arXiv 1805.09767, section 2, H = 1): the weighted
// mean of x - rate g_i is x - rate times the weighted mean of g_i, and momentum, which is linear in the gradients, keeps that.
// Not to the bit: here moves are rounded and then averaged, there gradients are averaged and the move is rounded. Each step
// rounds some times more or less, by 2^-24 of a number of the size of the parameters each: over ten steps the difference
// stays below 2^-18 of the largest one. Microshards have 4 or 5 samples, the same in every step: weights matter, and momentum
// of replicas averages as their moves do only while weights stay.
func TestLocalEveryStepIsSynchronous(t *testing.T) {
	for _, optimizer := range []string{"sgd", "momentum"} {
		c := config(t, "mlp:24")
		c.Optimizer, c.Rate, c.Steps, c.Batch = optimizer, 0.05, 10, 50
		want := checkpoint(t, 3, c)
		got := checkpoint(t, 3, replicas(t, c, "local:K=1"))
		most, size := apart(t, want.Model, got.Model)
		if most > size*0x1p-18 || most == 0 {
			t.Errorf("%s: parameters differ by %g, the largest is %g", optimizer, most, size)
		}
	}
}

// DiLoCo with one replica, outer rate 1 and no outer momentum is its inner optimizer (Douillard et al., arXiv 2311.08105,
// algorithm 1: the outer step is then x + (y - x)), whose state stays from round to round; to the rounding of y - x and of
// the sum, at each of three exchanges.
func TestDiLoCoOfOneIsItsInnerOptimizer(t *testing.T) {
	c := config(t, "mlp:24")
	c.Optimizer, c.Rate, c.Steps, c.Microshards = "adamw", 0.002, 10, 1
	want := checkpoint(t, 1, c)
	got := checkpoint(t, 1, replicas(t, c, "diloco:K=4,rate=1,momentum=0"))
	if most, size := apart(t, want.Model, got.Model); most > size*0x1p-20 {
		t.Errorf("parameters differ by %g, the largest is %g", most, size)
	}
}

// SCAFFOLD's control variates start at 0 and their mean, weighted as the averaging is, stays c (Karimireddy et al., arXiv
// 1910.06378, section 4), with both ways to renew them, to float32 rounding, after any number of rounds and with clients
// of other sizes.
func TestScaffoldsMeanIsC(t *testing.T) {
	for option := 1; option <= 2; option++ {
		for _, rounds := range []int{1, 2, 5} {
			c := config(t, "mlp:24")
			var err error
			if c.Clients, err = data.Partition(c.Train, 6, "size:0.5", 1); err != nil {
				t.Fatal(err)
			}
			c.Optimizer, c.Rate, c.Steps, c.Microshards = "sgd", 0.1, 4*rounds, 6
			last := checkpoint(t, 2, replicas(t, c, fmt.Sprintf("scaffold:K=4,option=%d", option)))
			var mean, common []float64
			for _, x := range last.State {
				switch x.Name {
				case "strategy/c":
					common = floats(t, x)
				case "strategy/variates":
					all := floats(t, x)
					n := len(all) / 6
					mean = make([]float64, n)
					for client := range 6 {
						p := float64(len(c.Clients[client])) / float64(c.Train.Len())
						for k := range n {
							mean[k] += p * all[client*n+k]
						}
					}
				}
			}
			most, size := 0.0, 0.0
			for k := range common {
				most, size = max(most, math.Abs(mean[k]-common[k])), max(size, math.Abs(common[k]))
			}
			if size == 0 || most > size*0x1p-18 {
				t.Errorf("option %d, %d rounds: the mean of the variates is off c by %g, c goes up to %g", option, rounds, most, size)
			}
		}
	}
}

var methods = []string{"local:K=3", "postlocal:K=3,start=4", "hierarchical:K=2,groups=3,outer=2", "fedprox:K=3,mu=0.1", "scaffold:K=3", "scaffold:K=3,option=1",
	"easgd:K=2", "bmuf:K=3", "bmuf:K=3,nesterov=true", "diloco:K=4", "diloco:K=6,fragments=2,overlap=2", "diloco:K=4,overlap=3,alpha=0.5",
	"local:K=4,period=loss", "local:K=2,period=divergence"}

func localConfig(t *testing.T, method string) train.Config {
	c := config(t, "mlp:16")
	c.Optimizer, c.Rate, c.Microshards = "momentum", 0.02, 6
	if strings.HasPrefix(method, "scaffold") {
		c.Optimizer = "sgd"
	}
	return replicas(t, c, method)
}

// Replicas are microshards, so the number of workers changes no bit of any method, whoever owns the data.
func TestLocalWorkersDoNotChangeTheBits(t *testing.T) {
	for _, method := range methods {
		for _, how := range []string{"", "dirichlet:0.3"} {
			c := localConfig(t, method)
			if how != "" {
				var err error
				if c.Clients, err = data.Partition(c.Train, 6, how, 1); err != nil {
					t.Fatal(err)
				}
			}
			want := ""
			for _, n := range []int{1, 2, 3, 6, 7} {
				r, err := train.Local(t.Context(), n, timeout, c)
				if err != nil {
					t.Fatalf("%s %s, %d workers: %v", method, how, n, err)
				}
				if want == "" {
					want = r.Weights
				}
				if r.Weights != want {
					t.Errorf("%s %s, %d workers: weights %.12s, one worker's are %.12s", method, how, n, r.Weights, want)
				}
				if r.BytesSent != r.BytesExpected || !strings.HasSuffix(r.SamplesBooked, "each sample used exactly once") {
					t.Errorf("%s %s, %d workers: %d bytes sent, %d expected; %s", method, how, n, r.BytesSent, r.BytesExpected, r.SamplesBooked)
				}
			}
		}
	}
}

// A run that is cut off at any step, amid a round too, goes on from the checkpoint of that step with as many workers or
// others, to the weights of the calm one.
func TestLocalResumesAnywhere(t *testing.T) {
	for i, method := range methods {
		c := localConfig(t, method)
		calm, err := train.Local(t.Context(), 2, timeout, c)
		if err != nil {
			t.Fatal(err)
		}
		c.SaveEvery, c.Keep, c.Dir = 1, 100, t.TempDir()
		if _, err := train.Local(t.Context(), 2, timeout, c); err != nil {
			t.Fatal(err)
		}
		for step := 1 + i%2; step <= calm.Steps; step += 2 {
			c := c
			c.Resume, c.Dir = ckpt.StepDir(c.Dir, step), ""
			n := 1 + step%4
			r, err := train.Local(t.Context(), n, timeout, c)
			if err != nil {
				t.Fatalf("%s, resumed after step %d with %d workers: %v", method, step, n, err)
			}
			if r.Weights != calm.Weights {
				t.Errorf("%s, resumed after step %d with %d workers: weights %.12s, the calm run's are %.12s", method, step, n, r.Weights, calm.Weights)
			}
			if r.Rounds != calm.Rounds || r.Loss != calm.Loss {
				t.Errorf("%s, resumed after step %d with %d workers: %d rounds and loss %v, the calm run had %d and %v", method, step, n, r.Rounds, r.Loss, calm.Rounds, calm.Loss)
			}
		}
	}
}

// Compressed moves, overlapped or not, are stopped and gone on from with as many workers.
func TestLocalCompressed(t *testing.T) {
	for _, method := range []string{"local:K=3", "diloco:K=6,fragments=2,overlap=2", "scaffold:K=3"} {
		c := localConfig(t, method)
		c.Compress = "topk:0.1+ef"
		calm, err := train.Local(t.Context(), 3, timeout, c)
		if err != nil {
			t.Fatal(err)
		}
		c.Dir = t.TempDir()
		c.Resume = stoppedAt(t, c, 3, 4)
		r, err := train.Local(t.Context(), 3, timeout, c)
		if err != nil || r.Weights != calm.Weights || r.BytesSent != r.BytesExpected {
			t.Errorf("%s: %v; weights %.12s, the calm run's are %.12s", method, err, r.Weights, calm.Weights)
		}
	}
}

// A replica that diverges amid a round ends the run there and then, before a checkpoint or a line of the metrics holds what is
// no number: the last checkpoint is good.
func TestLocalDiverges(t *testing.T) {
	for _, workers := range []int{1, 3} {
		// The last one's parameters go from numbers to none in one step, and a checkpoint is due before a loss tells.
		for _, optimizer := range []string{"sgd", "momentum", "sgd:weight_decay=1e10"} {
			c := localConfig(t, "local:K=50")
			if strings.Contains(optimizer, "decay") {
				c.Model = build(t, "softmax", c.Train)
			}
			c.Optimizer, c.Rate, c.Epochs, c.SaveEvery, c.Keep, c.Dir = optimizer, 1e18, 20, 1, 100, t.TempDir()
			_, err := train.Local(t.Context(), workers, timeout, c)
			var diverged *train.DivergedError
			if !errors.As(err, &diverged) || diverged.Step >= 50 || diverged.Step < 2 {
				t.Fatalf("%s, %d workers: %v", optimizer, workers, err)
			}
			path := latest(t, c.Dir)
			last, err := ckpt.Load(path)
			if err != nil {
				t.Fatal(err)
			}
			for _, x := range last.State {
				if x.Name != "strategy/x" {
					continue
				}
				for _, v := range floats(t, x) {
					if math.IsNaN(v) || math.IsInf(v, 0) {
						t.Fatalf("%s, %d workers: %s holds %v", optimizer, workers, path, v)
					}
				}
			}
			lines, err := os.ReadFile(filepath.Join(c.Dir, train.MetricsFile))
			if err != nil {
				t.Fatal(err)
			}
			for line := range bytes.Lines(lines) {
				if !json.Valid(line) {
					t.Errorf("%s, %d workers: the metrics say %s", optimizer, workers, line)
				}
			}
		}
	}
}
