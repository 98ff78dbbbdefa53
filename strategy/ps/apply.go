package ps

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/strategy"
	"github.com/covey-ml/covey/vec"
)

const head = strategy.Head

// What stands in the head of what server 0 gives, beside strategy.HeadLoss (the mean of the newest pushes, or the sum where
// pushes are held) and strategy.HeadStop.
const (
	headNext    = 2 // of backup and deal=dynamic: the step to go on with, as bits
	headDropped = 3 // of backup: the push came too late
	headShare   = 4 // where pushes are applied one by one: each is its share of a step of all, and not a step
	headFirst   = 5 // the same: the mean loss of the first pushes, once the guard has it
)

// hold waits until the pushes of all workers are there, and applies their canonical sum, by the last one's goroutine.
func (v *server) hold(ctx context.Context, who int, r *request) error {
	p := v.peers[who]
	v.mu.Lock()
	v.held++
	last := v.held == len(v.peers)
	v.mu.Unlock()
	if !last {
		return v.await(ctx, p.granted, func() bool { return v.prog.Done[who] == r.step })
	}
	var parts [][]float32 // in global order; at the end the zeros of those who have no microshard
	for _, p := range v.peers {
		parts = append(parts, p.parts...)
	}
	if v.tally.Done[0] < r.step { // else this server has the step, and others have lost it
		c := v.whole(r.step, r.rate)
		c.rows = v.sumRows()
		if err := v.sumAll(ctx, parts, r.total, c); err != nil {
			return err
		}
		p.passed = v.passed
		if err := v.kept(ctx, p); err != nil {
			return err
		}
	} else if v.shelf != nil {
		v.shelf.back = false
	}
	if v.shadow != nil {
		var err error
		if v.out, err = v.code(v.out, v.shadow, v.w.Frame[v.lo:v.lo+v.heading()], r.step); err != nil {
			return err
		}
	}
	v.mu.Lock()
	v.held = 0
	v.served.Pushes += len(v.peers)
	for w := range v.prog.Done {
		v.prog.Done[w]++
	}
	v.mu.Unlock()
	v.wake(p)
	return nil
}

// sumAll adds the parts of so many samples, of which nil ones count as none, in tree order, and makes the change by what they come to.
func (v *server) sumAll(ctx context.Context, parts [][]float32, samples int, c change) error {
	c.mean = 1 / float32(samples)
	at := make([]int, len(parts)) // by part, which one holds what it has come to; -1: none
	for i := range at {
		if at[i] = i; parts[i] == nil {
			at[i] = -1
		}
	}
	var adds []comm.Add
	for _, a := range v.merge {
		switch dst, src := at[a.Dst], at[a.Src]; {
		case src < 0:
		case dst < 0:
			at[a.Dst] = src
		default:
			adds = append(adds, comm.Add{Dst: dst, Src: src})
		}
	}
	v.w.Pass(v.hi-v.lo, 3*len(adds), func() {})
	follows := v.coded.pushes != nil && v.coded.pushes.Follows()
	if follows {
		v.coded.pushes.Rescale(float64(samples))
	}
	first, _ := v.flat()
	skip, g := v.heading(), parts[at[0]]
	return v.update(ctx, c, g, func(lo, hi int) {
		for _, a := range adds {
			vec.Add(parts[a.Dst][lo:hi], parts[a.Src][lo:hi])
		}
		if follows && lo >= skip {
			v.coded.pushes.Took(g[lo:hi], first+lo-skip, first+hi-skip)
		}
	})
}

// change is what becomes of a range by one update.
type change struct {
	update int     // its number, from 1
	rate   float32 // of the optimizer
	mean   float32 // times the sum is the gradient
	step   int     // microshards lo to hi-1 have then done so many steps
	steps  int     // of which the change has so many
	lo, hi int
	rows   []sparse // of each table, their sum, to be used up; nil: there are no tables
}

// whole is the change by a step of all microshards.
func (v *server) whole(step int, rate float32) change {
	return change{update: step, rate: rate, step: step, steps: 1, hi: v.w.Tree.Leaves()}
}

