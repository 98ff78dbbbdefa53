package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/covey-ml/covey/cluster"
	"github.com/covey-ml/covey/job"
)

// gone takes the end of a worker. f.mu is held.
func (f *follower) gone(m cluster.Member) {
	delete(f.members, m.ID)
	delete(f.unheard, m.ID)
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

// ended waits for a process, and tells the others of one that could not do so itself.
func (f *follower) ended(p *child) {
	<-p.Ended()
	how, well := p.End()
	f.mu.Lock()
	defer f.mu.Unlock()
	if m := f.members[p.ID]; p.Died() || m == nil {
		if f.current == nil && !well {
			f.follow(true)
			if _, said := f.fine[p.ID]; p.Died() {
				f.early = tooEarly(p, how, exitLost)
			} else if !said {
				f.listen(p, how)
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
		f.afterLastWord(func() { f.vanish(p) })
	}
	if f.alien && well && f.current == nil && f.members[p.ID] == nil && f.early == nil && !f.closing {
		f.early = &codedError{fmt.Errorf("worker %d ended without having taken part: does the program call worker.Run?", p.Rank), exitFailed}
		f.follow(true)
	}
	f.check()
}

func tooEarly(p *child, how string, code int) error {
	return &codedError{fmt.Errorf("worker %d ended before the start: %s", p.Rank, how), code}
}

// listen waits for the last word of a process that has exited before the start. When none comes, that is why the run ends, unless
// others say more. f.mu is held.
func (f *follower) listen(p *child, how string) {
	f.unheard[p.ID] = true
	f.afterLastWord(func() {
		if f.unheard[p.ID] && len(f.errs) == 0 && f.early == nil && !f.interrupted {
			f.early = tooEarly(p, how, exitFailed)
		}
		delete(f.unheard, p.ID)
	})
}

// afterLastWord calls do, with f.mu held, when the last word of who has exited has had time to come.
func (f *follower) afterLastWord(do func()) {
	f.clock.Go(func() {
		f.clock.Sleep(f.over, lastWord)
		f.mu.Lock()
		defer f.mu.Unlock()
		do()
		f.check()
	})
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

// check closes done when all have ended. f.mu is held.
func (f *follower) check() {
	if f.finished || len(f.members) > 0 || len(f.unheard) > 0 || !f.met && len(f.procs) == 0 || len(f.procs) < f.local && !f.closing {
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

// await waits until all have ended.
func (f *follower) await(ctx context.Context) error {
	select {
	case <-f.done:
		f.reap()
		f.ask(ctx)
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// ask looks for a report that has not come: servers that look for another leader tell nothing new for seconds.
func (f *follower) ask(ctx context.Context) {
	f.mu.Lock()
	known := f.end != nil || f.current == nil
	f.mu.Unlock()
	if known {
		return
	}
	look, cancel := f.clock.WithTimeout(ctx, lookFor)
	defer cancel()
	if report, err := f.c.Report(look); err == nil && report != nil {
		f.hear(cluster.News{Report: report})
	}
}

// kill ends the processes that were started here.
func (f *follower) kill() {
	f.mu.Lock()
	defer f.mu.Unlock()
	kill(f.procs)
}

// reap ends what still runs here.
func (f *follower) reap() {
	f.mu.Lock()
	procs := slices.Clone(f.procs)
	f.mu.Unlock()
	reap(procs, f.clock)
}

// result is what the run came to.
func (f *follower) result(j *job.Job) (*ending, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.end != nil {
		// The job as rank 0 completed it with what it knows of the data.
		f.end.Transport, f.end.Run = j.Transport, j.Run
		return f.end, nil
	}
	if f.interrupted {
		return nil, &saidError{errors.New("interrupted"), exitInterrupted}
	}
	return nil, f.unreported(j.Ranks())
}

// unreported is the error of a run that ended without a report. f.mu is held.
func (f *follower) unreported(workers int) error {
	if err := f.failure(workers); err != nil {
		return err
	}
	return &codedError{errors.New("the workers ended without a report"), exitLost}
}

// failure puts together what the workers said and how they died; nil when nothing is known to have gone wrong. f.mu is held.
func (f *follower) failure(workers int) error {
	code := exitLost
	var lines []string
	f.merge()
	for text, ranks := range f.errs {
		slices.Sort(ranks)
		ranks = slices.Compact(ranks)
		if len(ranks) < workers && !f.ours[text] { // what all say needs no names
			text = ranksText(ranks) + ": " + text
		}
		lines = append(lines, text)
	}
	slices.Sort(lines)
	if f.code != 0 {
		code = f.code
	}
	died, lost := f.lost()
	lines = append(lost, lines...)
	if died {
		code = exitLost
	}
	if f.early != nil {
		return f.early
	}
	if len(lines) == 0 {
		return nil
	}
	return &codedError{errors.New(strings.Join(lines, "\n  ")), code}
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

func ranksText(ranks []int) string {
	if len(ranks) == 1 {
		return fmt.Sprintf("worker %d", ranks[0])
	}
	s := make([]string, len(ranks))
	for i, r := range ranks {
		s[i] = fmt.Sprint(r)
	}
	return "workers " + strings.Join(s, ", ")
}
