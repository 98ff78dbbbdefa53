// Package top draws the workers of a run on a terminal: who is where, how fast, and whom the others wait for.
//
// State.Take takes in one piece of News after the other, and Render draws a State as lines. Neither reads a clock or prints.
package top

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/covey-ml/covey/ops"
)

// News is what has been heard of a run: one field beside At and Before is set.
type News struct {
	At     time.Duration // when it was heard, on the watcher's clock
	Before bool          // it happened before the watcher came
	Joined *Joined       // a worker is there for the first time
	Formed *Formed       // a generation was formed
	Status *Told         // a worker says how it stands
	Lost   *Lost         // a worker has ended, or is out of reach
	Over   string        // the run is over: how
}

// Joined is a worker that has come.
type Joined struct{ ID, Name string }

// Formed is a new generation.
type Formed struct {
	Number uint64
	Seats  []Joined // by rank
	Why    string
	Gone   []string // who of the one before is not in it, and why
}

// Told is a worker's status.
type Told struct {
	ID string
	ops.Status
}

// Lost is a worker that is not there.
type Lost struct {
	ID, Why string
	May     bool // it may come back: it did not answer
	Well    bool // it has done its part
}

const (
	window     = 8               // statuses of different steps that rates are taken over
	silence    = 5 * time.Second // without a word a worker is silent
	mostLosses = 400
	mostEvents = 64
	mostKnown  = 1 << 16 // workers
)

// State is what is known of a run. The zero value is a run of which nothing is.
type State struct {
	Run        string
	Generation uint64
	Over       string

	formed  uint64 // the newest generation that was told of by itself
	workers map[string]*worker
	losses  []point // by step
	events  []event // oldest first
}

// worker is what is known of one.
type worker struct {
	id, name string
	rank     int // -1: it has no seat
	said     bool
	now      ops.Status
	heard    time.Duration
	window   []ops.Status // of different steps, oldest first
	lost     string       // why it is not there; empty: it is
	gone     bool         // for good
	well     bool         // it had done its part
	notes    float64      // the newest note that is known
}

type point struct {
	step int
	loss float64
}

type event struct {
	at     time.Duration
	before bool // at the latest
	text   string
}

// seconds is a duration that a worker tells, within reason.
func seconds(s float64) time.Duration {
	return time.Duration(math.Max(0, math.Min(s, 1e9)) * float64(time.Second))
}

// Take takes one piece of news in.
func (s *State) Take(n News) {
	if s.workers == nil {
		s.workers = map[string]*worker{}
	}
	switch {
	case n.Joined != nil:
		w := s.worker(n.Joined.ID)
		if w == nil {
			return
		}
		w.name = n.Joined.Name
		if s.Generation > 0 && w.rank < 0 {
			s.event(n, w.title()+" has joined")
		}
	case n.Formed != nil:
		s.form(n)
	case n.Status != nil:
		if w := s.worker(n.Status.ID); w != nil {
			s.status(n.At, w, n.Status.Status)
		}
	case n.Lost != nil:
		w := s.worker(n.Lost.ID)
		if w == nil || w.gone {
			return
		}
		if w.lost == "" && !n.Lost.Well && !w.done() && (w.said || !n.Lost.May) {
			s.event(n, w.title()+": "+n.Lost.Why)
		}
		w.lost, w.gone, w.well = n.Lost.Why, !n.Lost.May, n.Lost.Well
	case n.Over != "":
		if s.Over == "" {
			s.event(n, n.Over)
		}
		s.Over = n.Over
		for _, w := range s.workers { // whose last word may be older
			w.well = w.well || w.lost == ""
		}
	}
}

// worker is the one of that ID, which may be new; nil when there are too many.
func (s *State) worker(id string) *worker {
	w := s.workers[id]
	if w == nil && len(s.workers) < mostKnown {
		w = &worker{id: id, name: id, rank: -1, notes: -1}
		s.workers[id] = w
	}
	return w
}

// title names a worker for people.
func (w *worker) title() string {
	if w.rank >= 0 {
		return fmt.Sprintf("rank %d (%s)", w.rank, w.name)
	}
	return w.name
}

func (s *State) form(n News) {
	f := n.Formed
	if f.Number <= s.formed || f.Number < s.Generation { // a worker may have said how it is in it before
		return
	}
	s.formed, s.Generation = f.Number, f.Number
	for _, w := range s.workers {
		w.rank = -1
	}
	for r, seat := range f.Seats {
		if w := s.worker(seat.ID); w != nil {
			w.name, w.rank = seat.Name, r
		}
	}
	s.event(n, fmt.Sprintf("generation %d of %s: %s", f.Number, count(len(f.Seats), "worker"), f.Why))
	for _, g := range f.Gone {
		s.event(n, g)
	}
}