// update moves the range's parameters by their gradient g, which it uses up, and then the change's rows. sum completes elements lo to
// hi-1 of g. Who keeps a copy hears of it first, after the addition: one vector, however many workers have pushed (Li et al., OSDI
// 2014, section 4.3).
func (v *server) update(ctx context.Context, c change, g []float32, sum func(lo, hi int)) error {
	defer v.working()()
	skip, hollow := v.heading(), comm.IsHollow(v.w.Group)
	if skip > 0 && !hollow {
		sum(0, skip)
		copy(v.w.Frame[v.lo:], g[:skip])
	}
	ready := func(lo, hi int) { sum(skip+lo, skip+hi) }
	if v.below != nobody {
		if !hollow {
			sum(skip, len(g))
		}
		if err := v.pass(ctx, c, g); err != nil {
			return err
		}
		ready = nil
	}
	c.apply(&v.w, v.span, g, ready)
	if err := v.shelf.apply(&v.w, &c); err != nil {
		return err
	}
	v.mu.Lock()
	v.tally.add(&c)
	v.mu.Unlock()
	return nil
}

// apply makes the change to a range of w's parameters, of which g has what the range has; see strategy.Worker.Update.
func (c *change) apply(w *strategy.Worker, r span, g []float32, ready func(lo, hi int)) {
	w.Rate = c.rate
	w.Optimizer.Begin(c.update, c.rate)
	lo, _ := r.flat()
	w.Update(g[r.heading():], lo, c.mean, ready)
}

// working books as busy the time until what it returns is called.
func (v *server) working() func() {
	t := v.clock.Now()
	return func() { v.busy += v.clock.Now() - t }
}

// apply updates by one worker's push and, unless that waits for no reply, does what letGo does.
func (v *server) apply(ctx context.Context, who int, r *request) error {
	p := v.peers[who]
	took := v.clock.Now() - p.since
	if err := v.turn.take(ctx, p.turned); err != nil {
		return err
	}
	leaf := r.flags&flagLeaf != 0
	if leaf && v.tally.Done[r.leaf] >= r.step { // it was applied here before others were lost
		v.turn.give()
		return nil
	}
	v.hear(p, r) // before it is used up
	err := v.sumOne(ctx, who, r)
	if err != nil {
		return err
	}
	v.mu.Lock()
	v.version++
	if !leaf {
		v.prog.Done[who] = r.step
		v.prog.Took[who] = smooth(v.prog.Took[who], took/time.Duration(r.steps))
	}
	v.note(p, r)
	may := v.may(who)
	v.mu.Unlock()
	silent := r.flags&(flagSilent|flagLeaf) != 0
	may = may && !silent
	if may {
		err = v.give(p, who)
	}
	v.turn.give()
	if err != nil {
		return err
	}
	v.wake(p)
	if may || silent {
		return nil
	}
	return v.letGo(ctx, who)
}

// letGo waits until a worker may start its next step, and copies the parameters for it.
func (v *server) letGo(ctx context.Context, who int) error {
	p := v.peers[who]
	if err := v.await(ctx, p.granted, func() bool { return v.may(who) }); err != nil {
		return err
	}
	if err := v.turn.take(ctx, p.turned); err != nil {
		return err
	}
	defer v.turn.give()
	return v.give(p, who)
}

// sumOne updates by a worker's own parts, in order.
func (v *server) sumOne(ctx context.Context, who int, r *request) error {
	p := v.peers[who]
	c := change{update: v.version + 1, step: r.step, steps: r.steps}
	if c.lo, c.hi = v.w.Tree.Run(p.rank); r.flags&flagLeaf != 0 {
		c.lo, c.hi = r.leaf, r.leaf+1
	}
	if r.samples == 0 {
		v.mu.Lock()
		v.tally.reach(r.step, c.lo, c.hi)
		v.mu.Unlock()
		return nil
	}
	mean := 1 / float32(r.samples)
	if r.flags&flagShare != 0 {
		mean = 1 / float32(r.total)
	}
	rate := r.rate
	if v.cfg.Damp {
		rate /= float32(1 + v.version - p.base)
	}
	c.rate, c.rows = rate, v.addRows(p)
	scale := mean
	if v.cfg.Mode == DC { // the mean itself is compensated
		for _, rows := range c.rows {
			vec.Scale(scale, rows.x)
		}
		mean = 1
	}
	v.w.Pass(v.hi-v.lo, 3*(r.parts-1), func() {})
	c.mean = mean
	err := v.update(ctx, c, p.parts[0], func(lo, hi int) {
		g := p.parts[0][lo:hi]
		for _, part := range p.parts[1:r.parts] {
			vec.Add(g, part[lo:hi])
		}
		if v.cfg.Mode == DC && lo >= v.heading() {
			vec.Scale(scale, g)
			compensate(float32(v.cfg.Lambda), g, v.w.Frame[v.lo+lo:v.lo+hi], p.out[lo:hi])
		}
	})
	p.passed = v.passed
	return err
}

