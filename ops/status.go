package ops

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/covey-ml/covey/comm"
)

// Status is what a worker says of itself, about once a second, to those who watch. Amounts are totals since it began to train:
// a message may be lost, and who has two of them has the rates between.
type Status struct {
	Run        string  `json:"run,omitempty"`
	State      State   `json:"state"`
	Why        string  `json:"why,omitempty"` // it does not train, or is stuck
	Generation uint64  `json:"generation"`
	Rank       int     `json:"rank"`
	Workers    int     `json:"workers"` // of its generation
	At         float64 `json:"at_s"`    // since it began to train
	Step       int     `json:"step"`    // done, in all
	Steps      int     `json:"steps"`   // there are, in all
	Epoch      int     `json:"epoch"`
	// Loss is that of the last step over all workers, or of this worker alone where steps are Quiet; nil: not known yet.
	Loss       *float64 `json:"loss,omitempty"`
	Quiet      bool     `json:"quiet,omitempty"`
	Samples    float64  `json:"samples"` // this worker's part of the batches
	Compute    float64  `json:"compute_s"`
	Comm       float64  `json:"comm_s"`
	Wait       float64  `json:"wait_s"`
	Codec      float64  `json:"codec_s,omitempty"`
	Bytes      int64    `json:"bytes"`                // sent
	Checkpoint int      `json:"checkpoint,omitempty"` // step of the last one that it knows of
	Notes      []Note   `json:"notes,omitempty"`      // the last ones; only over HTTP
}

// every is how often a status is told: people read no faster, and a thousand workers are then a thousand small messages a second.
const every = time.Second

// Bounds on what is read of others.
const (
	mostStatus  = 64 << 10
	mostText    = 400
	mostWorkers = 1 << 20
)

// Status returns how the worker stands now, without notes.
func (m *Meter) Status() Status {
	n, now := m.read()
	return m.status(&n, now)
}

func (m *Meter) status(n *numbers, now time.Duration) Status {
	s := Status{Run: clip(m.run), State: n.state, Generation: n.seat.Generation, Rank: n.seat.Rank, Workers: n.seat.Workers,
		At: m.since(n, now), Step: n.step, Steps: n.steps, Epoch: n.epoch, Quiet: n.quiet, Samples: n.own,
		Compute: n.times.Compute.Seconds(), Comm: n.times.Comm.Seconds(), Wait: n.times.Wait.Seconds(), Codec: n.times.Codec.Seconds(),
		Checkpoint: n.saved}
	if ok, why := m.ready(n, now); !ok {
		s.Why = clip(why)
	}
	if n.lossKnown && !math.IsNaN(n.loss) && !math.IsInf(n.loss, 0) {
		s.Loss = &n.loss
	}
	sum := n.books.Sum()
	s.Bytes = sum.Sent()
	return s
}

// whole is the status with the notes.
func (m *Meter) whole() Status {
	n, now := m.read()
	s := m.status(&n, now)
	for i := max(0, n.noted-mostNotes); i < n.noted; i++ {
		s.Notes = append(s.Notes, n.recent[i%mostNotes])
	}
	return s
}

// Tell calls f with the worker's status, now and once a second, and a last time when ctx ends.
func (m *Meter) Tell(ctx context.Context, clock comm.Clock, f func(Status)) {
	for {
		f(m.Status())
		if clock.Sleep(ctx, every) != nil {
			f(m.Status())
			return
		}
	}
}

// ParseStatus reads a status that another process sent, and refuses what no worker says.
func ParseStatus(b []byte) (Status, error) {
	var s Status
	if len(b) > mostStatus {
		return s, fmt.Errorf("ops: a status of %d bytes; at most %d are read", len(b), mostStatus)
	}
	if err := json.Unmarshal(b, &s); err != nil {
		return s, fmt.Errorf("ops: not a status: %w", err)
	}
	return s, s.Check()
}

// Check refuses a status that no worker sends. Texts may hold anything: who prints them takes care.
func (s *Status) Check() error {
	bad := func(what string, v any) error { return fmt.Errorf("ops: a status with %s %v", what, v) }
	switch s.State {
	case Waiting, Training, Over:
	default:
		return fmt.Errorf("ops: a status with state %.20q: expected %s, %s or %s", s.State, Waiting, Training, Over)
	}
	switch {
	case s.Workers < 0 || s.Workers > mostWorkers:
		return bad("workers", s.Workers)
	case s.Rank < 0 || s.Rank > 0 && s.Rank >= s.Workers:
		return bad("rank", s.Rank)
	case s.Step < 0 || s.Steps < 0 || s.Epoch < 0 || s.Checkpoint < 0:
		return bad("step", s.Step)
	case s.Bytes < 0:
		return bad("bytes", s.Bytes)
	case len(s.Notes) > mostNotes:
		return bad("notes:", len(s.Notes))
	case len(s.Run) > mostText || len(s.Why) > mostText:
		return bad("a text of bytes:", max(len(s.Run), len(s.Why)))
	}
	for _, n := range s.Notes {
		if len(n.Text) > mostText {
			return bad("a note of bytes:", len(n.Text))
		}
	}
	for _, v := range [...]float64{s.At, s.Samples, s.Compute, s.Comm, s.Wait, s.Codec} {
		if !(v >= 0) || v > 1e18 {
			return bad("an amount of", v)
		}
	}
	return nil
}

// clip makes a text one that a status may hold.
func clip(s string) string {
	s = strings.ToValidUTF8(s, "?")
	if len(s) <= mostText {
		return s
	}
	return strings.ToValidUTF8(s[:mostText-len("…")], "") + "…"
}

// Clean returns a text that is safe to print on a terminal: one line, no control characters.
func Clean(s string) string {
	out := make([]rune, 0, len(s))
	for _, r := range s {
		switch {
		case r == '\n' || r == '\t' || r == '\r':
			r = ' '
		case r == utf8.RuneError || !unicode.IsPrint(r):
			r = '?'
		}
		out = append(out, r)
	}
	return string(out)
}
