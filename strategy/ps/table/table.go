// Package table keeps the rows of an embedding table that one parameter server owns: as many as are ever updated, in
// memory up to a budget and in a file beyond it.
//
// New makes a table; Get reads rows, Apply moves them along a gradient by an update rule of package optim, whose state lies
// beside each row; Each and Put take rows, with that state, from one table to another; Snapshot and Load are the same as a
// stream of bytes; Close gives everything back.
//
// A row that was never updated has its initial value, which is a function of the table's seed, its name and the row: it
// takes no room but for what Config.Rows says, and any server can make it.
//
// # Lazy rules
//
// A row is updated when a gradient for it comes, and only then: moments of other rows do not decay, and weight decay does not
// shrink them. What depends on time (Adam's bias corrections, Adagrad's lr_decay) takes it from Apply's step, which counts
// the table's updates and not the row's, as PyTorch's SparseAdam does. A row that is in every update has the bits that
// package optim gives the same elements of a dense vector. So has, without weight decay, one that was in none before: a
// gradient of 0 moves nothing where the moments are 0.
package table

import (
	"fmt"
	"math"
	"math/bits"
	"slices"
	"strings"
	"sync"

	"github.com/covey-ml/covey/model"
	"github.com/covey-ml/covey/spec"
	"github.com/covey-ml/covey/vec"
)

// Config says what a table is.
type Config struct {
	// Name is the table's name, in errors and in what initial values are drawn from.
	Name string
	// Width is how many float32 a row has, from 1 to 65536.
	Width int
	// Seed is the job's.
	Seed uint64
	// Init is the a of the initial values, which are uniform in [-a, a). 0 starts all rows at 0.
	Init float32
	// Rows is how many rows there can be, from 0 to Rows-1; 0 means that there is no bound. Where there are at most 16 million,
	// the table's own take at most 512 MiB with their state, and there is no budget, each has a place of its own: that is
	// several times as fast. Memory is then taken by pages of 2 MiB, and that of rows between those that are updated, too.
	Rows uint64
	// Owned tells which of the Rows are this table's; nil: all. Calls with others may fail; see Foreign.
	Owned func(row uint64) bool
	// Rule is the update rule as optim.New takes it. It must treat each element alone: no lars, no lamb, no clip=.
	Rule *spec.Spec
	// Budget is how much memory the table may take; 0 means that there is no bound. The least is some MiB, for which New asks.
	// Calls in progress take more: 8 bytes for each of their rows, and Each, Snapshot and Load some MiB.
	Budget spec.Bytes
	// Spill is the folder for the file of what is over the budget, which has no name in it while it is used, where the system
	// allows that, and is gone after Close or the end of the process. "" makes it an error to go over the budget.
	Spill string
}

const (
	// stripes is how many parts a table has, each with a lock of its own. It is part of the order in which Each goes.
	stripes = 64
	// widest bounds Width, so that no product of sizes overflows.
	widest      = 1 << 16
	longestName = 256
	// diskPage is what file systems read and write at least.
	diskPage = 4096
	// ahead is how many rows are touched before they are used: their lines fit the first-level cache.
	ahead = 128
	// touched is how many elements of a row are, at most.
	touched   = 64
	cacheLine = 16 // elements
)

// Table is the rows. All methods may be called from several goroutines at a time. Two calls that touch the same row go one
// after the other there, but a call over many rows is not one step for those who read them meanwhile.
type Table struct {
	c         Config
	initial   func(x []float32, row uint64) // writes what a row's values begin with
	start     []float32                     // the rule's state of a row that was never updated
	moments   []string                      // what that state is, in order: Width elements each
	stride    int                           // elements of a row with its state
	perPage   int                           // rows of a page
	pageLen   int                           // elements of a page: whole disk pages
	perChunk  int                           // pages that memory is asked for at a time: a power of two
	chunkBits int                           // of which this is the logarithm
	share     int64                         // bytes of the budget for each stripe, 0 without one
	spill     *spill                        // nil without a folder
	stripes   int
	store     store

	mu     sync.Mutex
	idle   []*batch
	closed bool // and so is the store
}

// store is where the rows are. Those that calls have are sorted and distinct, and less than Config.Rows.
type store interface {
	// get writes n elements of each of rows to out.
	get(b *batch, rows []uint64, out []float32, n int) error
	apply(b *batch, rows []uint64, g []float32, scale float32) error
	put(b *batch, rows []uint64, values []float32) error
	// names appends the rows that there are, of those whose hash ends in the number of a stripe, in any order.
	names(stripe int, all []uint64) ([]uint64, error)
	addTo(*Stats)
	close()
}

