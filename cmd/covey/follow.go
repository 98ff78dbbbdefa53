package main

import (
	"context"
	"encoding/json"
	"errors"
	"sync"

	"github.com/covey-ml/covey/cluster"
)

// follower keeps track of a run's workers from the launcher.
type follower struct {
	w     *watcher
	c     *cluster.Coordinator
	procs []*cluster.Process
	abort context.CancelCauseFunc // ends the wait for workers

	mu          sync.Mutex
	running     bool
	interrupted bool
	end         *ending
	errs        map[string][]int // what went wrong -> whom it happened to
	code        int              // exit code of the first worker that said why it failed
}

// codedError is an error that decides the exit code.
type codedError struct {
	error
	code int
}

func (e *codedError) Unwrap() error { return e.error }

func (f *follower) gathered() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.running = true
	if f.interrupted {
		f.c.Stop()
	}
}

// hear takes one message of a worker.
func (f *follower) hear(rank int, m cluster.Message) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch m.Kind {
	case cluster.KindEvent:
		var e event
		if json.Unmarshal(m.Event, &e) == nil {
			f.w.take(e)
		}
	case cluster.KindReport:
		var e ending
		if json.Unmarshal(m.Report, &e) == nil {
			f.end = &e
		}
	case cluster.KindError:
		f.errs[m.Error] = append(f.errs[m.Error], rank)
		// A worker that failed by itself says more than its peers, who lost it.
		if f.code == 0 || f.code == exitLost {
			f.code = m.Code
		}
	}
}

// ended waits for a process; one that ends badly before the workers have met ends the wait for them.
func (f *follower) ended(p *cluster.Process) {
	<-p.Ended()
	how, well := p.End()
	f.mu.Lock()
	defer f.mu.Unlock()
	if !well && !f.running {
		f.abort(&codedError{errors.New("worker " + itoa(p.Rank) + " ended before the start: " + how), exitFailed})
	}
}

// interrupt passes a signal on: the first asks the workers to save and stop, the next ends them.
func (f *follower) interrupt(again bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.interrupted = true
	switch {
	case again:
		f.w.say("ending the workers at once")
		cluster.Kill(f.procs)
	case f.running:
		f.w.say("interrupted: saving a checkpoint (again to end at once)")
		f.c.Stop()
	default:
		f.abort(&saidError{errors.New("interrupted"), exitInterrupted})
	}
}
