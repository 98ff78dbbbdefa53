// Package faulty makes the faults of a script (package fault) come true in a real run: a Group around a worker's Group.
//
//	g, err := faulty.Wrap(g, faulty.Config{Script: script, Timeout: timeout, Seed: seed, Told: told, Kill: kill, Stop: stop})
//	rep, err := train.Run(ctx, g, conf)
//
// Each worker follows the script by itself, from its own steps and its own clock, whose zero is the moment of Wrap. What
// the kinds of faults mean is what they mean to comm/sim, so that a script drives both:
//
//   - kill and stop are what Config.Kill and Config.Stop do to the process;
//   - slow: what the worker tells its clock of as computed (Clock.Spend) is followed by a sleep, of as many times as long
//     as it took as the worker is slower;
//   - partition, drop, delay, limit: the sender keeps messages back. A message that was taken arrives in the order of its
//     pair, when the partition is over, or when the bits before it have passed and the delay is over. A lost packet is not
//     lost but late, by what sending it again would take. A real loss, below the sockets, is nothing that a process can make;
//   - corrupt: train hands each gradient to Spoil. The keys of what is drawn are those of comm/sim.
//
// A link is named by the two ranks at its ends, 0-3; 3-* is everything that rank 3 sends and receives. A limit holds for each
// direction of each pair of ranks. A partition that begins or ends at a step does so for each rank when that rank comes to the
// step.
//
// The group keeps what the one inside can do, but that with slow workers or faults of messages there is no Board: what
// passes by shared memory no sender could keep back, nor could waiting there be told from computing.
package faulty

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/fault"
	"github.com/covey-ml/covey/rng"
)

// Config is what a worker's faults are.
type Config struct {
	Script  fault.Script
	Done    int           // the step of the checkpoint that the run goes on from; 0 for a new run
	Seed    uint64        // of which packets are lost, and of noise in gradients: the job's
	Timeout time.Duration // of the group inside: how long Send waits when messages are kept back
	// Told hears of each fault that concerns this worker when it takes effect, before it does. Calls may overlap. Nil:
	// nobody hears.
	Told func(Fired)
	Kill func() // ends the process; nil: it cannot be done here
	// Stop makes the process stand still, and returns when it goes on, after about so long; 0 is for good. Nil: it cannot
	// be done here.
	Stop func(d time.Duration)
}

// Fired says that a fault took effect.
type Fired struct {
	Fault int           // its number in the script
	All   bool          // it begins once for all whom it concerns, and each of them tells of it
	Times int           // how often: gradients of the step that were changed; else 1
	At    time.Duration // since the run began
	Step  int           // the worker's; 0: none yet
}

// Check holds a script against a run of so many workers as processes, or with kill and stop left out.
func Check(s fault.Script, workers int, processes bool) error {
	if err := s.Check(workers, 0, func(name string) error { _, err := parseLink(name, workers); return err }); err != nil {
		return err
	}
	for _, f := range s {
		if !processes && (f.Kind == fault.Kill || f.Kind == fault.Stop) {
			at := ""
			if f.Line > 0 {
				at = fmt.Sprintf("line %d: ", f.Line)
			}
			return fmt.Errorf("%s%v: workers that are goroutines of one process cannot be killed or stopped one by one: use --transport tcp or shm", at, f)
		}
	}
	return nil
}

// link is what a name of a link stands for.
type link struct{ a, b comm.Rank } // b may be AnyRank

func (l link) joins(x, y comm.Rank) bool {
	return l.a == x && (l.b == y || l.b == comm.AnyRank) || l.a == y && (l.b == x || l.b == comm.AnyRank)
}

// ends tells whether the link has an end at a rank.
func (l link) ends(r comm.Rank) bool { return l.a == r || l.b == r || l.b == comm.AnyRank }

func parseLink(name string, workers int) (link, error) {
	from, to, ok := strings.Cut(name, "-")
	l := link{b: comm.AnyRank}
	for i, word := range []string{from, to} {
		if i == 1 && word == "*" {
			continue
		}
		n, err := strconv.ParseUint(word, 10, 31)
		switch {
		case !ok || err != nil:
			return l, fmt.Errorf("links of a real run are named by their ranks, as in 0-1, or 1-* for all of rank 1, not %q", name)
		case int(n) >= workers:
			return l, fmt.Errorf("link %s: there is no rank %d: the ranks of %d workers are 0 to %d", name, n, workers, workers-1)
		case i == 0:
			l.a = comm.Rank(n)
		default:
			l.b = comm.Rank(n)
		}
	}
	if l.a == l.b {
		return l, fmt.Errorf("link %s has one end", name)
	}
	return l, nil
}

