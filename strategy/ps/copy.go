package ps

import (
	"context"
	"fmt"

	"github.com/covey-ml/covey/ckpt"
	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/optim"
	"github.com/covey-ml/covey/strategy"
	"github.com/covey-ml/covey/vec"
)

// A range is on Copies servers: on the one that serves it and, in a chain (van Renesse and Schneider, OSDI 2004), on those that come
// after it, the first server after the last. A server passes on what it is about to add to its range, and answers a worker once the
// end of the chain has what the worker pushed: what was acknowledged outlives any Copies-1 servers. Copies are written alone; who
// reads asks the server. With tables its rows are copied the same way.

// nobody is not a rank.
const nobody comm.Rank = -1

// duplicate is a copy of what another server has.
type duplicate struct {
	span
	of           int             // the range's number
	at           int             // its place in the chain: 1 is the first after the server
	above, below comm.Rank       // its neighbours there; below may be nobody
	w            strategy.Worker // the server's, with an optimizer of its own
	room         []float32       // a message
	version      int
	tally        tally
	seeded       bool // its optimizer has the state that the range begins with
	shelf        *shelf
	rows         rowsIn
}

// At place at of a chain: what it is told, the rows that come along with that, and what it says when it has them.
func tagCopy(at int) comm.Tag     { return comm.MakeTag(comm.OpCopy, uint32(3*at)) }
func tagRowsCopy(at int) comm.Tag { return comm.MakeTag(comm.OpCopy, uint32(3*at+1)) }
func tagHas(at int) comm.Tag      { return comm.MakeTag(comm.OpCopy, uint32(3*at+2)) }

// What comes back up a chain has no content: its length says that all from there on have one more update, or that all is over.
const (
	hasBytes  = 4
	overBytes = 8
)

// copies is on how many servers a range is. elastic says that ranks may be lost.
func (c Config) copies(elastic bool) int {
	switch {
	case c.Copies > 0:
		return c.Copies
	case elastic:
		return min(2, c.Servers)
	}
	return 1
}

// keepers lists by number the servers that have a range, its own first.
func (c Config) keepers(of, copies int) []int {
	all := make([]int, copies)
	for i := range all {
		all[i] = (of + i) % c.Servers
	}
	return all
}

// keepCopies makes what a server needs to pass on its own range, and to keep others'.
func (v *server) keepCopies(ranges []span, copies int) error {
	workers := len(v.peers)
	v.below = nobody
	if copies == 1 {
		return nil
	}
	me := int(v.w.Group.Rank()) - workers
	rank := func(server int) comm.Rank { return comm.Rank(workers + (server+v.cfg.Servers)%v.cfg.Servers) }
	v.below, v.room = rank(me+1), comm.Vector(v.w.Group, headFloats+v.hi-v.lo)
	for at := 1; at < copies; at++ {
		of := (me - at + v.cfg.Servers) % v.cfg.Servers
		d := &duplicate{span: ranges[of], of: of, at: at, above: rank(me - 1), below: nobody, w: v.w, tally: newTally(v.w.Tree.Leaves())}
		if at+1 < copies {
			d.below = rank(me + 1)
		}
		var err error
		if d.w.Optimizer, err = v.w.NewOptimizer(); err != nil {
			return err
		}
		d.room = comm.Vector(v.w.Group, headFloats+d.hi-d.lo)
		v.duplicates = append(v.duplicates, d)
	}
	return nil
}

// beginCopies starts what keeps copies up to date, from one meeting to the next.
func (v *server) beginCopies(ctx context.Context, step int) {
	if v.below == nobody {
		return
	}
	v.live++
	v.clock.Go(func() { v.end(v.listen(ctx)) })
	for _, d := range v.duplicates {
		if !d.seeded {
			d.seeded = true
			d.tally.reach(step, 0, len(d.tally.Done))
			have := d.state(v.w.Optimizer, len(d.w.X))
			for i, to := range d.state(d.w.Optimizer, len(d.w.X)) {
				copy(to, have[i])
			}
		}
		v.live++
		v.clock.Go(func() { v.end(v.follow(ctx, d)) })
		if d.below != nobody {
			v.live++
			v.clock.Go(func() { v.end(v.relay(ctx, d)) })
		}
	}
}

// state is what an optimizer of so many parameters has of a range: of a vector of one number a parameter its part, others whole. It
// aliases live memory.
func (s span) state(o optim.Optimizer, parameters int) (all [][]byte) {
	lo, hi := s.flat()
	for _, t := range o.State() {
		if t.Type == ckpt.F32 && t.Len() == parameters {
			t.Data = t.Data[4*lo : 4*hi]
		}
		all = append(all, t.Data)
	}
	return all
}

// pass sends the sum of a change down the chain. Who calls has the turn.
func (v *server) pass(ctx context.Context, c change, sum []float32) error {
	m := v.room
	v.w.Pass(len(sum), 2, func() { copy(m[headFloats:], sum) })
	if !comm.IsHollow(v.w.Group) {
		h := request{kind: copied, generation: v.w.Generation, step: c.step, leaf: c.lo, steps: c.steps, parts: c.hi - c.lo, rate: c.rate, mean: c.mean, update: c.update, lo: v.lo, hi: v.hi}
		h.encode(vec.Bytes(m))
	}
	v.mu.Lock()
	v.passed++
	v.mu.Unlock()
	if err := send(ctx, v.w.Group, v.below, tagCopy(1), vec.Bytes(m)); err != nil || v.shelf == nil {
		return err
	}
	rows, err := v.shelf.out.of(c.rows)
	if err != nil {
		return err
	}
	return send(ctx, v.w.Group, v.below, tagRowsCopy(1), rows)
}

