package sim

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/covey-ml/covey/comm"
)

// The kernel runs a world in instants. In an instant, every worker that has something to run runs until all of its
// goroutines wait; what they ask of the world they leave in their worker's list of actions. When all are still, the
// kernel carries the actions out in the order of ranks, shares links and cores out anew, and, when nobody has become
// ready by that, goes on to the time of the next event.
//
// A worker's goroutines run one at a time. Several workers may run at once, on several cores: they see the same time, and
// touch nothing of each other's, so what they do does not depend on who is first.

// event is something that will happen. Events of one time happen in the order in which they were set.
type event struct {
	at  time.Duration
	idx int // in the heap, -1 when it is not there
	do  happening
}

type happening interface{ happen(w *World) }

func newEvent(do happening) event { return event{idx: -1, do: do} }

// slot is an event's place in the heap, with what is compared beside it.
type slot struct {
	at  time.Duration
	seq uint64
	e   *event
}

func (s *slot) before(o *slot) bool { return s.at < o.at || s.at == o.at && s.seq < o.seq }

// set puts e at a time, whether or not it was set before.
func (w *World) set(e *event, at time.Duration) {
	e.at = max(at, w.now)
	w.seq++
	s := slot{e.at, w.seq, e}
	if e.idx < 0 {
		w.events = append(w.events, s)
		w.rise(len(w.events)-1, s)
	} else {
		w.place(e.idx, s)
	}
	if w.pace != nil && w.events[0].e == e {
		w.pace.poke()
	}
}

// unset takes e back.
func (w *World) unset(e *event) {
	i := e.idx
	if i < 0 {
		return
	}
	e.idx = -1
	last := len(w.events) - 1
	moved := w.events[last]
	w.events[last] = slot{}
	w.events = w.events[:last]
	if i < last {
		w.place(i, moved)
	}
}

// place puts s where slot i is, or wherever it belongs from there.
func (w *World) place(i int, s slot) {
	if i > 0 && s.before(&w.events[(i-1)/4]) {
		w.rise(i, s)
		return
	}
	h := w.events
	for {
		least, at := i, &s
		for c := 4*i + 1; c <= 4*i+4 && c < len(h); c++ {
			if h[c].before(at) {
				least, at = c, &h[c]
			}
		}
		if least == i {
			break
		}
		h[i] = *at
		h[i].e.idx = i
		i = least
	}
	h[i], s.e.idx = s, i
}

func (w *World) rise(i int, s slot) {
	h := w.events
	for i > 0 {
		up := (i - 1) / 4
		if !s.before(&h[up]) {
			break
		}
		h[i] = h[up]
		h[i].e.idx = i
		i = up
	}
	h[i], s.e.idx = s, i
}

// proc is one goroutine of a worker.
type proc struct {
	n      *node
	number int                     // of the worker's goroutines
	next   func() (struct{}, bool) // lets it run until it waits; false: it has ended
	yield  func(struct{}) bool     // gives way to who called next
	resume chan struct{}           // in a paced world: it was woken
	timer  event

	// While it waits:
	waits bool
	gen   uint64          // of the wait
	armed uint64          // the wait that the timer is for
	until time.Duration   // when that has lasted too long
	ctx   context.Context // ends the wait too; nil: nothing does
	err   error           // what the wait ended with
	on    any             // *receipt, *message, *flag, computing or sleeping
	since time.Duration

	debt  work // computations that were told and have not been waited for
	owing bool // it computes before it waits: whatever it waits for does not wake it
}

// happen is the timer's: the wait has lasted too long, or, where that was the point, long enough. A timer that was set for
// an earlier wait is set anew for this one.
func (p *proc) happen(w *World) {
	switch {
	case !p.waits || p.armed != p.gen:
	case w.now < p.until:
		w.set(&p.timer, p.until)
	default:
		p.n.timeout(p)
	}
}

// limit bounds the wait that p is in. A timer that comes sooner will see that the bound has moved.
func (n *node) limit(p *proc, d time.Duration) {
	p.armed, p.until = p.gen, n.w.now+d
	if p.timer.idx < 0 || p.timer.at > p.until {
		n.ask(action{kind: actTimer, p: p, gen: p.gen})
	}
}

