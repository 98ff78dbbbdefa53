package worker

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/covey-ml/covey/cluster"
	"github.com/covey-ml/covey/cluster/spot"
	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/train"
)

const (
	startUp  = 2 * time.Minute // for workers that were started to come, and to read their data
	meetWait = 10 * time.Second
	orphan   = 30 * time.Second // to go on without the server, and to wait for others when too few are left
	grace    = 4 * time.Second  // for a worker to leave, and for the others to end when one has
)

// ErrLeft says that this worker left a run that goes on without it.
var ErrLeft = errors.New("it left, as asked")

// InterruptedError says that a worker ended because it was told to, by a signal or by the run: nothing is wrong with it.
type InterruptedError struct{ Err error }

func (e *InterruptedError) Error() string { return e.Err.Error() }

// Unwrap returns who told it.
func (e *InterruptedError) Unwrap() error { return e.Err }

// Joining says as what a process joins a run.
type Joining struct {
	ID     string      // by which others know it; empty: a new one
	Rank   int         // that it was started as; -1: any
	Writer bool        // it can write the run folder
	TLS    *tls.Config // of the connections among workers: required beyond loopback
	Shm    int         // descriptor of the memory that this host's workers share, and by which they talk; below 0: by sockets
	Wait   time.Duration
}

// Member is a process's part in a run, from Join to End: what Run is made of, for programs that learn from the run itself what is
// to be trained. Its fields may be set before Watch, Train and Meet.
type Member struct {
	*cluster.Worker
	Host    string                                // by which the others reach this host; empty: by the address that the server sees
	Timeout time.Duration                         // for one worker to wait for another; 0: a minute
	Around  func(comm.Group) (comm.Group, error)  // what goes around each group; nil: nothing
	Word    func(text string)                     // hears what who started the run should: of strangers who were turned away, of Spot; nil: nobody does
	Spot    *spot.Source                          // says when this host is about to be taken, which Watch takes for a signal; nil: nobody does
	Stands  func(why error)                       // hears that its generation is over, and why; nil: nobody does
	Sits    func(g *cluster.Generation, rank int) // hears of its seat in the next; nil: nobody does

	tls   *tls.Config
	host  string // this host's address, where it listens for the others
	shm   int
	clock comm.Clock

	rank     atomic.Int32 // in the generation under way, -1 before the first
	stop     atomic.Bool  // after the step under way
	leaving  atomic.Bool
	training atomic.Bool
	waiting  atomic.Bool     // for its seat in the next generation
	gone     context.Context // ends when this worker is not to wait for one any more
	goNow    context.CancelFunc
	current  *cluster.Generation
}

// Join makes this process a worker of the run that a store holds. The store stays the caller's.
func Join(ctx context.Context, store cluster.Store, j Joining) (*Member, error) {
	clock := comm.RealClock()
	if j.Wait <= 0 {
		j.Wait = startUp
	}
	met, done := clock.WithTimeout(ctx, j.Wait)
	defer done()
	w, err := cluster.Join(met, store, cluster.Joining{ID: j.ID, Want: j.Rank, Writer: j.Writer}, clock)
	if err != nil {
		return nil, err
	}
	m := &Member{Worker: w, tls: j.TLS, host: store.Host(), shm: j.Shm, clock: clock}
	m.gone, m.goNow = context.WithCancel(context.WithoutCancel(ctx))
	m.rank.Store(-1)
	return m, nil
}

// First tells whether this worker is rank 0 of the generation under way.
func (m *Member) First() bool { return m.rank.Load() == 0 }

// Rank is this worker's in the generation under way, -1 before the first.
func (m *Member) Rank() int { return int(m.rank.Load()) }

// Watch makes what the run, Spot and, if so, this process's signals ask of it come true. Before training it ends the context that it
// returns, with an *InterruptedError as its cause. Once the worker trains, a run that is to stop stops after the step, and a
// signal makes a worker that the others can do without leave them, or else all stop; another signal ends the context. Call off
// when done.
func (m *Member) Watch(ctx context.Context, signals bool) (watched context.Context, off func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	quiet := func() {}
	if signals {
		quiet = OnSignals(func(again bool) { m.signal(ctx, again, cancel) })
	}
	if m.Spot != nil {
		m.clock.Go(func() {
			m.Spot.Watch(ctx, m.clock, func(why string) {
				m.say(why)
				m.signal(ctx, false, cancel)
			}, func(err error) { m.say(err.Error()) })
		})
	}
	m.WatchStop(ctx, func(cause error) {
		m.stop.Store(true)
		if !m.training.Load() {
			cancel(&InterruptedError{cause})
		}
	})
	return ctx, func() {
		quiet()
		cancel(nil)
	}
}

// say tells whoever listens a word about this worker.
func (m *Member) say(text string) {
	if m.Word == nil {
		return
	}
	if rank := m.Rank(); rank >= 0 {
		text = fmt.Sprintf("worker %d: %s", rank, text)
	}
	m.Word(text)
}

// signal is what an interrupt means.
func (m *Member) signal(ctx context.Context, again bool, cancel context.CancelCauseFunc) {
	if again || !m.training.Load() {
		m.stop.Store(true)
		cancel(&InterruptedError{errors.New("interrupted")})
		return
	}
	if !m.Worker.Run.Elastic {
		m.stop.Store(true)
		return
	}
	m.leaving.Store(true)
	if !m.In() { // nobody counts on it
		m.goNow()
		return
	}
	m.clock.Go(func() {
		told := m.Leave(ctx) == nil
		for m.clock.Sleep(ctx, grace) == nil {
			if m.waiting.Load() {
				continue
			}
			if due, _ := m.Due(); !told || !due { // if the others cannot do without it, they do not let it go
				m.stop.Store(true)
			}
			return
		}
	})
}

// Train trains with the others: in one generation of workers, or, where the run goes on without those that it loses, in as many as
// it takes. It stops as c.Stop says, too.
func (m *Member) Train(ctx context.Context, c train.Config) (*train.Report, error) {
	gens := &generations{m}
	asked := c.Stop
	c.Stop = func() bool { return m.stop.Load() || asked != nil && asked() }
	report, err := m.train(ctx, gens, c)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return report, err
}

func (m *Member) train(ctx context.Context, gens *generations, c train.Config) (*train.Report, error) {
	if m.Worker.Run.Elastic {
		c.Regroup = func() bool {
			due, _ := m.Due()
			return due
		}
		m.training.Store(true)
		return train.Elastic(ctx, gens, c)
	}
	gen, err := gens.Next(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer gen.Group.Close()
	m.training.Store(true)
	c.Hosts = gen.Hosts
	return train.Run(ctx, gen.Group, c)
}

// Meet returns the group of the first generation, for work of another kind. The caller closes it.
func (m *Member) Meet(ctx context.Context) (comm.Group, error) {
	gen, err := (&generations{m}).Next(ctx, nil)
	return gen.Group, err
}

// Firsts lets events through while this worker is the first of its generation, so that each is told once.
func (m *Member) Firsts(e train.Events) train.Events {
	return train.Events{
		Start:      only(m, e.Start),
		Step:       only(m, e.Step),
		Epoch:      only(m, e.Epoch),
		Checkpoint: only(m, e.Checkpoint),
		Generation: only(m, e.Generation),
	}
}

func only[T any](m *Member, f func(T)) func(T) {
	if f == nil {
		return nil
	}
	return func(v T) {
		if m.First() {
			f(v)
		}
	}
}