// group is the worker's group with the faults.
type group struct {
	comm.Group
	poster comm.Poster
	comm.Poisoner
	c     Config
	clock comm.Clock // what the worker sees
	zero  time.Duration
	board bool // the inner group's, if it has one
	seen  marks
	links map[string]link // that the script names
	lines []*line         // by rank; nil where nothing keeps messages back

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	helper sync.WaitGroup
	timing comm.Event    // raised when the time of the next change may be another
	act    chan struct{} // holds a token while somebody makes changes so

	mu      sync.Mutex
	state   *fault.State
	step    int
	until   time.Duration // when the stops that have begun are over
	endless bool          // one of them never is
	spoiled map[int]int   // by fault: how many gradients of this step
	closed  bool
}

// Wrap returns g with the faults of a script that has passed Check. The caller closes what it returns, not g.
func Wrap(inner comm.Group, c Config) (comm.Group, error) {
	if err := Check(c.Script, inner.Size(), c.Kill != nil && c.Stop != nil); err != nil {
		return nil, err
	}
	if c.Told == nil {
		c.Told = func(Fired) {}
	}
	poster, posts := inner.(comm.Poster)
	poisoner, poisons := inner.(comm.Poisoner)
	if !posts || !poisons {
		return nil, fmt.Errorf("faulty: a %T is no comm.Poster and comm.Poisoner, as transports are", inner)
	}
	g := &group{Group: inner, poster: poster, Poisoner: poisoner, c: c, clock: inner.Clock(), zero: inner.Clock().Now(), board: true, timing: inner.Clock().Event(),
		state: fault.NewState(c.Script, inner.Size(), c.Done), links: map[string]link{},
		lines: make([]*line, inner.Size()), act: make(chan struct{}, 1), spoiled: map[int]int{}}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	for _, f := range c.Script {
		switch {
		case f.Kind == fault.Slow:
			g.board = false
			if concerns(f, g.Rank()) && g.seen.at == nil {
				g.seen.at = map[uint64]time.Duration{}
				g.clock = slowClock{inner.Clock(), g}
			}
		case f.Kind == fault.Partition:
			g.board = false
		case f.Kind.OnLink():
			g.board = false
			g.links[f.Link], _ = parseLink(f.Link, g.Size()) // Check has seen it
		}
	}
	g.stretch()
	if len(c.Script) > 0 {
		g.follow(g.state.Time) // what begins at the start
		g.helper.Add(1)
		inner.Clock().Go(g.watch)
	}
	return g.view(), nil
}

// view is the group with the abilities that are true of it.
func (g *group) view() comm.Group {
	if w, ok := g.Group.(comm.Wire); ok {
		return struct {
			*group
			comm.Wire
		}{g, w}
	}
	return g
}

// concerns tells whether a fault does something to a rank.
func concerns(f fault.Fault, r comm.Rank) bool {
	for _, side := range [][]int{f.Ranks, f.Others} {
		for _, x := range side {
			if x == int(r) {
				return true
			}
		}
	}
	return false
}

// now is the time since the run began.
func (g *group) now() time.Duration { return g.Group.Clock().Now() - g.zero }

// watch makes come what comes by time.
func (g *group) watch() {
	defer g.helper.Done()
	for g.ctx.Err() == nil {
		g.mu.Lock()
		at, some := g.state.Next()
		g.mu.Unlock()
		ctx, cancel := g.ctx, func() {}
		if some {
			ctx, cancel = g.Group.Clock().WithTimeout(ctx, max(at-g.now(), 0))
		}
		g.timing.Wait(ctx) // whichever it was that ended it
		cancel()
		if g.ctx.Err() == nil {
			g.follow(g.state.Time)
		}
	}
}

// Begin implements comm.Faulty.
func (g *group) Begin(step int) {
	if len(g.c.Script) == 0 {
		return
	}
	g.tellSpoiled()
	g.mu.Lock()
	g.step = step
	g.mu.Unlock()
	g.follow(func(at time.Duration) []fault.Change { return g.state.Step(at, int(g.Rank()), step) })
	g.seen.mark(g)
}

// follow asks the state what changes and makes it so.
func (g *group) follow(ask func(at time.Duration) []fault.Change) {
	g.act <- struct{}{}
	defer func() { <-g.act }()
	for {
		g.mu.Lock()
		if g.closed {
			g.mu.Unlock()
			return
		}
		now := g.now()
		changes := ask(now)
		fired := make([]Fired, 0, len(changes))
		for _, c := range changes {
			f := g.c.Script[c.Fault]
			mine := c.Rank == int(g.Rank()) || c.Rank < 0 && (concerns(f, g.Rank()) || f.Kind.OnLink() && g.links[f.Link].ends(g.Rank()))
			if !mine || !c.Begins || f.Kind == fault.Corrupt {
				continue
			}
			fired = append(fired, Fired{Fault: c.Fault, All: c.Rank < 0, Times: 1, At: now, Step: g.step})
			if f.Kind == fault.Stop {
				end, ends := f.To.Time, f.To.Time > 0
				if f.For > 0 {
					end, ends = now+f.For, true
				}
				g.until, g.endless = max(g.until, end), g.endless || !ends
			}
		}
		dead, still := g.state.Dead(int(g.Rank())), g.state.Stopped(int(g.Rank()))
		left := max(g.until-now, 1)
		if g.endless {
			left = 0
		}
		g.mu.Unlock()
		for _, f := range fired {
			g.c.Told(f)
		}
		if dead {
			g.tellSpoiled()
			g.c.Kill()
		}
		if len(changes) > 0 {
			g.timing.Set()
			for _, l := range g.lines {
				if l != nil {
					l.news.Set()
				}
			}
		}
		if !still || dead {
			return
		}
		g.c.Stop(left)
		ask = g.state.Time
	}
}

