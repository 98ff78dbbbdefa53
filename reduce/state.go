package reduce

import (
	"fmt"
	"math"

	"github.com/covey-ml/covey/ckpt"
	"github.com/covey-ml/covey/comm"
)

var _ ckpt.Stateful = (*Compressed)(nil)

// State implements ckpt.Stateful. What a rank keeps for itself (residuals, DGC's and vote's momentum, EF21's estimates, the
// residuals of the sums that it owns) is Summed: of a residual only the sum over ranks matters to the sum of gradients.
// PowerSGD's factors and EF21's sum are the same on all ranks.
func (r *Compressed) State() []ckpt.Tensor {
	var ts []ckpt.Tensor
	for i := range r.segments {
		s := &r.segments[i]
		if s.kept != nil {
			ts = append(ts, ckpt.Float32s("kept/"+s.Name, s.Shape, s.kept).With(ckpt.Summed))
		}
		if s.both != nil {
			t := ckpt.Float32s("both/"+s.Name, s.Shape, s.both)
			if s.feedback != follow {
				t = t.With(ckpt.Summed)
			}
			ts = append(ts, t)
		}
		if s.q != nil {
			ts = append(ts, ckpt.Float32s("q/"+s.Name, []int{s.rank, len(s.q) / s.rank}, s.q))
		}
	}
	if len(ts) > 0 {
		totals := make([]float64, len(r.segments))
		for i := range r.segments {
			totals[i] = r.segments[i].total
		}
		ts = append(ts, ckpt.Float64s("totals", nil, totals))
	}
	return ts
}

// Load implements ckpt.Stateful.
func (r *Compressed) Load(ts []ckpt.Tensor) error {
	live := r.State()
	totals, err := loadTotals(ts, live, len(r.segments))
	if err != nil || len(live) == 0 {
		return err
	}
	for i, n := range totals {
		r.segments[i].total = n
	}
	r.disown()
	return nil
}

// loadTotals restores live tensors by saved ones, and returns the totals among these. Nothing has changed after an error.
func loadTotals(ts, live []ckpt.Tensor, n int) ([]float64, error) {
	if err := ckpt.Match(ts, live); err != nil {
		return nil, err
	}
	totals := make([]float64, n)
	for _, t := range ts {
		if t.Name != "totals" {
			continue
		}
		if err := t.CopyTo(totals); err != nil {
			return nil, err
		}
		for _, n := range totals {
			if !(n >= 0 && n <= math.MaxInt64) {
				return nil, fmt.Errorf("tensor \"totals\" holds %v, expected counts of samples", n)
			}
		}
	}
	return totals, ckpt.Restore(ts, live)
}

// disown moves the residuals of sums that this rank does not own to what it keeps for itself. When as many ranks load as
// saved there are none; otherwise each has a share of everybody's, and nobody else would ever say it.
func (r *Compressed) disown() {
	for i := range r.segments {
		s := &r.segments[i]
		if s.feedback != remember || s.both == nil {
			continue
		}
		lo, hi := 0, 0
		if r.speaks() {
			lo, hi = comm.Chunk(s.Len, r.active, r.c.Group.Rank())
		}
		for k, v := range s.both {
			if v != 0 && (k < lo || k >= hi) {
				s.kept[k] += v
				s.both[k] = 0
			}
		}
	}
}
