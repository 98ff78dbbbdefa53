package train_test

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/covey-ml/covey/ckpt"
	"github.com/covey-ml/covey/strategy"
	"github.com/covey-ml/covey/strategy/allreduce"
	"github.com/covey-ml/covey/train"
)

// still is a strategy that takes the state of another one and does nothing with it: its first step ends the run.
type still struct{ strategy.Strategy }

func (s still) Step(ctx context.Context, w *strategy.Worker) (strategy.Report, error) {
	return strategy.Report{Done: true, Why: "still"}, nil
}

func (s still) Prepare(w *strategy.Worker) error {
	if p, ok := s.Strategy.(strategy.Preparer); ok {
		return p.Prepare(w)
	}
	return nil
}

// everyMethod and compressor, with optimizers.
var everyMethod = []struct{ method, optimizer, compress string }{
	{"", "sgd", ""}, {"", "momentum", ""}, {"", "adam", ""}, {"", "adagrad", ""}, {"", "ftrl", ""}, {"", "lamb", ""},
	{"local:K=3", "momentum", ""}, {"postlocal:K=3,start=2", "adam", ""}, {"hierarchical:K=2,groups=2,outer=2", "momentum", ""},
	{"fedprox:K=3", "sgd", ""}, {"scaffold:K=3", "sgd", ""}, {"easgd:K=3", "momentum", ""}, {"bmuf:K=3", "sgd", ""},
	{"diloco:K=3", "adam", ""}, {"diloco:K=4,fragments=2,overlap=1", "momentum", ""}, {"local:K=3", "sgd", "uniform:8+ef"},
	{"", "momentum", "topk:0.1+ef"}, {"", "momentum", "topk:0.1+ef21"}, {"", "momentum", "powersgd:2+ef"}, {"", "sgd", "vote:momentum=0.9"},
	{"", "sgd", "dgc:0.05"}, {"", "momentum", "onebit+ef"},
}

// Of every method and compressor, what n workers saved m load, for n and m from 1 to 8: what all have alike is bit for bit the same,
// so are the rows of clients, and sums are kept to rounding; as many workers have each its own again.
func TestEveryStateGoesFromAnyToAny(t *testing.T) {
	for _, m := range everyMethod {
		name := fmt.Sprintf("%s %s %s", m.method, m.optimizer, m.compress)
		c := withMethod(t, m)
		for n := 1; n <= mostWorkers; n++ {
			saved := stateSaved(t, n, c)
			for to := 1; to <= mostWorkers; to++ {
				c := c
				c.Steps = saved.Step + 1
				c.Resume = saved.path
				make := c.Strategy
				c.Strategy = func() strategy.Strategy {
					if make == nil {
						return still{allreduce.New()}
					}
					return still{make()}
				}
				loaded := stateSaved(t, to, c)
				if err := sameState(saved.Checkpoint, loaded.Checkpoint, n == to); err != nil {
					t.Errorf("%s, saved by %d, loaded by %d: %v", name, n, to, err)
				}
			}
		}
	}
}

const mostWorkers = 8

func withMethod(t *testing.T, m struct{ method, optimizer, compress string }) train.Config {
	t.Helper()
	c := config(t, "mlp:6")
	c.Microshards, c.Steps, c.Rate, c.Optimizer, c.Compress = mostWorkers, 5, 0.001, m.optimizer, m.compress
	c.Test = nil
	if m.method != "" {
		c = replicas(t, c, m.method)
	}
	return c
}

type onDisk struct {
	ckpt.Checkpoint
	path string
}

func stateSaved(t *testing.T, workers int, c train.Config) onDisk {
	t.Helper()
	c.Dir = t.TempDir()
	if _, err := train.Local(t.Context(), workers, timeout, c); err != nil {
		t.Fatalf("%d workers: %v", workers, err)
	}
	path := latest(t, c.Dir)
	k, err := ckpt.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	return onDisk{k, path}
}

// sameState compares what was saved with what was saved again by who loaded it.
func sameState(a, b ckpt.Checkpoint, same bool) error {
	for i, x := range a.Model {
		if !bytes.Equal(x.Data, b.Model[i].Data) {
			return fmt.Errorf("parameters %s differ", x.Name)
		}
	}
	has := map[string]ckpt.Tensor{}
	for _, y := range b.State {
		has[y.Name] = y
	}
	// A rank's residual of the sums that it owns becomes its own when it owns others: of the two the sum is kept.
	sums := [2]map[string][]float64{{}, {}}
	for i, c := range []ckpt.Checkpoint{a, b} {
		for _, x := range c.State {
			if x.Shard == ckpt.Summed {
				if err := columns(x, sums[i]); err != nil {
					return err
				}
			}
		}
	}
	for name, xs := range sums[0] {
		for i, x := range xs {
			if y := sums[1][name][i]; math.Abs(x-y) > 1e-5*(1+math.Abs(x)) {
				return fmt.Errorf("%s: the sum is %v at %d, and was %v", name, y, i, x)
			}
		}
	}
	for _, x := range a.State {
		y, ok := has[x.Name]
		switch {
		case x.Name == "samples/once" || x.Name == "samples/twice": // of another step
			continue
		case !ok:
			return fmt.Errorf("%s is gone", x.Name)
		case x.Shard != ckpt.Summed || same:
			if !bytes.Equal(x.Data, y.Data) {
				return fmt.Errorf("%s (%s %v) differs from %s %v", x.Name, x.Shard, x.Shape, y.Shard, y.Shape)
			}
		}
	}
	return nil
}

// columns adds the rows of a tensor to the sums that go by its name.
func columns(t ckpt.Tensor, sums map[string][]float64) error {
	var flat []float64
	switch t.Type {
	case ckpt.F32:
		v := make([]float32, t.Len())
		if err := t.CopyTo(v); err != nil {
			return err
		}
		for _, x := range v {
			flat = append(flat, float64(x))
		}
	case ckpt.F64:
		flat = make([]float64, t.Len())
		if err := t.CopyTo(flat); err != nil {
			return err
		}
	default:
		return fmt.Errorf("%s is of %s", t.Name, t.Type)
	}
	n := len(flat) / t.Shape[0]
	name := strings.NewReplacer("/kept/", "/", "/both/", "/").Replace(t.Name)
	if sums[name] == nil {
		sums[name] = make([]float64, n)
	}
	for i, v := range flat {
		sums[name][i%n] += v
	}
	return nil
}
