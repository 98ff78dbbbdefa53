package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/covey-ml/covey/cluster"
	"github.com/covey-ml/covey/comm/shm"
	"github.com/covey-ml/covey/job"
	"github.com/covey-ml/covey/worker"
)

const (
	startUp  = 2 * time.Minute // for started workers to come, and to read their data
	joinWait = 1 * time.Hour   // for workers that somebody starts elsewhere
	grace    = 4 * time.Second // for the others to end when one has failed
)

// launch runs the workers as processes and follows them to their end, or takes those up that another launcher has left.
func (o *trainOptions) launch(ctx context.Context, j *job.Job, from string, w *watcher) (*ending, error) {
	over, end := context.WithCancel(context.Background())
	defer end()
	f := o.follower(over, w)
	taken, err := o.takeUp(ctx, j, f)
	if err != nil {
		return nil, err
	}
	if !taken {
		f = o.follower(over, w)
		if err := o.start(ctx, j, from, f); err != nil {
			f.close()
			return nil, err
		}
	}
	defer f.close()
	defer worker.OnSignals(f.interrupt)()
	if !taken {
		for r := range f.local {
			if err := f.spawn(r); err != nil {
				return nil, err
			}
		}
		if o.join > 0 && o.place == nil {
			w.say("waiting for %s to join: %s", count(o.join, "worker"), o.invitation(f.base))
		}
	}
	if err := f.await(ctx); err != nil {
		return nil, err
	}
	ending, err := f.result(j)
	if err != nil {
		return nil, faultsOf(err, f.faults.outcomes())
	}
	ending.Faults = f.faults.outcomes()
	return ending, nil
}

func (o *trainOptions) follower(over context.Context, w *watcher) *follower {
	f := newFollower(over, w)
	f.elastic, f.restarts, f.faults = o.elastic, o.restarts, newFaultBooks(o.script, o.done)
	return f
}

// start makes the run's meeting place and writes down what the run is.
func (o *trainOptions) start(ctx context.Context, j *job.Job, from string, f *follower) (err error) {
	dir := ""
	if o.elastic {
		dir = filepath.Join(j.Run, serverDir)
		os.RemoveAll(dir) // of a launcher that is gone, and its workers too
	}
	warn := func(text string) { f.w.say("%s", text) }
	token, name, here := os.Getenv(cluster.EnvToken), runName(j.Run), j.Ranks()-o.join
	if o.place != nil {
		if name, here = worker.PlacedRun(o.place), max(1, o.place.LocalSize); token == "" && o.reach.creds.dir == "" {
			if token, err = worker.Token(o.place); err != nil {
				return &usageError{err}
			}
		}
	}
	if f.base, err = o.reach.meetingPlace(ctx, o.listen, token, name, dir, warn); err != nil {
		return err
	}
	b := f.base
	f.local = j.Ranks() - o.join
	if j.Transport == job.Shm {
		if f.memory, err = shm.Create(f.local, shm.Options{}); err != nil {
			return j.Errorf("transport", "%w", err)
		}
	}
	f.start = f.own(o.workerArgs(b))
	if err = f.coordinate(ctx, b.store); err != nil {
		return err
	}
	wait := startUp
	if o.join > 0 && o.place == nil {
		wait = joinWait
	}
	run := cluster.Run{Job: j.YAML(), Places: j.Places(), Resume: from, Local: here, Faults: o.script.String(), Done: o.done,
		Limits: o.limits(wait, j.Timeout), Elastic: o.elastic, Orphan: o.orphan}
	if o.elastic {
		f.folder = j.Run
		if err := b.save(j.Run); err != nil {
			return err
		}
	}
	return f.c.Start(ctx, run, j.Ranks())
}

// workerArgs is the command line of a worker that is started here.
func (o *trainOptions) workerArgs(b *base) []string {
	return slices.Concat([]string{"join", b.address(), "--run", b.Run}, o.reach.args(), o.ops.args(), o.spot.args())
}

// takeUp finds the workers of a run whose launcher is gone, when there are any, and follows them from now on.
func (o *trainOptions) takeUp(ctx context.Context, j *job.Job, f *follower) (bool, error) {
	if o.resume == "" {
		return false, nil
	}
	at, err := loadMeeting(j.Run)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	creds, err := o.reach.creds.load()
	if err != nil {
		return false, err
	}
	f.folder = j.Run
	f.base, f.elastic = &base{meeting: at}, true // others do not leave word of where they meet
	if at.Embedded {
		f.base.server, err = serverOf(cluster.ServerConfig{Listen: at.Servers[0], Token: at.Token, TLS: creds, Dir: filepath.Join(j.Run, serverDir),
			Warn: func(text string) { f.w.say("%s", text) }})
		if err != nil {
			return false, usagef("%s has a launcher that may still run: %w", j.Run, err)
		}
	}
	leave := func(err error) (bool, error) {
		if f.c != nil {
			f.c.Close()
		}
		f.base.close()
		if err == nil { // nothing is left of it
			f.forget()
		}
		return false, err
	}
	a, err := o.reach.access(at.Servers, at.Token)
	if err != nil {
		return leave(err)
	}
	look, cancel := f.clock.WithTimeout(ctx, lookFor)
	defer cancel()
	unknown := func(err error) (bool, error) {
		return leave(usagef("%s may go on where its servers are, which do not tell: try again, or remove %s if they are gone for good: %w",
			j.Run, filepath.Join(j.Run, meetingFile), err))
	}
	if f.base.store, err = cluster.Open(look, a, at.Run, f.clock); err != nil {
		if at.Embedded || errors.Is(err, cluster.ErrNoRun) {
			return leave(nil)
		}
		return unknown(err)
	}
	if err = f.coordinate(ctx, f.base.store); err != nil {
		return leave(err)
	}
	s, err := f.c.Living(look)
	switch {
	case err != nil:
		return unknown(err)
	case s.Done:
		f.w.say("%s has come to its end", j.Run)
	case s.Living == 0 && s.Silent > 0:
		return leave(usagef("%s of %s may be at work and did not answer within %v: end them, or try again; if they are gone for good, remove %s",
			count(s.Silent, "worker"), j.Run, lookFor, filepath.Join(j.Run, meetingFile)))
	case s.Living == 0:
		if err := f.c.Stop(); err != nil { // of workers that were started and have not joined yet, none must begin
			return unknown(err)
		}
		return leave(nil)
	case s.Stopped:
		return leave(usagef("%s of %s were asked to stop and did not end within %v: try again", count(s.Living, "worker"), j.Run, lookFor))
	default:
		f.w.say("%s of %s are at work: following them", count(s.Living, "worker"), j.Run)
	}
	f.start = f.own(o.workerArgs(f.base))
	return true, nil
}

// lookFor is how long workers that a launcher has left are looked for: some beats of theirs.
const lookFor = 15 * time.Second

// serverDir is where in a run folder the server inside its launcher keeps what it knows.
const serverDir = "cluster"

func (o *trainOptions) invitation(b *base) string {
	run := ""
	if b.server == nil {
		run = " --run " + b.Run
	}
	if b.Token == "" {
		return fmt.Sprintf("covey join %s%s --tls DIR", b.address(), run)
	}
	return fmt.Sprintf("%s=%s covey join %s%s", cluster.EnvToken, b.Token, b.address(), run)
}
