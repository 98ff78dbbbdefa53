package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/covey-ml/covey/cluster"
)

// elasticity is between how many workers a run goes on, and how long it waits for them: flags of all who launch one.
type elasticity struct {
	min, max int           // workers
	restarts int           // of workers that die
	wait     time.Duration // for workers to come, when fewer than min are left
	orphan   time.Duration // that workers go on without their launcher
	elastic  bool          // the run goes on when workers are lost
}

func (e *elasticity) addFlags(c *cobra.Command) {
	f := c.Flags()
	f.IntVar(&e.min, "min-workers", 0, "go on while so many workers are left (default: all of them, or the run ends)")
	f.IntVar(&e.max, "max-workers", 0, "let others join while it runs, up to so many (default: --workers)")
	f.DurationVar(&e.wait, "wait", 30*time.Second, "how long to wait for others when fewer than --min-workers are left")
	f.IntVar(&e.restarts, "restarts", 0, "in a run that goes on without them, how many workers that die, and were started from here, are started anew")
	f.DurationVar(&e.orphan, "orphan-grace", 30*time.Second, "how long workers go on without this launcher, before they save where they can, and end")
}

// fill completes the flags for a run that begins with so many workers, and refuses what does not go together.
func (e *elasticity) fill(workers int) error {
	if e.min == 0 {
		e.min = workers
	}
	if e.max == 0 {
		e.max = workers
	}
	e.elastic = e.min < workers || e.max > workers
	switch {
	case e.min < 0 || e.min > workers:
		return usagef("--min-workers %d of %d workers: expected 1 to %d", e.min, workers, workers)
	case e.max < workers:
		return usagef("--max-workers %d of %d workers: expected %d or more", e.max, workers, workers)
	case e.wait <= 0:
		return usagef("--wait %v: expected a time, as in 30s", e.wait)
	case e.orphan <= 0:
		return usagef("--orphan-grace %v: expected a time, as in 30s", e.orphan)
	}
	return nil
}

// limits are those of a run whose first workers may take so long to come, and whose lost ones are given up after patience.
func (e *elasticity) limits(meet, patience time.Duration) cluster.Limits {
	return cluster.Limits{Min: e.min, Max: e.max, Meet: meet, Wait: e.wait, Patience: patience}
}
