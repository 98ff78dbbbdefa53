package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"sync"

	"github.com/covey-ml/covey/cluster"
	"github.com/covey-ml/covey/comm"
)

// follower keeps track of a run's workers from the launcher.
type follower struct {
	w       *watcher
	c       *cluster.Coordinator
	base    *base
	start   func(rank int) (*child, error)
	alien   bool     // the workers are a program that calls the library
	memory  *os.File // that workers share; nil: they share none
	local   int      // workers that are started here at first
	elastic bool
	folder  string // of an elastic run
	clock   comm.Clock
	over    context.Context // ends with the run
	faults  *faultBooks
	rows    func(json.RawMessage) // hears of events in the watcher's place; nil: the watcher does
	done    chan struct{}         // closed when all have ended

	mu          sync.Mutex
	procs       []*child
	members     map[string]*cluster.Member // that have joined and not ended
	met         bool                       // some have
	names       map[string]int             // by ID, the rank in the newest generation that had it
	current     *cluster.Generation
	interrupted bool
	closing     bool // a worker has ended: the others are to follow
	finished    bool // done is closed
	forced      bool // nobody is waited for any more
	restarts    int  // how many workers may still be started in the place of others
	want        int
	next        int // the rank of the next one that is started beyond those at first
	end         *ending
	early       error                      // why the run ended before its start
	killed      []int                      // ranks of this host that did not follow
	vanished    map[string]bool            // programs that exited without a last word
	unheard     map[string]bool            // exited before the start, and their last word may be on its way
	fine        map[string]bool            // of workers that have said how they ended, whether it was well
	errs        map[string][]int           // what went wrong -> whom it happened to
	ours        map[string]bool            // of these, what is wrong with the job or this host's data, whichever worker saw it first
	still       map[int]context.CancelFunc // by rank, of those that stand still: what ends telling them to go on
	code        int                        // exit code of the worker that said most
}

func newFollower(over context.Context, w *watcher) *follower {
	return &follower{w: w, clock: comm.RealClock(), over: over, errs: map[string][]int{}, ours: map[string]bool{}, vanished: map[string]bool{}, unheard: map[string]bool{}, fine: map[string]bool{},
		still: map[int]context.CancelFunc{}, done: make(chan struct{})}
}

// codedError is an error that decides the exit code.
type codedError struct {
	error
	code int
}

func (e *codedError) Unwrap() error { return e.error }

// coordinate begins to hear of the run that a store holds, or will hold.
func (f *follower) coordinate(ctx context.Context, store cluster.Store) error {
	f.mu.Lock()
	defer f.mu.Unlock() // no news before
	c, err := cluster.Coordinate(ctx, store, f.clock, f.hear)
	f.c = c
	return err
}

// hear takes one piece of news.
func (f *follower) hear(n cluster.News) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case n.Event != nil:
		f.event(*n.Event)
	case n.Report != nil:
		var e ending
		if json.Unmarshal(n.Report, &e) == nil {
			f.end = &e
		}
		f.follow(false)
	case n.Joined != nil:
		if f.members == nil {
			f.members = map[string]*cluster.Member{}
		}
		f.members[n.Joined.ID], f.met = n.Joined, true
		if n.Joined.Want == nil && n.Joined.State != cluster.Ended {
			f.w.say("joined: %s", n.Joined.Name)
		}
	case n.Want > 0:
		if f.want > 0 && n.Want != f.want {
			f.w.say("%d workers are wanted", n.Want)
			f.scale(n.Want - len(f.members))
		}
		f.want = n.Want
	case n.Formed != nil:
		f.formed(n.Formed)
	case n.Ended != nil:
		f.gone(*n.Ended)
	}
	f.check()
}

// event takes a worker's progress. f.mu is held.
func (f *follower) event(s cluster.Said) {
	if f.rows != nil {
		f.rows(s.Event)
		return
	}
	var e event
	if json.Unmarshal(s.Event, &e) != nil {
		return
	}
	f.w.take(e)
	f.faults.take(e)
	if e.Word != "" {
		f.w.say("%s", e.Word)
	}
	if e.Still != nil {
		f.stands(f.names[s.ID], *e.Still)
	}
}

// formed takes a new generation. f.mu is held.
func (f *follower) formed(g *cluster.Generation) {
	first := f.current == nil
	f.current = g
	if f.names == nil {
		f.names = map[string]int{}
	}
	for r, s := range g.Seats {
		f.names[s.ID] = r
		if first && !s.Local {
			f.w.note("worker %d is %s", r, s.Name)
		}
	}
	if !first {
		f.w.say("generation %d: %s, %s", g.Number, count(len(g.Seats), "worker"), g.Why)
	}
}

// isFirst tells whether a worker is rank 0 by now.
func (f *follower) isFirst(id string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.current != nil && f.current.Rank(id) == 0
}

// process is the worker of this host that has a rank, nil when that is elsewhere. f.mu is held.
func (f *follower) process(rank int) *child {
	for _, p := range f.procs {
		if r, ok := f.names[p.ID]; ok && r == rank {
			return p
		}
	}
	return nil
}

// spawn starts a worker.
func (f *follower) spawn(rank int) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	p, err := f.start(rank)
	if err != nil {
		return err
	}
	f.procs = append(f.procs, p)
	f.w.note("worker %d is %s", rank, p.What)
	f.clock.Go(func() { f.ended(p) })
	return nil
}

// scale starts n workers more, if n is above 0. Fewer are the workers' own decision. f.mu is held.
func (f *follower) scale(n int) {
	f.next = max(f.next, f.local)
	for range n {
		rank := f.next
		f.next++
		f.clock.Go(func() {
			if err := f.spawn(rank); err != nil {
				f.w.say("%v", err)
			}
		})
	}
}

// replace starts a worker in the place of one that died, while that may be. f.mu is held.
func (f *follower) replace(rank int) {
	if !f.elastic || f.restarts <= 0 || f.closing || f.interrupted || f.end != nil || f.current == nil || len(f.members) == 0 || len(f.members) >= f.want {
		return
	}
	f.restarts--
	f.w.say("starting a worker in its place (%d more times)", f.restarts)
	f.clock.Go(func() {
		if err := f.spawn(rank); err != nil {
			f.w.say("%v", err)
		}
	})
}

// interrupt passes a signal on: the first asks the workers to save and stop, the next ends them.
func (f *follower) interrupt(again bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.interrupted = true
	switch {
	case again:
		f.w.say("ending the workers at once")
		kill(f.procs)
	case f.current != nil:
		what := "saving a checkpoint"
		if f.alien { // which may have no place for any
			what = "the workers stop after a step"
		}
		f.w.say("interrupted: %s (again to end at once)", what)
		f.clock.Go(func() { f.c.Stop() })
	default:
		f.early = &saidError{errors.New("interrupted"), exitInterrupted}
		f.follow(true)
	}
}

// close ends the launcher's part, and takes away what nobody needs any more.
func (f *follower) close() {
	f.reap()
	// On servers of others' the run may go on where this process does not reach: who resumes it has to find that one.
	elsewhere := f.c != nil && f.base != nil && f.base.server == nil && f.end == nil && !f.c.Over()
	if f.c != nil {
		f.c.Close()
	}
	if f.memory != nil {
		f.memory.Close()
	}
	if f.base != nil {
		f.base.close()
	}
	if !elsewhere {
		f.forget()
	}
}

// forget takes away what an elastic run has left for other launchers.
func (f *follower) forget() {
	if f.folder != "" {
		os.Remove(filepath.Join(f.folder, meetingFile))
		os.RemoveAll(filepath.Join(f.folder, serverDir))
	}
}
