// Package worker makes a process a worker, so that one program trains in every world.
//
//	r, err := worker.Run(ctx, train.Config{...}, worker.Signals())
//	if err == nil && r.Rank == 0 { ... }
//	os.Exit(worker.ExitCode(err))
//
// A process that covey launch, srun, mpirun, torchrun or Kubernetes started finds the others that were started with it, and they
// train together over sockets, or over memory that they share. One that somebody started with COVEY_JOIN set joins the run there.
// One that was started alone trains alone. With Microshards set in the configuration, all come to the same weights.
//
// Join is what Run is made of, for a program that learns from the run itself what is to be trained, as covey join does.
package worker

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/covey-ml/covey/cluster"
	"github.com/covey-ml/covey/cluster/place"
	"github.com/covey-ml/covey/cluster/spot"
	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/data"
	"github.com/covey-ml/covey/train"
	"github.com/covey-ml/covey/vec"
)

// Report is what a run did, as one of its workers has it. All have the same numbers.
type Report struct {
	train.Report
	Rank int `json:"-"` // this worker's: 0 is the one that should speak
}

// Option is how Run goes about it.
type Option func(*options)

type options struct {
	workers int
	fewest  int
	threads int
	timeout time.Duration
	signals bool
	tls     *tls.Config
	around  func(comm.Group) (comm.Group, error)
	spot    *spot.Source // that EnvSpot names
}

// Workers is how many goroutines train in a process that was started alone; else one does.
func Workers(n int) Option { return func(o *options) { o.workers = n } }

// Threads is how many threads each worker computes on; else the host's processors are shared out. No bit depends on it.
func Threads(n int) Option { return func(o *options) { o.threads = n } }

// Timeout is how long one worker waits for another, in place of a minute, before it takes it for lost.
func Timeout(d time.Duration) Option { return func(o *options) { o.timeout = d } }

// Signals lets an interrupt or termination end training after the step under way, with a checkpoint where the configuration has a
// run folder; a worker that the others can do without leaves them instead. Another signal ends it at once.
func Signals() Option { return func(o *options) { o.signals = true } }

// TLS is whom the workers show each other to be: required beyond loopback. Without it, it is what COVEY_TLS and COVEY_NODE say.
func TLS(c *tls.Config) Option { return func(o *options) { o.tls = c } }

// Fewest lets the processes of another launcher, as srun, go on while so many are left. covey launch says so with --min-workers.
func Fewest(n int) Option { return func(o *options) { o.fewest = n } }

// Run trains with the workers that were started with this one, or alone. What COVEY_SPOT names it asks whether this host is about to
// be taken, and then does as at a signal (Signals), whether or not it heeds those. Every one calls it with the same configuration; of the
// events only those of rank 0 are called. A run that was asked to stop ends as that of train.Run does, with train.ErrStopped and
// the report so far, and one that this worker left with ErrLeft.
func Run(ctx context.Context, c train.Config, all ...Option) (*Report, error) {
	o := &options{workers: 1, timeout: time.Minute}
	for _, set := range all {
		set(o)
	}
	e, p, err := start()
	if err != nil {
		return nil, err
	}
	if o.spot, err = spot.Parse(os.Getenv(EnvSpot)); err != nil {
		return nil, fmt.Errorf("%s: %w", EnvSpot, err)
	}
	defer vec.SetThreads(vec.Threads())
	switch {
	case e != nil:
		return o.launched(ctx, c, e)
	case p != nil:
		return o.placed(ctx, c, p)
	}
	return o.alone(ctx, c)
}

// compute shares the host's processors among so many workers.
func (o *options) compute(here int) {
	n := o.threads
	if n <= 0 {
		n = runtime.GOMAXPROCS(0) / max(1, here)
	}
	vec.SetThreads(n)
}

func (o *options) alone(ctx context.Context, c train.Config) (*Report, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var stop atomic.Bool
	if o.signals {
		defer OnSignals(func(again bool) {
			if stop.Store(true); again {
				cancel(&InterruptedError{errors.New("interrupted")})
			}
		})()
	}
	if clock := comm.RealClock(); o.spot != nil {
		clock.Go(func() { o.spot.Watch(ctx, clock, func(string) { stop.Store(true) }, func(error) {}) })
	}
	asked := c.Stop
	c.Stop = func() bool { return stop.Load() || asked != nil && asked() }
	o.compute(o.workers)
	r, err := train.Local(ctx, o.workers, o.timeout, c)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return reportOf(r, 0), err
}

// take trains as a member of a run that goes by the configuration. here is how many workers this host has.
func (o *options) take(ctx context.Context, c train.Config, m *Member, here int) (*Report, error) {
	if err := isProgram(m.Worker.Run); err != nil {
		m.Fail(err, ExitCode(err))
		return nil, err
	}
	m.Spot = o.spot
	m.Word = func(text string) { m.Event(word{text}) }
	ctx, off := m.Watch(ctx, o.signals)
	defer off()
	o.compute(here)
	m.Timeout, m.Around = o.timeout, o.around
	c.Events = m.Firsts(c.Events)
	r, err := m.Train(ctx, c)
	stopped := errors.Is(err, train.ErrStopped)
	if r != nil && (err == nil || stopped) && (m.First() || m.Worker.Run.Elastic) {
		m.Worker.Report(ctx, m.First(), ending{*r, stopped}) // if nobody is there to read it, it is the caller's all the same
	}
	told := err
	if stopped {
		told = nil
	}
	m.Fail(told, ExitCode(err))
	return reportOf(r, m.Rank()), err
}

// word is an event that a launcher shows as it is.
type word struct {
	Word string `json:"word"`
}

func reportOf(r *train.Report, rank int) *Report {
	if r == nil {
		return nil
	}
	return &Report{*r, rank}
}

// ending is what a run came to, for who launched it.
type ending struct {
	train.Report
	Stopped bool `json:"stopped,omitempty"`
}

// ExitCode is what covey's commands exit with after an error of Run, and what who launched a program expects of it: 0 done or left,
// 1 failed, 2 a bad configuration, 3 bad data, 4 a worker was lost and the run could not go on, 130 interrupted.
func ExitCode(err error) int {
	var (
		told   *InterruptedError
		peer   *comm.PeerError
		few    *cluster.TooFewError
		alone  *cluster.OrphanedError
		config *train.ConfigError
		place  *place.Error
		input  *data.Error
	)
	switch {
	case err == nil, errors.Is(err, ErrLeft), errors.Is(err, cluster.ErrSpare):
		return 0
	case errors.Is(err, train.ErrStopped), errors.As(err, &told), errors.Is(err, cluster.ErrCalledOff):
		return 130
	case errors.As(err, &peer), errors.As(err, &few), errors.As(err, &alone): // of who is left alone the others say that it was lost
		return 4
	case errors.As(err, &input):
		return 3
	case errors.As(err, &config), errors.As(err, &place):
		return 2
	}
	return 1
}
