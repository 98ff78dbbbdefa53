package cluster

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/covey-ml/covey/comm"
)

// Worker is a worker's part in its run: it says how it stands, and takes its place in one generation after the other. Its
// methods may be called from several goroutines, Next from one.
type Worker struct {
	ID    string
	Run   Run
	store Store
	clock comm.Clock
	see   *notice
	end   context.CancelFunc
	due   atomic.Pointer[string] // why members should stop for another generation; nil: they should not
	in    atomic.Uint64          // the generation that it takes part in

	pen    chan struct{} // who has it may change me, and has written it down when it gives it back
	me     Member
	leaves bool // it would rather not go on; pen guards it, too
}

// Joining is who joins.
type Joining struct {
	ID     string // empty: a new one
	Want   int    // the rank that it was started as, -1 for any
	Writer bool   // it can write the run folder
}

const (
	beat = 1 * time.Second // between two signs of life
	turn = 100 * time.Millisecond
	soon = 5 * time.Second // for a word to the store
)

// ErrCalledOff says that a run has ended before this worker could take part.
var ErrCalledOff = errors.New("the run was called off before all its workers were there")

// ErrSpare says that a run goes on without this worker, since there are enough.
var ErrSpare = errors.New("there are enough workers without this one")

// TooFewError says that the next generation was not formed, since too few workers were left or came.
type TooFewError struct{ Why string }

func (e *TooFewError) Error() string { return e.Why }

// OrphanedError says that the run's server was out of reach for too long, or one that is cut off from the others and so writes nothing.
type OrphanedError struct{ For time.Duration }

func (e *OrphanedError) Error() string {
	return fmt.Sprintf("the run's server has been out of reach for %v", e.For.Round(time.Second))
}

// Join makes this process a worker of the run that a store holds, once that is there.
func Join(ctx context.Context, store Store, j Joining, clock comm.Clock) (*Worker, error) {
	if j.ID == "" {
		j.ID = NewID()
	}
	host, _ := os.Hostname()
	w := &Worker{ID: j.ID, store: store, clock: clock, pen: make(chan struct{}, 1), me: Member{ID: j.ID, Name: fmt.Sprintf("%s, process %d", host, os.Getpid()),
		Host: HostID(), Writer: j.Writer, State: Busy, PID: os.Getpid(), Space: pidSpace()}}
	if j.Want >= 0 {
		w.me.Want = &j.Want
	}
	over, end := context.WithCancel(context.WithoutCancel(ctx))
	w.end = end
	w.see = watch(over, store, clock, w.look)
	w.see.mu.Lock()
	w.see.written = clock.Now()
	w.see.mu.Unlock()
	for {
		w.see.mu.Lock()
		run, stopped, ended := w.see.run, w.see.stop || w.see.end != nil, w.see.ended
		known := w.see.known
		w.see.mu.Unlock()
		switch {
		case ended != nil:
			end()
			return nil, ended
		case known && stopped:
			end()
			return nil, ErrCalledOff
		case known && run != nil && run.Version != version:
			end()
			return nil, fmt.Errorf("not let in: this run speaks version %d, the worker %d: use the same covey on all hosts", run.Version, version)
		case known && run != nil:
			if err := run.Limits.Check(); err != nil {
				end()
				return nil, err
			}
			w.Run = *run
			clock.Go(func() { w.live(over) })
			return w, nil
		}
		if err := w.see.wait(ctx, 0); err != nil {
			end()
			return nil, err
		}
	}
}

// look keeps up to date whether another generation is due. n.mu is held.
func (w *Worker) look(n *notice) {
	due, why := Due(n.view(0))
	if g, in := n.current, w.in.Load(); g != nil && in > 0 && g.Number > in { // the others have given this worker up
		due, why = true, fmt.Sprintf("generation %d has taken the place of generation %d", g.Number, in)
	}
	if due {
		w.due.Store(&why)
	} else {
		w.due.Store(nil)
	}
}

// live says again and again that this worker lives.
func (w *Worker) live(ctx context.Context) {
	for w.clock.Sleep(ctx, beat) == nil {
		if w.store.Silent() == 0 {
			w.say(ctx, func(*Member) {})
		}
		w.see.mu.Lock()
		w.look(w.see)
		w.see.mu.Unlock()
		w.see.changed.Set()
	}
}

