package train_test

import (
	"errors"
	"testing"

	"github.com/covey-ml/covey/ckpt"
	"github.com/covey-ml/covey/train"
)

// A compressed run that was stopped after any step and goes on with as many workers ends with the weights of the calm
// one: residuals, momentum and factors come back bit for bit. With others it goes on, and its ledger closes.
func TestStopAndResumeCompressed(t *testing.T) {
	for compress, optimizer := range map[string]string{"powersgd:2+ef": "momentum", "vote:momentum=0.9": "sgd"} {
		c := config(t, "mlp:24")
		c.Compress, c.Optimizer, c.Rate = compress, optimizer, 0.0005
		calm, err := train.Local(t.Context(), 3, timeout, c)
		if err != nil {
			t.Fatal(err)
		}
		for at := 1; at < calm.Steps; at += 2 {
			c := c
			c.Dir = t.TempDir()
			step := 0
			c.Stop = func() bool { step++; return step == at }
			if _, err := train.Local(t.Context(), 3, timeout, c); !errors.Is(err, train.ErrStopped) {
				t.Fatalf("%s, stopped at step %d: error %v", compress, at, err)
			}
			c.Stop = nil
			if c.Resume, _, err = ckpt.Latest(c.Dir); err != nil {
				t.Fatal(err)
			}
			c.Dir = ""
			for _, n := range []int{3, 1 + at%5} {
				r, err := train.Local(t.Context(), n, timeout, c)
				if err != nil {
					t.Fatalf("%s, resumed at step %d with %d workers: %v", compress, at, n, err)
				}
				if same := r.Weights == calm.Weights; n == 3 && !same {
					t.Errorf("%s, resumed at step %d: weights %.12s, the calm run's are %.12s", compress, at, r.Weights, calm.Weights)
				}
				if r.BytesSent != r.BytesExpected || r.Steps != calm.Steps {
					t.Errorf("%s, resumed at step %d with %d workers: %d bytes sent, %d expected, %d steps", compress, at, n, r.BytesSent, r.BytesExpected, r.Steps)
				}
			}
		}
	}
}
