package sim

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/rng"
)

// node is a worker: its goroutines, its inbox, its side of the wires.
type node struct {
	w     *World
	rank  comm.Rank
	host  int
	group *Group

	// The worker's goroutines. In the world's own time those of one worker run one at a time.
	procs      int     // so far
	live       int     // of them, not ended
	ready      []*proc // woken, in order
	waiting    []*proc // the others
	current    *proc
	running    bool // the worker is at work in this instant
	queued     bool // it is among the world's ready
	asked      []action
	spareAsked []action
	spans      []span

	inbox
	pairs  map[comm.Rank]*pair // to those that this worker has sent to
	poison *comm.PeerError
	told   bool
	closed bool
	left   error         // why it is gone for its peers, nil while it is there
	goneAt time.Duration // since when
	dead   bool          // killed: its goroutines are to end

	factor float64 // of slowness, by faults
	frozen bool    // stopped by a fault
	tasks  uint64  // computations so far
	step   int     // that it is in, as the kernel knows
	own    int     // and as it says itself
}

// errGone is what waits of a worker that was killed end with.
var errGone = errors.New("sim: the worker is gone")

func newNode(w *World, r comm.Rank, host int) *node {
	n := &node{w: w, rank: r, host: host, pairs: map[comm.Rank]*pair{}, factor: 1}
	n.inbox.boxes = map[box]*queue{}
	n.group = &Group{n: n, clock: clock{n}}
	return n
}

func (n *node) gone() bool { return n.dead }

// lock is needed in a paced world, whose callers are any goroutines.
func (n *node) lock() {
	if n.w.pace != nil {
		n.w.pace.lock()
	}
}

func (n *node) unlock() {
	if n.w.pace != nil {
		n.w.pace.unlock()
	}
}

// me is the goroutine that calls.
func (n *node) me() *proc {
	if n.w.pace != nil {
		p := &proc{n: n, resume: make(chan struct{}, 1)}
		p.timer = newEvent(p)
		return p
	}
	if n.current == nil {
		panic(fmt.Sprintf("sim: worker %d is used by a goroutine that its clock did not start", n.rank))
	}
	return n.current
}

// hold begins a wait, which park ends: for on, until ctx ends.
func (n *node) hold(p *proc, ctx context.Context, on any) {
	p.waits, p.err, p.since, p.on, p.ctx = true, nil, n.w.now, on, nil
	if ctx != nil && ctx.Done() != nil {
		p.ctx = ctx
	}
	n.waiting = append(n.waiting, p)
}

// park gives way until the wait has ended, and returns with what.
func (n *node) park(p *proc) error {
	if n.w.pace != nil {
		return n.w.pace.park(p)
	}
	p.yield(struct{}{})
	return p.err
}

// giveUp ends a wait before what it waits for has come.
func (n *node) giveUp(p *proc, cause error) {
	switch on := p.on.(type) {
	case *receipt:
		n.cancel(on, cause)
	case *message: // the other side may be taking it
		p.ctx = nil
		n.ask(action{kind: actAbandon, m: on, err: cause})
	case *flag:
		on.waiter = nil
		n.wake(p, cause)
	case computing: // nobody gives up a computation
	default:
		n.wake(p, cause)
	}
}

// timeout says that p's timer has run out.
func (n *node) timeout(p *proc) {
	switch on := p.on.(type) {
	case sleeping:
		n.wake(p, nil)
	case *receipt:
		if on.m != nil && n.w.moves(on.m) {
			n.limit(p, n.w.c.Timeout)
			return
		}
		n.cancel(on, comm.ErrTimeout)
	case *message:
		n.w.abandon(on, comm.ErrTimeout)
	}
}

// sleeping and computing are what a proc is on while it does that.
type (
	sleeping  struct{}
	computing struct{}
)

