package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

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
	done    chan struct{} // closed when all have ended

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
	fine        map[string]bool            // of workers that have said how they ended, whether it was well
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

// child is a worker's process, as its launcher sees it.
type child struct {
	process
	Rank int    // that it was started as
	ID   string // by which the others know it
	What string // in words
}

type process interface {
	Ended() <-chan struct{}
	End() (how string, well bool) // after Ended
	Died() bool                   // rather than to exit; after Ended
	Kill()
}

// here is a process of this host.
func here(p *cluster.Process, err error) (*child, error) {
	if err != nil {
		return nil, err
	}
	return &child{p, p.Rank, p.ID, fmt.Sprintf("process %d", p.Pid())}, nil
}

// own starts this same binary with args.
func (f *follower) own(args []string) func(int) (*child, error) {
	return func(rank int) (*child, error) {
		return here(cluster.StartOne(rank, args, f.base.Token, f.memory, f.clock))
	}
}

// reap waits until all have ended, kills after the time of grace those that have not, and waits for them too.
func reap(all []*child, clock comm.Clock) {
	ctx, cancel := clock.WithTimeout(context.Background(), grace)
	defer cancel()
	for _, p := range all {
		select {
		case <-p.Ended():
		case <-ctx.Done():
			kill(all)
		}
	}
	for _, p := range all {
		<-p.Ended()
	}
}

