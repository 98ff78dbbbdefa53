package local

import (
	"context"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/strategy"
	"github.com/covey-ml/covey/vec"
)

// launch begins an exchange of a fragment that goes on beside the steps to come.
func (s *Strategy) launch(ctx context.Context, f *fragment) {
	fl := s.begin(f)
	if s.cfg.Mix < 0 {
		for i, r := range s.replicas {
			s.w.Pass(f.hi-f.lo, 2, func() { copy(s.kept[i*(f.hi-f.lo):], r.x[f.lo:f.hi]) })
		}
	}
	v := s.vector(fl)
	s.flight = fl
	red, clock := s.w.Reducer, s.w.Group.Clock()
	ctx, fl.cancel = context.WithCancelCause(ctx)
	clock.Go(func() {
		t := clock.Now()
		fl.err = red.Sum(ctx, v)
		fl.comm = clock.Now() - t
		s.ended.Set()
	})
}

// Settle implements strategy.Settler.
func (s *Strategy) Settle(ctx context.Context) error {
	fl := s.flight
	if fl == nil {
		return nil
	}
	if !fl.done {
		if err := s.ended.Wait(ctx); err != nil {
			fl.cancel(err)
			s.ended.Wait(context.Background()) // it has let go of the buffers
		}
		fl.cancel(nil)
		fl.done = true
	}
	return fl.err
}

// land waits for the exchange under way and puts it to use.
func (s *Strategy) land(ctx context.Context, e *exchanged) error {
	clock := s.w.Group.Clock()
	t := clock.Now()
	err := s.Settle(ctx)
	e.rep.Wait += clock.Now() - t
	if err != nil {
		return err
	}
	fl := s.flight
	s.flight = nil
	return s.put(fl, e)
}

// put makes the new common parameters of a fragment from the sum of the replicas' moves, and what the replicas go on from.
func (s *Strategy) put(fl *flight, e *exchanged) error {
	if fl.err != nil {
		return fl.err
	}
	f, sum := fl.f, fl.parts[0]
	d := sum[head:]
	e.rep.Comm += fl.comm
	e.rep.Round = s.rounds
	e.rep.Steps += fl.steps
	e.rep.Stop = e.rep.Stop || sum[strategy.HeadStop] > 0
	e.loss += float64(sum[strategy.HeadLoss])
	e.samples += fl.samples
	if s.cfg.Period != "" && !comm.IsHollow(s.w.Group) {
		e.rep.Decided = s.decide(fl, sum)
	}
	x := s.w.X[f.lo:f.hi]
	if s.cfg.Method == EASGD { // replicas first: they go by where the center was
		alpha := float32(s.cfg.Elastic(s.w.Tree.Leaves()))
		for _, r := range s.replicas {
			s.w.Pass(len(x), 3, func() { pullBack(r.x, x, alpha) })
		}
		s.w.Pass(len(x), 3, func() { vec.Axpy(alpha, d, x) })
		return nil
	}
	vectors := 3
	if s.outer != nil {
		vectors = 5
	}
	s.w.Pass(len(x), vectors, func() { s.move(f, x, d, float32(1/fl.total)) })
	for i, r := range s.replicas {
		y := r.x[f.lo:f.hi]
		switch {
		case fl.direct:
			s.w.Pass(len(y), 2, func() { copy(y, x) })
		case s.cfg.Mix >= 0:
			s.w.Pass(len(y), 3, func() { mix(y, x, float32(s.cfg.Mix)) })
		default:
			s.w.Pass(len(y), 4, func() { carry(y, x, s.kept[i*len(y):]) })
		}
	}
	if len(s.fragments) == 1 && fl.direct {
		s.apart = false
	}
	return nil
}

// pullBack takes y towards x by alpha of the way.
func pullBack(y, x []float32, alpha float32) {
	for i, v := range y {
		y[i] = v - float32(alpha*(v-x[i]))
	}
}

// mix makes y = a*y + (1-a)*x (arXiv 2501.18512, section 2.3).
func mix(y, x []float32, a float32) {
	for i := range y {
		y[i] = float32(a*y[i]) + float32((1-a)*x[i])
	}
}

// carry makes y what it has moved since it was kept, from x on.
func carry(y, x, kept []float32) {
	for i := range y {
		y[i] = x[i] + (y[i] - kept[i])
	}
}

// move takes the common parameters x of a fragment along scale*d, the replicas' mean move, in the method's way.
func (s *Strategy) move(f *fragment, x, d []float32, scale float32) {
	rate, mu := float32(s.cfg.Rate), float32(s.cfg.Block(s.w.Tree.Leaves()))
	switch s.cfg.Method {
	case Scaffold:
		vec.Axpy(float32(rate*scale), d, x)
	case BMUF:
		back := s.looked[f.index] // momentum by which x is ahead
		ahead := float32(0)
		if s.cfg.Nesterov && !s.w.Last { // the last parameters of a run are not ahead
			ahead = mu
		}
		s.looked[f.index] = ahead
		block(x, d, s.outer[f.lo:f.hi], scale, rate, mu, back, ahead)
	case DiLoCo:
		nesterov(x, d, s.outer[f.lo:f.hi], scale, rate, mu)
	default:
		vec.Axpy(scale, d, x)
	}
}

// block is BMUF's move: x, which is back*v ahead, becomes ahead*v ahead of where the new v takes it.
func block(x, d, v []float32, scale, rate, mu, back, ahead float32) {
	for i := range x {
		was := x[i] - float32(back*v[i])
		v[i] = float32(mu*v[i]) + float32(rate*float32(scale*d[i]))
		x[i] = was + v[i] + float32(ahead*v[i])
	}
}

// nesterov is DiLoCo's move.
func nesterov(x, d, v []float32, scale, rate, mu float32) {
	for i := range x {
		m := float32(scale * d[i])
		v[i] = float32(mu*v[i]) + m
		x[i] += float32(rate * (m + float32(mu*v[i])))
	}
}
