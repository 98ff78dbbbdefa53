package train_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/covey-ml/covey/ckpt"
	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/train"
)

// A model's tables on servers train with the bits of the same model with its tables in the flat vector, by all-reduce: for any
// number of workers and servers, for the rules that leave a parameter alone whose gradient is 0; tests and AUC are the same, and
// every byte is as announced.
func TestTablesHaveTheBitsOfAllReduce(t *testing.T) {
	tr, test := clicks(t, "train", 600), clicks(t, "test", 1100)
	for _, of := range []struct{ model, optimizer string }{
		{"ctr-logistic", "ftrl:l1=0.1"}, {"ctr-logistic", "sgd"}, {"wide-deep:6,embedding=4,dropout=0.1", "adagrad"}, {"wide-deep:6", "ftrl:l2=0.1"},
	} {
		c := train.Config{Model: build(t, of.model, tr), Train: tr, Test: test, Optimizer: of.optimizer, Rate: 0.1, Batch: 60, Microshards: 6, Epochs: 3, Seed: 3}
		want, err := train.Local(t.Context(), 1, timeout, c)
		if err != nil {
			t.Fatal(err)
		}
		for _, mode := range []string{"bsp", "ssp,staleness=0", "async"} {
			for servers := 1; servers <= 3; servers++ {
				c, p := served(t, c, fmt.Sprintf("ps:servers=%d,mode=%s", servers, mode))
				for _, workers := range []int{1, 2, 3, 4, 7} {
					if !p.Held() && workers > 1 || mode != "bsp" && servers != 2 || mode != "bsp" && p.Held() && workers != 3 {
						continue
					}
					r, err := train.Local(t.Context(), workers+servers, timeout, c)
					if err != nil {
						t.Fatalf("%s, %s, %s, %d workers, %d servers: %v", of.model, of.optimizer, mode, workers, servers, err)
					}
					if r.Weights != want.Weights || *r.AUC != *want.AUC || *r.TestLoss != *want.TestLoss || r.Parameters != want.Parameters {
						t.Errorf("%s, %s, %s, %d workers, %d servers: weights %.12s, AUC %v, loss %v, %d parameters; by all-reduce %.12s, %v, %v, %d",
							of.model, of.optimizer, mode, workers, servers, r.Weights, *r.AUC, *r.TestLoss, r.Parameters, want.Weights, *want.AUC, *want.TestLoss, want.Parameters)
					}
					if r.BytesSent != r.BytesExpected {
						t.Errorf("%s, %s, %d workers, %d servers: %d bytes sent, %d expected\n%+v", of.model, mode, workers, servers, r.BytesSent, r.BytesExpected, r.Ops)
					}
				}
			}
		}
	}
}

// Every mode that can learns with tables on servers, in the simulator, too, where it comes out the same way each time.
func TestTablesLearn(t *testing.T) {
	tr, test := clicks(t, "train", 600), clicks(t, "test", 500)
	for _, mode := range []string{"bsp", "ssp", "gssp", "async", "downpour,fetch=2,push=3", "dc"} {
		c := train.Config{Model: build(t, "wide-deep:6,embedding=4", tr), Train: tr, Test: test, Optimizer: "adagrad", Rate: 0.1, Batch: 60, Microshards: 4, Epochs: 4, Seed: 3}
		c, p := served(t, c, "ps:servers=2,mode="+mode)
		r, err := train.Local(t.Context(), 4+p.Servers, timeout, c)
		if err != nil {
			t.Fatalf("%s: %v", mode, err)
		}
		if *r.AUC < 0.85 {
			t.Errorf("%s: an AUC of %v", mode, *r.AUC)
		}
		rows, updates := 0, uint64(0)
		for _, s := range r.Serving {
			rows, updates = rows+s.Rows, updates+s.RowUpdates
		}
		if rows != 2*60 || updates < 40*60 || r.Serving[0].Resident == 0 { // two tables of 60 rows, all of them soon there
			t.Errorf("%s: servers say %+v", mode, r.Serving)
		}
		simulatedTwice(t, c, p, r)
	}
}

