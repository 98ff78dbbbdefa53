package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/data"
	"github.com/covey-ml/covey/model"
	"github.com/covey-ml/covey/optim"
	"github.com/covey-ml/covey/rng"
	"github.com/covey-ml/covey/spec"
	"github.com/covey-ml/covey/strategy"
	"github.com/covey-ml/covey/strategy/ps"
	"github.com/covey-ml/covey/vec"
)

// Served is what to measure of a parameter server: pushes and pulls of a dense vector, and of some rows of a table, by all
// workers at once. The last Servers ranks of the group serve.
type Served struct {
	Servers int
	Bytes   int     // of the dense vector, whose parts are the servers'; a multiple of 4
	Rows    int     // of the table
	Width   int     // float32 a row
	Share   float64 // of the rows that a call has, drawn by lot
	Effort  Effort
}

// ServedRow is one way of one pattern.
type ServedRow struct {
	Pattern   string `json:"pattern"` // dense or sparse
	Way       string `json:"way"`     // push or pull
	Workers   int    `json:"workers"`
	Servers   int    `json:"servers"`
	Transport string `json:"transport,omitempty"` // the caller knows
	Values    int    `json:"values"`              // float32 of a worker's call
	Timing
	// PerSec is the values of all workers a second, and GBps their bytes, ids not counted, in units of 1e9.
	PerSec float64 `json:"values_per_s"`
	GBps   float64 `json:"gbps"`
}

// batchesOfRows is between how many sets of rows a worker alternates, and pullsBegun how many pulls it has under way.
const (
	batchesOfRows = 8
	pullsBegun    = 2
)

// Run measures on g. A push is done when the servers have applied it: each block of pushes ends with a pull of the dense vector,
// which comes after them. Of pulls a worker has two under way. Nothing is computed in between. tell hears of each row on rank 0.
func (s Served) Run(ctx context.Context, g comm.Group, tell func(ServedRow)) error {
	if err := s.check(g.Size()); err != nil {
		return err
	}
	if err := s.measure(ctx, g, "dense", s.Bytes/4, nil, tell); err != nil {
		return err
	}
	return s.measure(ctx, g, "sparse", 1, []model.Table{{Name: "rows", Rows: uint64(s.Rows), Width: s.Width}}, tell)
}

func (s Served) check(ranks int) error {
	switch {
	case s.Servers < 1 || s.Servers >= ranks:
		return fmt.Errorf("bench: %d servers in a group of %d: at least one of both is needed", s.Servers, ranks)
	case s.Bytes < 4 || s.Bytes%4 != 0:
		return fmt.Errorf("bench: a vector of %d bytes: float32s are 4 bytes each, so take %d", s.Bytes, max(4, s.Bytes&^3))
	case s.Rows < 1 || s.Width < 1:
		return fmt.Errorf("bench: a table of %d rows of %d numbers", s.Rows, s.Width)
	case !(s.Share > 0 && s.Share <= 1):
		return fmt.Errorf("bench: a share of %v of the rows: expected more than 0, up to 1", s.Share)
	}
	return nil
}

// held is a model that is only pushed and pulled.
type held struct {
	layout model.Layout
	tables []model.Table
}

var errHeld = errors.New("bench: this model computes nothing")

func (h held) Layout() model.Layout                  { return h.layout }
func (h held) Tables() []model.Table                 { return h.tables }
func (h held) Init(x []float32, _ uint64)            { clear(x) }
func (h held) Outputs() int                          { return 1 }
func (h held) Pick(*model.Picked, *data.Batch) error { return errHeld }
func (h held) Grad(context.Context, []float32, []float32, *data.Batch, *model.Picked, func(model.Segment)) (model.Loss, error) {
	return model.Loss{}, errHeld
}
func (h held) Eval(context.Context, []float32, *data.Batch, *model.Picked) (model.Metrics, error) {
	return model.Metrics{}, errHeld
}
func (h held) Predict(context.Context, []float32, *data.Batch, *model.Picked, []float32) error {
	return errHeld
}

// measure makes a rank's part of a parameter server, and measures with it.
func (s Served) measure(ctx context.Context, g comm.Group, pattern string, dense int, tables []model.Table, tell func(ServedRow)) error {
	workers := g.Size() - s.Servers
	c := &servedCalls{me: int(g.Rank()), workers: workers, turn: turnAfter(workers), row: ServedRow{Pattern: pattern, Workers: workers, Servers: s.Servers, Values: dense}}
	if tables != nil && c.me < workers {
		c.row.Values = c.draw(s) * s.Width
		c.width = s.Width
	}
	h := held{model.Layout{}.Add("dense", dense), tables}
	_, err := h.serve(ctx, g, ps.Config{Servers: s.Servers}, &spec.Spec{Name: "sgd"}, func(calls *ps.Calls, w *strategy.Worker, those comm.Group) error {
		c.Calls, c.w = calls, w
		return c.run(ctx, those, s.Effort, tell)
	})
	return err
}

