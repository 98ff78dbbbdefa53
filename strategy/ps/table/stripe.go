package table

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
)

// striped is a store for any rows, in memory up to a budget.
type striped []stripe

func newStriped(t *Table, parts int) striped {
	all := make(striped, parts)
	for i := range all {
		all[i].t, all[i].number = t, i
	}
	return all
}

// each calls f for each stripe that has some of rows, with their positions, which f may use as scratch.
func (all striped) each(b *batch, rows []uint64, f func(s *stripe, order []uint64) error) error {
	b.group(rows)
	lo := 0
	for i, hi := range b.ends {
		if lo < hi {
			if err := f(&all[i], b.order[lo:hi]); err != nil {
				return err
			}
		}
		lo = hi
	}
	return nil
}

func (all striped) get(b *batch, rows []uint64, out []float32, n int) error {
	return all.each(b, rows, func(s *stripe, order []uint64) error { return s.read(rows, order, out, n) })
}

func (all striped) apply(b *batch, rows []uint64, g []float32, scale float32) error {
	return all.each(b, rows, func(s *stripe, order []uint64) error { return s.apply(b, rows, order, g, scale) })
}

func (all striped) put(b *batch, rows []uint64, values []float32) error {
	return all.each(b, rows, func(s *stripe, order []uint64) error { return s.put(rows, order, values) })
}

func (all striped) names(i int, to []uint64) ([]uint64, error) { return all[i].names(to) }

func (all striped) addTo(sum *Stats) {
	for i := range all {
		all[i].addTo(sum)
	}
}

func (all striped) close() {
	for i := range all {
		all[i].close()
	}
}

// A stripe is the rows whose hash ends in its number. Its rows are numbered as they come: that is a row's slot. Slots lie in
// pages (pages.go), the rows' names in ids. index finds a row's slot by open addressing: an entry has the slot plus 1 in its
// lower 24 bits and 8 other bits of the row's hash above them, so that ids is seldom looked at in vain. 0 is no entry.
type stripe struct {
	t      *Table
	number int

	mu      sync.Mutex // guards what follows
	closed  bool
	n       int        // rows
	index   []uint32   // a power of two long
	ids     [][]uint64 // perIDs rows each
	updates uint64
	seen    uint32 // by touch, which has to look for it
	pages
}

const (
	slotBits = 24
	slotMask = 1<<slotBits - 1
	// mostSlots are the rows of a stripe: a thousand million of a table.
	mostSlots = slotMask
	// posBits are a position's, beside a slot's 24, in one word: more than a call's rows can be.
	posBits = 40
	posMask = 1<<posBits - 1

	perIDs = 1 << 16
)

var errClosed = errors.New("the table is closed")

// find returns row's slot, or -1.
func (s *stripe) find(row uint64) int {
	slot, _ := s.search(row, hash(row))
	return slot
}

// search returns row's slot, or -1, and where in the index its entry is or would be.
func (s *stripe) search(row, h uint64) (slot, at int) {
	if len(s.index) == 0 {
		return -1, 0
	}
	mask := len(s.index) - 1
	tag := uint32(h>>(64-32+slotBits)) << slotBits
	for at = int(h>>6) & mask; ; at = (at + 1) & mask {
		e := s.index[at]
		if e == 0 {
			return -1, at
		}
		if e&^slotMask == tag {
			if slot = int(e&slotMask) - 1; s.id(slot) == row {
				return slot, at
			}
		}
	}
}

func (s *stripe) id(slot int) uint64 { return s.ids[slot/perIDs][slot%perIDs] }

// slot returns row's slot and makes one when there is none. When it fails nothing has changed that a caller sees.
func (s *stripe) slot(row uint64) (int, error) {
	if slot := s.find(row); slot >= 0 {
		return slot, nil
	}
	if s.n == mostSlots {
		return 0, fmt.Errorf("a row more than the about %d that a table has room for: more servers hold more", mostSlots*s.t.stripes)
	}
	if 4*(s.n+1) > 3*len(s.index) {
		if err := s.grow(); err != nil {
			return 0, err
		}
	}
	if s.n%perIDs == 0 && s.n/perIDs == len(s.ids) {
		ids, err := alloc[uint64](perIDs)
		if err != nil {
			return 0, err
		}
		s.ids = append(s.ids, ids)
	}
	slot := s.n
	s.ids[slot/perIDs][slot%perIDs] = row
	if err := s.fit(); err != nil {
		return 0, err
	}
	if slot%s.t.perPage == 0 {
		if err := s.newPage(); err != nil {
			return 0, err
		}
	}
	x, err := s.row(slot, true)
	if err != nil {
		return 0, err
	}
	s.t.fresh(row, x)
	h := hash(row)
	_, at := s.search(row, h)
	s.index[at] = entry(slot, h)
	s.n++
	return slot, nil
}

