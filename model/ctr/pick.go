package ctr

import (
	"errors"
	"fmt"
	"math/bits"

	"github.com/covey-ml/covey/data"
	"github.com/covey-ml/covey/model"
	"github.com/covey-ml/covey/model/nn"
	"github.com/covey-ml/covey/vec"
)

// fits says what of b is not as the model's samples are.
func (m *Model) fits(b *data.Batch) error {
	switch {
	case b.N == 0:
		return nil
	case len(b.Row) == 0:
		return errors.New("ctr: samples are dense, and the model takes sparse ones: LIBSVM, or CSV with --hash")
	case len(b.Row) != b.N+1:
		return fmt.Errorf("ctr: a batch of %d samples has %d row offsets, expected %d", b.N, len(b.Row), b.N+1)
	case b.Dim != m.dim:
		return fmt.Errorf("ctr: samples have %d features, the model takes %d", b.Dim, m.dim)
	}
	return nil
}

// check is fits for a batch that was picked, with its labels if they are needed.
func (m *Model) check(b *data.Batch, p *model.Picked, labels bool) error {
	if err := m.fits(b); err != nil || b.N == 0 {
		return err
	}
	if n := b.Row[b.N] - b.Row[0]; len(p.Place) != n {
		return fmt.Errorf("ctr: %d values have %d places: Pick was not asked about this batch", n, len(p.Place))
	}
	if labels {
		return nn.Logistic{}.Check(b, 1)
	}
	return nil
}

// Pick implements model.Sparse. The rows of all tables are the batch's features.
func (m *Model) Pick(p *model.Picked, b *data.Batch) error {
	if err := m.fits(b); err != nil {
		return err
	}
	p.Rows = vec.Resized(p.Rows, len(m.tables))
	rows := p.Rows[0][:0]
	var col []int32
	if b.N > 0 {
		col = b.Col[b.Row[0]:b.Row[b.N]]
	}
	s := m.pool.Get().(*room)
	defer m.pool.Put(s)
	s.keys = vec.Resized(s.keys, len(col))
	most := uint32(0)
	for i, c := range col {
		s.keys[i] = uint64(uint32(c))<<32 | uint64(i)
		most = max(most, uint32(c))
	}
	if int(most) >= m.dim {
		return fmt.Errorf("ctr: a sample has feature %d, the model takes 0 to %d", int32(most), m.dim-1)
	}
	s.sort(bits.Len32(most))
	p.Place = vec.Resized(p.Place, len(col))
	for _, k := range s.keys {
		if c := k >> 32; len(rows) == 0 || rows[len(rows)-1] != c {
			rows = append(rows, c)
		}
		p.Place[uint32(k)] = int32(len(rows) - 1)
	}
	for t := range p.Rows {
		p.Rows[t] = rows
	}
	return nil
}

// sort sorts the keys by their upper halves, which have so many bits, keeping equal ones in order: by counting, some bits at
// a time from the lowest.
func (s *room) sort(width int) {
	const digit = 11
	s.spare = vec.Resized(s.spare, len(s.keys))
	for shift := 32; shift < 32+width; shift += digit {
		var at [1 << digit]int
		for _, k := range s.keys {
			at[k>>shift&(1<<digit-1)]++
		}
		sum := 0
		for d, n := range at {
			at[d] = sum
			sum += n
		}
		for _, k := range s.keys {
			d := k >> shift & (1<<digit - 1)
			s.spare[at[d]] = k
			at[d]++
		}
		s.keys, s.spare = s.spare, s.keys
	}
}
