// Package ops shows a worker to those who operate it: how far it is, whether it is well, where its time goes.
//
// A Meter listens to what train tells of a run (Meter.Events) and keeps the newest numbers, at no allocation a step. A Server
// shows them over HTTP, to a probe, to Prometheus and to covey top; Meter.Tell hands them, as a Status, to whoever wants one a
// second. Logger is for lines that say of which worker and step they are. ops/top draws the workers of a run on a terminal.
//
//	m := ops.NewMeter("digits", comm.RealClock(), ops.Limits{})
//	conf.Events = m.Events(conf.Events)
//	m.Sit(ops.Seat{Generation: 1, Rank: 0, Workers: 2, Own: 4, Of: 8})
//	s, err := ops.Serve(ctx, ops.Config{Addr: "127.0.0.1:9090", Meter: m})
package ops

import (
	"fmt"
	"sync"
	"time"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/strategy"
	"github.com/covey-ml/covey/train"
)

// Seat is a worker's place in a generation.
type Seat struct {
	Generation    uint64
	Rank, Workers int
	// Own of all Of microshards of a batch are this worker's; Of 0: they are shared out evenly.
	Own, Of int
}

// share is the worker's part of a batch.
func (s Seat) share() float64 {
	switch {
	case s.Of > 0:
		return float64(s.Own) / float64(s.Of)
	case s.Workers > 0:
		return 1 / float64(s.Workers)
	}
	return 0
}

// Limits say when a worker that trains counts as stuck.
type Limits struct {
	Step time.Duration // the longest that a step, a test or a checkpoint may take; 0: a minute
}

// Meter keeps the numbers of one worker, through all its generations. Its methods may be called from several goroutines.
type Meter struct {
	run    string
	clock  comm.Clock
	limits Limits
	where  *Where // told of every step; may be nil

	mu sync.Mutex
	n  numbers
}

// numbers are what a Meter has heard. They are copied as a whole, so that who reads them holds nobody up.
type numbers struct {
	seat  Seat
	state State
	why   string // it is in that state, in words
	began bool   // it has trained
	first time.Duration
	mark  time.Duration // when it last told of anything

	step, steps, epoch int
	done               uint64 // steps of this process
	samples            uint64
	own                float64 // of samples, this worker's
	loss, rate         float64
	lossKnown, quiet   bool
	times              strategy.Times
	taken, books       comm.Books // of all steps; and with what was sent since the last of them
	saved              int        // step of the last checkpoint
	savedOnce          bool
	saveFailures       uint64
	regroups           uint64
	lasted             [len(stepBounds) + 1]uint64 // steps by duration, by the first bound that they are not over
	lastedSum          time.Duration
	recent             [mostNotes]Note // a ring
	noted              int             // notes ever
}

// State is where a worker stands.
type State string

// The states of a worker.
const (
	Waiting  State = "waiting"  // it has no seat, or its generation has not met
	Training State = "training" // steps go on, or should
	Over     State = "over"
)

// Note is something that happened to a run, in words.
type Note struct {
	At   float64 `json:"at_s"` // on the scale of Status.At
	Text string  `json:"text"`
}

const mostNotes = 16

// NewMeter returns a meter of a worker that has no seat yet. run names the run in what is shown.
func NewMeter(run string, clock comm.Clock, l Limits) *Meter {
	if l.Step <= 0 {
		l.Step = time.Minute
	}
	m := &Meter{run: run, clock: clock, limits: l}
	m.n.state, m.n.why, m.n.mark = Waiting, "the first generation has not been formed", clock.Now()
	return m
}

// Follow has the meter tell w of every seat and step, for the log.
func (m *Meter) Follow(w *Where) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.where = w
}

// Sit says that the worker has a seat, and is about to meet the others.
func (m *Meter) Sit(s Seat) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.n.seat, m.n.state, m.n.why, m.n.mark = s, Waiting, fmt.Sprintf("the workers of generation %d are meeting", s.Generation), m.clock.Now()
	m.tellWhere()
}

// Stand says that the worker has no seat any more, and why; covey's workers then wait for another.
func (m *Meter) Stand(why string) { m.leave(Waiting, why) }

// End says that the worker is done, and how it ended.
func (m *Meter) End(how string) { m.leave(Over, how) }

func (m *Meter) leave(s State, why string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.n.state, m.n.why, m.n.mark = s, why, m.clock.Now()
}