// A run with tables on servers that was stopped goes on with other workers and servers as if it had not been, from a checkpoint
// that holds the model as all-reduce would have saved it.
func TestTablesAreResumed(t *testing.T) {
	tr, test := clicks(t, "train", 600), clicks(t, "test", 500)
	for _, of := range []struct{ model, optimizer, mode string }{
		{"ctr-logistic", "ftrl:l1=0.1", "bsp"}, {"wide-deep:6,embedding=4", "adam", "bsp"}, {"wide-deep:6,embedding=4", "adagrad", "async"}, {"ctr-logistic", "sgd", "bsp"},
	} {
		c := train.Config{Model: build(t, of.model, tr), Train: tr, Test: test, Optimizer: of.optimizer, Rate: 0.05, Batch: 60, Microshards: 4, Epochs: 2, Seed: 3}
		c, p := served(t, c, "ps:servers=2,mode="+of.mode)
		calm, err := train.Local(t.Context(), 1+p.Servers, timeout, c)
		if err != nil {
			t.Fatal(err)
		}
		for at := 1; at < calm.Steps; at += 6 {
			c := c
			c.Dir = t.TempDir()
			c.Resume = stoppedAt(t, c, 1+p.Servers, at)
			workers, servers := 1, 3
			if of.mode == "bsp" {
				workers = 3
			}
			c, _ = served(t, c, fmt.Sprintf("ps:servers=%d,mode=%s", servers, of.mode))
			r, err := train.Local(t.Context(), workers+servers, timeout, c)
			if err != nil {
				t.Fatalf("%+v, resumed at step %d: %v", of, at, err)
			}
			if r.Weights != calm.Weights || *r.AUC != *calm.AUC {
				t.Errorf("%+v, resumed at step %d: weights %.12s, AUC %v; the calm run's %.12s, %v", of, at, r.Weights, *r.AUC, calm.Weights, *calm.AUC)
			}
			saved, err := ckpt.Load(c.Resume)
			if err != nil {
				t.Fatal(err)
			}
			l := c.Model.Layout()
			if err := ckpt.Match(saved.Model, train.Tensors(l, make([]float32, l.Len()))); err != nil {
				t.Errorf("%+v: the checkpoint's model: %v", of, err)
			}
		}
	}
}

// Tables that are too large for one rank are saved and loaded by the servers that have them: a run that was stopped goes on with other
// servers, and copies, as if it had not been.
func TestLargeTablesAreResumed(t *testing.T) {
	const apart = 1 << 23 // so that a table has half a thousand million rows
	tr, test := farClicks(t, "train", 600, apart), farClicks(t, "test", 500, apart)
	for _, of := range []struct{ model, optimizer string }{{"ctr-logistic", "ftrl:l1=0.1"}, {"wide-deep:6,embedding=4", "adagrad"}} {
		c := train.Config{Model: build(t, of.model, tr), Train: tr, Test: test, Optimizer: of.optimizer, Rate: 0.05, Batch: 60, Microshards: 4, Epochs: 2, Seed: 3}
		c, p := served(t, c, "ps:servers=2")
		calm, err := train.Local(t.Context(), 1+p.Servers, timeout, c)
		if err != nil {
			t.Fatal(err)
		}
		for i, choice := range []string{"ps:servers=2", "ps:servers=3,copies=2", "ps:servers=1"} {
			c := c
			c.Dir = t.TempDir()
			c.Resume = stoppedAt(t, c, 1+p.Servers, 3+8*i)
			again, p := served(t, c, choice)
			r, err := train.Local(t.Context(), 3+p.Servers, timeout, again)
			if err != nil {
				t.Fatalf("%+v, %s: %v", of, choice, err)
			}
			if r.Loss != calm.Loss || *r.TestLoss != *calm.TestLoss || *r.AUC != *calm.AUC || r.SaveError != "" {
				t.Errorf("%+v, %s: loss %v, on test data %v, AUC %v, error %q; the calm run's %v, %v, %v", of, choice, r.Loss, *r.TestLoss, *r.AUC, r.SaveError, calm.Loss, *calm.TestLoss, *calm.AUC)
			}
			if _, err := ckpt.Verify(latest(t, c.Dir)); err != nil {
				t.Error(err)
			}
			streams, err := filepath.Glob(filepath.Join(c.Resume, "stream-*.bin"))
			if err != nil || len(streams) != 2*tables(of.model) {
				t.Errorf("%d streams: %v", len(streams), err)
			}
		}
	}
}