var (
	_ store = (*flat)(nil)
	_ store = (striped)(nil)
)

// New makes an empty table. It fails when c cannot be, and when the folder to spill to cannot be written to.
func New(c Config) (*Table, error) { return newTable(c, stripes) }

// newTable makes a table with so many stripes, a power of two.
func newTable(c Config, parts int) (*Table, error) {
	switch {
	case c.Name == "" || len(c.Name) > longestName:
		return nil, fmt.Errorf("table: a name of %d bytes, expected 1 to %d", len(c.Name), longestName)
	case c.Width < 1 || c.Width > widest:
		return nil, fmt.Errorf("table %q: a width of %d, expected 1 to %d", c.Name, c.Width, widest)
	case !(c.Init >= 0 && c.Init <= math.MaxFloat32):
		return nil, fmt.Errorf("table %q: initial values up to %v, expected a number from 0 on", c.Name, c.Init)
	case c.Rule == nil:
		return nil, fmt.Errorf("table %q: it needs an update rule, such as adagrad", c.Name)
	}
	t := &Table{c: c, share: int64(c.Budget) / int64(parts), stripes: parts}
	t.initial = model.Table{Name: c.Name, Width: c.Width, Bound: c.Init}.Initial(c.Seed)
	b, moments, err := t.newBatch()
	if err != nil {
		return nil, fmt.Errorf("table %q: %w", c.Name, err)
	}
	for _, m := range moments {
		t.start, t.moments = append(t.start, vec.Floats(m.Data)...), append(t.moments, m.Name)
	}
	t.idle = []*batch{b}
	t.stride = c.Width + len(t.start)
	t.perPage, t.pageLen = page(t.stride)
	t.chunkBits = max(0, bits.Len(uint(chunk/(4*t.pageLen)))-1)
	t.perChunk = 1 << t.chunkBits
	if least := spec.Bytes(parts) * spec.Bytes(t.least()); c.Budget != 0 && c.Budget < least {
		return nil, fmt.Errorf("table %q: a budget of %v is too small for rows of %d elements: give at least %v, or 0 for no bound", c.Name, c.Budget, t.stride, least)
	}
	f, err := newFlat(t, parts)
	switch {
	case err != nil:
		return nil, fmt.Errorf("table %q: %w", c.Name, err)
	case f != nil:
		t.store = f
		return t, nil
	}
	t.store = newStriped(t, parts)
	if c.Spill != "" {
		if t.spill, err = newSpill(c.Spill); err != nil {
			return nil, fmt.Errorf("table %q: a file to spill to: %w", c.Name, err)
		}
	}
	return t, nil
}

// page is how many rows of stride elements a page has, and how many elements: as few disk pages as waste no more than
// an eighth, so that a row that is read from the file brings little else with it.
func page(stride int) (rows, elements int) {
	const unit = diskPage / 4
	n := (stride + unit - 1) / unit * unit
	for n%stride*8 > n {
		n += unit
	}
	return n / stride, n
}

// Get writes the values of rows, which must be sorted and distinct, to out, row after row.
func (t *Table) Get(rows []uint64, out []float32) error {
	return t.fail("Get", t.call(rows, len(out), t.c.Width, func(b *batch) error { return t.store.get(b, rows, out, t.c.Width) }))
}

// Apply updates each of rows, which must be sorted and distinct, once by the table's rule, with its row of scale*g as the
// gradient. step is the number of the update, from 1 on, and rate its learning rate, as in optim.Optimizer. g is used as
// scratch, and taken as it is: who gets it from elsewhere looks for NaN before. When memory or disk are at their end, some of
// the rows may be updated and some not.
func (t *Table) Apply(rows []uint64, g []float32, step int, rate, scale float32) error {
	if step < 1 {
		return t.fail("Apply", fmt.Errorf("update %d: they count from 1", step))
	}
	return t.fail("Apply", t.call(rows, len(g), t.c.Width, func(b *batch) error {
		b.rule.Begin(step, rate)
		return t.store.apply(b, rows, g, scale)
	}))
}

