package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
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
	over, end := context.WithCancel(context.Background())
	defer end()
	dir := ""
	if o.elastic {
		dir = filepath.Join(j.Run, serverDir)
	}
	b, err := o.reach.meetingPlace(ctx, o.listen, os.Getenv(cluster.EnvToken), runName(j.Run), dir, func(text string) { w.say("%s", text) })
	if err != nil {
		return nil, err
	}
	defer b.close()
	local := j.Workers - o.join
	var memory *os.File
	if j.Transport == job.Shm {
		if memory, err = shm.Create(local, shm.Options{}); err != nil {
			return nil, j.Errorf("transport", "%w", err)
		}
		defer memory.Close()
	}
	f := &follower{w: w, clock: clock, over: over, base: b, args: append([]string{"join", b.address(), "--run", b.run}, o.reach.args()...),
		memory: memory, local: local, elastic: o.elastic,
		errs: map[string][]int{}, ours: map[string]bool{}, faults: newFaultBooks(o.script, o.done), still: map[int]context.CancelFunc{}, done: make(chan struct{})}
	if f.c, err = cluster.Coordinate(ctx, b.store, clock, f.hear); err != nil {
		return nil, err
	}
	defer f.c.Close()
	wait := startUp
	if o.join > 0 {
		wait = joinWait
	}
	run := cluster.Run{Job: j.YAML(), Places: j.Places(), Resume: from, Local: local, Faults: o.script.String(), Done: o.done,
		Limits: cluster.Limits{Min: o.min, Max: o.max, Wait: wait, Patience: j.Timeout}, Elastic: o.elastic, Orphan: o.orphan}
	if err := f.c.Start(ctx, run, j.Workers); err != nil {
		return nil, err
	}
	defer f.reap()
	defer onSignals(f.interrupt)()
	for r := range local {
		if err := f.spawn(r); err != nil {
			return nil, err
		}
	}
	if o.join > 0 {
		w.say("waiting for %s to join: %s", count(o.join, "worker"), o.invitation(b))
	}
	select {
	case <-f.done:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	f.reap()
	ending, err := f.result(j)
	if err != nil {
		return nil, faultsOf(err, f.faults.outcomes())
	}
	ending.Faults = f.faults.outcomes()
	return ending, nil
}

// serverDir is where in a run folder the server inside its launcher keeps what it knows.
const serverDir = "cluster"

func (o *trainOptions) invitation(b *base) string {
	run := ""
	if b.server == nil {
		run = " --run " + b.run
	}
	if b.token == "" {
		return fmt.Sprintf("covey join %s%s --tls DIR", b.address(), run)
	}
	return fmt.Sprintf("%s=%s covey join %s%s", cluster.EnvToken, b.token, b.address(), run)
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
		ranks = slices.Compact(ranks)
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
	if f.early != nil {
		return f.early
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
