package bench_test

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/covey-ml/covey/bench"
	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/data"
	"github.com/covey-ml/covey/model/nn"
	"github.com/covey-ml/covey/train"
)

const patient = time.Minute

// few is the least that can be measured.
var few = bench.Effort{Time: time.Millisecond, Blocks: 3}

func TestCollectives(t *testing.T) {
	for _, op := range bench.Collectives {
		for _, n := range []int{1, 2, 3, 5} {
			c := bench.Collective{Op: op, Sizes: []int{4, 1024, 100_004}, Effort: few}
			var told []bench.Row
			rows, err := bench.Local(n, patient, func(g comm.Group) ([]bench.Row, error) {
				return c.Run(t.Context(), g, func(r bench.Row) {
					if g.Rank() == 0 {
						told = append(told, r)
					}
				})
			})
			if err != nil {
				t.Fatalf("%s, %d workers: %v", op, n, err)
			}
			if !slices.Equal(rows, told) {
				t.Errorf("%s, %d workers: returned %v, told %v", op, n, rows, told)
			}
			for i, r := range rows {
				if r.Op != op || r.Bytes != c.Sizes[i] || r.Workers != n || r.Blocks != 3 || r.Calls < 1 {
					t.Errorf("%s, %d workers: %+v", op, n, r)
				}
				if !(r.Min <= r.Us && r.Us <= r.Max && r.Min > 0) || math.Abs(r.AlgBW*r.Us*1e3-float64(r.Bytes)) > 1e-6*float64(r.Bytes) {
					t.Errorf("%s, %d workers: %+v", op, n, r)
				}
				if (r.Algorithm != "") != (op == "allreduce") {
					t.Errorf("%s: algorithm %q", op, r.Algorithm)
				}
			}
		}
	}
}

func TestAllAlgorithms(t *testing.T) {
	for a := comm.Direct; a <= comm.Ring; a++ {
		c := bench.Collective{Op: "allreduce", Sizes: []int{4096}, Algorithm: a, Effort: few}
		rows, err := bench.Local(4, patient, func(g comm.Group) ([]bench.Row, error) { return c.Run(t.Context(), g, nil) })
		if err != nil || rows[0].Algorithm != a.String() {
			t.Errorf("%v: %+v, %v", a, rows, err)
		}
	}
}

// plain is a group that moves messages, whatever else it could.
type plain struct{ comm.Group }

// liar is a rank that gets something else than was sent.
type liar struct{ comm.Group }

func (l liar) Recv(ctx context.Context, from comm.Rank, tag comm.Tag, p []byte) (comm.Rank, int, error) {
	r, n, err := l.Group.Recv(ctx, from, tag, p)
	if n >= 1000 {
		p[501] ^= 1
	}
	return r, n, err
}

func TestWrongResultsAreNotTimed(t *testing.T) {
	for _, op := range bench.Collectives {
		c := bench.Collective{Op: op, Sizes: []int{8192}, Effort: few}
		errs := make([]error, 2)
		bench.Local(2, patient, func(g comm.Group) (none struct{}, err error) {
			me := g.Rank()
			if g = (plain{g}); me == 1 {
				g = liar{g}
			}
			rows, err := c.Run(t.Context(), g, nil)
			if len(rows) > 0 {
				t.Errorf("%s: rank %d has rows %v", op, me, rows)
			}
			errs[me] = err
			return none, err
		})
		for r, err := range errs {
			if err == nil || !strings.Contains(err.Error(), "got a wrong result") {
				t.Errorf("%s: rank %d: %v", op, r, err)
			}
		}
	}
}

func TestCollectiveRefuses(t *testing.T) {
	for _, c := range []bench.Collective{
		{Op: "allreduce", Sizes: []int{1022}},
		{Op: "gather", Sizes: []int{1024}},
	} {
		_, err := bench.Local(1, patient, func(g comm.Group) ([]bench.Row, error) { return c.Run(t.Context(), g, nil) })
		if err == nil {
			t.Errorf("%+v: no error", c)
		}
	}
	if _, err := bench.Local(bench.MaxWorkers+1, patient, func(comm.Group) (int, error) { return 0, nil }); err == nil {
		t.Error("too many workers: no error")
	}
}

// The error of Local is the one that says why, not that of the peers that saw the consequence.
func TestLocalSaysWhy(t *testing.T) {
	why := errors.New("why")
	_, err := bench.Local(3, patient, func(g comm.Group) (int, error) {
		if g.Rank() == 2 {
			return 0, why
		}
		return 0, comm.Barrier(t.Context(), g)
	})
	if err != why {
		t.Errorf("got %v", err)
	}
}

func TestProducts(t *testing.T) {
	shapes := []bench.Shape{{1, 1, 1}, {7, 300, 17}, {64, 64, 64}, {128, 784, 10}}
	rows, err := bench.Product{Shapes: shapes, Forms: bench.Forms, Effort: few}.Run(comm.RealClock(), nil)
	if err != nil || len(rows) != len(shapes)*len(bench.Forms) {
		t.Fatalf("%v, %v", rows, err)
	}
	for _, r := range rows {
		if r.Allocs > 0.5 || !(r.GFLOPS > 0) {
			t.Errorf("%+v", r)
		}
	}
	if _, err := (bench.Product{Shapes: shapes, Forms: []string{"tt"}, Effort: few}).Run(comm.RealClock(), nil); err == nil {
		t.Error("form tt: no error")
	}
}

func TestParseShape(t *testing.T) {
	for text, want := range map[string]bench.Shape{"512": {512, 512, 512}, "128x784x10": {128, 784, 10}} {
		if got, err := bench.ParseShape(text); err != nil || got != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "0", "-1", "1x2", "1x2x3x4", "axb", "99999", "1x2x0"} {
		if s, err := bench.ParseShape(text); err == nil {
			t.Errorf("%q: %v", text, s)
		}
	}
}

func TestSteps(t *testing.T) {
	tr, _, err := data.Open(t.Context(), "digits:train=200,test=10", data.Options{})
	if err != nil {
		t.Fatal(err)
	}
	m, err := nn.New(nn.Config{In: 784, Layers: []nn.Layer{nn.Dense{Out: 8}, nn.ReLU{}, nn.Dense{Out: 10}}, Head: nn.CrossEntropy{}})
	if err != nil {
		t.Fatal(err)
	}
	for _, workers := range []int{1, 2, 3} {
		for _, steps := range []int{0, 2, 40} {
			s := bench.Step{Config: train.Config{Model: m, Train: tr, Batch: 20, Microshards: 3, Steps: steps, Seed: 1}, Effort: few}
			row, err := bench.Local(workers, patient, func(g comm.Group) (*bench.StepRow, error) { return s.Run(t.Context(), g) })
			if err != nil {
				t.Fatalf("%d workers, %d steps: %v", workers, steps, err)
			}
			if steps > 0 && row.Steps != steps || row.Workers != workers || row.Parameters != m.Layout().Len() || !(row.Ms > 0 && row.Loss > 0) {
				t.Errorf("%d workers, %d steps: %+v", workers, steps, row)
			}
		}
	}
	s := bench.Step{Config: train.Config{Model: m, Train: tr, Batch: 20, Steps: 1}, Effort: few}
	if _, err := bench.Local(1, patient, func(g comm.Group) (*bench.StepRow, error) { return s.Run(t.Context(), g) }); err == nil {
		t.Error("one step, which warms up: no error")
	}
}
