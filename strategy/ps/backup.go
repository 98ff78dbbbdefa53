package ps

import (
	"context"
	"errors"
	"fmt"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/strategy"
	"github.com/covey-ml/covey/vec"
)

// With backup workers a step is over when all but Spare pushes are there (Chen et al., arXiv 1604.00981, section 3): server 0
// decides which, and tells the other servers. What comes later is thrown away, and its sender goes on with the step that the
// others are at.

// holdSome waits until a worker's step is over, its push being one of those that count or not.
func (v *server) holdSome(ctx context.Context, who int, r *request) error {
	p := v.peers[who]
	v.mu.Lock()
	p.step, p.rate, p.samples = r.step, r.rate, r.samples
	full := false
	if v.lo == 0 {
		for _, part := range p.parts { // even if the push will not count
			v.asked = v.asked || part[strategy.HeadStop] > 0
		}
		here := 0
		for _, p := range v.peers {
			if p.step == v.over+1 {
				here++
			}
		}
		full = here == len(v.peers)-v.cfg.Spare && r.step == v.over+1
	}
	v.mu.Unlock()
	v.wake(p) // a server that was told waits for the pushes themselves
	if full {
		set := make([]bool, len(v.peers))
		v.mu.Lock()
		for w, p := range v.peers {
			set[w] = p.step == r.step
		}
		v.mu.Unlock()
		if err := v.tellShut(ctx, r.step, set); err != nil {
			return err
		}
		if err := v.shut(ctx, r.step, set, p.turned); err != nil {
			return err
		}
	}
	if err := v.await(ctx, p.granted, func() bool { return v.over >= r.step }); err != nil {
		return err
	}
	v.mu.Lock()
	v.prog.Done[who] = v.over
	if p.counted != p.step {
		v.served.Dropped++
	}
	v.mu.Unlock()
	return v.letGo(ctx, who)
}

// shut ends a step with the sum of the pushes of a set of workers, which are all there.
func (v *server) shut(ctx context.Context, step int, set []bool, turned comm.Event) error {
	if err := v.turn.take(ctx, turned); err != nil {
		return err
	}
	var parts [][]float32 // in global order; nil: it does not count
	n := 0
	var rate float32
	for w, p := range v.peers {
		for _, part := range p.parts {
			if !set[w] {
				part = nil
			}
			parts = append(parts, part)
		}
		if set[w] {
			n, rate = n+p.samples, p.rate
		}
	}
	if n > 0 {
		if err := v.sumAll(ctx, parts, n, v.whole(step, rate)); err != nil {
			return err
		}
	}
	v.mu.Lock()
	v.over = step
	v.version++
	for w, p := range v.peers {
		if set[w] {
			p.counted, v.prog.Done[w] = step, step
			v.served.Pushes++
		}
	}
	if v.lo == 0 {
		if n > 0 {
			v.loss = float64(v.w.Frame[strategy.HeadLoss]) / float64(n)
		}
		if v.asked && v.stopAt < 0 {
			v.stopAt = step - 1
		}
	}
	v.mu.Unlock()
	v.turn.give()
	v.wake(nil)
	return nil
}

// tellShut tells the other servers.
func (v *server) tellShut(ctx context.Context, step int, set []bool) error {
	m := comm.Vector(v.w.Group, ShutBytes(len(set))/4)
	b := vec.Bytes(m)
	h := request{kind: shut, generation: v.w.Generation, step: step}
	h.encode(b)
	for w, in := range set {
		if in {
			b[headBytes+w/8] |= 1 << (w % 8)
		}
	}
	return v.tellServers(ctx, b)
}

// tellServers sends the other servers what server 0 decided.
func (v *server) tellServers(ctx context.Context, b []byte) error {
	for r := v.w.Group.Rank() + 1; int(r) < v.w.Group.Size(); r++ {
		if err := send(ctx, v.w.Group, r, tagPush, b); err != nil {
			return err
		}
	}
	return nil
}

// obey does what server 0 decides, until all meet.
func (v *server) obey(ctx context.Context) error {
	b := make([]byte, ShutBytes(len(v.peers)))
	turned := v.clock.Event()
	for {
		_, n, err := v.w.Group.Recv(ctx, comm.Rank(len(v.peers)), tagPush, b)
		var r request
		if err == nil {
			err = r.decode(b[:n])
		}
		var peer *comm.PeerError
		switch {
		case errors.As(err, &peer):
			return err
		case err != nil:
			return fmt.Errorf("ps: from server 0: %w", err)
		case r.generation != v.w.Generation:
			return fmt.Errorf("ps: server 0 speaks in generation %d, and this is %d", r.generation, v.w.Generation)
		case r.kind == meet:
			return nil
		case r.kind != shut || n != len(b) || r.step != v.over+1:
			return fmt.Errorf("ps: server 0 speaks of step %d, by a request of kind %d and %d bytes; %d are over", r.step, r.kind, n, v.over)
		}
		set := make([]bool, len(v.peers))
		for w := range set {
			set[w] = b[headBytes+w/8]>>(w%8)&1 != 0
		}
		if err := v.await(ctx, v.told, func() bool {
			for w, in := range set {
				if in && v.peers[w].step != r.step {
					return false
				}
			}
			return true
		}); err != nil {
			return err
		}
		if err := v.shut(ctx, r.step, set, turned); err != nil {
			return err
		}
	}
}
