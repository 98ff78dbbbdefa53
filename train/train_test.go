package train_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/covey-ml/covey/ckpt"
	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/data"
	"github.com/covey-ml/covey/model"
	"github.com/covey-ml/covey/model/zoo"
	"github.com/covey-ml/covey/spec"
	"github.com/covey-ml/covey/train"
)

const timeout = 30 * time.Second

func digits(t *testing.T) (tr, test data.Dataset) {
	t.Helper()
	tr, test, err := data.Open(t.Context(), "digits:train=300,test=100", data.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return tr, test
}

func build(t testing.TB, name string, ds data.Dataset) model.Model {
	t.Helper()
	s, err := spec.Parse(name)
	if err != nil {
		t.Fatal(err)
	}
	m, err := zoo.New(s, ds.Info(), ds.Len(), ds)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func config(t *testing.T, modelName string) train.Config {
	tr, test := digits(t)
	return train.Config{Model: build(t, modelName, tr), Train: tr, Test: test, Batch: 64, Microshards: 12, Epochs: 2, Seed: 3}
}

// Synchronous SGD on N workers is SGD of one worker on the global batch: Theorem 3.1 of the usual course text, here bit
// for bit, with microshards fixed. 300 samples in batches of 64 leave a short last batch in each epoch.
func TestWorkersDoNotChangeTheBits(t *testing.T) {
	for _, optimizer := range []string{"sgd", "momentum:clip=0.5", "adam", "lars", "lamb"} {
		c := config(t, "mlp:24,16,dropout=0.2")
		c.Optimizer = optimizer
		want := ""
		for _, n := range []int{1, 2, 3, 4, 8, 12, 13} {
			for _, alg := range []comm.Algorithm{comm.Auto, comm.Direct, comm.Gather, comm.Binomial} {
				c.Algorithm = alg
				c.Bucket = 1000 * n // buckets must not matter either
				r, err := train.Local(t.Context(), n, timeout, c)
				if err != nil {
					t.Fatalf("%s, %d workers, %v: %v", optimizer, n, alg, err)
				}
				if want == "" {
					want = r.Weights
				}
				if r.Weights != want {
					t.Errorf("%s, %d workers, %v: weights %.12s, one worker's are %.12s", optimizer, n, alg, r.Weights, want)
				}
				if r.BytesSent != r.BytesExpected {
					t.Errorf("%s, %d workers, %v: %d bytes sent, %d expected\n%+v", optimizer, n, alg, r.BytesSent, r.BytesExpected, r.Ops)
				}
				if !strings.HasSuffix(r.SamplesBooked, "each sample used exactly once") {
					t.Errorf("%d workers: %s", n, r.SamplesBooked)
				}
				if testing.Short() || n > 4 {
					break
				}
			}
			if n < 3 {
				continue
			}
			c.Algorithm, c.Hosts = comm.Hierarchical, comm.Hosts{0, 2}
			if r, err := train.Local(t.Context(), n, timeout, c); err != nil || r.Weights != want || r.BytesSent != r.BytesExpected {
				t.Errorf("%s, %d workers on hosts %v: %+v, %v", optimizer, n, c.Hosts, r, err)
			}
			c.Hosts = nil
		}
	}
}

// latest is the newest checkpoint of a run folder.
func latest(t *testing.T, dir string) string {
	t.Helper()
	path, _, err := ckpt.Latest(dir)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// stoppedAt runs c on so many ranks, asks rank 0's worker in a step to stop, and returns the checkpoint that this leaves in c.Dir.
func stoppedAt(t *testing.T, c train.Config, ranks, at int) string {
	t.Helper()
	step := 0
	c.Stop = func() bool { step++; return step == at }
	if _, err := train.Local(t.Context(), ranks, timeout, c); !errors.Is(err, train.ErrStopped) {
		t.Fatalf("%s, %s: asked to stop at step %d: %v", c.Optimizer, c.Compress, at, err)
	}
	return latest(t, c.Dir)
}

// A run that was stopped and resumed, with as many workers or others, ends with the weights of the calm one.
func TestStopAndResumeAnywhere(t *testing.T) {
	c := config(t, "mlp:24") // its first layer is large enough to be updated in parts
	calm, err := train.Local(t.Context(), 1, timeout, c)
	if err != nil {
		t.Fatal(err)
	}
	for at := 1; at < calm.Steps; at++ {
		c := c
		c.Dir, c.Ahead = t.TempDir(), at%2 == 1
		if c.Resume = stoppedAt(t, c, 1+at%3, at); c.Resume != ckpt.StepDir(c.Dir, at) {
			t.Fatalf("asked to stop at step %d, it left %s", at, c.Resume)
		}
		r, err := train.Local(t.Context(), 1+at%4, timeout, c)
		if err != nil {
			t.Fatalf("resumed at step %d: %v", at, err)
		}
		if r.Weights != calm.Weights || r.Steps != calm.Steps || r.Loss != calm.Loss || *r.Accuracy != *calm.Accuracy {
			t.Errorf("resumed at step %d: weights %.12s steps %d loss %v, the calm run's are %.12s %d %v", at, r.Weights, r.Steps, r.Loss, calm.Weights, calm.Steps, calm.Loss)
		}
		if !strings.HasSuffix(r.SamplesBooked, "exactly once") {
			t.Errorf("resumed at step %d: %s", at, r.SamplesBooked)
		}
	}
}

func TestResumeRefusesAnotherRun(t *testing.T) {
	c := config(t, "mlp:16")
	c.Dir, c.Epochs = t.TempDir(), 1
	if _, err := train.Local(t.Context(), 2, timeout, c); err != nil {
		t.Fatal(err)
	}
	c.Resume = latest(t, c.Dir)
	for want, change := range map[string]func(*train.Config){
		"batch: the checkpoint was made with 64":               func(c *train.Config) { c.Batch = 60 },
		"microshards: the checkpoint was made with 12":         func(c *train.Config) { c.Microshards = 6 },
		"seed: the checkpoint was made with 3":                 func(c *train.Config) { c.Seed = 4 },
		"optimizer: the checkpoint was made with adam":         func(c *train.Config) { c.Optimizer = "sgd" },
		"compress: the checkpoint was made with none, and":     func(c *train.Config) { c.Compress = "powersgd:2+ef" },
		`tensor "0.weight" is F32 [16 784] where F32 [17 784]`: func(c *train.Config) { c.Model = build(t, "mlp:17", c.Train) },
	} {
		d := c
		change(&d)
		if _, err := train.Local(t.Context(), 2, timeout, d); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %s", err, want)
		}
	}
	flip(t, filepath.Join(c.Resume, ckpt.ModelFile))
	if _, err := train.Local(t.Context(), 2, timeout, c); err == nil || !strings.Contains(err.Error(), "SHA-256") && !strings.Contains(err.Error(), "hash") {
		t.Errorf("a flipped byte: error %v", err)
	}
}

func flip(t *testing.T, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(path, b, 0o666); err != nil {
		t.Fatal(err)
	}
}

func TestDivergence(t *testing.T) {
	c := config(t, "mlp:16")
	c.Optimizer, c.Rate, c.Dir, c.Epochs = "sgd", 1e20, t.TempDir(), 50
	_, err := train.Local(t.Context(), 3, timeout, c)
	var d *train.DivergedError
	if !errors.As(err, &d) || d.Step < 1 {
		t.Fatalf("error %v", err)
	}
	if all, err := ckpt.List(c.Dir); err != nil || len(all) != 0 {
		t.Fatalf("a diverged run left checkpoints %v, %v", all, err)
	}
}

func TestConfigErrors(t *testing.T) {
	for want, change := range map[string]func(*train.Config){
		"batch: 301 samples a step, but the training set has 300":   func(c *train.Config) { c.Batch = 301 },
		"microshards: 65 slices of a batch of 64":                   func(c *train.Config) { c.Microshards = 65 },
		`optimizer: unknown optimizer "adm": did you mean "adam"`:   func(c *train.Config) { c.Optimizer = "adm" },
		`schedule: unknown schedule "cosin": did you mean "cosine"`: func(c *train.Config) { c.Schedule = "cosin" },
		"lr: -1 is not a positive number":                           func(c *train.Config) { c.Rate = -1 },
	} {
		c := config(t, "mlp:16")
		change(&c)
		if _, err := train.Local(t.Context(), 2, timeout, c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v\nwant  %s", err, want)
		}
	}
}

// An error of one worker ends all, and the one that is told is the cause.
func TestModelErrorEndsAll(t *testing.T) {
	c := config(t, "mlp:16")
	c.Model = &failing{Model: c.Model}
	_, err := train.Local(t.Context(), 4, timeout, c)
	if !errors.Is(err, errPlanted) {
		t.Fatalf("error %v", err)
	}
}

var errPlanted = errors.New("planted")

// failing fails on the microshard that holds sample 17.
type failing struct{ model.Model }

func (f *failing) Grad(ctx context.Context, x, g []float32, b *data.Batch, done func(model.Segment)) (model.Loss, error) {
	for _, id := range b.ID {
		if id == 17 {
			return model.Loss{}, errPlanted
		}
	}
	return f.Model.Grad(ctx, x, g, b, done)
}