// serve makes a rank's part of an asynchronous parameter server that holds the model. On workers it calls f, with a group of
// the workers alone; on servers it serves until they are through, and returns what they did.
func (h held) serve(ctx context.Context, g comm.Group, c ps.Config, rule *spec.Spec, f func(*ps.Calls, *strategy.Worker, comm.Group) error) (*strategy.Served, error) {
	workers := g.Size() - c.Servers
	c.Mode, c.Guard = ps.Async, ps.GuardOff
	st := ps.New(c)
	m, err := st.Keep(model.NewWhole(h), rule, 1)
	if err != nil {
		return nil, err
	}
	w := &strategy.Worker{Group: g, Tree: comm.NewTree(workers, workers).Spare(c.Servers), Model: m, Rate: 1, Samples: 1}
	w.Frame, w.X = strategy.Frame(g, m.Layout().Len())
	w.NewOptimizer = func() (optim.Optimizer, error) { return optim.New(rule, m.Layout()) }
	if w.Optimizer, err = w.NewOptimizer(); err != nil {
		return nil, err
	}
	if err := st.Prepare(w); err != nil {
		return nil, err
	}
	defer st.Close()
	if int(g.Rank()) >= workers {
		_, err := st.Step(ctx, w)
		if err == nil {
			err = st.Settle(ctx)
		}
		return st.Served(), err
	}
	ranks := make([]comm.Rank, workers)
	for i := range ranks {
		ranks[i] = comm.Rank(i)
	}
	those, err := comm.Sub(g, ranks, 1)
	if err != nil {
		return nil, err
	}
	calls := st.Calls()
	if err := f(calls, w, those); err != nil {
		return nil, err
	}
	return nil, calls.End(ctx)
}

// servedCalls is a worker that is measured.
type servedCalls struct {
	*ps.Calls
	w           *strategy.Worker
	me, workers int
	width       int
	rows        [][][]uint64 // by worker and batch
	x           [][]float32  // by batch: the gradient of rows
	out         [][]float32  // by batch: rows as they were read last
	pushes      int
	turn        int // after so many pushes of a worker their sign changes, a multiple of batchesOfRows
	pulls       int
	row         ServedRow
}

// pushed is what a worker pushes to number i, or takes away: whole numbers, so that sums are exact.
func pushed(worker, i int) float32 { return float32(i%7 + 1 + worker) }

// turnAfter is such that no sum is more than float32 has whole numbers for, however long pushes go on.
func turnAfter(workers int) int {
	most := 0
	for w := range workers {
		most += int(pushed(w, 6))
	}
	return max(1, 1<<24/most/batchesOfRows) * batchesOfRows
}

// count is how often something was added more than taken away after n times, when the sign changes after so many.
func count(n, turn int) int {
	if n%turn == n%(2*turn) {
		return n % turn
	}
	return turn - n%turn
}

// draw draws the rows of all workers, and returns how many a batch has.
func (c *servedCalls) draw(s Served) int {
	n := max(1, int(s.Share*float64(s.Rows)))
	for worker := range c.workers {
		c.rows = append(c.rows, nil)
		for b := range batchesOfRows {
			r := rng.New(1, "rows of a call", uint64(worker), uint64(b))
			var rows []uint64
			for row := range s.Rows { // each with the same chance (Knuth, volume 2, algorithm 3.4.2 S)
				if r.IntN(s.Rows-row) < n-len(rows) {
					rows = append(rows, uint64(row))
				}
			}
			c.rows[worker] = append(c.rows[worker], rows)
		}
	}
	for _, rows := range c.rows[c.me] {
		x := make([]float32, n*s.Width)
		for i := range x {
			x[i] = pushed(c.me, int(rows[i/s.Width])*s.Width+i%s.Width)
		}
		c.x, c.out = append(c.x, x), append(c.out, make([]float32, n*s.Width))
	}
	return n
}