func kill(all []*child) {
	for _, p := range all {
		p.Kill()
	}
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

// close ends the launcher's part, and takes away what nobody needs any more.
func (f *follower) close() {
	f.reap()
	if f.c != nil {
		f.c.Close()
	}
	if f.memory != nil {
		f.memory.Close()
	}
	if f.base != nil {
		f.base.close()
	}
	f.forget()
}

// forget takes away what an elastic run has left for other launchers.
func (f *follower) forget() {
	if f.folder != "" {
		os.Remove(filepath.Join(f.folder, meetingFile))
		os.RemoveAll(filepath.Join(f.folder, serverDir))
	}
}

// coordinate begins to hear of the run that a store holds, or will hold.
func (f *follower) coordinate(ctx context.Context, store cluster.Store) error {
	f.mu.Lock()
	defer f.mu.Unlock() // no news before
	c, err := cluster.Coordinate(ctx, store, f.clock, f.hear)
	f.c = c
	return err
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

// isFirst tells whether a worker is rank 0 by now.
func (f *follower) isFirst(id string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.current != nil && f.current.Rank(id) == 0
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

// event takes a worker's progress. f.mu is held.
func (f *follower) event(s cluster.Said) {
	var e event
	if json.Unmarshal(s.Event, &e) != nil {
		return
	}
	f.w.take(e)
	f.faults.take(e)
	if e.Refused != "" {
		f.w.say("%s", e.Refused)
	}
	if e.Still != nil {
		f.stands(f.names[s.ID], *e.Still)
	}
}

// gone takes the end of a worker. f.mu is held.
func (f *follower) gone(m cluster.Member) {
	delete(f.members, m.ID)
	if f.silent(m) {
		return
	}
	if m.State == cluster.Ended && m.Code != diedCode {
		f.fine[m.ID] = m.Code == exitDone && m.Error == ""
	}
	switch {
	case m.Code == exitDone && (m.Error == "" || f.elastic):
		if !f.elastic || f.end != nil {
			f.follow(false)
		}
		return
	case m.Code == exitInterrupted && (f.interrupted || f.closing):
		return // it did as it was told
	case m.Code == diedCode && f.elastic && f.current != nil: // the others go on without it
		return
	case m.Code == diedCode:
		f.follow(!f.interrupted)
		return // how it died is known
	}
	f.failed(m)
}

// rankOf is a worker's rank in the newest generation that had it, or the one that it was started as.
func (f *follower) rankOf(m cluster.Member) (rank int, ok bool) {
	if rank, ok = f.names[m.ID]; !ok && m.Want != nil {
		return *m.Want, true
	}
	return rank, ok
}

// failed takes the end of a worker that went wrong. f.mu is held.
func (f *follower) failed(m cluster.Member) {
	rank, ok := f.rankOf(m)
	if !f.elastic || f.current == nil || weight(m.Code) > weight(exitLost) {
		f.follow(true)
	}
	if (m.Code == exitUsage || m.Code == exitData) && ok && rank < f.local {
		f.ours[m.Error] = true
	}
	f.errs[m.Error] = append(f.errs[m.Error], rank)
	if weight(m.Code) > weight(f.code) {
		f.code = m.Code
	}
}

// diedCode marks the end of a worker that did not say why.
const diedCode = -1

// check closes done when all have ended. f.mu is held.
func (f *follower) check() {
	if f.finished || len(f.members) > 0 || !f.met && len(f.procs) == 0 || len(f.procs) < f.local && !f.closing {
		return
	}
	if !f.forced && (f.c == nil || f.c.Open()) { // news of some is still to come
		return
	}
	for _, p := range f.procs {
		select {
		case <-p.Ended():
		default:
			return
		}
	}
	if f.current == nil && !f.closing { // others may still come
		return
	}
	f.finished = true
	close(f.done)
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
		f.clock.Go(func() { f.c.Stop() })
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
		kill(f.procs)
		for _, m := range f.members {
			if cluster.KillMember(*m) {
				f.w.say("%s did not end within %v and was killed", m.Name, grace)
			}
		}
		f.members, f.forced = nil, true // whoever is elsewhere and silent is not waited for
		f.clock.Go(func() {
			reap(f.procs, f.clock)
			f.mu.Lock()
			defer f.mu.Unlock()
			f.check()
		})
	})
}

// await waits until all have ended.
func (f *follower) await(ctx context.Context) error {
	select {
	case <-f.done:
		f.reap()
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// reap ends what still runs here.
func (f *follower) reap() {
	f.mu.Lock()
	procs := slices.Clone(f.procs)
	f.mu.Unlock()
	reap(procs, f.clock)
}

// ended waits for a process, and tells the others of one that could not do so itself.
func (f *follower) ended(p *child) {
	<-p.Ended()
	how, well := p.End()
	f.mu.Lock()
	defer f.mu.Unlock()
	if m := f.members[p.ID]; p.Died() || m == nil {
		if f.current == nil && !well {
			f.follow(true)
			if p.Died() || m == nil && len(f.errs) == 0 && f.early == nil && !f.interrupted {
				code := exitFailed
				if p.Died() {
					code = exitLost
				}
				f.early = &codedError{errors.New("worker " + itoa(p.Rank) + " ended before the start: " + how), code}
			}
		}
		delete(f.members, p.ID)
		if p.Died() {
			f.clock.Go(func() { f.c.Dead(p.ID, how, diedCode) })
			if !f.elastic || f.end != nil {
				f.follow(!f.interrupted && f.end == nil)
			}
			f.replace(p.Rank)
		}
	}
	if f.alien && !p.Died() && f.current != nil { // its last word may be on its way
		f.clock.Go(func() {
			f.clock.Sleep(f.over, lastWord)
			f.mu.Lock()
			defer f.mu.Unlock()
			f.vanish(p)
			f.check()
		})
	}
	if f.alien && well && f.current == nil && f.members[p.ID] == nil && f.early == nil && !f.closing {
		f.early = &codedError{fmt.Errorf("worker %d ended without having taken part: does the program call worker.Run?", p.Rank), exitFailed}
		f.follow(true)
	}
	f.check()
}

// lastWord is how long the last word of a worker may take to come.
const lastWord = time.Second

// vanish takes a program that has exited without a last word for lost. f.mu is held.
func (f *follower) vanish(p *child) {
	if _, said := f.fine[p.ID]; said || f.vanished[p.ID] {
		return
	}
	if _, joined := f.names[p.ID]; !joined {
		return
	}
	f.vanished[p.ID] = true
	delete(f.members, p.ID)
	how, _ := p.End()
	f.clock.Go(func() { f.c.Dead(p.ID, how, diedCode) })
	if !f.elastic || f.end != nil {
		f.follow(!f.interrupted && f.end == nil)
	}
	f.replace(p.Rank)
}

// silent takes the end of a worker that has not said how it ended: a program that exited tells that by its process. f.mu is held.
func (f *follower) silent(m cluster.Member) bool {
	at := slices.IndexFunc(f.procs, func(p *child) bool { return p.ID == m.ID })
	if !f.alien || m.State == cluster.Ended || at < 0 {
		return false
	}
	p := f.procs[at]
	f.clock.Go(func() {
		ended, cancel := f.clock.WithTimeout(f.over, lastWord)
		defer cancel()
		select {
		case <-p.Ended():
		case <-ended.Done():
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		select {
		case <-p.Ended():
			if !p.Died() { // else that is known
				f.vanish(p)
			}
		default:
			f.failed(m)
		}
		f.check()
	})
	return true
}

// lost lists the workers of this host that died, and those that had to be killed, in words.
func (f *follower) lost() (died bool, lines []string) {
	for _, p := range f.procs {
		how, well := p.End()
		switch {
		case well && !f.vanished[p.ID]:
		case slices.Contains(f.killed, p.Rank):
			lines = append(lines, fmt.Sprintf("worker %d (%s) did not end within %v and was killed", p.Rank, p.What, grace))
		case p.Died(), f.vanished[p.ID]:
			lines = append(lines, fmt.Sprintf("worker %d (%s) was lost: %s", p.Rank, p.What, how))
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
