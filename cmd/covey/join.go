package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/covey-ml/covey/cluster"
	"github.com/covey-ml/covey/cluster/place"
	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/job"
	"github.com/covey-ml/covey/train"
)

// joinOptions is one worker process: started by covey train, or by hand.
type joinOptions struct {
	token string
	data  string
	test  string
	wait  time.Duration
	run   string
	reach reach
	place *place.Place // that a launcher of another kind gave this process; nil: there is none
}

func joinCommand() *cobra.Command {
	o := &joinOptions{}
	c := &cobra.Command{
		Use:   "join HOST:PORT[,HOST:PORT...]",
		Short: "Be a worker of a run that was started elsewhere",
		Long: `Join a run that covey train --join started on another host, or in another terminal of this one. Beyond
loopback both sides show certificates of the same cluster CA (see covey ca). The worker needs the data at
the path that the job names, or at --data; it is checked to be the same data.` + "\n" + exitHelp,
		Example: `  covey join 10.0.0.1:7000 --tls certs/
  COVEY_TOKEN=... covey join 127.0.0.1:7000`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("expected the address that covey train printed, as in covey join 10.0.0.1:7000")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error { return o.join(c, args[0]) },
	}
	c.Flags().StringVar(&o.token, "token", os.Getenv(cluster.EnvToken), "the run's token, on loopback (default: $"+cluster.EnvToken+")")
	c.Flags().StringVar(&o.data, "data", "", "where the training data is on this host (default: where the job says)")
	c.Flags().StringVar(&o.test, "test", "", "where the test data is on this host")
	c.Flags().DurationVar(&o.wait, "wait", time.Minute, "how long to try to reach the run")
	c.Flags().StringVar(&o.run, "run", "", "which run of that server (default: the only one)")
	o.reach.addFlags(c)
	c.Flags().MarkHidden("nats") // it is the argument
	c.Flags().Lookup("token").DefValue = ""
	return c
}

func (o *joinOptions) join(c *cobra.Command, addr string) error {
	ctx, cancel := context.WithCancelCause(c.Context())
	defer cancel(nil)
	clock := comm.RealClock()
	want, id, err := started()
	if err != nil {
		return err
	}
	launched := want >= 0
	if o.place != nil {
		want = o.place.Rank
	}
	store, err := o.open(ctx, addr)
	if err != nil {
		return err
	}
	defer store.Close()
	met, done := clock.WithTimeout(ctx, joinWait)
	m, err := cluster.Join(met, store, cluster.Joining{ID: id, Want: want, Writer: launched}, clock)
	done()
	if err != nil {
		if launched && errors.Is(err, cluster.ErrCalledOff) {
			return &saidError{err, exitUsage} // the launcher knows why
		}
		return &usageError{err}
	}
	defer m.Close()
	w := &worker{m: m, o: o, clock: clock, gens: &generations{m: m, reach: &o.reach, host: store.Host(), clock: clock}}
	w.gens.rank.Store(-1)
	alone := !launched && o.place == nil
	if alone {
		fmt.Fprintf(c.ErrOrStderr(), "joined\n")
	}
	defer onSignals(func(again bool) { w.signal(ctx, again, cancel) })()
	m.WatchStop(ctx, func(cause error) {
		w.stop.Store(true)
		if w.training.Load() {
			return
		}
		cancel(&saidError{cause, exitInterrupted})
		if launched { // and if it hangs in something that hears of no context, there is nothing to save
			time.AfterFunc(grace, func() { os.Exit(exitInterrupted) })
		}
	})
	err = w.train(ctx)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	switch {
	case err == nil:
		m.Fail(nil, exitDone)
		if alone {
			fmt.Fprintf(c.ErrOrStderr(), "the run is done\n")
		}
		return nil
	case errors.Is(err, errLeft), errors.Is(err, cluster.ErrSpare):
		m.Fail(err, exitDone)
		if alone {
			fmt.Fprintf(c.ErrOrStderr(), "%v\n", err)
		}
		return nil
	case errors.Is(err, cluster.ErrCalledOff):
		err = &saidError{err, exitInterrupted}
	}
	if told := m.Fail(err, exitCode(err)) == nil; told && !alone {
		return &saidError{err, exitCode(err)} // the launcher tells the user
	}
	return err
}

// worker is a process's part in a run.
type worker struct {
	m        *cluster.Worker
	o        *joinOptions
	clock    comm.Clock
	gens     *generations
	stop     atomic.Bool
	training atomic.Bool
}

