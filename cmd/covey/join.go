package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/covey-ml/covey/cluster"
	"github.com/covey-ml/covey/cluster/place"
	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/job"
	"github.com/covey-ml/covey/ops"
	"github.com/covey-ml/covey/train"
	"github.com/covey-ml/covey/worker"
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
	ops   opsFlags
	spot  spotFlag
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
	o.ops.addFlags(c)
	o.spot.addFlags(c)
	c.Flags().MarkHidden("nats") // it is the argument
	c.Flags().Lookup("token").DefValue = ""
	return c
}

func (o *joinOptions) join(c *cobra.Command, addr string) error {
	j, err := o.joining()
	if err != nil {
		return err
	}
	source, err := o.spot.source()
	if err != nil {
		return err
	}
	launched := j.Rank >= 0
	if j.Writer = launched; o.place != nil {
		j.Rank = o.place.Rank
	}
	m, end, err := o.member(c.Context(), addr, j, launched)
	if err != nil {
		return err
	}
	defer end()
	if worker.IsProgram(m.Worker.Run) {
		err := usagef("the workers of that run are a program of their own: start it with %s=%s in its environment", worker.EnvJoin, addr)
		m.Fail(err, exitUsage)
		return err
	}
	at, err := startedAs() // a launcher of ours may itself have been started by another
	if err != nil {
		return err
	}
	if at != nil {
		m.Host = worker.Host(at)
	}
	alone := !launched && o.place == nil
	if alone {
		fmt.Fprintf(c.ErrOrStderr(), "joined\n")
	}
	m.Spot = source
	m.Word = func(text string) { m.Event(event{Word: text}) }
	ctx, off := m.Watch(c.Context(), true)
	defer off()
	if launched { // if it hangs in something that hears of no context, there is nothing to save
		context.AfterFunc(ctx, func() {
			var told *worker.InterruptedError
			if errors.As(context.Cause(ctx), &told) {
				time.AfterFunc(grace, func() { os.Exit(exitInterrupted) })
			}
		})
	}
	w := &joined{m: m, o: o, clock: comm.RealClock()}
	err = w.train(ctx)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	var told *worker.InterruptedError
	switch {
	case err == nil:
		m.Fail(nil, exitDone)
		if alone {
			fmt.Fprintf(c.ErrOrStderr(), "the run is done\n")
		}
		return nil
	case errors.Is(err, worker.ErrLeft), errors.Is(err, cluster.ErrSpare):
		m.Fail(err, exitDone)
		if alone {
			fmt.Fprintf(c.ErrOrStderr(), "%v\n", err)
		}
		if o.place != nil && errors.Is(err, worker.ErrLeft) { // who started it may start another in its place
			return &saidError{err, exitInterrupted}
		}
		return nil
	case errors.As(err, &told), errors.Is(err, cluster.ErrCalledOff):
		err = &saidError{err, exitInterrupted}
	}
	if told := m.Fail(err, exitCode(err)) == nil; told && !alone {
		return &saidError{err, exitCode(err)} // the launcher tells the user
	}
	return err
}

// joining is as what a launcher of ours started this process: rank -1 when none did.
func (o *joinOptions) joining() (j worker.Joining, err error) {
	if j.Rank, j.ID, j.Shm, err = worker.Launched(); err != nil {
		return j, &usageError{err}
	}
	j.Wait = joinWait
	j.TLS, err = o.reach.creds.load()
	return j, err
}

// member joins the run at an address.
func (o *joinOptions) member(ctx context.Context, addr string, j worker.Joining, launched bool) (m *worker.Member, end func(), err error) {
	store, err := o.open(ctx, addr)
	if err != nil {
		return nil, nil, err
	}
	if m, err = worker.Join(ctx, store, j); err != nil {
		store.Close()
		if launched && errors.Is(err, cluster.ErrCalledOff) {
			return nil, nil, &saidError{err, exitUsage} // the launcher knows why
		}
		return nil, nil, &usageError{err}
	}
	return m, func() {
		m.Close()
		store.Close()
	}, nil
}

// joined is a process's part in a run.
type joined struct {
	m     *worker.Member
	o     *joinOptions
	clock comm.Clock
}

// train reads the job and the data, and trains with the others, in one generation or many.
func (w *joined) train(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	run := w.m.Worker.Run
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
	w.m.Timeout = j.Timeout
	w.m.Around = func(g comm.Group) (comm.Group, error) { return w.faulty(g, j) }
	conf.Ahead = j.Ahead(local)
	if os.Getenv(cluster.EnvRank) != "" {
		conf.Dir, conf.Resume = j.Run, run.Resume
	}
	meter, unwatch, err := w.watched(ctx, j)
	if err != nil {
		return err
	}
	defer unwatch()
	conf.Events = w.m.Firsts(eventsTo(func(e event) { w.m.Event(e) }))
	start := conf.Events.Start
	conf.Events.Start = func(i train.StartInfo) {
		if w.m.First() && conf.Dir != "" {
			w.m.Event(event{Job: summaryOf(j, tr, test)})
			if err := writeJob(j); err != nil {
				cancel(fmt.Errorf("the job could not be saved: %w", err))
				return
			}
		}
		start(i)
	}
	conf.Events = meter.Events(conf.Events)
	ended := w.lastStep(&conf)
	rep, err := w.m.Train(ctx, conf)
	ended()
	err = placed(j, err)
	stopped := errors.Is(err, train.ErrStopped)
	if err != nil && !stopped {
		return err
	}
	first := w.m.First()
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

// watched makes this worker's meter, which tells everybody who listens how it is, and shows it where --ops says.
func (w *joined) watched(ctx context.Context, j *job.Job) (m *ops.Meter, off func(), err error) {
	m = ops.NewMeter(j.Run, w.clock, ops.Limits{})
	log, where, err := w.o.ops.logger(os.Stderr, j.Run)
	if err != nil {
		return nil, nil, err
	}
	m.Follow(where)
	creds, err := w.o.reach.creds.load()
	if err != nil {
		return nil, nil, err
	}
	number, _, _, err := worker.Launched()
	if err != nil {
		return nil, nil, &usageError{err}
	}
	if w.o.place != nil {
		number = w.o.place.LocalRank
	}
	s, err := w.o.ops.serve(ctx, m, creds, max(0, number), log)
	if err != nil {
		return nil, nil, err
	}
	if s != nil {
		log.Info("listening", "ops", s.URL())
	}
	w.m.Stands = func(why error) {
		m.Stand(why.Error())
		log.Warn("the generation is over", "why", why.Error())
	}
	w.m.Sits = func(g *cluster.Generation, rank int) {
		leaves := cmp.Or(j.Microshards, len(g.Seats)) // a closed form needs none
		lo, hi := comm.NewTree(leaves, len(g.Seats)).Run(comm.Rank(rank))
		m.Sit(ops.Seat{Generation: g.Number, Rank: rank, Workers: len(g.Seats), Own: hi - lo, Of: leaves})
		log.Info("a generation begins", "workers", len(g.Seats), "why", g.Why)
	}
	ctx, cancel := context.WithCancel(ctx)
	told := w.clock.Event()
	w.clock.Go(func() {
		m.Tell(ctx, w.clock, func(s ops.Status) { w.m.Event(event{Status: &s}) })
		told.Set()
	})
	return m, func() {
		m.End("this worker has ended")
		cancel()
		told.Wait(context.Background())
		if s != nil {
			s.Close()
		}
	}, nil
}
