package bench_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/covey-ml/covey/bench"
	"github.com/covey-ml/covey/comm"
)

// All four ways are measured, after what is pulled was the sum of what was pushed.
func TestServed(t *testing.T) {
	s := bench.Served{Servers: 2, Bytes: 40004, Rows: 1000, Width: 3, Share: 0.05, Effort: bench.Effort{Blocks: 2, Calls: 5, Here: 5}}
	rows, err := bench.Local(5, 30*time.Second, func(g comm.Group) (rows []bench.ServedRow, err error) {
		err = s.Run(t.Context(), g, func(r bench.ServedRow) { rows = append(rows, r) })
		return rows, err
	})
	if err != nil {
		t.Fatal(err)
	}
	var ways []string
	for _, r := range rows {
		ways = append(ways, r.Pattern+" "+r.Way)
		if r.Workers != 3 || r.Calls != 5 || !(r.PerSec > 0) || r.Values != map[string]int{"dense": 10001, "sparse": 150}[r.Pattern] {
			t.Errorf("%+v", r)
		}
	}
	if got := strings.Join(ways, ", "); got != "dense push, dense pull, sparse push, sparse pull" {
		t.Errorf("rows: %s", got)
	}
}

// A number that arrives wrong ends the measurement.
func TestServedChecks(t *testing.T) {
	s := bench.Served{Servers: 1, Bytes: 4000, Rows: 100, Width: 2, Share: 0.1, Effort: bench.Effort{Blocks: 1, Calls: 1, Here: 2}}
	_, err := bench.Local(2, 30*time.Second, func(g comm.Group) (int, error) {
		return 0, s.Run(t.Context(), twisted{g}, nil)
	})
	if err == nil || !strings.Contains(err.Error(), "so nothing was timed: value 0 is") {
		t.Errorf("error %v", err)
	}
}

// twisted changes what servers answer.
type twisted struct{ comm.Group }

func (g twisted) Send(ctx context.Context, to comm.Rank, tag comm.Tag, p []byte) error {
	if tag.Op() == comm.OpPull && len(p) > 100 {
		p = append([]byte(nil), p...)
		p[65] ^= 1 // of value 0, behind the head
	}
	return g.Group.Send(ctx, to, tag, p)
}

func TestServedRefuses(t *testing.T) {
	good := bench.Served{Servers: 1, Bytes: 4000, Rows: 100, Width: 2, Share: 0.1}
	for _, f := range []func(*bench.Served){
		func(s *bench.Served) { s.Servers = 2 }, func(s *bench.Served) { s.Bytes = 4001 }, func(s *bench.Served) { s.Rows = 0 }, func(s *bench.Served) { s.Share = 1.5 },
	} {
		s := good
		f(&s)
		if _, err := bench.Local(2, 30*time.Second, func(g comm.Group) (int, error) { return 0, s.Run(t.Context(), g, nil) }); err == nil {
			t.Errorf("%+v: no error", s)
		}
	}
}

// A table is filled, with and without a budget that it is over, and every row is there.
func TestFill(t *testing.T) {
	for _, f := range []bench.Fill{
		{Servers: 2, Rows: 5003, Width: 3, Batch: 100, Optimizer: "adagrad"},
		{Servers: 1, Rows: 60000, Width: 16, Batch: 1000, Optimizer: "adam", Budget: 4 << 20, Spill: t.TempDir()},
	} {
		r, err := bench.Local(2+f.Servers, 30*time.Second, func(g comm.Group) (*bench.FillRow, error) { return f.Run(t.Context(), g, nil) })
		if err != nil {
			t.Fatal(err)
		}
		if len(r.Servers) != f.Servers || !(r.First > 0 && r.Second > 0) || f.Budget > 0 && (r.Servers[0].Resident > int64(f.Budget) || r.Servers[0].Spilled == 0) {
			t.Errorf("%+v", r)
		}
	}
	f := bench.Fill{Servers: 1, Rows: 60000, Width: 16, Batch: 1000, Optimizer: "adam", Budget: 4 << 20}
	_, err := bench.Local(2, 30*time.Second, func(g comm.Group) (*bench.FillRow, error) { return f.Run(t.Context(), g, nil) })
	if err == nil || !strings.Contains(err.Error(), "the budget of 4MiB is used up") {
		t.Errorf("over the budget: %v", err)
	}
}
