package reduce

import (
	"context"
	"fmt"
	"time"

	"github.com/covey-ml/covey/ckpt"
	"github.com/covey-ml/covey/vec"
)

// Switch is several reducers of which one is in use. What the one in use keeps of vectors that it has not handed out in
// full (residuals of error feedback, DGC's unsent sum) joins the next vector when another takes over, so that nothing is
// lost but momentum.
type Switch struct {
	arms []Reducer
	use  []int64 // one element: the arm in use, as a checkpoint keeps it
	left []float32
	held bool // left has something
	lead *Switch
}

// NewSwitch returns a Switch over reducers of vectors with so many elements, of which the first is in use.
func NewSwitch(n int, arms ...Reducer) *Switch {
	return &Switch{arms: arms, use: make([]int64, 1), left: make([]float32, n)}
}

var (
	_ Reducer       = (*Switch)(nil)
	_ Coder         = (*Switch)(nil)
	_ ckpt.Stateful = (*Switch)(nil)
)

// leaver is a reducer that gives away what it keeps.
type leaver interface {
	// Leave adds what of elements of the flat vector was not handed out yet to x, and forgets it.
	Leave(x []float32)
}

// Use puts an arm in use. All ranks call it between the same two sums.
func (s *Switch) Use(arm int) {
	if int64(arm) == s.use[0] {
		return
	}
	if l, ok := s.arms[s.use[0]].(leaver); ok {
		l.Leave(s.left)
		s.held = true
	}
	s.use[0] = int64(arm)
}

// Follow makes s use the arm that lead uses, from its next sum on.
func (s *Switch) Follow(lead *Switch) { s.lead = lead }

// Arm returns the arm in use.
func (s *Switch) Arm() int { return int(s.use[0]) }

// Sum implements Reducer. Vectors come in any order, and each element once a step.
func (s *Switch) Sum(ctx context.Context, v Vector) error {
	if s.lead != nil {
		s.Use(s.lead.Arm())
	}
	if s.held {
		n := len(v.Parts[0]) - v.Head
		left := s.left[v.Off : v.Off+n]
		vec.Axpy(float32(v.total()), left, v.Parts[0][v.Head:])
		clear(left)
		s.held = vec.MaxAbs(s.left) > 0
	}
	return s.arms[s.use[0]].Sum(ctx, v)
}

// Codec implements Coder.
func (s *Switch) Codec() (d time.Duration) {
	for _, a := range s.arms {
		if c, ok := a.(Coder); ok {
			d += c.Codec()
		}
	}
	return d
}

// State implements ckpt.Stateful.
func (s *Switch) State() []ckpt.Tensor {
	ts := []ckpt.Tensor{ckpt.Int64s("arm", nil, s.use), ckpt.Float32s("left", nil, s.left).With(ckpt.Summed)}
	for i, a := range s.arms {
		if st, ok := a.(ckpt.Stateful); ok {
			ts = append(ts, ckpt.Prefixed(armName(i), st.State())...)
		}
	}
	return ts
}

// Load implements ckpt.Stateful.
func (s *Switch) Load(ts []ckpt.Tensor) error {
	if err := ckpt.Match(ts, s.State()); err != nil {
		return err
	}
	use := make([]int64, 1)
	for _, t := range ts {
		if t.Name == "arm" {
			if err := t.CopyTo(use); err != nil {
				return err
			}
		}
	}
	if use[0] < 0 || use[0] >= int64(len(s.arms)) {
		return fmt.Errorf("tensor \"arm\" is %d, expected 0 to %d", use[0], len(s.arms)-1)
	}
	s.use[0] = use[0]
	for _, t := range ts {
		if t.Name == "left" {
			if err := t.CopyTo(s.left); err != nil {
				return err
			}
		}
	}
	s.held = true
	for i, a := range s.arms {
		if st, ok := a.(ckpt.Stateful); ok {
			if err := st.Load(ckpt.Under(armName(i), ts)); err != nil {
				return err
			}
		}
	}
	return nil
}

func armName(i int) string { return fmt.Sprintf("arm%d/", i) }

// Leave adds what was not handed out yet, for sums over one sample, to x, and forgets it. What is an estimate (EF21) or a
// momentum is only forgotten.
func (r *Compressed) Leave(x []float32) {
	for i := range r.segments {
		s := &r.segments[i]
		if s.total > 0 && (s.feedback == remember || s.feedback == momentous) {
			to, by := x[s.Off:s.Off+s.Len], float32(1/s.total)
			vec.Axpy(by, s.kept, to)
			if s.feedback == remember && s.both != nil {
				vec.Axpy(by, s.both, to)
			}
		}
		clear(s.kept)
		clear(s.both)
		s.total = 0
	}
}
