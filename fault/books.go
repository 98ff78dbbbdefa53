package fault

import (
	"fmt"
	"strings"
	"sync"
	"time"
)

// Books count what fired: a fault that was asked for and did not happen must not pass for one that did no harm. They may
// be used by many goroutines at a time.
type Books struct {
	mu  sync.Mutex
	out []Outcome
}

// Outcome is what became of one fault.
type Outcome struct {
	Fault Fault         `json:"fault"`
	Fired int           `json:"fired"`             // how often: signals sent, packets lost, computations slowed, gradients changed
	At    time.Duration `json:"first_ns"`          // when first, since the run began; 0 when it did not fire
	Step  int           `json:"step,omitempty"`    // at which step first; 0 when unknown
	Why   string        `json:"not_for,omitempty"` // why it did not fire, as far as is known
}

// NewBooks opens books for a script.
func NewBooks(s Script) *Books {
	b := &Books{out: make([]Outcome, len(s))}
	for i, f := range s {
		b.out[i].Fault = f
	}
	return b
}

// Fired books that fault i of the script took effect, at a time since the run began and at a step (0: unknown).
func (b *Books) Fired(i int, at time.Duration, step int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	o := &b.out[i]
	if o.Fired == 0 {
		o.At, o.Step, o.Why = at, step, ""
	}
	o.Fired++
}

// Missed books why fault i has not fired so far. Should it fire later, that counts.
func (b *Books) Missed(i int, why string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.out[i].Fired == 0 {
		b.out[i].Why = why
	}
}

// Ended books that the run ended at a time, after a step, and with it the reason of all that was to come later.
func (b *Books) Ended(at time.Duration, step int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range b.out {
		o := &b.out[i]
		switch {
		case o.Fired > 0 || o.Why != "":
		case o.Fault.From.Step > step:
			o.Why = fmt.Sprintf("the run ended after step %d", step)
		case o.Fault.From.Time > at:
			o.Why = "the run ended at " + printTime(at)
		}
	}
}

// Report returns what became of each fault, in the order of the script.
func (b *Books) Report() []Outcome {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]Outcome(nil), b.out...)
}

// String prints a line for each fault, and one that counts.
func (b *Books) String() string {
	var text strings.Builder
	wide, fired := 0, 0
	report := b.Report()
	for _, o := range report {
		wide = max(wide, min(len(o.Fault.String()), 60))
	}
	for _, o := range report {
		fmt.Fprintf(&text, "%-*s  %s\n", wide, o.Fault, o)
		if o.Fired > 0 {
			fired++
		}
	}
	fmt.Fprintf(&text, "%d of %d faults fired\n", fired, len(report))
	return text.String()
}

// String says what became of the fault, without the fault.
func (o Outcome) String() string {
	switch {
	case o.Fired == 0 && o.Why == "":
		return "did not fire"
	case o.Fired == 0:
		return "did not fire: " + o.Why
	}
	times := "once, at "
	if o.Fired > 1 {
		times = fmt.Sprintf("%d times, first at ", o.Fired)
	}
	s := "fired " + times + printTime(o.At)
	if o.Step > 0 {
		s += fmt.Sprintf(", step %d", o.Step)
	}
	return s
}