// overBelow says down the chain that all have met.
func (v *server) overBelow(ctx context.Context) error {
	if v.below == nobody {
		return nil
	}
	h := request{kind: meet, generation: v.w.Generation}
	b := make([]byte, headBytes)
	h.encode(b)
	return send(ctx, v.w.Group, v.below, tagCopy(1), b)
}

// listen hears what all of the chain have, until all is over.
func (v *server) listen(ctx context.Context) error {
	var b [overBytes]byte
	for {
		_, n, err := v.w.Group.Recv(ctx, v.below, tagHas(1), b[:])
		if err != nil || n == overBytes {
			return err
		}
		v.mu.Lock()
		v.acked++
		v.mu.Unlock()
		v.wake(nil)
	}
}

// kept waits until all of the chain have what a worker has pushed so far.
func (v *server) kept(ctx context.Context, p *peer) error {
	if v.below == nobody {
		return nil
	}
	return v.await(ctx, p.granted, func() bool { return v.acked >= p.passed })
}

// follow keeps a copy up to date, until all is over.
func (v *server) follow(ctx context.Context, d *duplicate) error {
	m := d.room
	for {
		_, n, err := v.w.Group.Recv(ctx, d.above, tagCopy(d.at), vec.Bytes(m))
		if err != nil {
			return err
		}
		r := request{kind: copied, lo: d.lo, hi: d.hi, length: n}
		if comm.IsHollow(v.w.Group) && n == headBytes {
			r.kind = meet
		} else if !comm.IsHollow(v.w.Group) {
			if err := r.decode(vec.Bytes(m)[:n]); err != nil {
				return fmt.Errorf("ps: from the server that is rank %d came %w", d.above, err)
			}
			if why := d.refuses(v.w.Generation, &r); why != "" {
				return fmt.Errorf("ps: the server that is rank %d passes on what is not of its range: %s", d.above, why)
			}
		}
		if d.below != nobody { // before it is used as scratch
			if err := send(ctx, v.w.Group, d.below, tagCopy(d.at+1), vec.Bytes(m)[:n]); err != nil {
				return err
			}
		}
		if r.kind == copied {
			rows, err := v.rowsCopy(ctx, d)
			if err != nil {
				return err
			}
			if err := d.add(&r, rows); err != nil {
				return err
			}
		}
		if d.below == nobody {
			if err := v.has(ctx, d, r.kind == meet); err != nil {
				return err
			}
		}
		if r.kind == meet {
			return nil
		}
	}
}

// rowsCopy receives the rows that come along with a change, and passes them on; nil: there are no tables.
func (v *server) rowsCopy(ctx context.Context, d *duplicate) (rows []sparse, err error) {
	if d.shelf == nil {
		return nil, nil
	}
	in := &d.rows
	if in.m, err = receiveRows(ctx, v.w.Group, d.above, tagRowsCopy(d.at), in.m); err != nil {
		return nil, err
	}
	if why := d.shelf.read(in, 1); why != "" {
		return nil, fmt.Errorf("ps: the server that is rank %d passes on rows that are not as they should be: %s", d.above, why)
	}
	if d.below != nobody {
		err = send(ctx, v.w.Group, d.below, tagRowsCopy(d.at+1), vec.Bytes(in.m))
	}
	return in.parts[0], err
}

// has says up the chain that all from here on have one more update, or that all is over.
func (v *server) has(ctx context.Context, d *duplicate, over bool) error {
	n := hasBytes
	if over {
		n = overBytes
	}
	return send(ctx, v.w.Group, d.above, tagHas(d.at), make([]byte, n))
}

// relay passes on up the chain what comes from below.
func (v *server) relay(ctx context.Context, d *duplicate) error {
	var b [overBytes]byte
	for {
		_, n, err := v.w.Group.Recv(ctx, d.below, tagHas(d.at+1), b[:])
		if err == nil {
			err = v.has(ctx, d, n == overBytes)
		}
		if err != nil || n == overBytes {
			return err
		}
	}
}

// refuses says why a change is not one of the copy's range; empty: it is.
func (d *duplicate) refuses(generation uint32, r *request) string {
	switch {
	case r.generation != generation:
		return fmt.Sprintf("it is of generation %d, and this is %d", r.generation, generation)
	case r.kind == meet:
		return ""
	case r.kind != copied:
		return fmt.Sprintf("a request of kind %d", r.kind)
	case r.lo != d.lo || r.hi != d.hi || r.length != headBytes+4*(d.hi-d.lo):
		return fmt.Sprintf("elements %d to %d in %d bytes, and the copy has %d to %d", r.lo, r.hi, r.length, d.lo, d.hi)
	case r.leaf > len(d.tally.Done) || r.parts > len(d.tally.Done)-r.leaf:
		return fmt.Sprintf("%d microshards from %d on, of %d", r.parts, r.leaf, len(d.tally.Done))
	case r.update <= d.version:
		return fmt.Sprintf("update %d after %d", r.update, d.version)
	}
	return ""
}

// add makes the change of a message, whose elements are in the copy's room.
func (d *duplicate) add(r *request, rows []sparse) error {
	c := change{update: r.update, rate: r.rate, mean: r.mean, step: r.step, steps: r.steps, lo: r.leaf, hi: r.leaf + r.parts, rows: rows}
	c.apply(&d.w, d.span, d.room[headFloats:], nil)
	if err := d.shelf.apply(&d.w, &c); err != nil {
		return err
	}
	d.version = c.update
	d.tally.add(&c)
	return nil
}