// action is what a goroutine asks of the world.
type action struct {
	kind  actionKind
	p     *proc
	gen   uint64
	cost  work
	m     *message
	n, to *node
	err   error
	bytes int
}

type actionKind uint8

const (
	actTimer   actionKind = iota // p's timer is to come sooner
	actSpend                     // p's computation begins
	actSend                      // p sends m
	actClaim                     // m, which waits for somebody to ask for it, was asked for
	actRoom                      // bytes of m's pair are asked for, or, negative, not any more
	actAbandon                   // m's sender gives up, with err
	actNews                      // n waits for to, which is gone
	actStep                      // n begins a step, whose number is bytes
	actPoison                    // tell the peers that n is poisoned
	actClose                     // n says goodbye
)

// ask leaves an action for the kernel.
func (n *node) ask(a action) {
	if n.running {
		n.asked = append(n.asked, a)
		return
	}
	n.w.carryOut(a) // the kernel's own, or a paced world
}

// wake ends the wait of p. The caller is the kernel, or a goroutine of the same worker.
func (n *node) wake(p *proc, err error) {
	if !p.waits {
		return
	}
	p.waits, p.owing, p.err = false, false, err
	p.gen++
	n.waiting = remove(n.waiting, p)
	n.traceWait(p)
	p.on = nil
	if n.w.pace != nil {
		p.resume <- struct{}{}
		return
	}
	n.ready = append(n.ready, p)
	n.queue()
}

// queue puts the worker among those that have something to run, unless it is at work and will come to it.
func (n *node) queue() {
	if !n.running && !n.queued && !n.frozen && len(n.ready) > 0 {
		n.queued = true
		n.w.ready = append(n.w.ready, n)
	}
}

// spawn begins a goroutine of the worker. It is a coroutine: it runs when it is told to and gives way where it waits, which
// costs a tenth of what two channels do.
func (n *node) spawn(f func()) {
	p := &proc{n: n, number: n.procs}
	p.timer = newEvent(p)
	n.procs++
	n.live++
	n.w.alive.Add(1)
	p.next, _ = iter.Pull(func(yield func(struct{}) bool) {
		p.yield = yield
		f()
		n.pay(p)
		n.live--
		n.w.alive.Add(-1)
	})
	n.ready = append(n.ready, p)
	n.queue()
}

// runReady runs the worker's goroutines, one at a time, until all of them wait.
func (n *node) runReady() {
	n.running = true
	for {
		for len(n.ready) > 0 {
			p := n.ready[0]
			n.ready = pop(n.ready)
			n.current = p
			p.next()
			n.current = nil
		}
		if !n.lookAtContexts() {
			break
		}
	}
	n.running, n.queued = false, false
}

// lookAtContexts wakes those whose context has ended, and tells whether there were any. Contexts are ended by the
// goroutines of the worker itself, by its timers, or from outside, which Run looks at.
func (n *node) lookAtContexts() bool {
	found := false
	for i := 0; i < len(n.waiting); i++ {
		if p := n.waiting[i]; p.ctx != nil && p.ctx.Err() != nil {
			n.giveUp(p, context.Cause(p.ctx))
			found, i = true, -1
		}
	}
	return found
}

// Run calls f for every worker, each on a goroutine of its worker, and returns when all of the workers' goroutines have
// ended. The error is a *DeadlockError when they wait for what will never come, or that of the context, which ends all
// waits; f's own failures are f's to keep. A world runs once.
func (w *World) Run(ctx context.Context, f func(g comm.Group)) error {
	if w.pace != nil || w.ran {
		panic("sim: Run of a world that runs already")
	}
	w.ran = true
	for _, n := range w.nodes {
		n.spawn(func() { f(n.group.view()) })
	}
	var err error
	ended := false
	for w.alive.Load() > 0 {
		if len(w.ready) > 0 {
			w.instant()
			continue
		}
		if w.turns++; err == nil && w.turns%256 == 0 && ctx.Err() != nil {
			err = context.Cause(ctx)
			for _, n := range w.nodes {
				n.lookAtContexts()
			}
			continue
		}
		if w.advance() {
			continue
		}
		if w.alive.Load() == 0 {
			break
		}
		if err == nil {
			if err = w.deadlock(); ctx.Err() != nil {
				err = context.Cause(ctx)
			}
		}
		if ended {
			panic("sim: goroutines that nothing can wake")
		}
		ended = true
		for _, n := range w.nodes {
			n.vanish()
		}
	}
	w.trace.close(w)
	if err == nil {
		err = w.trace.err
	}
	return err
}

