package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/covey-ml/covey/cluster"
	"github.com/covey-ml/covey/comm"
)

// follower keeps track of a run's workers from the launcher.
type follower struct {
	w      *watcher
	c      *cluster.Coordinator
	procs  []*cluster.Process
	clock  comm.Clock
	abort  context.CancelCauseFunc // ends the wait for workers
	over   context.Context         // ends with the run
	faults *faultBooks

	mu          sync.Mutex
	running     bool
	interrupted bool
	closing     bool // a worker has ended: the others are to follow
	end         *ending
	killed      []int                      // ranks of this host that did not follow
	errs        map[string][]int           // what went wrong -> whom it happened to
	ours        map[string]bool            // of these, what is wrong with the job or this host's data, whichever worker saw it first
	still       map[int]context.CancelFunc // by rank, of those that stand still: what ends telling them to go on
	code        int                        // exit code of the worker that said most
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
			f.faults.take(e)
			if e.Still != nil {
				f.stands(rank, *e.Still)
			}
		}
	case cluster.KindReport:
		var e ending
		if json.Unmarshal(m.Report, &e) == nil {
			f.end = &e
		}
	case "":
		f.follow(false)
	case cluster.KindError:
		if m.Code == exitInterrupted && (f.interrupted || f.closing) {
			return // it did as it was told
		}
		f.follow(true)
		if (m.Code == exitUsage || m.Code == exitData) && rank < len(f.procs) {
			f.ours[m.Error] = true
		}
		f.errs[m.Error] = append(f.errs[m.Error], rank)
		if weight(m.Code) > weight(f.code) {
			f.code = m.Code
		}
	}
}

// weight orders exit codes by how much they say: a worker that failed by itself knows more than its peers, who lost it.
func weight(code int) int {
	switch code {
	case exitDone:
		return 0
	case exitLost:
		return 1
	case exitUsage, exitData:
		return 3
	}
	return 2
}

// merge leaves out an error that another worker tells, too, with more words before or after.
func (f *follower) merge() {
	for text, ranks := range f.errs {
		for more := range f.errs {
			if more != text && (strings.HasPrefix(more, text) || strings.HasSuffix(text, ": "+more)) {
				f.errs[more] = append(f.errs[more], ranks...)
				delete(f.errs, text)
				break
			}
		}
	}
}

// follow sees to it that all workers end, once one has. In a run that has failed they are told to: those that compute
// hear of it from their group, but one may still be reading data. A worker that has not ended after the time of grace,
// because it was stopped or hangs, is killed. f.mu is held.
func (f *follower) follow(failed bool) {
	if failed {
		f.c.Stop()
	}
	if f.closing {
		return
	}
	f.closing = true
	f.clock.Go(func() {
		if f.clock.Sleep(f.over, grace) != nil {
			return
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		for _, p := range f.procs {
			select {
			case <-p.Ended():
			default:
				f.killed = append(f.killed, p.Rank)
			}
		}
		cluster.Kill(f.procs)
		f.c.Close()
	})
}

// ended waits for a process. One that ends badly before the workers have met ends the wait for them, and later the run.
func (f *follower) ended(p *cluster.Process) {
	<-p.Ended()
	how, well := p.End()
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case well:
	case f.running:
		f.follow(!f.interrupted)
	default:
		code := exitFailed
		if p.Died() {
			code = exitLost
		}
		f.abort(&codedError{errors.New("worker " + itoa(p.Rank) + " ended before the start: " + how), code})
	}
}

// lost lists the workers of this host that died, and those that had to be killed, in words.
func (f *follower) lost() (died bool, lines []string) {
	for _, p := range f.procs {
		how, well := p.End()
		switch {
		case well:
		case slices.Contains(f.killed, p.Rank):
			lines = append(lines, fmt.Sprintf("worker %d (process %d) did not end within %v and was killed", p.Rank, p.Pid(), grace))
		case p.Died():
			lines = append(lines, fmt.Sprintf("worker %d (process %d) was lost: %s", p.Rank, p.Pid(), how))
			died = true
		}
	}
	return died, lines
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