// say changes this worker's record.
func (w *Worker) say(ctx context.Context, f func(*Member)) error {
	ctx, cancel := w.clock.WithTimeout(ctx, soon)
	defer cancel()
	select {
	case w.pen <- struct{}{}:
		defer func() { <-w.pen }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	f(&w.me)
	w.me.Beat++
	err := putJSON(ctx, w.store, keyMember+w.ID, w.me)
	w.see.mu.Lock()
	defer w.see.mu.Unlock()
	if w.see.mute = err != nil; err == nil {
		w.see.written = w.clock.Now()
	}
	return err
}

// Due tells whether all should stop after a step for another generation, and why. It is fast.
func (w *Worker) Due() (bool, string) {
	why := w.due.Load()
	if why == nil {
		return false, ""
	}
	return true, *why
}

// In tells whether this worker has a seat in the newest generation, with what it knows of the run. Who has none can just go.
func (w *Worker) In() bool {
	w.see.mu.Lock()
	defer w.see.mu.Unlock()
	return w.see.current != nil && w.see.current.Number == w.in.Load()
}

// Stopped tells whether the run has been asked to stop.
func (w *Worker) Stopped() bool {
	w.see.mu.Lock()
	defer w.see.mu.Unlock()
	return w.see.stop
}

// Orphaned returns an *OrphanedError when the run's server has been out of reach, or has not written down what this worker says, for
// longer than the run allows, and else nil. The others do without a worker that they have not heard of for a little longer than that.
func (w *Worker) Orphaned() error {
	w.see.mu.Lock()
	d := w.see.unreached(w.clock.Now())
	w.see.mu.Unlock()
	if d > w.Run.Orphan {
		return &OrphanedError{d}
	}
	return nil
}

// Next takes part in the next generation: it waits until there is one in which this worker has a seat, and forms it when that
// is its turn. addr is where it listens for the others; was is the generation whose state it has, 0 for none; lost is whom it
// lost in that one. A seat that is not Kept says that what it has is of no use.
func (w *Worker) Next(ctx context.Context, addr string, was uint64, lost []Loss) (*Generation, error) {
	w.see.mu.Lock()
	after := uint64(0)
	if w.see.current != nil {
		after = w.see.current.Number
	}
	w.see.mu.Unlock()
	after = max(after, was)
	if err := w.insist(ctx, func(m *Member) { m.State, m.Addr, m.Was, m.Lost = Ready, addr, was, lost }); err != nil {
		return nil, err
	}
	since := w.clock.Now()
	possible := time.Duration(-1) // since when this worker could have formed it
	for {
		w.see.mu.Lock()
		v, revision := w.see.view(since), w.see.revision
		stopped, ended := w.see.stop, w.see.ended
		if w.see.end != nil && (v.Current == nil || v.Current.Number != was) { // the run is done, and this worker knows nothing of it
			stopped = true
		}
		w.see.mu.Unlock()
		if ended != nil {
			return nil, ended
		}
		if err := w.Orphaned(); err != nil {
			return nil, err
		}
		if g := v.Current; g != nil && g.Number > after {
			if r := g.Rank(w.ID); r >= 0 && g.Seats[r].Addr == addr {
				w.in.Store(g.Number)
				return g, w.insist(ctx, func(m *Member) {
					if m.State, m.Lost = Busy, nil; w.leaves {
						m.State = Leaving
					}
				})
			}
			if slices.ContainsFunc(g.Gone, func(l Loss) bool { return l.ID == w.ID && l.Spare }) {
				return nil, ErrSpare
			}
		}
		if stopped {
			return nil, ErrCalledOff
		}
		d := Decide(v)
		if d.Over {
			return nil, &TooFewError{d.Why}
		}
		until := v.Now + beat
		if d.Until > 0 {
			until = min(until, d.Until)
		}
		if d.Next == nil || v.Current != nil && v.Current.Number < was {
			possible = -1
		} else if seat := d.Next.Rank(w.ID); seat >= 0 {
			if possible < 0 {
				possible = v.Now
			}
			if mine := possible + time.Duration(seat)*turn; v.Now < mine { // the first is the first to try
				until = min(until, mine)
			} else {
				d.Next.Secret = NewToken()
				b, err := json.Marshal(d.Next)
				if err != nil {
					return nil, err
				}
				short, cancel := w.clock.WithTimeout(ctx, soon)
				w.store.Swap(short, keyGeneration, b, revision) // when somebody was faster, or the store is away: look again
				cancel()
				possible = v.Now
			}
		}
		if err := w.see.wait(ctx, until); err != nil {
			return nil, err
		}
	}
}

// GoneError says that a member of a generation ended before all had met.
type GoneError struct{ Name, How string }

func (e *GoneError) Error() string {
	return fmt.Sprintf("%s is gone before all had met: %s", e.Name, e.How)
}

// WhileThere returns a context that ends, with a *GoneError as its cause, when a member of a generation is known to have ended: the
// others need not wait to meet it. Call end before Next.
func (w *Worker) WhileThere(ctx context.Context, g *Generation) (met context.Context, end func()) {
	met, cancel := context.WithCancelCause(ctx)
	over := w.clock.Event()
	w.clock.Go(func() {
		defer over.Set()
		for {
			w.see.mu.Lock()
			for _, s := range g.Seats {
				if m := w.see.members[s.ID]; m != nil && m.State == Ended {
					cancel(&GoneError{s.Name, m.Error})
				}
			}
			w.see.mu.Unlock()
			if w.see.wait(met, 0) != nil {
				return
			}
		}
	})
	return met, func() {
		cancel(nil)
		over.Wait(context.Background())
	}
}

// insist changes this worker's record, and tries again while the store is out of reach, or does not write.
func (w *Worker) insist(ctx context.Context, f func(*Member)) error {
	return w.persist(ctx, func() error { return w.say(ctx, f) })
}

// persist writes something, and tries again while the store is out of reach, or does not write.
func (w *Worker) persist(ctx context.Context, write func() error) error {
	since := w.clock.Now()
	for {
		err := write()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := w.Orphaned(); err != nil {
			return err
		}
		if d := w.clock.Now() - since; d > w.Run.Orphan+soon {
			return fmt.Errorf("%w: %w", &OrphanedError{d}, err)
		}
		if err := w.clock.Sleep(ctx, turn); err != nil {
			return err
		}
	}
}

// Key is the secret of a generation.
func (g *Generation) Key() ([]byte, error) {
	b, err := hex.DecodeString(g.Secret)
	if err != nil {
		return nil, fmt.Errorf("cluster: the secret of generation %d is not hex: %w", g.Number, err)
	}
	return b, nil
}

// Leave says that this worker would rather not go on, for as long as the run allows its server to be out of reach: the others let it
// go after a step, of the next generation if it waits for that.
func (w *Worker) Leave(ctx context.Context) error {
	return w.insist(ctx, func(m *Member) {
		if w.leaves = true; m.State == Busy {
			m.State = Leaving
		}
	})
}

// WatchStop calls stop, once, when the run is asked to stop, or cannot be heard of for too long. It returns at once.
func (w *Worker) WatchStop(ctx context.Context, stop func(cause error)) {
	w.clock.Go(func() {
		for {
			if err := w.Orphaned(); err != nil {
				stop(err)
				return
			}
			if w.Stopped() {
				stop(errors.New("asked to stop"))
				return
			}
			if w.clock.Sleep(ctx, turn) != nil {
				return
			}
		}
	})
}

// Said is a piece of progress, and whose it is.
type Said struct {
	ID    string          `json:"id"`
	Event json.RawMessage `json:"event"`
}

// Event tells the launcher of progress. It is fast, and may be lost.
func (w *Worker) Event(v any) error { return w.tell(v, false) }

// Sure is Event for what must be on its way when it returns.
func (w *Worker) Sure(v any) error { return w.tell(v, true) }

func (w *Worker) tell(v any, sure bool) error {
	b, err := json.Marshal(v)
	if err == nil {
		b, err = json.Marshal(Said{w.ID, b})
	}
	if err != nil {
		return err
	}
	return w.store.Tell(topicEvents, b, sure)
}

// Report leaves what a run that went well came to, for as long as the run allows its server to be out of reach. The worker that is
// not first waits a moment for who is: it may be lost at the very end.
func (w *Worker) Report(ctx context.Context, first bool, v any) error {
	for until := w.clock.Now() + 2*beat; !first && w.clock.Now() < until; {
		w.see.mu.Lock()
		there := w.see.end != nil
		w.see.mu.Unlock()
		if there {
			return nil
		}
		if err := w.see.wait(ctx, until); err != nil {
			return err
		}
	}
	return w.persist(ctx, func() error {
		ctx, cancel := w.clock.WithTimeout(ctx, soon)
		defer cancel()
		return putJSON(ctx, w.store, keyEnd, v)
	})
}

// Fail says why this worker ends, and with what exit code; nil when all is well.
func (w *Worker) Fail(err error, code int) error {
	return w.say(context.Background(), func(m *Member) {
		m.State, m.Code, m.Error = Ended, code, ""
		if err != nil {
			m.Error = err.Error()
		}
	})
}

// Close ends its part. The store stays open.
func (w *Worker) Close() { w.end() }
