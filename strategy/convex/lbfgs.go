package convex

import (
	"context"

	"github.com/covey-ml/covey/ckpt"
)

// past is what LBFGS remembers: the last steps s and changes of the gradient y, in a ring.
type past struct {
	memory, n int
	s, y      []float64 // memory x n
	rho       []float64 // 1 / y's
	count     [1]uint64 // of steps ever pushed since it last forgot
	alpha     []float64
}

func newPast(memory, n int) past {
	return past{memory: memory, n: n, s: make([]float64, memory*n), y: make([]float64, memory*n),
		rho: make([]float64, memory), alpha: make([]float64, memory)}
}

func (p *past) state() []ckpt.Tensor {
	if p.memory == 0 {
		return nil
	}
	shape := []int{p.memory, p.n}
	return []ckpt.Tensor{ckpt.Float64s("steps", shape, p.s), ckpt.Float64s("changes", shape, p.y),
		ckpt.Float64s("rho", nil, p.rho), ckpt.Uint64s("count", nil, p.count[:])}
}

// forget drops all steps, and tells whether there were any.
func (p *past) forget() bool {
	had := p.count[0] > 0
	p.count[0] = 0
	return had
}

// push remembers the step from x to next. One along which the gradient does not grow is left out.
func (p *past) push(x, next, g, gNext []float64) {
	if p.memory == 0 {
		return
	}
	i := int(p.count[0] % uint64(p.memory))
	s, y := p.pair(i)
	for j := range s {
		s[j], y[j] = next[j]-x[j], gNext[j]-g[j]
	}
	if sy := dot(s, y); sy > 0x1p-52*dot(y, y) {
		p.rho[i] = 1 / sy
		p.count[0]++
	}
}

func (p *past) pair(i int) (s, y []float64) {
	return p.s[i*p.n : (i+1)*p.n], p.y[i*p.n : (i+1)*p.n]
}

// quasi sets d to -B g, B being LBFGS's inverse (Nocedal and Wright, algorithm 7.4). The first time there is nothing to
// build it from, and d is the way to the minimum of the quadratic model along the gradient, for one pass over the data.
func (s *Strategy) quasi(ctx context.Context) error {
	p := &s.past
	if p.count[0] == 0 {
		if err := s.eval.bend(ctx, s.xTry, s.g); err != nil {
			return err
		}
		t := dot(s.g, s.g) / dot(s.g, s.xTry)
		for i, v := range s.g {
			s.d[i] = -float64(t * v)
		}
		return nil
	}
	d := s.d
	for i, v := range s.g {
		d[i] = -v
	}
	kept := min(int(p.count[0]), p.memory)
	newest := int((p.count[0] - 1) % uint64(p.memory))
	for k := range kept {
		i := (newest - k + p.memory) % p.memory
		si, yi := p.pair(i)
		p.alpha[i] = p.rho[i] * dot(si, d)
		axpy(-p.alpha[i], yi, d)
	}
	_, y := p.pair(newest)
	scale := 1 / (p.rho[newest] * dot(y, y))
	for i := range d {
		d[i] *= scale
	}
	for k := kept - 1; k >= 0; k-- {
		i := (newest - k + p.memory) % p.memory
		si, yi := p.pair(i)
		axpy(p.alpha[i]-float64(p.rho[i]*dot(yi, d)), si, d)
	}
	return nil
}
