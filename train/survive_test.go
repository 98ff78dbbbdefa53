package train_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/covey-ml/covey/train"
)

// Whoever is killed, server or worker, with whatever message, and whoever joins or leaves: a run by way of servers with copies goes on.
// Where pushes are held it ends with the weights of the calm run. In every mode each sample is used once in an epoch, and each server
// has in the end the steps of all microshards, each once.
func TestServersAreLost(t *testing.T) {
	for _, choice := range []string{"ps:servers=2", "ps:servers=3,mode=ssp,staleness=0", "ps:servers=3,copies=3", "ps:servers=2,mode=async,guard=off", "ps:servers=2,mode=ssp,staleness=2,guard=off",
		"ps:servers=2,mode=gssp,guard=off", "ps:servers=3,mode=downpour,push=2,fetch=3,guard=off", "ps:servers=2,mode=dc,guard=off"} {
		c := config(t, "mlp:24")
		c.Microshards, c.Epochs, c.Optimizer, c.Rate = 6, 3, "adam", 0.005
		t.Run(choice, func(t *testing.T) { serversAreLost(t, c, choice, 12) })
		tr := clicks(t, "train", 600)
		c = train.Config{Model: build(t, "wide-deep:6,embedding=4", tr), Train: tr, Test: clicks(t, "test", 500), Optimizer: "adagrad", Rate: 0.1, Batch: 60, Microshards: 6, Epochs: 3, Seed: 3}
		t.Run("tables,"+choice, func(t *testing.T) { serversAreLost(t, c, choice, 6) })
	}
}

// serversAreLost trains so many times with changes drawn by lot.
func serversAreLost(t *testing.T, c train.Config, choice string, times int) {
	c, p := served(t, c, choice)
	calm, err := train.Local(t.Context(), 3+p.Servers, timeout, c)
	if err != nil {
		t.Fatal(err)
	}
	seed := rand.Uint64()
	draw := rand.New(rand.NewPCG(seed, 1))
	for range times {
		what := changes{workers: p.Servers + 2 + draw.IntN(3), kill: map[int]int{}, leave: map[int]int{}}
		for range 1 + draw.IntN(what.workers-p.Servers-1) {
			what.kill[draw.IntN(what.workers)] = 1 + draw.IntN(3*calm.Steps)
		}
		if p.Copies != 3 { // two neighbours at once would be too many
			for n := range what.kill {
				delete(what.kill, (n+1)%what.workers)
			}
		}
		if draw.IntN(2) == 0 {
			what.join = append(what.join, 1+draw.IntN(calm.Steps-2))
		}
		if draw.IntN(3) == 0 {
			what.leave[draw.IntN(what.workers)] = 1 + draw.IntN(calm.Steps-2)
		}
		if len(what.kill)+len(what.leave) > what.workers-p.Servers-1 {
			continue
		}
		r, told, epochs := elastic(t, c, what)
		label := fmt.Sprintf("seed %d, %s, %v", seed, choice, what)
		if r == nil || r.Steps != calm.Steps || p.Held() && r.Weights != calm.Weights || !(r.Loss < 2.4) {
			if r == nil {
				t.Fatalf("%s: no report", label)
			}
			t.Errorf("%s: %d steps, accuracy %v, weights %.12s; the calm run has %d, %v, %.12s", label, r.Steps, *r.Accuracy, r.Weights, calm.Steps, *calm.Accuracy, calm.Weights)
			for _, g := range told {
				t.Logf("step %d, %d workers, without %v: %v", g.Step, g.Workers, g.Gone, g.Notes)
			}
			continue
		}
		whole(t, label, epochs, 3)
		for _, s := range r.Serving {
			if s.Microsteps != c.Microshards*calm.Steps || len(r.Serving) != p.Servers {
				t.Errorf("%s: %d servers, and in the range of rank %d are %d steps of microshards, expected %d", label, len(r.Serving), s.Rank, s.Microsteps, c.Microshards*calm.Steps)
			}
		}
	}
}

// When the only copy of a server's part is lost, rows of tables among it, the run goes on from its newest checkpoint, and says so.
func TestOnlyCopyIsLost(t *testing.T) {
	tr := clicks(t, "train", 600)
	tables := train.Config{Model: build(t, "wide-deep:6,embedding=4", tr), Train: tr, Test: clicks(t, "test", 500), Optimizer: "adagrad", Rate: 0.1, Batch: 60, Microshards: 6, Epochs: 3, Seed: 3}
	large := tables // for one rank
	large.Train, large.Test = farClicks(t, "train", 600, 1<<23), nil
	large.Model = build(t, "wide-deep:6,embedding=4", large.Train)
	for _, c := range []train.Config{config(t, "mlp:24"), tables, large} {
		for _, choice := range []string{"ps:servers=1", "ps:servers=2,copies=1"} {
			c, p := served(t, c, choice)
			c.Microshards = 6
			calm, err := train.Local(t.Context(), 3+p.Servers, timeout, c)
			if err != nil {
				t.Fatal(err)
			}
			c.Dir, c.SaveEvery = t.TempDir(), 2
			what := changes{workers: 4 + p.Servers, kill: map[int]int{3 + p.Servers: 4 * calm.Steps}}
			r, told, _ := elastic(t, c, what)
			if r == nil || r.Steps != calm.Steps || r.Weights != calm.Weights || r.Loss != calm.Loss {
				t.Fatalf("%s: %+v; the calm run has %d steps, loss %v, weights %.12s", choice, r, calm.Steps, calm.Loss, calm.Weights)
			}
			if !slices.ContainsFunc(told, func(g train.GenerationInfo) bool {
				return g.Step > 0 && slices.ContainsFunc(g.Notes, func(n string) bool { return strings.Contains(n, "no copy is left") })
			}) {
				t.Errorf("%s: in %d generations nobody says that no copy is left", choice, len(told))
			}
		}
	}
}
