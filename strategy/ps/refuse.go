package ps

import (
	"fmt"
	"math"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/vec"
)

// refuses says why a request is not taken; empty: it is.
func (v *server) refuses(who int, r *request) string {
	p := v.peers[who]
	v.mu.Lock()
	bad, done := v.bad, v.prog.Done[who]
	v.mu.Unlock()
	if v.cfg.Mode == Backup {
		done = p.step // steps may be over that it has not heard of
	}
	switch {
	case comm.IsHollow(v.w.Group):
		return ""
	case bad != "":
		return bad
	case r.generation != v.w.Generation:
		return fmt.Sprintf("it is of generation %d, and this is %d", r.generation, v.w.Generation)
	case r.kind == shut || r.kind == ask && (v.deal == nil || v.lo > 0):
		return "this server is not to be asked that by a worker"
	case v.deal != nil:
		if why := v.refusesDealt(r); why != "" || r.kind != push {
			return why
		}
	case (r.kind == push) != (r.steps > 0) || r.step-r.steps < done || r.step-r.steps > done && v.cfg.Mode != Backup && (r.kind != fetch || v.cfg.Mode != Downpour):
		return fmt.Sprintf("it ends %d steps before step %d, and %d are finished", r.steps, r.step+1, done)
	case r.kind != push:
		return ""
	}
	switch {
	case r.lo != v.lo || r.hi != v.hi:
		return fmt.Sprintf("elements %d to %d: this server has %d to %d", r.lo, r.hi, v.lo, v.hi)
	case r.flags&flagLeaf != 0 && v.refusesLeaf(who, r) != "":
		return v.refusesLeaf(who, r)
	case r.parts != v.partsOf(p, r) || r.length != headBytes+r.parts*4*(r.hi-r.lo):
		return fmt.Sprintf("%d parts in %d bytes: expected %d of %d elements", r.parts, r.length, v.partsOf(p, r), v.hi-v.lo)
	case r.samples < 0 || r.total < 1 || r.samples > r.total:
		return fmt.Sprintf("%d of %d samples", r.samples, r.total)
	case !(r.rate > 0 && r.rate <= math.MaxFloat32):
		return fmt.Sprintf("a rate of %v", r.rate)
	}
	for _, part := range p.parts[:r.parts] {
		if !vec.Finite(part) {
			return fmt.Sprintf("the gradient of step %d is not finite", r.step+1)
		}
	}
	if v.shelf != nil {
		return v.shelf.take(&p.rows, len(p.parts))
	}
	return ""
}

// partsOf is how many parts a push has.
func (v *server) partsOf(p *peer, r *request) int {
	if r.flags&flagLeaf != 0 {
		return 1
	}
	return len(p.parts)
}