// hollowCrowd is how many workers, who compute nothing, it takes for a second core to pay.
const hollowCrowd = 256

// instant runs those that are ready, and carries out what they ask.
func (w *World) instant() {
	ready := w.ready
	w.ready = w.spare[:0]
	ready = slices.DeleteFunc(ready, func(n *node) bool { // stopped meanwhile: freeze queues it again
		n.queued = !n.frozen
		return n.frozen
	})
	slices.SortFunc(ready, func(a, b *node) int { return cmp.Compare(a.rank, b.rank) })
	if cores := min(w.cores, len(ready)); cores > 1 && (!w.c.Hollow || len(ready) >= hollowCrowd) {
		var next atomic.Int64
		var wg sync.WaitGroup
		for range cores {
			wg.Go(func() {
				for i := int(next.Add(1)) - 1; i < len(ready); i = int(next.Add(1)) - 1 {
					ready[i].runReady()
				}
			})
		}
		wg.Wait()
	} else {
		for _, n := range ready {
			n.runReady()
		}
	}
	for _, n := range ready {
		asked := n.asked
		n.asked = n.spareAsked[:0]
		for i := range asked {
			w.carryOut(asked[i])
		}
		clear(asked)
		n.spareAsked = asked[:0]
		n.flushTrace()
	}
	clear(ready)
	w.spare = ready[:0]
	w.settle()
}

// advance goes to the time of the next event and makes everything happen that is to happen then. It returns false when
// there is none.
func (w *World) advance() bool {
	if len(w.events) == 0 {
		return false
	}
	w.now = w.events[0].at
	for len(w.events) > 0 && w.events[0].at == w.now {
		e := w.events[0].e
		w.unset(e)
		e.do.happen(w)
	}
	w.settle()
	return true
}

// carryOut does what a goroutine asked.
func (w *World) carryOut(a action) {
	switch a.kind {
	case actTimer:
		if a.p.waits && a.p.gen == a.gen {
			w.set(&a.p.timer, a.p.until)
		}
	case actSpend:
		w.spend(a.p, a.gen, a.cost)
	case actSend:
		if a.cost != (work{}) {
			w.spend(a.p, a.gen, a.cost)
		} else {
			w.send(a.m)
		}
	case actClaim:
		w.claimed(a.m)
	case actRoom:
		w.asked(a.n.pairTo(a.to), a.bytes)
	case actAbandon:
		w.abandon(a.m, a.err)
	case actNews:
		w.news(a.n, a.to)
	case actStep:
		w.faults.step(w, a.n, a.bytes)
	case actPoison:
		w.tellPoison(a.n)
	case actClose:
		w.leave(a.n, comm.ErrLeft)
	}
}

// DeadlockError says that no worker can go on, and what each one waits for.
type DeadlockError struct {
	At    time.Duration
	Waits []string // one a goroutine, in the order of ranks
}

func (e *DeadlockError) Error() string {
	const most = 10
	shown := e.Waits[:min(len(e.Waits), most)]
	s := fmt.Sprintf("deadlock at %v: no worker can go on, and nothing is under way:\n  %s", e.At, strings.Join(shown, "\n  "))
	if more := len(e.Waits) - most; more > 0 {
		s += fmt.Sprintf("\n  and %d more", more)
	}
	return s
}

func (w *World) deadlock() error {
	e := &DeadlockError{At: w.now}
	for _, n := range w.nodes {
		for _, p := range n.waiting {
			e.Waits = append(e.Waits, fmt.Sprintf("worker %d, goroutine %d: %s since %v", n.rank, p.number, describe(p), p.since))
		}
	}
	return e
}

// realCores is how many of this machine's cores run workers.
func realCores(asked int) int {
	if asked > 0 {
		return asked
	}
	return runtime.GOMAXPROCS(0)
}
