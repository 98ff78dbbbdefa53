package ps

import (
	"fmt"
	"math"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/vec"
)

// refuses says why a request is not taken; empty: it is. Until it is, nothing that others see has changed.
func (v *server) refuses(who int, r *request) string {
	if comm.IsHollow(v.w.Group) {
		if r.kind == push && v.coded.pushes != nil {
			return v.decode(v.peers[who], r, nil)
		}
		return ""
	}
	v.mu.Lock()
	why := v.outOfTurn(who, r)
	v.mu.Unlock()
	if why != "" || r.kind != push {
		return why
	}
	p, parts := v.peers[who], len(v.peers[who].parts)
	if r.flags&flagLeaf != 0 {
		if why := v.refusesLeaf(who, r); why != "" {
			return why
		}
		parts = 1
	}
	switch {
	case r.lo != v.lo || r.hi != v.hi:
		return fmt.Sprintf("elements %d to %d: this server has %d to %d", r.lo, r.hi, v.lo, v.hi)
	case r.parts != parts || v.coded.pushes == nil && r.length != headBytes+r.parts*4*(r.hi-r.lo):
		return fmt.Sprintf("%d parts in %d bytes: expected %d of %d elements", r.parts, r.length, parts, v.hi-v.lo)
	case r.total < 1 || r.samples > r.total:
		return fmt.Sprintf("%d of %d samples", r.samples, r.total)
	case !(r.rate > 0 && r.rate <= math.MaxFloat32):
		return fmt.Sprintf("a rate of %v", r.rate)
	}
	if v.coded.pushes != nil {
		if why := v.decode(p, r, p.body); why != "" {
			return why
		}
	}
	for _, part := range p.parts[:r.parts] {
		if !vec.Finite(part) {
			return fmt.Sprintf("the gradient of step %d is not finite", r.step+1)
		}
	}
	if v.shelf != nil {
		if r.flags&flagLeaf == 0 {
			parts = p.rows.sums
		}
		return v.shelf.take(&p.rows, parts)
	}
	if v.deal != nil {
		return v.claim(who, r)
	}
	return ""
}

// outOfTurn says why a request of this kind is not for now, or not for this server. v.mu is locked.
func (v *server) outOfTurn(who int, r *request) string {
	every, _ := v.cfg.periods()
	least, most := v.window(who, r.kind)
	switch {
	case v.bad != "":
		return v.bad
	case r.generation != v.w.Generation:
		return fmt.Sprintf("it is of generation %d, and this is %d", r.generation, v.w.Generation)
	case !v.knows(r.kind):
		return fmt.Sprintf("kind %d: this server is not to be asked that by a worker", r.kind)
	case r.flags&^flagsOf(r.kind) != 0:
		return fmt.Sprintf("flags %#x, of which kind %d knows %#x", r.flags, r.kind, flagsOf(r.kind))
	case v.deal != nil:
		return v.refusesDealt(who, r)
	case r.kind == push && (r.steps < 1 || r.steps > every) || r.kind != push && r.steps > 0 || r.step-r.steps < least || r.step-r.steps > most:
		return fmt.Sprintf("it ends %d steps before step %d, and %d are finished", r.steps, r.step+1, v.prog.Done[who])
	}
	return ""
}

// window is how many steps a worker may have pushed before it sends a request. v.mu is locked.
func (v *server) window(who int, kind uint8) (least, most int) {
	done := v.prog.Done[who]
	switch {
	case v.cfg.Mode == Downpour && kind == fetch: // what it has not pushed yet is less than a push
		return done, done + v.cfg.Push - 1
	case v.cfg.Mode == Backup && v.lo > 0:
		// Server 0 told it where to go on. That one is ahead of this by a step for each worker at most: whose push
		// counts there waits for this server's answer before it makes another.
		return v.peers[who].step, v.over + len(v.peers)
	}
	return done, done
}

// knows tells whether a worker may ask this server that.
func (v *server) knows(kind uint8) bool {
	switch kind {
	case push, meet:
		return true
	case fetch:
		return v.deal != nil || !v.cfg.Held() && v.cfg.Mode != Backup
	case ask:
		return v.deal != nil && v.lo == 0
	}
	return false
}

// flagsOf is the flags that a kind of request may have.
func flagsOf(kind uint8) uint8 {
	switch kind {
	case push:
		return flagSilent | flagShare | flagLeaf
	case meet:
		return flagStop
	}
	return 0
}