func (c *servedCalls) push(ctx context.Context) error {
	b := c.pushes % batchesOfRows
	if c.pushes > 0 && c.pushes%c.turn == 0 {
		vec.Scale(-1, c.Gradient())
		for _, x := range c.x {
			vec.Scale(-1, x)
		}
	}
	c.pushes++
	if c.x == nil {
		return c.Push(ctx, nil, nil)
	}
	return c.Push(ctx, c.rows[c.me][b], c.x[b])
}

func (c *servedCalls) pull(ctx context.Context) error {
	b := c.pulls % batchesOfRows
	c.pulls++
	if c.x == nil {
		return c.Pull(ctx)
	}
	return c.Read(ctx, c.rows[c.me][b], c.out[b])
}

func (c *servedCalls) run(ctx context.Context, g comm.Group, e Effort, tell func(ServedRow)) error {
	if c.x == nil {
		for i, g := 0, c.Gradient(); i < len(g); i++ {
			g[i] = pushed(c.me, i)
		}
	}
	pushes := func(n int) error {
		for range n {
			if err := c.push(ctx); err != nil {
				return err
			}
		}
		return c.Pull(ctx)
	}
	if err := pushes(batchesOfRows + 1); err != nil {
		return err
	}
	if err := c.verify(ctx, g); err != nil {
		return err
	}
	if err := c.time(ctx, g, e, "push", pushes, tell); err != nil {
		return err
	}
	var under []*ps.Begun
	for range pullsBegun {
		under = append(under, c.NewBegun())
	}
	return c.time(ctx, g, e, "pull", func(n int) error { return c.pullAll(ctx, under, n) }, tell)
}

// pullAll pulls n times, with as many under way as there is room for.
func (c *servedCalls) pullAll(ctx context.Context, under []*ps.Begun, n int) error {
	first := c.pulls
	for i := range n + len(under) {
		b := under[i%len(under)]
		if i >= len(under) && i-len(under) < n {
			if err := c.pulled(ctx, b); err != nil {
				return err
			}
		}
		if i >= n {
			continue
		}
		if c.x == nil {
			b.Pull(ctx)
		} else {
			b.Read(ctx, c.rows[c.me][(first+i)%batchesOfRows])
		}
	}
	return nil
}

// pulled waits for a pull.
func (c *servedCalls) pulled(ctx context.Context, b *ps.Begun) error {
	if c.x == nil {
		return b.Pulled(ctx)
	}
	of := c.pulls % batchesOfRows
	c.pulls++
	return b.ReadTo(ctx, c.out[of])
}

func (c *servedCalls) time(ctx context.Context, g comm.Group, e Effort, way string, calls func(int) error, tell func(ServedRow)) (err error) {
	row := c.row
	row.Way = way
	if row.Timing, err = times(ctx, g, e, calls); err != nil {
		return err
	}
	row.PerSec = float64(c.workers*row.Values) / row.Us * 1e6
	row.GBps = 4 * row.PerSec / 1e9
	if err := c.verify(ctx, g); err != nil {
		return err
	}
	if c.me == 0 && tell != nil {
		tell(row)
	}
	return nil
}

// verify pulls once all have pushed, and compares with the sum of all pushes.
func (c *servedCalls) verify(ctx context.Context, g comm.Group) error {
	if err := comm.Barrier(ctx, g); err != nil {
		return err
	}
	for range max(1, len(c.x)) {
		if err := c.pull(ctx); err != nil {
			return err
		}
	}
	wrong := c.wrong()
	return agree(ctx, g, wrong)
}

func (c *servedCalls) wrong() error {
	if c.x == nil {
		for i, got := range c.w.X {
			want := float32(0)
			for worker := range c.workers {
				want -= float32(count(c.pushes, c.turn)) * pushed(worker, i)
			}
			if got != want {
				return fmt.Errorf("value %d is %v, want %v", i, got, want)
			}
		}
		return nil
	}
	for b, rows := range c.rows[c.me] {
		for i, row := range rows {
			times := make([]int, c.workers)
			for worker := range times {
				for of, theirs := range c.rows[worker] {
					if _, ok := slices.BinarySearch(theirs, row); ok {
						times[worker] += count((c.pushes+batchesOfRows-1-of)/batchesOfRows, c.turn/batchesOfRows)
					}
				}
			}
			for k := range c.width {
				want := float32(0)
				for worker, n := range times {
					want -= float32(n) * pushed(worker, int(row)*c.width+k)
				}
				if got := c.out[b][i*c.width+k]; got != want {
					return fmt.Errorf("number %d of row %d is %v, want %v", k, row, got, want)
				}
			}
		}
	}
	return nil
}
