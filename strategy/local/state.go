package local

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/covey-ml/covey/ckpt"
)

// State implements ckpt.Stateful. What belongs to replicas has a row for each and goes where the replica goes; their
// parameters are among it only while they are not the common ones. An exchange under way is waited for, and its sum is
// kept until it is due.
//
//	books       whole numbers: K, exchanges, steps and samples since the last; by fragment steps since its last, its
//	            exchanges, and by replica its samples since; with groups, by replica its samples since they met
//	losses      by replica, since the last exchange
//	optimizer/  by replica, its optimizer's
//	x           by replica, while they are apart
//	first       of a period by loss
//	momentum, looked                    of bmuf and diloco
//	c, variates, rates, gradients       of scaffold, the last two by replica and while replicas are apart
//	flight, sum, total, kept            of an exchange under way: fragment, step when it is due, steps and samples
func (s *Strategy) State() []ckpt.Tensor {
	s.Settle(context.Background()) // an error stays with the exchange, and ends the step that wants it
	return slices.Concat([]ckpt.Tensor{ckpt.Int64s("books", nil, s.books())}, s.optimizers(), s.tensors())
}

// tensors are those of State that alias what they are the state of.
func (s *Strategy) tensors() []ckpt.Tensor {
	mine, n := len(s.replicas), len(s.g)
	rows := func(name string, x []float32) ckpt.Tensor {
		return ckpt.Float32s(name, []int{mine, n}, x).With(ckpt.PerClient)
	}
	ts := []ckpt.Tensor{ckpt.Float64s("losses", nil, s.losses).With(ckpt.PerClient)}
	if s.cfg.Period == ByLoss {
		ts = append(ts, ckpt.Float64s("first", nil, s.first[:]))
	}
	if s.outer != nil {
		ts = append(ts, ckpt.Float32s("momentum", nil, s.outer), ckpt.Float32s("looked", nil, s.looked))
	}
	if v := s.scaffold; v != nil {
		ts = append(ts, ckpt.Float32s("c", nil, v.c), rows("variates", v.cs))
	}
	if s.apart {
		ts = append(ts, rows("x", s.xs))
		if v := s.scaffold; v != nil {
			ts = append(ts, ckpt.Float64s("rates", nil, v.rates).With(ckpt.PerClient))
			if v.gradients != nil {
				ts = append(ts, rows("gradients", v.gradients))
			}
		}
	}
	if fl := s.flight; fl != nil {
		size := fl.f.hi - fl.f.lo
		ts = append(ts, ckpt.Int64s("flight", nil, []int64{int64(fl.f.index), int64(fl.due), int64(fl.steps), int64(fl.samples)}),
			ckpt.Float64s("total", nil, []float64{fl.total}), ckpt.Float32s("sum", nil, fl.parts[0]))
		if s.cfg.Mix < 0 {
			ts = append(ts, ckpt.Float32s("kept", []int{mine, size}, s.kept[:mine*size]).With(ckpt.PerClient))
		}
	}
	return ts
}

// optimizers are the replicas' optimizers' state, a copy, with a row for each.
func (s *Strategy) optimizers() []ckpt.Tensor {
	var out []ckpt.Tensor
	for i, t := range s.like.State() {
		t.Name, t.Shape, t.Shard = "optimizer/"+t.Name, append([]int{len(s.replicas)}, t.Shape...), ckpt.PerClient
		t.Data = nil
		for _, r := range s.replicas {
			t.Data = append(t.Data, r.opt.State()[i].Data...)
		}
		out = append(out, t)
	}
	return out
}

// books lists the whole numbers of State.
func (s *Strategy) books() []int64 {
	b := []int64{int64(s.k), int64(s.rounds), int64(s.steps), int64(s.samples)}
	for _, f := range s.fragments {
		b = append(b, int64(f.since), int64(f.turn))
		for _, n := range f.counts {
			b = append(b, int64(n))
		}
	}
	if s.groups != nil {
		for _, n := range s.groups.counts {
			b = append(b, int64(n))
		}
	}
	return b
}

// setBooks is books' inverse.
func (s *Strategy) setBooks(b []int64) {
	next := func() int {
		n := b[0]
		b = b[1:]
		return int(n)
	}
	s.k, s.rounds, s.steps, s.samples = next(), next(), next(), next()
	for _, f := range s.fragments {
		f.since, f.turn = next(), next()
		for i := range f.counts {
			f.counts[i] = next()
		}
	}
	if s.groups != nil {
		for i := range s.groups.counts {
			s.groups.counts[i] = next()
		}
	}
}

// Load implements ckpt.Stateful, after Prepare.
func (s *Strategy) Load(ts []ckpt.Tensor) error {
	if s.w == nil {
		return fmt.Errorf("local: state is loaded before Prepare")
	}
	find := func(name string) (ckpt.Tensor, bool) {
		i := slices.IndexFunc(ts, func(t ckpt.Tensor) bool { return t.Name == name })
		if i < 0 {
			return ckpt.Tensor{}, false
		}
		return ts[i], true
	}
	was, wasApart := s.flight, s.apart
	undo := func(err error) error {
		s.flight, s.apart = was, wasApart
		return err
	}
	_, s.apart = find("x")
	s.flight = nil
	if t, ok := find("flight"); ok {
		at := make([]int64, 4)
		if err := t.CopyTo(at); err != nil {
			return undo(err)
		}
		if slices.Min(at) < 0 || at[0] >= int64(len(s.fragments)) || slices.Max(at) > most*most || s.cfg.Overlap == 0 {
			return undo(fmt.Errorf("tensor %q says %v: no exchange that this strategy could have under way", t.Name, at))
		}
		f := s.fragments[at[0]]
		s.flight = &flight{f: f, due: int(at[1]), steps: int(at[2]), samples: int(at[3]), done: true}
		for i := range s.parts { // slices of its own: those of the one before stay as they are, should ts be refused
			s.flight.parts = append(s.flight.parts, s.buffers[i][:head+f.hi-f.lo])
		}
	}
	books := ckpt.Int64s("books", nil, s.books())
	optimizers := s.optimizers()
	live := slices.Concat([]ckpt.Tensor{books}, optimizers, s.tensors())
	if err := ckpt.Match(ts, live); err != nil {
		return undo(err)
	}
	b := make([]int64, len(s.books()))
	if t, _ := find("books"); t.CopyTo(b) != nil || slices.Min(b) < 0 || slices.Max(b) > most*most || b[0] < 1 {
		return undo(fmt.Errorf("tensor %q holds numbers that no run counts", t.Name))
	}
	if t, ok := find("total"); ok {
		total := make([]float64, 1)
		if err := t.CopyTo(total); err != nil || !(total[0] > 0) || math.IsInf(total[0], 0) {
			return undo(fmt.Errorf("tensor %q is no weight of samples", t.Name))
		}
		s.flight.total = total[0]
	}
	if err := ckpt.Restore(ts, live); err != nil { // cannot fail: it matched
		return undo(err)
	}
	s.setBooks(b)
	for i, r := range s.replicas {
		var own []ckpt.Tensor
		for j, t := range s.like.State() {
			size := len(t.Data)
			t.Data = optimizers[j].Data[i*size : (i+1)*size]
			own = append(own, t)
		}
		if err := r.opt.Load(own); err != nil {
			return err
		}
	}
	return nil
}
