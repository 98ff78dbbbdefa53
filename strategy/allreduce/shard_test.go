package allreduce

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/covey-ml/covey/ckpt"
	"github.com/covey-ml/covey/comm/inproc"
	"github.com/covey-ml/covey/data"
	"github.com/covey-ml/covey/model"
	"github.com/covey-ml/covey/optim"
	"github.com/covey-ml/covey/spec"
	"github.com/covey-ml/covey/strategy"
	"github.com/covey-ml/covey/vec"
)

// wide has one small segment and one that is worth sharing out; its gradient tells elements and microshards apart.
type wide struct{ layered }

const wideLen = 20 + 1<<15 + 3

func (*wide) Layout() model.Layout { return model.Layout{}.Add("small", 20).Add("large", 1<<15+3) }
func (m *wide) Grad(_ context.Context, x, g []float32, b *data.Batch, done func(model.Segment)) (model.Loss, error) {
	for i := range g {
		g[i] = float32(b.N) * (x[i] + float32(i%1000)*1e-3)
	}
	for _, s := range slices.Backward(m.Layout()) {
		if done != nil {
			done(s)
		}
	}
	return model.Loss{Sum: 2 * float32(b.N), N: b.N}, nil
}

// Workers that share the update out move the parameters as one worker does, bit for bit; each then has the optimizer's
// state of its own part only, and Gather brings all of it to all.
func TestShardedUpdate(t *testing.T) {
	const leaves, steps = 8, 3
	for _, bucket := range []int{0, 1 << 10} {
		var want, wantState []float32
		for _, n := range []int{1, 2, 3, 4, 5, 9} {
			got := make([]*strategy.Worker, n)
			touched := make([]int, n)
			errs := make(chan error, n)
			for r, g := range inproc.New(n, 10*time.Second) {
				m := &wide{}
				w := worker(t, g, m, leaves)
				w.Shard, w.Bucket = true, bucket
				var err error
				if w.Optimizer, err = optim.New(&spec.Spec{Name: "adam"}, m.Layout()); err != nil {
					t.Fatal(err)
				}
				got[r] = w
				go func() {
					s := New()
					var err error
					for w.Step = 0; w.Step < steps && err == nil; w.Step++ {
						var rep strategy.Report
						if rep, err = s.Step(context.Background(), w); err == nil && rep.Loss != 2 {
							err = fmt.Errorf("rank %d: loss %v", r, rep.Loss)
						}
					}
					for _, v := range state(w) {
						if v != 0 {
							touched[r]++
						}
					}
					if err == nil {
						err = s.Gather(context.Background(), w)
					}
					errs <- err
				}()
			}
			for range n {
				if err := <-errs; err != nil {
					t.Fatal(err)
				}
			}
			if want == nil {
				want, wantState = got[0].X, state(got[0])
			}
			for r, w := range got {
				if !slices.Equal(w.X, want) || !slices.Equal(state(w), wantState) {
					t.Errorf("bucket %d, rank %d of %d: not one worker's bits", bucket, r, n)
				}
				// Where i%1000 is 0 the gradient is 0 in the first step; x stays 0 there.
				if most := wideLen/n + 20 + head + 1; touched[r] > most || n == 1 && touched[r] < wideLen*9/10 {
					t.Errorf("bucket %d, rank %d of %d had the state of %d elements before Gather, its part is at most %d", bucket, r, n, touched[r], most)
				}
			}
		}
	}
}

// state is Adam's second moment.
func state(w *strategy.Worker) []float32 {
	for _, t := range w.Optimizer.State() {
		if t.Name == "adam.v" && t.Type == ckpt.F32 {
			return vec.Floats(t.Data)
		}
	}
	return nil
}

// Without leave to shard, and with rules that need norms, every worker updates everything.
func TestUnshardedUpdate(t *testing.T) {
	for name, shard := range map[string]bool{"adam": false, "adam:clip=1": true} {
		groups := inproc.New(2, 10*time.Second)
		errs := make(chan error, 2)
		for _, g := range groups {
			m := &wide{}
			w := worker(t, g, m, 2)
			w.Shard = shard
			s, err := spec.Parse(name)
			if err != nil {
				t.Fatal(err)
			}
			if w.Optimizer, err = optim.New(s, m.Layout()); err != nil {
				t.Fatal(err)
			}
			go func() {
				_, err := New().Step(context.Background(), w)
				zero := 0
				for _, v := range state(w) {
					if v == 0 {
						zero++
					}
				}
				if err == nil && zero > wideLen/500 {
					err = fmt.Errorf("%s: %d of %d elements were not updated here", name, zero, wideLen)
				}
				errs <- err
			}()
		}
		for range groups {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
	}
}
