package fault

import (
	"cmp"
	"slices"
	"time"
)

// State follows a script through a run and decides what is in force. It does nothing by itself: who drives the run tells
// it the time and the steps of the ranks, kills and stops what it is told to, and asks it about the rest. It is for one
// goroutine at a time. Questions allocate nothing.
type State struct {
	script  Script
	timers  []timer  // what comes by time, soonest first
	waits   [][]wait // by rank: what comes by its steps
	slows   [][]int  // by rank: the slow-downs in force, ascending
	slow    []float64
	stops   []int
	dead    []bool
	phase   []phase // by fault: how far a partition is
	cuts    []int   // the partitions in force, ascending
	onLinks []int   // the faults on links in force, ascending
	changes []Change
}

// Change is a fault that begins or ends.
type Change struct {
	Fault  int  // its number in the script
	Rank   int  // for whom; -1: for all whom it concerns
	Begins bool // else it ends
}

type timer struct {
	at time.Duration
	Change
}

// wait is a fault that begins or ends by a rank's steps.
type wait struct {
	fault  int
	begins bool // else it has begun
}

type phase uint8

const (
	coming phase = iota
	inForce
	over
)

// NewState begins to follow a script, which must have passed Check for this many workers. done is the step of the
// checkpoint that the run goes on from, 0 for a new run: what happens at a step up to done (kill, stop, partition, slow for
// 5s) has happened; what lasts from step to step is in force again.
func NewState(s Script, workers, done int) *State {
	st := &State{
		script: s, waits: make([][]wait, workers), slows: make([][]int, workers), slow: make([]float64, workers),
		stops: make([]int, workers), dead: make([]bool, workers), phase: make([]phase, len(s)),
	}
	for r := range st.slow {
		st.slow[r] = 1
	}
	for i, f := range s {
		happened := f.From.Step > 0 && f.From.Step <= done && f.To == Moment{} && (f.Kind.timed() != always || f.For > 0)
		if happened || f.To.Step > 0 && f.To.Step <= done {
			st.phase[i] = over
			continue
		}
		if f.From.Step == 0 {
			st.timers = append(st.timers, timer{f.From.Time, Change{i, -1, true}})
		}
		if f.To.Time > 0 {
			st.timers = append(st.timers, timer{f.To.Time, Change{i, -1, false}})
		}
		if f.From.Step > 0 || f.To.Step > 0 {
			for _, side := range [][]int{f.Ranks, f.Others} {
				for _, r := range side {
					st.waits[r] = append(st.waits[r], wait{i, f.From.Step > 0})
				}
			}
		}
	}
	slices.SortStableFunc(st.timers, timer.compare)
	return st
}

func (t timer) compare(u timer) int {
	return cmp.Or(cmp.Compare(t.at, u.at), cmp.Compare(t.Fault, u.Fault), cmp.Compare(t.Rank, u.Rank))
}

// Next returns when the next change by time comes, as far as is known now; false when none does.
func (st *State) Next() (time.Duration, bool) {
	if len(st.timers) == 0 {
		return 0, false
	}
	return st.timers[0].at, true
}

// Time tells that the run is at this time, never before what it was told already, and returns what begins and ends by
// it, in order. The changes are valid until the next call.
func (st *State) Time(at time.Duration) []Change {
	st.changes = st.changes[:0]
	for len(st.timers) > 0 && st.timers[0].at <= at {
		c := st.timers[0].Change
		st.timers = st.timers[1:]
		st.change(c)
	}
	return st.changes
}

