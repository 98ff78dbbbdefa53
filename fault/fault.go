// Package fault says what goes wrong in a run, when, and what came of it. One script drives the simulator and real
// processes.
//
// A script is text, one fault a line; # begins a comment:
//
//	kill 3 at step 120
//	stop 2 at 10s for 5s                     the process stands still, then goes on
//	slow {0-3,7} x2 from step 10 to step 40  computes 2 times slower
//	partition {0-3} {4-7} at 30s for 20s     no message crosses
//	drop 1% on link a-b                      packets are lost
//	delay 50ms on link a-b from 10s to 20s
//	limit 10Mbit/s on link a-b               bandwidth
//	corrupt gradient of 5 sign-flip          also: zero, scale:100, noise:10, nan
//
// Parse reads it, Script.Check holds it against a run, NewState follows it through the run (it decides what is in force;
// who asks it does the rest), and Books count what fired. Random draws scripts, and Shrink finds the few faults of a
// script that a failure needs.
package fault

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Kind is what goes wrong.
type Kind uint8

// The kinds. Kill to Slow and Corrupt concern ranks, Partition two sets of ranks, the others a link.
const (
	Kill      Kind = iota // the process ends without a word
	Stop                  // the process stands still: SIGSTOP, then SIGCONT
	Slow                  // computing takes Factor times as long
	Partition             // no message crosses between Ranks and Others
	Drop                  // each packet is lost with probability Amount
	Delay                 // each packet takes Delay longer
	Limit                 // at most Amount bits a second
	Corrupt               // the gradient is changed as How says
)

var kinds = []string{"kill", "stop", "slow", "partition", "drop", "delay", "limit", "corrupt"}

func (k Kind) String() string {
	if int(k) < len(kinds) {
		return kinds[k]
	}
	return "kind " + strconv.Itoa(int(k))
}

// OnLink tells whether faults of this kind concern a link, not ranks.
func (k Kind) OnLink() bool { return k == Drop || k == Delay || k == Limit }

// timed tells which ends a line of this kind has.
type timed uint8

const (
	moment timed = iota // at: it happens once, and must be told when
	since               // at ... for: it lasts, and must be told since when
	always              // from ... to: both may be left out
)

func (k Kind) timed() timed {
	switch k {
	case Kill:
		return moment
	case Stop, Partition:
		return since
	}
	return always
}

// Moment is a point in a run: where step Step begins (from 1), or, when Step is 0, a time since the run began.
//
// Each rank comes to a step by itself. A partition, which is one thing to many ranks, begins and ends when the first of
// its ranks comes to the step.
type Moment struct {
	Step int
	Time time.Duration
}

// String prints "step 120" or "12s".
func (m Moment) String() string {
	if m.Step > 0 {
		return "step " + strconv.Itoa(m.Step)
	}
	return printTime(m.Time)
}

// Fault is one line of a script. The fields that its kind does not use are zero.
type Fault struct {
	Line   int   // in the file that it was read from, from 1; 0: from none
	Kind   Kind  // what goes wrong
	Ranks  []int // whom it concerns, ascending, none twice
	Others []int // the other side of a partition, likewise
	Link   string
	// From and To are when it begins and ends: it is in force at From and no more at To. The zero From is the start of
	// the run, the zero To its end. Faults on links go by time, corrupt gradients by step.
	From, To Moment
	For      time.Duration // how long from a From by step, in place of To: "at step 5 for 3s"; else 0
	Factor   float64       // of Slow: above 1
	Amount   float64       // of Drop a probability, of Limit bits a second
	Delay    time.Duration // of Delay
	How      string        // of Corrupt: sign-flip, zero, scale:100, noise:10 or nan
}

// String prints a line that Parse reads back to an equal Fault, but for its Line.
func (f Fault) String() string {
	var b strings.Builder
	b.WriteString(f.Kind.String())
	switch f.Kind {
	case Kill, Stop:
		b.WriteString(" " + printRanks(f.Ranks))
	case Slow:
		b.WriteString(" " + printRanks(f.Ranks) + " x" + printNumber(f.Factor))
	case Partition:
		b.WriteString(" " + printRanks(f.Ranks) + " " + printRanks(f.Others))
	case Drop:
		b.WriteString(" " + printPercent(f.Amount) + " on link " + f.Link)
	case Delay:
		b.WriteString(" " + printTime(f.Delay) + " on link " + f.Link)
	case Limit:
		b.WriteString(" " + printRate(f.Amount) + " on link " + f.Link)
	case Corrupt:
		b.WriteString(" gradient of " + printRanks(f.Ranks) + " " + f.How)
	}
	if f.Kind.timed() != always {
		b.WriteString(" at " + f.From.String())
	} else if f.From != (Moment{}) {
		b.WriteString(" from " + f.From.String())
	}
	switch {
	case f.For > 0:
		b.WriteString(" for " + printTime(f.For))
	case f.To == (Moment{}):
	case f.Kind.timed() == since && f.To.Step == 0:
		b.WriteString(" for " + printTime(f.To.Time-f.From.Time))
	case f.Kind.timed() == since && f.From.Step > 0:
		b.WriteString(" for " + strconv.Itoa(f.To.Step-f.From.Step) + " step")
		if f.To.Step > f.From.Step+1 {
			b.WriteByte('s')
		}
	default:
		b.WriteString(" to " + f.To.String())
	}
	return b.String()
}

// MarshalText is String, so that reports in JSON show the line.
func (f Fault) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// at says where the fault stands, for errors.
func (f Fault) at() string {
	if f.Line > 0 {
		return fmt.Sprintf("line %d: %s", f.Line, f)
	}
	return f.String()
}

// Script is faults in the order of their lines. The order means nothing but which number a fault has in books.
type Script []Fault

// String prints a file that Parse reads back.
func (s Script) String() string {
	var b strings.Builder
	for _, f := range s {
		b.WriteString(f.String())
		b.WriteByte('\n')
	}
	return b.String()
}

// printRanks prints 3 or {0-3,7}.
func printRanks(ranks []int) string {
	if len(ranks) == 1 {
		return strconv.Itoa(ranks[0])
	}
	b := []byte("{")
	for i := 0; i < len(ranks); {
		j := i + 1
		for j < len(ranks) && ranks[j] == ranks[j-1]+1 {
			j++
		}
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, int64(ranks[i]), 10)
		if j > i+1 {
			b = strconv.AppendInt(append(b, '-'), int64(ranks[j-1]), 10)
		}
		i = j
	}
	return string(append(b, '}'))
}