func describe(p *proc) string {
	switch on := p.on.(type) {
	case *receipt:
		who := "anybody"
		if on.from != comm.AnyRank {
			who = fmt.Sprintf("worker %d", on.from)
		}
		return fmt.Sprintf("waits for a message of %s (%v, up to %d bytes)", who, on.tag.Op(), len(on.p))
	case *message:
		return fmt.Sprintf("sends %d bytes to worker %d (%v), which nobody there asks for", on.n, on.to.rank, on.tag.Op())
	case *flag:
		return "waits for an event of its own worker"
	case computing:
		if p.n.frozen {
			return "stands still, stopped by a fault,"
		}
		return "computes"
	}
	return "sleeps"
}

// clock is a worker's comm.Clock.
type clock struct{ n *node }

// Now implements comm.Clock.
func (c clock) Now() time.Duration {
	c.n.lock()
	defer c.n.unlock()
	p := c.n.current
	if p == nil {
		return c.n.w.now
	}
	if c.n.roomy() { // a computation takes what it takes: nobody need wait for it to know when it ends
		return c.n.w.now + seconds(p.debt.flops) + seconds(p.debt.bytes)
	}
	c.n.pay(p)
	return c.n.w.now
}

// Sleep implements comm.Clock.
func (c clock) Sleep(ctx context.Context, d time.Duration) error {
	n := c.n
	n.lock()
	defer n.unlock()
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case d <= 0:
		return nil
	case n.gone():
		return comm.ErrClosed
	}
	p := n.me()
	n.pay(p)
	n.hold(p, ctx, sleeping{})
	n.limit(p, d)
	return public(n.park(p))
}

// Go implements comm.Clock.
func (c clock) Go(f func()) {
	if c.n.w.pace != nil {
		go f()
		return
	}
	c.n.settle()
	c.n.spawn(f)
}

// Event implements comm.Clock.
func (c clock) Event() comm.Event { return &flag{n: c.n} }

// Spend implements comm.Clock: the caller goes on when the host's cores have done the work. A worker of one goroutine, of
// whom nobody sees when it does what it does by itself, goes on at once, and waits when it next has to do with anybody.
func (c clock) Spend(cost comm.Cost) {
	n := c.n
	n.lock()
	defer n.unlock()
	k := n.work(cost)
	if k.flops+k.bytes <= 0 || n.gone() {
		return
	}
	p := n.me()
	p.debt.flops += k.flops
	p.debt.bytes += k.bytes
	if n.live > 1 || n.w.pace != nil {
		n.pay(p)
	}
}

// roomy tells whether n's computations have cores and memory to themselves, at full speed.
func (n *node) roomy() bool {
	return n.w.hosts[n.host].roomy && n.factor == 1 && !n.frozen && n.w.c.Faults == nil
}

func seconds(s float64) time.Duration { return time.Duration(math.Ceil(float64(s*1e9) - 1e-3)) }

// takeDebt returns what p has computed and not waited for, as it begins a wait for something else: it computes first.
func (n *node) takeDebt(p *proc) (k work) {
	k, p.debt = p.debt, work{}
	p.owing = k != (work{})
	return k
}

// pay waits for what p has computed.
func (n *node) pay(p *proc) {
	k := p.debt
	if k == (work{}) {
		return
	}
	p.debt = work{}
	if n.gone() {
		return
	}
	n.hold(p, nil, computing{})
	n.ask(action{kind: actSpend, p: p, gen: p.gen, cost: k})
	n.park(p)
}

// settle waits for what the caller has computed.
func (n *node) settle() {
	if p := n.current; p != nil {
		n.pay(p)
	}
}

// WithTimeout implements comm.Clock. The context ends in the world's time.
func (c clock) WithTimeout(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	c.Go(func() {
		if c.Sleep(ctx, d) == nil {
			cancel(context.DeadlineExceeded)
		}
	})
	return &deadline{ctx}, func() { cancel(context.Canceled) }
}

// deadline is a context whose end by time looks like that of package context.
type deadline struct{ context.Context }

func (d *deadline) Err() error {
	err := d.Context.Err()
	if err != nil && context.Cause(d.Context) == context.DeadlineExceeded {
		return context.DeadlineExceeded
	}
	return err
}