func (s *State) status(at time.Duration, w *worker, t ops.Status) {
	if w.said && (t.At < w.now.At || t.Step < w.now.Step || t.Generation != w.now.Generation) {
		w.window = w.window[:0] // it began anew, or went back
	}
	if len(w.window) == 0 || t.Step != w.window[len(w.window)-1].Step {
		if len(w.window) == window {
			w.window = append(w.window[:0], w.window[1:]...)
		}
		w.window = append(w.window, t)
	}
	before := w.said
	w.said, w.now, w.heard = true, t, at
	if w.lost != "" && !w.gone {
		if before {
			s.event(News{At: at}, w.title()+" is back")
		}
		w.lost = ""
	}
	if t.Run != "" && s.Run == "" {
		s.Run = t.Run
	}
	if t.Workers > 0 && t.Generation >= s.Generation {
		w.rank = t.Rank
	}
	for _, n := range t.Notes {
		if n.At > w.notes {
			w.notes = n.At
			s.event(News{At: at - seconds(t.At-n.At)}, n.Text)
		}
	}
	if t.Generation > s.Generation { // where nobody tells of generations
		if s.Generation > 0 && len(t.Notes) == 0 {
			s.event(News{At: at}, fmt.Sprintf("generation %d of %s", t.Generation, count(t.Workers, "worker")))
		}
		s.Generation = t.Generation
	}
	if t.Loss != nil && !t.Quiet {
		s.loss(t.Step, *t.Loss)
	}
}

// loss keeps the curve in order of steps. When it is long every other point goes: it is drawn a few dozen wide.
func (s *State) loss(step int, loss float64) {
	if n := len(s.losses); n > 0 && step <= s.losses[n-1].step {
		return
	}
	if len(s.losses) == mostLosses {
		half := s.losses[:0]
		for i := 1; i < mostLosses; i += 2 {
			half = append(half, s.losses[i])
		}
		s.losses = half
	}
	s.losses = append(s.losses, point{step, loss})
}

// event keeps a text, once when several workers say the same.
func (s *State) event(n News, text string) {
	for _, e := range s.events[max(0, len(s.events)-mostEvents/2):] {
		if e.text == text && n.At-e.at < time.Minute {
			return
		}
	}
	if len(s.events) == mostEvents {
		s.events = append(s.events[:0], s.events[1:]...)
	}
	s.events = append(s.events, event{n.At, n.Before, text})
}

// pace is a worker's rates over its window, or since it began when no more is known.
type pace struct {
	known               bool
	steps, samples      float64 // a second
	compute, comm, wait float64 // of the time
	bytes               float64 // a second
}

func (w *worker) pace() (p pace) {
	if len(w.window) == 0 {
		return p
	}
	last, first := w.window[len(w.window)-1], ops.Status{}
	if len(w.window) > 1 && !w.done() {
		first = w.window[0]
	} else { // how many steps had been done before is not known
		first.Step = last.Step
	}
	d := last.At - first.At
	if !(d > 0) {
		return p
	}
	over := func(a, b float64) float64 { return math.Max(0, a-b) / d }
	p.known = true
	p.steps, p.samples = over(float64(last.Step), float64(first.Step)), over(last.Samples, first.Samples)
	p.compute, p.comm, p.wait = over(last.Compute, first.Compute), over(last.Comm, first.Comm), over(last.Wait, first.Wait)
	p.bytes = over(float64(last.Bytes), float64(first.Bytes))
	return p
}

// stands says in a word or two how the worker is, and whether that is a trouble.
func (w *worker) stands(now time.Duration) (what string, trouble bool) {
	switch {
	case w.done():
		return "done", false
	case w.gone:
		return "ended", true
	case w.lost != "":
		return "no answer", true
	case !w.said:
		return "joined", false
	case now-w.heard > silence:
		return "silent " + short(now-w.heard), true
	case w.now.State == ops.Training && w.now.Why != "":
		return "stuck", true
	case w.now.State == ops.Training && w.stalled() > 0:
		return "no step " + short(w.stalled()), true
	}
	return string(w.now.State), false
}

// stalled is for how long it has done no step, 0 when that is not long: neither in seconds nor in steps of its own pace.
func (w *worker) stalled() time.Duration {
	if len(w.window) == 0 {
		return 0
	}
	d := w.now.At - w.window[len(w.window)-1].At
	if p := w.pace(); d < silence.Seconds() || p.steps > 0 && d*p.steps < 5 {
		return 0
	}
	return time.Duration(d * float64(time.Second))
}

// here tells whether the worker counts as one that is at work.
func (w *worker) here(now time.Duration) bool {
	_, trouble := w.stands(now)
	return w.said && !trouble && w.now.State == ops.Training
}

// done tells whether the worker has come to the end.
func (w *worker) done() bool { return w.well || w.said && w.now.State == ops.Over }

// ranked are the workers as they are listed: by rank, then those without.
func (s *State) ranked() []*worker {
	all := slices.Collect(maps.Values(s.workers))
	slices.SortFunc(all, func(a, b *worker) int {
		ar, br := a.rank, b.rank
		if ar < 0 || a.gone {
			ar = math.MaxInt
		}
		if br < 0 || b.gone {
			br = math.MaxInt
		}
		switch {
		case ar != br:
			return cmp.Compare(ar, br)
		case a.name != b.name:
			return cmp.Compare(a.name, b.name)
		}
		return cmp.Compare(a.id, b.id)
	})
	return all
}