// Step tells that a rank begins a step (from 1) at a time, and returns what Time does and what begins and ends by the
// step. Steps may be left out or told again; a fault that was left out as a whole does not begin, and none begins twice.
func (st *State) Step(at time.Duration, rank, step int) []Change {
	st.Time(at)
	if len(st.waits[rank]) == 0 {
		return st.changes
	}
	kept := st.waits[rank][:0]
	for _, w := range st.waits[rank] {
		f := &st.script[w.fault]
		who := rank
		if f.Kind == Partition { // one thing to all its ranks: the first that comes is told, the others find it done
			who = -1
			w.begins = st.phase[w.fault] == coming
			if st.phase[w.fault] == over {
				continue
			}
		}
		ends := f.To.Step > 0 && step >= f.To.Step
		switch {
		case ends && w.begins: // left out
			if who < 0 {
				st.phase[w.fault] = over
			}
			continue
		case ends:
			st.change(Change{w.fault, who, false})
			continue
		case w.begins && step >= f.From.Step:
			w.begins = false
			st.change(Change{w.fault, who, true})
			if f.For > 0 {
				t := timer{at + f.For, Change{w.fault, who, false}}
				i, _ := slices.BinarySearchFunc(st.timers, t, timer.compare)
				st.timers = slices.Insert(st.timers, i, t)
			}
			if f.To.Step == 0 {
				continue
			}
		}
		kept = append(kept, w)
	}
	st.waits[rank] = kept
	return st.changes
}

// change puts a fault into force or out of it.
func (st *State) change(c Change) {
	f := &st.script[c.Fault]
	st.changes = append(st.changes, c)
	switch {
	case f.Kind == Partition:
		st.phase[c.Fault] = over
		if c.Begins {
			st.phase[c.Fault] = inForce
		}
		st.cuts = toggle(st.cuts, c.Fault, c.Begins)
	case f.Kind.OnLink():
		st.onLinks = toggle(st.onLinks, c.Fault, c.Begins)
	case c.Rank >= 0:
		st.touch(f, c, c.Rank)
	default:
		for _, r := range f.Ranks {
			st.touch(f, c, r)
		}
	}
}

// touch does what a change means to one rank.
func (st *State) touch(f *Fault, c Change, rank int) {
	switch f.Kind {
	case Kill:
		st.dead[rank] = true
	case Stop:
		if c.Begins {
			st.stops[rank]++
		} else {
			st.stops[rank]--
		}
	case Slow:
		st.slows[rank] = toggle(st.slows[rank], c.Fault, c.Begins)
		st.slow[rank] = 1
		for _, i := range st.slows[rank] {
			st.slow[rank] *= st.script[i].Factor
		}
	}
}

// toggle puts a number into an ascending list, or takes it out.
func toggle(list []int, n int, in bool) []int {
	i, found := slices.BinarySearch(list, n)
	switch {
	case in && !found:
		return slices.Insert(list, i, n)
	case !in && found:
		return slices.Delete(list, i, i+1)
	}
	return list
}

// Dead tells whether a rank has been killed.
func (st *State) Dead(rank int) bool { return st.dead[rank] }

// Stopped tells whether a rank stands still.
func (st *State) Stopped(rank int) bool { return st.stops[rank] > 0 }

// Slow returns how many times longer a rank computes, 1 when it is as fast as ever. Slow-downs multiply.
func (st *State) Slow(rank int) float64 { return st.slow[rank] }

// Cut tells whether a partition keeps messages from a to b, and from b to a.
func (st *State) Cut(a, b int) bool {
	for _, i := range st.cuts {
		f := &st.script[i]
		if has(f.Ranks, a) && has(f.Others, b) || has(f.Ranks, b) && has(f.Others, a) {
			return true
		}
	}
	return false
}

// Shape is what faults do to a link. The zero Shape is a link as it is.
type Shape struct {
	Drop  float64       // the probability that a packet is lost, beside what the link loses by itself
	Delay time.Duration // of each packet, beside the link's own
	Limit float64       // bytes a second, whatever the link can; 0: as it can
}

// Shape returns what the faults in force on a link do together: packets pass one after the other, delays add up, the
// lowest limit holds. on tells which names mean the link. Ask again only after a change on a link.
func (st *State) Shape(on func(link string) bool) Shape {
	var s Shape
	pass := 1.0
	for _, i := range st.onLinks {
		f := &st.script[i]
		if !on(f.Link) {
			continue
		}
		switch f.Kind {
		case Drop:
			pass *= 1 - f.Amount
		case Delay:
			s.Delay += f.Delay
		case Limit:
			if bytes := f.Amount / 8; s.Limit == 0 || bytes < s.Limit {
				s.Limit = bytes
			}
		}
	}
	s.Drop = 1 - float64(pass) // in full, or processors that fuse would say another
	return s
}