// compensate adds to a mean gradient what it lacks since it was computed at old and the parameters have become x: lambda g g
// (x - old), whose first part stands for the Hessian's diagonal (Zheng et al., arXiv 1609.08326, section 3, equation 10).
func compensate(lambda float32, g, x, old []float32) {
	for i, gi := range g {
		g[i] = gi + float32(float32(float32(lambda*gi)*gi)*(x[i]-old[i]))
	}
}

// smooth is a running mean of how long a step takes.
func smooth(mean, now time.Duration) time.Duration {
	if mean == 0 {
		return now
	}
	return mean + (now-mean)/4
}

// hear reads what stands in the head of a push.
func (v *server) hear(p *peer, r *request) {
	if v.lo > 0 || comm.IsHollow(v.w.Group) {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if r.samples > 0 {
		p.loss, p.samples = 0, r.samples
	}
	for _, part := range p.parts[:r.parts] {
		p.loss += float64(part[strategy.HeadLoss])
		if part[strategy.HeadStop] > 0 && v.stopAt < 0 {
			for _, p := range v.peers {
				v.stopAt = max(v.stopAt, p.started)
			}
		}
	}
}

// note books a push that was applied. v.mu is locked.
func (v *server) note(p *peer, r *request) {
	v.served.Pushes++
	late := v.version - 1 - p.base
	for len(v.served.Staleness) <= late {
		v.served.Staleness = append(v.served.Staleness, 0)
	}
	v.served.Staleness[late]++
	if v.lo == 0 && r.samples > 0 {
		v.judge(p)
	}
}

// judge has the guard look at a worker's newest push. v.mu is locked.
func (v *server) judge(p *peer) {
	if v.guard == nil || p.samples == 0 {
		return
	}
	why := v.guard.push(p.loss / float64(p.samples))
	if why == "" {
		return
	}
	bound := most
	if v.pace.Mode == SSP {
		bound = v.pace.Staleness
	}
	next, ok := tighter(bound)
	if v.cfg.Guard == GuardStop || !ok {
		v.bad = "the run diverges: " + why + "; try a smaller --lr, mode=ssp with a small staleness, or guard=tighten"
		return
	}
	// A worker needs all servers to go on: that this one holds it back is enough.
	v.pace.Mode, v.pace.Staleness = SSP, next
	v.guard.again()
	v.served.Notes = append(v.served.Notes, fmt.Sprintf("after %d updates %s: from then on no worker was more than %d steps ahead", v.version, why, next))
}

// may tells whether a worker may go on. v.mu is locked.
func (v *server) may(who int) bool {
	next := v.prog.Done[who]
	if v.stopAt >= 0 && next > v.stopAt {
		return true // there is no next one
	}
	ok, _ := v.pace.MayStart(v.prog, who, next)
	return ok
}

// give copies the parameters for a worker, which may go on, or makes a code of them. The caller has the turn.
func (v *server) give(p *peer, who int) (err error) {
	if p.shadow == nil {
		if p.base != v.version { // else it has them
			v.w.Pass(v.hi-v.lo, 2, func() { copy(p.out, v.w.Frame[v.lo:v.hi]) })
		}
		v.tell(p, who)
		return nil
	}
	v.tell(p, who)
	p.code, err = v.code(p.code, p.shadow, p.out[:v.heading()], v.version)
	return err
}

// tell notes what a worker is given, and writes the head of that.
func (v *server) tell(p *peer, who int) {
	hollow := comm.IsHollow(v.w.Group)
	v.mu.Lock()
	defer v.mu.Unlock()
	_, fetches := v.cfg.periods()
	p.base, p.started = v.version, v.prog.Done[who]+fetches-1
	if v.lo > 0 || hollow {
		return
	}
	if v.cfg.Mode != Backup {
		v.loss = v.recent()
	}
	p.out[strategy.HeadLoss], p.out[strategy.HeadStop] = float32(v.loss), 0
	if v.guard != nil && v.guard.seen >= v.guard.workers {
		p.out[headFirst] = float32(v.guard.first)
	}
	if p.out[headShare] = 0; v.pace.Mode == SSP || v.pace.Mode == GSSP {
		p.out[headShare] = 1
	}
	p.out[headNext], p.out[headDropped] = math.Float32frombits(uint32(v.prog.Done[who])), 0
	if p.counted != p.step {
		p.out[headDropped] = 1
	}
	if v.stopAt >= 0 && v.prog.Done[who] > v.stopAt {
		p.out[strategy.HeadStop] = 1
	}
}

// recent is the mean loss of all workers' newest pushes, NaN when these have no samples. v.mu is locked.
func (v *server) recent() float64 {
	var loss float64
	n := 0
	for _, p := range v.peers {
		loss += p.loss
		n += p.samples
	}
	return loss / float64(n)
}