// signal is what an interrupt means: in an elastic run that can do without this worker, that it leaves, else that all stop.
func (w *worker) signal(ctx context.Context, again bool, cancel context.CancelCauseFunc) {
	if again || !w.training.Load() {
		w.stop.Store(true)
		cancel(&saidError{errors.New("interrupted"), exitInterrupted})
		return
	}
	if !w.m.Run.Elastic {
		w.stop.Store(true)
		return
	}
	w.gens.leaving.Store(true)
	w.m.Leave()
	w.clock.Go(func() {
		if w.clock.Sleep(ctx, grace) == nil {
			if due, _ := w.m.Due(); !due {
				w.stop.Store(true)
			}
		}
	})
}

// train reads the job and the data, and trains with the others, in one generation or many.
func (w *worker) train(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	run := w.m.Run
	j, err := job.Parse(jobFile, run.Job)
	if err != nil {
		return err
	}
	j.SetPlaces(run.Places)
	if err := j.Fill(); err != nil {
		return err
	}
	if w.o.data != "" {
		j.Data = w.o.data
	}
	if w.o.test != "" {
		j.Test = w.o.test
	}
	local := run.Local
	switch {
	case w.o.place != nil:
		local = max(1, w.o.place.LocalSize)
	case os.Getenv(cluster.EnvRank) == "":
		local = 1
	}
	threads(j, local)
	tr, test, err := j.Open(ctx)
	if err != nil {
		return err
	}
	conf, err := j.Build(tr, test)
	if err != nil {
		return err
	}
	w.gens.timeout = j.Timeout
	w.gens.around = func(g comm.Group) (comm.Group, error) { return w.faulty(g, j) }
	conf.Stop, conf.Ahead = w.stop.Load, j.Ahead(local)
	if run.Elastic {
		conf.Regroup = func() bool { due, _ := w.m.Due(); return due }
	}
	if os.Getenv(cluster.EnvRank) != "" {
		conf.Dir, conf.Resume = j.Run, run.Resume
	}
	conf.Events = w.first(eventsTo(func(e event) { w.m.Event(e) }))
	start := conf.Events.Start
	conf.Events.Start = func(i train.StartInfo) {
		if w.gens.rank.Load() == 0 && conf.Dir != "" {
			w.m.Event(event{Job: summaryOf(j, tr, test)})
			if err := writeJob(j); err != nil {
				cancel(fmt.Errorf("the job could not be saved: %w", err))
				return
			}
		}
		start(i)
	}
	ended := w.lastStep(&conf)
	rep, err := w.run(ctx, conf)
	ended()
	err = placed(j, err)
	stopped := errors.Is(err, train.ErrStopped)
	if err != nil && !stopped {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return err
	}
	first := w.gens.rank.Load() == 0
	if !first && !run.Elastic {
		return err
	}
	if err := w.m.Report(ctx, first, newEnding(j, rep, stopped)); err != nil {
		how := "done"
		if stopped {
			how = fmt.Sprintf("stopped after step %d; go on with: covey train --resume %s", rep.Steps, j.Run)
		}
		return fmt.Errorf("covey train, which started this run, is gone; the run is %s", how)
	}
	return err
}

// run trains: in one generation, or in as many as it takes.
func (w *worker) run(ctx context.Context, conf train.Config) (*train.Report, error) {
	if w.m.Run.Elastic {
		w.training.Store(true)
		return train.Elastic(ctx, w.gens, conf)
	}
	gen, err := w.gens.Next(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer gen.Group.Close()
	w.training.Store(true)
	conf.Hosts = gen.Hosts
	return train.Run(ctx, gen.Group, conf)
}

// first lets events through while this worker is the first of its generation.
func (w *worker) first(e train.Events) train.Events {
	is := func() bool { return w.gens.rank.Load() == 0 }
	return train.Events{
		Start: func(i train.StartInfo) {
			if is() {
				e.Start(i)
			}
		},
		Step: func(i train.StepInfo) {
			if is() {
				e.Step(i)
			}
		},
		Epoch: func(i train.EpochInfo) {
			if is() {
				e.Epoch(i)
			}
		},
		Checkpoint: func(i train.CheckpointInfo) {
			if is() {
				e.Checkpoint(i)
			}
		},
		Generation: func(i train.GenerationInfo) {
			if is() {
				e.Generation(i)
			}
		},
	}
}

// shmFile is the descriptor of the memory that this process shares with others, -1 when there is none.
func shmFile() (int, error) {
	text := os.Getenv(cluster.EnvShm)
	if text == "" {
		return -1, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return -1, usagef("%s is %q, expected a descriptor", cluster.EnvShm, text)
	}
	return n, nil
}