// flag is an Event.
type flag struct {
	n      *node
	up     bool
	waiter *proc
}

// Set implements comm.Event.
func (f *flag) Set() {
	f.n.lock()
	defer f.n.unlock()
	f.n.settle()
	if p := f.waiter; p != nil {
		f.waiter = nil
		f.n.wake(p, nil)
		return
	}
	f.up = true
}

// Wait implements comm.Event.
func (f *flag) Wait(ctx context.Context) error {
	n := f.n
	n.lock()
	defer n.unlock()
	n.settle()
	switch {
	case f.up:
		f.up = false
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case n.gone():
		return comm.ErrClosed
	}
	p := n.me()
	f.waiter = p
	n.hold(p, ctx, f)
	return public(n.park(p))
}

// public turns what the world says to itself into what a program is told.
func public(err error) error {
	if err == errGone {
		return comm.ErrClosed
	}
	return err
}

// work is a computation in seconds of one of the host's cores.
type work struct{ flops, bytes float64 }

// work says how long a computation takes where n is, on a core of its own.
func (n *node) work(c comm.Cost) work {
	h := &n.w.hosts[n.host]
	k := work{flops: float64(c.FLOPs) / h.machine.FLOPS / h.speed, bytes: float64(c.Bytes) / h.machine.Memory / h.speed}
	if h.machine.Tail.Probability > 0 && k.flops > 0 {
		n.tasks++
		f := h.machine.Tail.Factor(rng.Key(n.w.c.Seed, "tail", uint64(n.rank), n.tasks))
		k.flops, k.bytes = float64(k.flops*f), float64(k.bytes*f)
	}
	return k
}

// task is a computation under way, or the processing of a message.
type task struct {
	activity
	n     *node
	p     *proc // who is woken at its end, in wait gen; or
	gen   uint64
	m     *message // whose message is processed: by its sender, or
	taken bool     // by its receiver
	bytes float64  // what is still to do in memory
}

// spend begins the computation of p.
func (w *World) spend(p *proc, gen uint64, k work) {
	t := w.free.task()
	t.n, t.p, t.gen = p.n, p, gen
	w.compute(t, k)
}

func (w *World) compute(t *task, k work) {
	h := &w.hosts[t.n.host]
	t.left, t.bytes = float64(k.flops*t.n.factor), float64(k.bytes*t.n.factor)
	t.most = 1
	if t.n.frozen {
		t.most = 0
	}
	if t.left <= 0 {
		t.left, t.bytes = t.bytes, 0
		t.uses = append(t.uses[:0], &h.cores, &h.memory)
	} else {
		t.uses = append(t.uses[:0], &h.cores)
	}
	w.begin(&t.activity)
}

// happen is the end of a phase of the task.
func (t *task) happen(w *World) {
	w.finish(&t.activity)
	if t.bytes > 0 {
		h := &w.hosts[t.n.host]
		t.left, t.bytes = t.bytes, 0
		t.uses = append(t.uses[:0], &h.cores, &h.memory)
		w.begin(&t.activity)
		return
	}
	switch n := t.n; {
	case t.m != nil && t.taken:
		n.deliver(t.m)
	case t.m != nil:
		w.offer(t.m)
	case t.p.waits && t.p.gen == t.gen:
		n.computed(t.p)
	}
	w.free.giveTask(t)
}

// computed is the end of p's computation: it goes on, or begins to wait for what it was about to.
func (n *node) computed(p *proc) {
	if !p.owing {
		n.wake(p, nil)
		return
	}
	p.owing = false
	n.traceSpan(p, spanCompute)
	p.since = n.w.now
	switch on := p.on.(type) {
	case *message:
		n.w.send(on)
	case *receipt:
		if on.done {
			on.waiter = nil
			n.wake(p, nil)
		} else if !n.w.c.Endless {
			n.limit(p, n.w.c.Timeout)
		}
	}
}