// Spoil implements comm.Faulty.
func (g *group) Spoil(x []float32, off int) {
	if len(g.c.Script) == 0 {
		return
	}
	g.mu.Lock()
	step := g.step
	which := g.c.Script.Corruptions(int(g.Rank()), step)
	for _, i := range which {
		if off == 0 {
			g.spoiled[i]++
		}
	}
	g.mu.Unlock()
	for _, i := range which {
		if err := fault.Spoil(g.c.Script[i].How, x, rng.Key(g.c.Seed, "spoil", uint64(g.Rank()), uint64(step), uint64(off))); err != nil {
			panic(err) // Check has seen the script
		}
	}
}

// tellSpoiled tells of the gradients that were changed in the step that is over.
func (g *group) tellSpoiled() {
	g.mu.Lock()
	var fired []Fired
	for i := range g.c.Script {
		if n := g.spoiled[i]; n > 0 {
			fired = append(fired, Fired{Fault: i, Times: n, At: g.now(), Step: g.step})
		}
	}
	clear(g.spoiled)
	g.mu.Unlock()
	for _, f := range fired {
		g.c.Told(f)
	}
}

// Clock implements comm.Group.
func (g *group) Clock() comm.Clock { return g.clock }

// Post implements comm.Poster: faults of messages are the sender's.
func (g *group) Post(from comm.Rank, tag comm.Tag, p []byte) comm.Receipt {
	r := g.poster.Post(from, tag, p)
	if g.seen.at == nil {
		return r
	}
	return markedReceipt{r, g}
}

// Recv implements comm.Group.
func (g *group) Recv(ctx context.Context, from comm.Rank, tag comm.Tag, p []byte) (comm.Rank, int, error) {
	defer g.seen.mark(g)
	return g.Group.Recv(ctx, from, tag, p)
}

// Send implements comm.Group.
func (g *group) Send(ctx context.Context, to comm.Rank, tag comm.Tag, p []byte) error {
	defer g.seen.mark(g)
	if to < 0 || int(to) >= len(g.lines) || g.lines[to] == nil {
		return g.Group.Send(ctx, to, tag, p)
	}
	return g.lines[to].send(ctx, tag, p)
}

// Close implements comm.Group. What is kept back still arrives, unless the group's timeout is over before.
func (g *group) Close() error {
	g.mu.Lock()
	again := g.closed
	g.closed = true
	g.mu.Unlock()
	if again {
		return g.Group.Close()
	}
	g.tellSpoiled()
	g.drain()
	g.cancel()
	err := g.Group.Close()
	g.helper.Wait()
	return err
}

// Overhead implements comm.Framer.
func (g *group) Overhead(n int) int {
	if f, ok := g.Group.(comm.Framer); ok {
		return f.Overhead(n)
	}
	return 0
}

// Costs implements comm.Costed.
func (g *group) Costs() comm.Costs {
	c := comm.CostsOf(g.Group)
	if !g.board {
		c.Board = comm.BoardCosts{}
	}
	return c
}

// Alloc implements comm.Allocator; it returns nil when the group inside has no memory of its own.
func (g *group) Alloc(n int) []float32 {
	if a, ok := g.Group.(comm.Allocator); ok {
		return a.Alloc(n)
	}
	return nil
}

// Hollow implements comm.Hollow.
func (g *group) Hollow() bool { return comm.IsHollow(g.Group) }

// Board implements comm.Boarder.
func (g *group) Board() *comm.Board {
	if b, ok := g.Group.(comm.Boarder); ok && g.board {
		return b.Board()
	}
	return nil
}

var (
	_ comm.Faulty    = (*group)(nil)
	_ comm.Poster    = (*group)(nil)
	_ comm.Poisoner  = (*group)(nil)
	_ comm.Framer    = (*group)(nil)
	_ comm.Costed    = (*group)(nil)
	_ comm.Allocator = (*group)(nil)
	_ comm.Hollow    = (*group)(nil)
	_ comm.Boarder   = (*group)(nil)
)
