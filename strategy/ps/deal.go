package ps

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/strategy"
	"github.com/covey-ml/covey/vec"
)

// With deal=dynamic server 0 hands out the microshards of a step one by one, to whoever is free, so that a slow worker gets
// fewer. Each is pushed by itself, and every server folds what comes along the canonical tree as its neighbours are there: the
// bits are those of any other way to share them out.

// deal is a server's part of it.
type deal struct {
	step, leaf int                     // server 0 hands out next
	open       int                     // the step whose sums these are
	sums       map[comm.Node][]float32 // requests, with what the elements of nodes have come to in them
	came       []bool                  // by leaf
	holds      []bool                  // by worker: it was handed one out, and has not pushed it
	through    []bool                  // by worker: it gets no more of this step
	began      []time.Duration         // by worker: when it was handed out the last one
	took       []time.Duration         // by worker: from then to its push, lately; 0: not known yet
	room       [][]float32             // requests that are done with
}

func newDeal(t comm.Tree, workers int) *deal {
	return &deal{sums: map[comm.Node][]float32{}, came: make([]bool, t.Leaves()), holds: make([]bool, workers), through: make([]bool, workers),
		began: make([]time.Duration, workers), took: make([]time.Duration, workers)}
}

// begin starts with a step.
func (d *deal) begin(step int) {
	d.step, d.leaf, d.open = step, 0, step
	clear(d.holds)
	clear(d.through)
}

// next is the microshard that a worker takes, or that of the next step which none has, when it does not pay that it takes one.
func (d *deal) next(who int, now time.Duration) piece {
	if !d.pays(who, now) {
		d.through[who] = true
		return piece{d.step + 1, len(d.came)}
	}
	p := piece{d.step, d.leaf}
	d.holds[who], d.began[who] = true, now
	if d.leaf++; d.leaf == len(d.came) {
		d.step, d.leaf = d.step+1, 0
		clear(d.through)
	}
	return p
}

// pays tells whether a step may be over sooner if a worker takes one more microshard: not if the others, at their pace, would have done
// all that are left by the time that it is through. So a slow worker does not begin the last one. Paces that are not known are no
// reason against it.
func (d *deal) pays(who int, now time.Duration) bool {
	var free, took []time.Duration // the others, by when they are
	for w, t := range d.took {
		if w == who || d.through[w] {
			continue
		}
		at := now
		if d.holds[w] {
			at = max(now, d.began[w]+t)
		}
		free, took = append(free, at), append(took, t)
	}
	if len(free) == 0 || d.took[who] == 0 || slices.Contains(took, 0) {
		return true
	}
	for range len(d.came) - d.leaf { // each goes to whoever is through with it first
		first := 0
		for i := range free {
			if free[i]+took[i] < free[first]+took[first] {
				first = i
			}
		}
		if free[first] += took[first]; free[first] >= now+d.took[who] {
			return true
		}
	}
	return false
}

// dealt answers a request; nil is no reply.
func (v *server) dealt(ctx context.Context, who int, r *request) ([]byte, error) {
	p, d := v.peers[who], v.deal
	switch r.kind {
	case ask:
		v.mu.Lock()
		defer v.mu.Unlock()
		next := d.next(who, v.clock.Now())
		b := binary.LittleEndian.AppendUint32(nil, uint32(next.step))
		return binary.LittleEndian.AppendUint32(b, uint32(next.leaf)), nil
	case fetch:
		if err := v.await(ctx, p.granted, func() bool { return d.open >= r.step }); err != nil {
			return nil, err
		}
		if err := v.turn.take(ctx, p.turned); err != nil { // those who are ahead need not wait for this one
			return nil, err
		}
		v.w.Pass(v.hi-v.lo, 2, func() { copy(p.out, v.w.Frame[v.lo:v.hi]) })
		v.turn.give()
		return vec.Bytes(p.out), nil
	}
	if err := v.turn.take(ctx, p.turned); err != nil {
		return nil, err
	}
	whole := v.fold(p, r)
	v.served.Pushes++
	if whole != nil {
		if err := v.updateBy(ctx, whole[headFloats:], r); err != nil {
			return nil, err
		}
		d.room = append(d.room, whole)
		v.mu.Lock()
		clear(d.came)
		d.open++
		if v.lo == 0 {
			v.w.Frame[headNext] = math.Float32frombits(uint32(d.open))
		}
		v.version++
		for w := range v.prog.Done {
			v.prog.Done[w] = d.open
		}
		v.mu.Unlock()
	}
	v.turn.give()
	if whole != nil {
		v.wake(nil)
	}
	return nil, nil
}

