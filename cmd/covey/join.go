package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/covey-ml/covey/cluster"
	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/comm/shm"
	"github.com/covey-ml/covey/comm/tcp"
	"github.com/covey-ml/covey/job"
	"github.com/covey-ml/covey/train"
	"github.com/covey-ml/covey/vec"
)

// joinOptions is one worker process: started by covey train, or by hand.
type joinOptions struct {
	token string
	data  string
	test  string
	wait  time.Duration
	creds credentials
}

func joinCommand() *cobra.Command {
	o := &joinOptions{}
	c := &cobra.Command{
		Use:   "join HOST:PORT",
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
		RunE: func(c *cobra.Command, args []string) error { return o.run(c, args[0]) },
	}
	c.Flags().StringVar(&o.token, "token", os.Getenv(cluster.EnvToken), "the run's token, on loopback (default: $"+cluster.EnvToken+")")
	c.Flags().StringVar(&o.data, "data", "", "where the training data is on this host (default: where the job says)")
	c.Flags().StringVar(&o.test, "test", "", "where the test data is on this host")
	c.Flags().DurationVar(&o.wait, "wait", time.Minute, "how long to try to reach the run")
	o.creds.addFlags(c)
	c.Flags().Lookup("token").DefValue = ""
	return c
}

func (o *joinOptions) run(c *cobra.Command, addr string) error {
	ctx, cancel := context.WithCancelCause(c.Context())
	defer cancel(nil)
	clock := comm.RealClock()
	creds, err := o.creds.load()
	if err != nil {
		return err
	}
	want, started := -1, false
	if r := os.Getenv(cluster.EnvRank); r != "" {
		if want, err = strconv.Atoi(r); err != nil {
			return usagef("%s is %q, expected a number", cluster.EnvRank, r)
		}
		started = true
	}
	nc, err := dial(ctx, addr, o, creds == nil, func(ctx context.Context) (net.Conn, error) { return cluster.Dial(ctx, addr, creds, clock) })
	if err != nil {
		return err
	}
	var peers *tcp.Listener
	listens := ""
	if os.Getenv(cluster.EnvShm) == "" {
		if peers, err = tcp.Listen(ctx, net.JoinHostPort(cluster.Host(nc), "0"), creds); err != nil {
			return err
		}
		defer peers.Close()
		listens = peers.Addr()
	}
	met, done := clock.WithTimeout(ctx, joinWait)
	m, err := cluster.Join(met, nc, o.token, listens, want, clock)
	done()
	if err != nil {
		if started && errors.Is(err, cluster.ErrCalledOff) {
			return &saidError{err, exitUsage} // the launcher knows why
		}
		return &usageError{err}
	}
	defer m.Close()
	w := &worker{m: m, o: o, peers: peers, clock: clock}
	if !started {
		fmt.Fprintf(c.ErrOrStderr(), "joined as worker %d of %d\n", m.Welcome.Rank, m.Welcome.Size)
	}
	defer onSignals(func(again bool) {
		w.stop.Store(true)
		if again || !w.training.Load() {
			cancel(&saidError{errors.New("interrupted"), exitInterrupted})
		}
	})()
	m.Watch(func(cause error) {
		w.stop.Store(true)
		if w.training.Load() {
			return
		}
		cancel(&saidError{cause, exitInterrupted})
		if started { // and if it hangs in something that hears of no context, there is nothing to save
			time.AfterFunc(grace, func() { os.Exit(exitInterrupted) })
		}
	})
	err = w.train(ctx)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err == nil {
		if !started {
			fmt.Fprintf(c.ErrOrStderr(), "the run is done\n")
		}
		return nil
	}
	told := errors.Is(err, train.ErrStopped) || m.Fail(err, exitCode(err)) == nil
	if told && started {
		return &saidError{err, exitCode(err)} // the launcher tells the user
	}
	return err
}

func dial(ctx context.Context, addr string, o *joinOptions, plain bool, f func(context.Context) (net.Conn, error)) (net.Conn, error) {
	if plain && o.token == "" && cluster.Loopback(addr) {
		return nil, usagef("joining %s needs the token that covey train printed, as --token or in %s", addr, cluster.EnvToken)
	}
	ctx, cancel := comm.RealClock().WithTimeout(ctx, o.wait)
	defer cancel()
	nc, err := f(ctx)
	if err != nil {
		return nil, &usageError{err}
	}
	return nc, nil
}

// worker is a process's part in a run.
type worker struct {
	m        *cluster.Member
	o        *joinOptions
	peers    *tcp.Listener
	clock    comm.Clock
	stop     atomic.Bool
	training atomic.Bool
}

// train reads the job and the data, meets the other workers and trains.
func (w *worker) train(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	you := w.m.Welcome
	j, err := job.Parse(jobFile, you.Job)
	if err != nil {
		return err
	}
	j.SetPlaces(you.Places)
	if err := j.Fill(); err != nil {
		return err
	}
	if w.o.data != "" {
		j.Data = w.o.data
	}
	if w.o.test != "" {
		j.Test = w.o.test
	}
	local := you.Local
	if you.Rank >= local {
		local = 1
	}
	vec.SetThreads(j.ComputeThreads(local))
	tr, test, err := j.Open(ctx)
	if err != nil {
		return err
	}
	conf, err := j.Build(tr, test)
	if err != nil {
		return err
	}
	g, err := meet(ctx, you, w.peers, j.Timeout)
	if err != nil {
		return err
	}
	if g, err = w.faulty(g, j); err != nil {
		return err
	}
	defer g.Close()
	conf.Stop, conf.Ahead = w.stop.Load, j.Ahead(local)
	conf.Hosts = comm.HostsOf(you.Hosts)
	if you.Rank == 0 {
		conf.Dir, conf.Resume = j.Run, you.Resume
		conf.Events = eventsTo(func(e event) { w.m.Event(e) })
		saveJob(&conf, j, cancel)
		w.m.Event(event{Job: summaryOf(j, tr, test)})
	}
	w.training.Store(true)
	ended := w.lastStep(&conf)
	rep, err := train.Run(ctx, g, conf)
	ended()
	err = placed(j, err)
	stopped := errors.Is(err, train.ErrStopped)
	if err != nil && !stopped {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return err
	}
	if you.Rank == 0 {
		if err := w.m.Report(newEnding(j, rep, stopped)); err != nil {
			how := "done"
			if stopped {
				how = fmt.Sprintf("stopped after step %d; go on with: covey train --resume %s", rep.Steps, j.Run)
			}
			return fmt.Errorf("covey train, which started this run, is gone; the run is %s", how)
		}
	}
	return err
}

// meet forms the group of a worker with the others: over the memory that it inherited or, with peers, over sockets.
func meet(ctx context.Context, you cluster.Welcome, peers *tcp.Listener, timeout time.Duration) (comm.Group, error) {
	if peers == nil {
		fd := os.Getenv(cluster.EnvShm)
		n, err := strconv.Atoi(fd)
		if err != nil {
			return nil, usagef("%s is %q, expected a descriptor", cluster.EnvShm, fd)
		}
		f := os.NewFile(uintptr(n), "shm")
		defer f.Close()
		return shm.Attach(f, comm.Rank(you.Rank), startUp, timeout)
	}
	secret, err := hex.DecodeString(you.Secret)
	if err != nil {
		return nil, fmt.Errorf("the run's secret is not hex: %w", err)
	}
	return peers.Connect(ctx, comm.Rank(you.Rank), you.Peers, tcp.Config{Generation: uint64(you.Generation),
		Secret: secret, Timeout: timeout, Setup: startUp})
}