func entry(slot int, h uint64) uint32 {
	return uint32(h>>(64-32+slotBits))<<slotBits | uint32(slot+1)
}

// grow doubles the index.
func (s *stripe) grow() error {
	index, err := alloc[uint32](max(diskPage/4, 2*len(s.index)))
	if err != nil {
		return err
	}
	mask := len(index) - 1
	for slot := range s.n {
		h := hash(s.id(slot))
		at := int(h>>6) & mask
		for index[at] != 0 {
			at = (at + 1) & mask
		}
		index[at] = entry(slot, h)
	}
	free(s.index)
	s.index = index
	return nil
}

// read writes n elements of each of the rows of order to out.
func (s *stripe) read(rows, order []uint64, out []float32, n int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errClosed
	}
	known := order[:0]
	for _, p := range order {
		slot := s.find(rows[p])
		if slot < 0 {
			s.t.fresh(rows[p], out[int(p)*n:][:n])
			continue
		}
		known = append(known, uint64(slot)<<posBits|p)
	}
	s.arrange(known)
	for some := range slices.Chunk(known, ahead) {
		s.touch(some)
		for _, o := range some {
			x, err := s.row(int(o>>posBits), false)
			if err != nil {
				return err
			}
			copy(out[int(o&posMask)*n:][:n], x)
		}
	}
	return nil
}

// slots finds or makes the slots of the rows of order, and puts them in front of the positions.
func (s *stripe) slots(rows, order []uint64) error {
	if s.closed {
		return errClosed
	}
	for i, p := range order {
		slot, err := s.slot(rows[p])
		if err != nil {
			return err
		}
		order[i] = uint64(slot)<<posBits | p
	}
	s.arrange(order)
	return nil
}

// arrange sorts by slots when pages may have to be read: each is then read once.
func (s *stripe) arrange(order []uint64) {
	if s.spilled > 0 {
		slices.Sort(order)
	}
}

// touch reads something of each row, where all are in memory, before the rows are used one by one: these reads do not wait for
// each other, as memory that is in no cache would otherwise have each row do. A long row's first lines suffice: others the
// processor sees coming.
func (s *stripe) touch(order []uint64) {
	if s.spilled > 0 {
		return
	}
	n := min(s.t.stride, touched)
	var some uint32
	for _, o := range order {
		page, from := s.lies(int(o >> posBits))
		x := s.content(int(s.where[page]))[from:][:n]
		for at := 0; at < n; at += cacheLine {
			some |= math.Float32bits(x[at])
		}
	}
	s.seen = some
}

func (s *stripe) apply(b *batch, rows, order []uint64, g []float32, scale float32) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.slots(rows, order); err != nil {
		return err
	}
	w := s.t.c.Width
	for some := range slices.Chunk(order, ahead) {
		s.touch(some)
		for _, o := range some {
			x, err := s.row(int(o>>posBits), true)
			if err != nil {
				return err
			}
			b.update(x, g[int(o&posMask)*w:][:w], scale)
			s.updates++
		}
	}
	return nil
}

func (s *stripe) put(rows, order []uint64, values []float32) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.slots(rows, order); err != nil {
		return err
	}
	for _, o := range order {
		x, err := s.row(int(o>>posBits), true)
		if err != nil {
			return err
		}
		copy(x, values[int(o&posMask)*s.t.stride:])
	}
	return nil
}

// names appends the stripe's rows to all, in the order of their slots.
func (s *stripe) names(all []uint64) ([]uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errClosed
	}
	for at := 0; at < s.n; at += perIDs {
		all = append(all, s.ids[at/perIDs][:min(perIDs, s.n-at)]...)
	}
	return all, nil
}

func (s *stripe) addTo(all *Stats) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all.Rows += s.n
	all.Updates += s.updates
	all.Resident += s.resident()
	all.Spilled += int64(s.spilled) * int64(4*s.t.pageLen)
	all.Reads += s.reads
	all.Writes += s.writes
}

func (s *stripe) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	free(s.index)
	for _, ids := range s.ids {
		free(ids)
	}
	for _, m := range s.memory {
		free(m)
	}
	s.n, s.index, s.ids, s.pages = 0, nil, nil, pages{}
}