// fold adds a microshard's gradient to what there is of its step, and returns the sum once it is whole. It keeps the request,
// and gives the worker memory for another.
func (v *server) fold(p *peer, r *request) []float32 {
	d, t := v.deal, v.w.Tree
	sum := p.in
	if n := len(d.room); n > 0 {
		p.in, d.room = d.room[n-1], d.room[:n-1]
	} else {
		p.in = make([]float32, len(sum))
	}
	p.parts[0] = p.in[headFloats:]
	for n := (comm.Node{Index: r.leaf}); ; n = (comm.Node{Level: n.Level + 1, Index: n.Index / 2}) {
		if lo, hi := t.Span(n); lo == 0 && hi == t.Leaves() {
			return sum
		}
		sibling := comm.Node{Level: n.Level, Index: n.Index ^ 1}
		if lo, hi := t.Span(sibling); lo == hi { // an odd one out
			continue
		}
		other, ok := d.sums[sibling]
		if !ok {
			d.sums[n] = sum
			return nil
		}
		delete(d.sums, sibling)
		if n.Index&1 != 0 { // the right one is added to the left one
			sum, other = other, sum
		}
		v.w.Add(sum[headFloats:], other[headFloats:])
		d.room = append(d.room, other)
	}
}

// updateBy makes the update of a step by its whole sum.
func (v *server) updateBy(ctx context.Context, sum []float32, r *request) error {
	c := v.whole(r.step, r.rate)
	c.mean = 1 / float32(r.total)
	return v.update(ctx, c, sum, func(int, int) {})
}

// refusesDealt is outOfTurn where microshards are dealt. v.mu is locked.
func (v *server) refusesDealt(who int, r *request) string {
	d := v.deal
	switch {
	case r.kind == push:
		return d.refuses(r)
	case r.steps > 0 || r.kind == meet && r.step != d.open || r.kind == fetch && r.step > d.open+1 || r.kind == ask && r.step > d.open || r.step < v.peers[who].at:
		return fmt.Sprintf("it ends %d steps before step %d, and %d are finished", r.steps, r.step+1, d.open)
	case r.kind == ask && d.holds[who]:
		return "it has not pushed the microshard that it was handed out last"
	}
	return ""
}

// refuses says why a push is not taken; empty: it is.
func (d *deal) refuses(r *request) string {
	switch {
	case r.step != d.open+1 || r.steps != 1:
		return fmt.Sprintf("it is of the %d steps before step %d, and %d are finished", r.steps, r.step+1, d.open)
	case r.leaf >= len(d.came) || d.came[r.leaf]:
		return fmt.Sprintf("microshard %d of %d: it is not there, or has come already", r.leaf, len(d.came))
	}
	return ""
}

// claim notes that a worker's push is taken, or says why it is not: another may have been meanwhile.
func (v *server) claim(who int, r *request) string {
	v.mu.Lock()
	defer v.mu.Unlock()
	d := v.deal
	why := d.refuses(r)
	if why == "" {
		d.came[r.leaf] = true
		if d.holds[who] { // as on server 0
			d.holds[who], d.took[who] = false, smooth(d.took[who], v.clock.Now()-d.began[who])
		}
	}
	return why
}

// piece is a microshard that a worker was dealt.
type piece struct{ step, leaf int }

// dealtStep is a worker's step: microshards of it while there are any, and then the parameters that they make.
func (k *worker) dealtStep(ctx context.Context, w *strategy.Worker) (rep strategy.Report, err error) {
	clock := w.Group.Clock()
	t := clock.Now()
	k.dirty = true
	for {
		if k.dealt == nil {
			if k.dealt, err = k.ask(ctx, w); err != nil {
				return rep, lost(w, err)
			}
		}
		if k.dealt.step > w.Step {
			if k.dealt.leaf == w.Tree.Leaves() {
				k.dealt = nil
			}
			break
		}
		t := clock.Now()
		if err := k.compute(ctx, w, k.dealt.leaf); err != nil {
			return rep, err
		}
		rep.Compute += clock.Now() - t
		if err := k.pushAll(ctx, w, flagSilent); err != nil {
			return rep, lost(w, err)
		}
		k.dealt, k.steps, k.samples = nil, 0, 0
	}
	h := request{kind: fetch, generation: w.Generation, step: w.Step + 1}
	if err := k.pullBare(ctx, w, h); err != nil {
		return rep, lost(w, err)
	}
	rep.Comm = clock.Now() - t - rep.Compute
	rep.Wait = rep.Comm
	k.hear(w, &rep)
	return rep, nil
}

// compute makes a push of one microshard.
func (k *worker) compute(ctx context.Context, w *strategy.Worker, leaf int) error {
	b, err := w.Microshard(leaf)
	if err != nil {
		return err
	}
	f := k.frames[0]
	loss, err := w.Grad(ctx, w.X, f[head:], b, nil)
	if err != nil {
		return err
	}
	clear(f[:head])
	f[strategy.HeadLoss] = loss.Sum
	if k.vote {
		f[strategy.HeadStop], k.vote = 1, false
	}
	k.steps, k.samples = 1, b.N
	return nil
}

// ask takes the next microshard from server 0.
func (k *worker) ask(ctx context.Context, w *strategy.Worker) (*piece, error) {
	server := answer{to: k.rank(w, 0), b: make([]byte, refusalBytes), n: 2 * 4}
	h := request{kind: ask, generation: w.Generation, step: w.Step}
	err := exchange(ctx, w.Group, tagPull, []answer{server}, " the next microshard", func(s int) error { return k.bare(ctx, w, s, h) })
	if err != nil {
		return nil, err
	}
	b := server.b
	return &piece{int(binary.LittleEndian.Uint32(b)), int(binary.LittleEndian.Uint32(b[4:]))}, nil
}
