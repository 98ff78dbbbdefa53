package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/model"
	"github.com/covey-ml/covey/optim"
	"github.com/covey-ml/covey/spec"
	"github.com/covey-ml/covey/strategy"
	"github.com/covey-ml/covey/strategy/ps"
	"github.com/covey-ml/covey/vec"
)

// Fill is what to measure of a table that is as large as it gets: all its rows are updated, twice, by all workers, each of
// which has its own rows. The last Servers ranks of the group serve.
type Fill struct {
	Servers   int
	Rows      int
	Width     int        // float32 a row
	Batch     int        // rows of a push, far from each other
	Optimizer string     // as optim.New reads it; a rule that a table takes
	Copies    int        // servers on which each row is; 0: one
	Budget    spec.Bytes // of a server; 0: no bound
	Spill     string     // the folder for what is over it
}

// FillRow is what came of it.
type FillRow struct {
	Rows      int      `json:"rows"`
	Width     int      `json:"width"`
	Optimizer string   `json:"optimizer"`
	Copies    int      `json:"copies"`
	Workers   int      `json:"workers"`
	Transport string   `json:"transport,omitempty"` // the caller knows
	First     float64  `json:"first_rows_per_s"`    // updates of rows a second that are new
	Second    float64  `json:"rows_per_s"`          // and of rows that are there
	Servers   []Filled `json:"servers"`
}

// Filled is what a server holds in the end.
type Filled struct {
	Rows     int   `json:"rows"`                 // of its own
	Resident int64 `json:"resident_bytes"`       // of these and of its copies of others', with the optimizer's state and what finds them
	Spilled  int64 `json:"spilled_bytes"`        // that are on disk alone
	Peak     int64 `json:"peak_bytes,omitempty"` // of the process's memory, at most; 0: not known
}

// Run fills a table on g, which takes as long as it takes. Some rows are then compared with what the optimizer makes of one
// alone. peak, which may be nil, tells the most memory that this process had in use so far. The result is rank 0's.
func (f Fill) Run(ctx context.Context, g comm.Group, peak func() int64) (*FillRow, error) {
	workers := g.Size() - f.Servers
	if f.Servers < 1 || workers < 1 || f.Rows < workers || f.Width < 1 || f.Batch < 1 {
		return nil, fmt.Errorf("bench: a table of %d rows of %d numbers, in pushes of %d, for %d servers in a group of %d", f.Rows, f.Width, f.Batch, f.Servers, g.Size())
	}
	f.Batch = min(f.Batch, f.Rows/workers) // there is a push for each
	rule, err := spec.Parse(f.Optimizer)
	if err != nil {
		return nil, err
	}
	row := &FillRow{Rows: f.Rows, Width: f.Width, Optimizer: f.Optimizer, Copies: max(1, f.Copies), Workers: workers}
	h := held{model.Layout{}.Add("dense", 1), []model.Table{{Name: "rows", Rows: uint64(f.Rows), Width: f.Width}}}
	served, err := h.serve(ctx, g, ps.Config{Servers: f.Servers, Copies: f.Copies, Budget: f.Budget, Spill: f.Spill}, rule, func(c *ps.Calls, _ *strategy.Worker, those comm.Group) error {
		for _, rate := range []*float64{&row.First, &row.Second} {
			t := those.Clock().Now()
			if err := f.pass(ctx, c, those); err != nil {
				return err
			}
			*rate = float64(f.Rows) / (those.Clock().Now() - t).Seconds()
		}
		return agree(ctx, those, f.verify(ctx, c, rule, int(those.Rank()), workers))
	})
	if err != nil {
		return nil, err
	}
	var mine []Filled
	if served != nil {
		s := Filled{Rows: served.Rows, Resident: served.Resident, Spilled: served.Spilled}
		if peak != nil {
			s.Peak = peak()
		}
		mine = append(mine, s)
	}
	b, err := json.Marshal(mine)
	if err != nil {
		return nil, err
	}
	all, err := comm.AllGatherBytes(ctx, g, b, nil)
	if err != nil {
		return nil, err
	}
	total := 0
	for _, b := range all {
		var some []Filled
		if err := json.Unmarshal(b, &some); err != nil {
			return nil, err
		}
		for _, s := range some {
			row.Servers = append(row.Servers, s)
			total += s.Rows
		}
	}
	if total != f.Rows {
		return nil, fmt.Errorf("bench: servers have %d rows of %d", total, f.Rows)
	}
	return row, nil
}

// batches is how many pushes all workers together make in a pass: push k has rows k, k+batches, and so on.
func (f Fill) batches() int { return (f.Rows + f.Batch - 1) / f.Batch }

// batch writes the rows of push k.
func (f Fill) batch(rows []uint64, k int) []uint64 {
	rows = rows[:0]
	for row := k; row < f.Rows; row += f.batches() {
		rows = append(rows, uint64(row))
	}
	return rows
}

// pass pushes all rows once, this worker its own share, and ends when the servers have taken them.
func (f Fill) pass(ctx context.Context, c *ps.Calls, g comm.Group) error {
	x := slices.Repeat([]float32{1}, f.Batch*f.Width)
	var rows []uint64
	for k := int(g.Rank()); k < f.batches(); k += g.Size() {
		rows = f.batch(rows, k)
		if err := c.Push(ctx, rows, x[:len(rows)*f.Width]); err != nil {
			return err
		}
	}
	if err := c.Pull(ctx); err != nil {
		return err
	}
	return comm.Barrier(ctx, g)
}

// verify reads a worker's first rows, and compares them with a vector that was updated as they were.
func (f Fill) verify(ctx context.Context, c *ps.Calls, rule *spec.Spec, me, workers int) error {
	rows := f.batch(nil, me)
	if me >= f.batches() {
		return nil
	}
	out := make([]float32, len(rows)*f.Width)
	if err := c.Read(ctx, rows, out); err != nil {
		return err
	}
	want, err := f.twice(rule, 1)
	if err != nil {
		return err
	}
	late, err := f.twice(rule, 1000)
	known := slices.Equal(want, late) // else it matters which updates of all it were, as with adam, and only that they were is looked at
	for i, row := range rows {
		got := out[i*f.Width : (i+1)*f.Width]
		if known && !slices.Equal(vec.Bytes(got), vec.Bytes(want)) || !known && slices.Contains(got, 0) {
			return fmt.Errorf("row %d is %v, want %v", row, got, want)
		}
	}
	return err
}

// twice is a row after updates t and t+1.
func (f Fill) twice(rule *spec.Spec, t int) ([]float32, error) {
	o, err := optim.New(rule, model.Layout{}.Add("row", f.Width))
	if err != nil {
		return nil, err
	}
	x := make([]float32, f.Width)
	for i := range 2 {
		o.Begin(t+i, 1)
		o.Apply(x, slices.Repeat([]float32{1}, f.Width), 0, 1)
	}
	return x, nil
}