// Foreign is the first of rows that is not this table's own, as Config.Owned says; ok is false where all are. They must be less than
// Config.Rows.
func (t *Table) Foreign(rows []uint64) (row uint64, ok bool) {
	if f, ok := t.store.(*flat); ok {
		return f.foreign(rows)
	}
	if t.c.Owned != nil {
		for _, row := range rows {
			if !t.c.Owned(row) {
				return row, true
			}
		}
	}
	return 0, false
}

// Put stores rows, which must be sorted and distinct, with their rule's state, as Each gives them: Stride elements a row.
func (t *Table) Put(rows []uint64, values []float32) error {
	return t.fail("Put", t.put(rows, values))
}

func (t *Table) put(rows []uint64, values []float32) error {
	return t.call(rows, len(values), t.stride, func(b *batch) error { return t.store.put(b, rows, values) })
}

// Stride is how many elements a row has with its rule's state: Width of values and as many for each moment.
func (t *Table) Stride() int { return t.stride }

// Each calls f with all rows that were ever updated, or Put, with their state, Stride elements a row, until f fails. rows are
// sorted and distinct within a call, and the calls and their order are a function of which rows there are: not of when
// they came, nor of the budget. f may use the table, and keeps neither slice. A row that changes meanwhile is seen before
// or after, and one that is new perhaps not at all.
func (t *Table) Each(f func(rows []uint64, values []float32) error) error {
	return t.fail("Each", t.walk(f))
}

func (t *Table) walk(f func(rows []uint64, values []float32) error) error {
	b, err := t.take()
	if err != nil {
		return err
	}
	defer t.give(b)
	var all []uint64
	var values []float32
	for i := range t.stripes {
		if all, err = t.store.names(i, all[:0]); err != nil {
			return err
		}
		slices.Sort(all)
		for rows := range slices.Chunk(all, t.perCall()) {
			values = slices.Grow(values[:0], len(rows)*t.stride)[:len(rows)*t.stride]
			if err := t.store.get(b, rows, values, t.stride); err != nil {
				return err
			}
			if err := f(rows, values); err != nil {
				return err
			}
		}
	}
	return nil
}

// perCall is how many rows Each gives at most: 4 MiB of them. Fewer would make it pass over a spilled stripe more often.
func (t *Table) perCall() int { return max(1, 4<<20/(8+4*t.stride)) }

// Stats is what a table has come to.
type Stats struct {
	Rows     int    // that were ever updated, or Put
	Updates  uint64 // of rows, by Apply
	Resident int64  // bytes of memory
	Spilled  int64  // bytes that are only in the file
	Reads    uint64 // pages read from the file
	Writes   uint64 // and written to it
}

// Stats returns the sums over the table's parts, each as it is when it is looked at.
func (t *Table) Stats() Stats {
	var all Stats
	t.store.addTo(&all)
	return all
}

// Len is the number of rows that were ever updated, or Put.
func (t *Table) Len() int { return t.Stats().Rows }

// Close gives memory and file back. Calls in progress end before or fail, and so does every later one; Len is then 0.
func (t *Table) Close() error {
	t.store.close()
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	return t.spill.close()
}

// call calls f, after a look at the call's arguments, which may come from another machine: n elements there are, and each that a
// row has.
func (t *Table) call(rows []uint64, n, each int, f func(b *batch) error) error {
	if n != len(rows)*each {
		return fmt.Errorf("%d rows with %d elements, expected %d for each row", len(rows), n, each)
	}
	for i := 1; i < len(rows); i++ {
		if rows[i-1] >= rows[i] {
			return fmt.Errorf("row %d comes after row %d: rows must be sorted and distinct", rows[i], rows[i-1])
		}
	}
	if n := len(rows); n > 0 && t.c.Rows > 0 && rows[n-1] >= t.c.Rows {
		return fmt.Errorf("row %d, and there are %d", rows[n-1], t.c.Rows)
	}
	b, err := t.take()
	if err != nil {
		return err
	}
	defer t.give(b)
	return f(b)
}

// fail says whose error it is, and of which method.
func (t *Table) fail(op string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("table %q: %s: %w", t.c.Name, op, err)
}

// fresh writes what a row is before its first update: its values and, as far as dst goes, its state.
func (t *Table) fresh(row uint64, dst []float32) {
	t.initial(dst, row)
	copy(dst[t.c.Width:], t.start)
}

// String says what a table's rows are: what must be alike for them to go from one to another.
func (t *Table) String() string {
	return fmt.Sprintf("table %q, width %d, seed %d, init %v, state %s", t.c.Name, t.c.Width, t.c.Seed, t.c.Init, strings.Join(t.moments, " "))
}
