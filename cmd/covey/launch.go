package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/covey-ml/covey/cluster"
	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/comm/shm"
	"github.com/covey-ml/covey/job"
)

const (
	startUp  = 2 * time.Minute // for started workers to come, and to read their data
	joinWait = 1 * time.Hour   // for workers that somebody starts elsewhere
	grace    = 4 * time.Second // for the others to end when one has failed
)

// launch runs the workers as processes and follows them to their end.
func (o *trainOptions) launch(ctx context.Context, j *job.Job, from string, w *watcher) (*ending, error) {
	clock := comm.RealClock()
	creds, err := o.creds.load()
	if err != nil {
		return nil, err
	}
	token := os.Getenv(cluster.EnvToken)
	if token == "" {
		token = cluster.NewToken()
	}
	c, err := cluster.Listen(o.listen, token, creds, clock)
	if err != nil {
		return nil, &usageError{err}
	}
	defer c.Close()
	local := j.Workers - o.join
	var memory *os.File
	if j.Transport == job.Shm {
		if memory, err = shm.Create(local, shm.Options{}); err != nil {
			return nil, j.Errorf("transport", "%w", err)
		}
		defer memory.Close()
	}
	args := []string{"join", c.Addr()}
	if o.creds.dir != "" {
		args = append(args, "--tls", o.creds.dir, "--node", o.creds.node)
	}
	procs, err := cluster.Start(local, args, token, memory, clock)
	if err != nil {
		return nil, err
	}
	over, end := context.WithCancel(context.Background())
	defer end()
	f := &follower{w: w, c: c, procs: procs, clock: clock, over: over,
		errs: map[string][]int{}, ours: map[string]bool{}, faults: newFaultBooks(o.script, o.done), still: map[int]context.CancelFunc{}}
	defer func() { cluster.Reap(procs, grace, clock) }()
	defer onSignals(f.interrupt)()
	for _, p := range procs {
		w.note("worker %d is process %d", p.Rank, p.Pid())
	}

	wait := startUp
	if o.join > 0 {
		wait = joinWait
		w.say("waiting for %s to join: %s", count(o.join, "worker"), o.invitation(c.Addr(), token))
	}
	gather, cancel := clock.WithTimeout(ctx, wait)
	defer cancel()
	gather, abort := context.WithCancelCause(gather)
	defer abort(nil)
	f.abort = abort
	for _, p := range procs {
		clock.Go(func() { f.ended(p) })
	}
	welcome := cluster.Welcome{Generation: 1, Job: j.YAML(), Places: j.Places(), Resume: from, Local: local,
		Faults: o.script.String(), Done: o.done}
	err = c.Gather(gather, j.Workers, welcome, func(asked bool, name string) {
		if !asked {
			w.say("joined: %s", name)
		}
	})
	if err != nil {
		cluster.Kill(procs)
		return nil, err
	}
	for r, name := range c.Names()[local:] {
		w.note("worker %d is %s", local+r, name)
	}
	f.gathered()
	c.Hear(f.hear)
	cluster.Reap(procs, grace, clock)
	ending, err := f.result(j)
	if err != nil {
		return nil, faultsOf(err, f.faults.outcomes())
	}
	ending.Faults = f.faults.outcomes()
	return ending, nil
}

func (o *trainOptions) invitation(addr, token string) string {
	if o.creds.dir != "" {
		return fmt.Sprintf("covey join %s --tls DIR", addr)
	}
	return fmt.Sprintf("%s=%s covey join %s", cluster.EnvToken, token, addr)
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
	return nil, f.failure(j)
}

// failure puts together what the workers said and how they died.
func (f *follower) failure(j *job.Job) error {
	code := exitLost
	var lines []string
	f.merge()
	for text, ranks := range f.errs {
		slices.Sort(ranks)
		if len(ranks) < j.Workers && !f.ours[text] { // what all say needs no names
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
	if len(lines) == 0 {
		lines = []string{"the workers ended without a report"}
	}
	return &codedError{errors.New(strings.Join(lines, "\n  ")), code}
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
