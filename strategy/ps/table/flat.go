package table

import (
	"fmt"
	"math/bits"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/covey-ml/covey/vec"
)

// flat is a store that has a place, a slot, for each row that can be the table's, in order. Finding one takes a look at some
// bits that stay in the processor's caches, and rows that come in order are in order in memory, as a call's are.
type flat struct {
	t      *Table
	owned  []uint64 // a bit for each row that can be: it is this table's
	before []uint32 // by word of owned: how many bits are set in the words before it
	known  []uint64 // a bit for each slot: its row was updated, or Put. A part's are written under its lock
	x      []float32
	shift  int // a part has 1<<shift slots, whole words of known
	parts  []part
}

// part is some neighbouring slots.
type part struct {
	mu      sync.Mutex // guards what follows, and the slots' elements
	closed  bool
	n       int // rows
	updates uint64
}

const (
	// mostFlat bounds the memory of a flat table, and mostPlaces the rows for which it has bits.
	mostFlat   = 512 << 20
	mostPlaces = 1 << 24
	// together is how many elements are worked on at a time, unless a row has more: with their gradient they fit the first-level cache.
	together = 2048
)

// newFlat makes one of so many parts, or returns nil when rows would take too much memory.
func newFlat(t *Table, parts int) (*flat, error) {
	c := &t.c
	if c.Budget > 0 || c.Rows == 0 || c.Rows > mostPlaces {
		return nil, nil
	}
	words := (c.Rows + 63) / 64
	f := &flat{t: t, owned: make([]uint64, words), before: make([]uint32, words)}
	n := 0
	for row := range c.Rows {
		if row%64 == 0 {
			f.before[row/64] = uint32(n)
		}
		if c.Owned == nil || c.Owned(row) {
			f.owned[row/64] |= 1 << (row % 64)
			n++
		}
	}
	if n*t.stride > mostFlat/4 {
		return nil, nil
	}
	var err error
	if f.x, err = allocLarge(n * t.stride); err != nil {
		return nil, err
	}
	f.known = make([]uint64, (n+63)/64)
	f.shift = max(6, bits.Len(uint(n/parts)))
	f.parts = make([]part, n>>f.shift+1)
	return f, nil
}

// foreign is Table.Foreign.
func (f *flat) foreign(rows []uint64) (uint64, bool) {
	for _, row := range rows {
		if f.owned[row/64]>>(row%64)&1 == 0 {
			return row, true
		}
	}
	return 0, false
}

// some calls do with each part that has some of rows, and their slots there, some at a time: rows lo to hi-1.
func (f *flat) some(b *batch, rows []uint64, do func(p *part, slots []uint64, lo, hi int)) error {
	atATime := max(1, together/f.t.stride)
	slots := slices.Grow(b.order[:0], len(rows))[:len(rows)]
	b.order = slots
	for i, row := range rows {
		word, bit := f.owned[row/64], row%64
		if word>>bit&1 == 0 {
			return fmt.Errorf("row %d is not this table's", row)
		}
		slots[i] = uint64(f.before[row/64]) + uint64(bits.OnesCount64(word&(1<<bit-1)))
	}
	for lo := 0; lo < len(slots); {
		k := slots[lo] >> f.shift
		hi, most, end := lo+1, min(len(slots), lo+atATime), (k+1)<<f.shift
		for hi < most && slots[hi] < end {
			hi++
		}
		p := &f.parts[k]
		p.mu.Lock()
		if p.closed {
			p.mu.Unlock()
			return errClosed
		}
		do(p, slots[lo:hi], lo, hi)
		p.mu.Unlock()
		lo = hi
	}
	return nil
}

// row is the memory of a slot.
func (f *flat) row(slot uint64) []float32 {
	n := f.t.stride
	return f.x[int(slot)*n:][:n:n]
}

func (f *flat) knows(slot uint64) bool { return f.known[slot/64]>>(slot%64)&1 != 0 }

// learn makes a slot's row one of those that were updated.
func (f *flat) learn(p *part, slot uint64) {
	atomic.StoreUint64(&f.known[slot/64], f.known[slot/64]|1<<(slot%64))
	p.n++
}

func (f *flat) get(b *batch, rows []uint64, out []float32, n int) error {
	return f.some(b, rows, func(_ *part, slots []uint64, lo, hi int) {
		to := out[lo*n : hi*n]
		vec.GatherRows(to, f.x, slots, f.t.stride, n)
		for i, slot := range slots {
			if !f.knows(slot) {
				f.t.fresh(rows[lo+i], to[i*n:][:n])
			}
		}
	})
}

func (f *flat) apply(b *batch, rows []uint64, g []float32, scale float32) error {
	w := f.t.c.Width
	return f.some(b, rows, func(p *part, slots []uint64, lo, hi int) {
		for i, slot := range slots {
			if !f.knows(slot) {
				f.t.fresh(rows[lo+i], f.row(slot))
				f.learn(p, slot)
			}
		}
		b.updateAll(f.x, slots, f.t.stride, g[lo*w:hi*w], scale)
		p.updates += uint64(len(slots))
	})
}

func (f *flat) put(b *batch, rows []uint64, values []float32) error {
	return f.some(b, rows, func(p *part, slots []uint64, lo, _ int) {
		for i, slot := range slots {
			if !f.knows(slot) {
				f.learn(p, slot)
			}
			copy(f.row(slot), values[(lo+i)*f.t.stride:])
		}
	})
}

// names goes over all rows for each stripe: that takes less time than to read them, and no memory.
func (f *flat) names(stripe int, all []uint64) ([]uint64, error) {
	mask := uint64(f.t.stripes - 1)
	slot := 0
	for w, word := range f.owned {
		for ; word != 0; word &= word - 1 {
			row := uint64(64*w + bits.TrailingZeros64(word))
			if atomic.LoadUint64(&f.known[slot/64])>>(slot%64)&1 != 0 && hash(row)&mask == uint64(stripe) {
				all = append(all, row)
			}
			slot++
		}
	}
	return all, nil
}

func (f *flat) addTo(all *Stats) {
	rows := 0
	for i := range f.parts {
		p := &f.parts[i]
		p.mu.Lock()
		rows += p.n
		all.Updates += p.updates
		p.mu.Unlock()
	}
	if rows > 0 {
		all.Resident += int64(8*len(f.owned) + 4*len(f.before) + 8*len(f.known))
		all.Resident += min(int64(4*len(f.x)), int64(rows)*largePage) // the rest was never touched
	}
	all.Rows += rows
}

func (f *flat) close() {
	for i := range f.parts {
		p := &f.parts[i]
		p.mu.Lock()
		defer p.mu.Unlock()
		p.closed, p.n = true, 0
	}
	free(f.x)
	f.x = nil
}