// tables is how many tables a model has.
func tables(model string) int {
	if strings.HasPrefix(model, "wide-deep") {
		return 2
	}
	return 1
}

// The report says what each server had to do: rows read and updated. One worker reads each row that a step has once, and updates it once.
func TestReportCountsReads(t *testing.T) {
	tr := clicks(t, "train", 100)
	c := train.Config{Model: build(t, "ctr-logistic", tr), Train: tr, Optimizer: "sgd", Batch: 20, Microshards: 1, Seed: 3}
	c, p := served(t, c, "ps:servers=3")
	r, err := train.Local(t.Context(), 1+p.Servers, timeout, c)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range r.Serving {
		if s.RowReads == 0 || s.RowReads != s.RowUpdates {
			t.Errorf("rank %d: %d rows read and %d updated", s.Rank, s.RowReads, s.RowUpdates)
		}
	}
}

// What cannot be done with tables on servers is refused before anything is trained, with what can be done instead.
func TestTablesAreRefused(t *testing.T) {
	tr := clicks(t, "train", 100)
	for _, of := range []struct{ choice, optimizer, why string }{
		{"ps:servers=2,mode=backup", "sgd", "mode=backup goes with models whose parameters are all dense"},
		{"ps:deal=dynamic", "sgd", "leave it out"},
		{"ps", "lamb", "needs norms of all parameters"},
		{"ps", "adagrad:clip=1", "without clip="},
		{"ps:budget=1KiB", "adagrad", "a budget of"},
	} {
		c := train.Config{Model: build(t, "ctr-logistic", tr), Train: tr, Optimizer: of.optimizer, Batch: 20, Microshards: 2, Seed: 3}
		c, p := served(t, c, of.choice)
		_, err := train.Local(t.Context(), 2+p.Servers, timeout, c)
		var config *train.ConfigError
		if !errors.As(err, &config) || config.Key != "strategy" || !strings.Contains(err.Error(), of.why) {
			t.Errorf("%s, %s: %v, expected %q", of.choice, of.optimizer, err, of.why)
		}
	}
}

// bent changes what a worker sends along with its first push.
type bent struct {
	comm.Group
	bend func(m []byte)
}

func (g *bent) Send(ctx context.Context, to comm.Rank, tag comm.Tag, p []byte) error {
	if tag == comm.MakeTag(comm.OpPush, 1) && g.bend != nil {
		p = slices.Clone(p)
		g.bend(p)
		g.bend = nil
	}
	return g.Group.Send(ctx, to, tag, p)
}

// Rows that cannot be are refused in the name of who sent them: numbers that are none, rows that another server has, messages
// that are cut.
func TestBentRowsAreRefused(t *testing.T) {
	tr := clicks(t, "train", 100)
	for _, of := range []struct {
		bend func(m []byte)
		why  string
	}{
		{func(m []byte) { binary.LittleEndian.PutUint32(m[8:], math.Float32bits(float32(math.NaN()))) }, `the gradient of table "weight" is not finite`},
		{func(m []byte) { m[8+4*int(binary.LittleEndian.Uint32(m))+1]++ }, `of table "weight"`}, // the first row is the next one, and so are all others
		{func(m []byte) { m[0]++ }, "a message of rows with"},
		{func(m []byte) { m[8+4*int(binary.LittleEndian.Uint32(m))] = 0x7f }, "do not hold as many rows"},
	} {
		for _, mode := range []string{"bsp", "async"} {
			c := train.Config{Model: build(t, "ctr-logistic", tr), Train: tr, Optimizer: "sgd", Batch: 20, Microshards: 2, Seed: 3}
			c, p := served(t, c, "ps:servers=2,mode="+mode)
			c.Around = func(g comm.Group) comm.Group {
				if g.Rank() != 1 {
					return &bent{Group: g} // all or none may be wrapped
				}
				return &bent{g, of.bend}
			}
			_, err := train.Local(t.Context(), 2+p.Servers, timeout, c)
			if err == nil || !strings.Contains(err.Error(), "refuses worker 1's push") || !strings.Contains(err.Error(), of.why) {
				t.Errorf("%s: %v, expected %q", mode, err, of.why)
			}
		}
	}
}