// Events returns events that the meter listens to before it passes them on to next.
func (m *Meter) Events(next train.Events) train.Events {
	return train.Events{
		Start: func(i train.StartInfo) {
			m.start(i)
			if next.Start != nil {
				next.Start(i)
			}
		},
		Step: func(i train.StepInfo) {
			m.stepDone(i)
			if next.Step != nil {
				next.Step(i)
			}
		},
		Epoch: func(i train.EpochInfo) {
			m.epochDone(i)
			if next.Epoch != nil {
				next.Epoch(i)
			}
		},
		Checkpoint: func(i train.CheckpointInfo) {
			m.saved(i)
			if next.Checkpoint != nil {
				next.Checkpoint(i)
			}
		},
		Generation: func(i train.GenerationInfo) {
			m.regrouped(i)
			if next.Generation != nil {
				next.Generation(i)
			}
		},
	}
}

func (m *Meter) start(i train.StartInfo) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.begin(i)
	m.noteStart(i)
}

// regrouped takes the start of a generation after the run's first, which a worker that has come since hears first.
func (m *Meter) regrouped(i train.GenerationInfo) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.n.began {
		m.n.regroups++
	}
	m.begin(i.StartInfo)
	m.note(fmt.Sprintf("generation %d of %d workers goes on after step %d: %s", i.Number, i.Workers, i.Step, i.Why))
	for _, text := range i.Gone {
		m.note(text)
	}
	m.noteStart(i.StartInfo)
}

// noteStart keeps what there is to say about how steps begin, or go on. m.mu is held.
func (m *Meter) noteStart(i train.StartInfo) {
	if text := i.Rescaled(); text != "" {
		m.note(text)
	}
	for _, text := range i.Notes {
		m.note(text)
	}
}

// begin is that steps come. m.mu is held.
func (m *Meter) begin(i train.StartInfo) {
	now := m.clock.Now()
	if !m.n.began {
		m.n.began, m.n.first = true, now
	}
	m.n.state, m.n.why, m.n.mark = Training, "", now
	m.n.step, m.n.steps = i.Step, i.Steps
	m.n.epoch = i.Epoch + 1
	m.n.books = i.Books
	m.tellWhere()
}

// stepDone is on the path of every step: it allocates nothing.
func (m *Meter) stepDone(i train.StepInfo) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.clock.Now()
	n := &m.n
	n.step, n.epoch = i.Step, i.Epoch
	n.done++
	n.samples += uint64(max(0, i.Samples))
	n.own += float64(i.Samples) * n.seat.share()
	n.rate, n.quiet = i.Rate, i.Quiet
	n.loss, n.lossKnown = i.Loss, true
	n.times.Add(i.Times)
	n.taken.Add(&i.Books) // what was sent between two steps is in the books of the second
	n.books = n.taken
	took := now - n.mark
	b := 0
	for b < len(stepBounds) && took.Seconds() > stepBounds[b] {
		b++
	}
	n.lasted[b]++
	n.lastedSum += took
	n.mark = now
	m.tellWhere()
}

func (m *Meter) epochDone(i train.EpochInfo) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.n.books, m.n.mark = i.Books, m.clock.Now()
}

func (m *Meter) saved(i train.CheckpointInfo) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.n.mark = m.clock.Now()
	if i.Err != nil {
		m.n.saveFailures++
		m.note(fmt.Sprintf("the checkpoint of step %d was not saved: %v", i.Step, i.Err))
		return
	}
	m.n.saved, m.n.savedOnce = i.Step, true
}

// note keeps a text. m.mu is held, as in all that follows.
func (m *Meter) note(text string) {
	m.n.recent[m.n.noted%mostNotes] = Note{At: m.since(&m.n, m.clock.Now()), Text: clip(text)}
	m.n.noted++
}

func (m *Meter) tellWhere() {
	if m.where != nil {
		m.where.Set(m.n.seat.Generation, m.n.seat.Rank, m.n.step)
	}
}

// since is a time on the scale of Status.At.
func (m *Meter) since(n *numbers, now time.Duration) float64 {
	if !n.began {
		return 0
	}
	return (now - n.first).Seconds()
}

// read returns all numbers, and the time.
func (m *Meter) read() (numbers, time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.n, m.clock.Now()
}

// Ready tells whether the worker has a seat and steps go on, and if not, why.
func (m *Meter) Ready() (ok bool, why string) {
	n, now := m.read()
	return m.ready(&n, now)
}

func (m *Meter) ready(n *numbers, now time.Duration) (ok bool, why string) {
	switch silent := now - n.mark; {
	case n.state != Training:
		return false, n.why
	case silent > m.limits.Step:
		return false, fmt.Sprintf("nothing was done for %v since step %d; the deadline is %v", silent.Round(time.Second), n.step, m.limits.Step)
	}
	return true, fmt.Sprintf("generation %d, rank %d, step %d", n.seat.Generation, n.seat.Rank, n.step)
}
