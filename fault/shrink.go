package fault

import (
	"slices"
	"time"
)

// Shrink returns the shortest script found that still fails, by asking fails about shorter ones, about each at most once
// and about no more than tries in all. It is deterministic when fails is. A script that does not fail is returned as it
// is; an empty result says that the run fails without any fault.
//
// First come the faults: ddmin of Zeller and Hildebrandt (Simplifying and isolating failure-inducing input, IEEE
// Transactions on Software Engineering 28(2), 2002, section 3), which cuts the list into n pieces and tries each piece,
// then what is left without each, then smaller pieces. When it ends before tries are used up, no single fault can be left
// out (the paper's 1-minimal). Then the ranks of each fault go the same way, and its moments and lengths are made earlier,
// shorter and rounder. Since an earlier fault may make another one needless, all is repeated until nothing changes.
func Shrink(s Script, fails func(Script) bool, tries int) Script {
	known := map[string]bool{}
	ask := func(try Script) bool {
		key := try.String()
		if failed, asked := known[key]; asked {
			return failed
		}
		if tries <= 0 {
			return false
		}
		tries--
		known[key] = fails(slices.Clone(try))
		return known[key]
	}
	if !ask(s) {
		return s
	}
	if ask(Script{}) {
		return Script{}
	}
	for {
		before := s.String()
		s = ddmin(s, func(part []Fault) bool { return ask(part) })
		for i := range s {
			s = simplify(s, i, ask)
		}
		if s.String() == before || tries <= 0 {
			return s
		}
	}
}

// ddmin returns a part of the list, in order, that fails and of which no item can be left out. The list itself fails and
// the empty one does not.
func ddmin[T any](list []T, fails func([]T) bool) []T {
	for n := min(2, len(list)); len(list) > 1; {
		smaller := func() []T {
			// A piece and, when there are two pieces, what is left without the other are the same.
			for i := range n {
				if piece := list[i*len(list)/n : (i+1)*len(list)/n]; fails(piece) {
					n = 2
					return piece
				}
			}
			for i := range n {
				rest := slices.Concat(list[:i*len(list)/n], list[(i+1)*len(list)/n:])
				if n > 2 && fails(rest) {
					n = max(n-1, 2)
					return rest
				}
			}
			return nil
		}()
		switch {
		case smaller != nil:
			list = smaller
			n = min(n, len(list))
		case n == len(list):
			return list
		default:
			n = min(2*n, len(list))
		}
	}
	return list
}

// simplify makes fault i of a failing script concern fewer ranks, begin earlier and last shorter, as long as it fails.
func simplify(s Script, i int, ask func(Script) bool) Script {
	// with puts another fault in the place, and keeps it when the script still fails.
	with := func(change func(f *Fault)) bool {
		try := slices.Clone(s)
		change(&try[i])
		if try[i].valid() != nil || !ask(try) {
			return false
		}
		s = try
		return true
	}
	if !s[i].Kind.OnLink() {
		ddmin(s[i].Ranks, func(r []int) bool { return with(func(f *Fault) { f.Ranks = r }) })
		if s[i].Kind == Partition {
			ddmin(s[i].Others, func(r []int) bool { return with(func(f *Fault) { f.Others = r }) })
		}
	}
	lower(int64(s[i].From.Step), stepUnits, 1, func(n int64) bool {
		return with(func(f *Fault) {
			if f.To.Step > 0 {
				f.To.Step -= f.From.Step - int(n)
			}
			f.From.Step = int(n)
		})
	})
	lower(int64(s[i].From.Time), timeUnits, 0, func(n int64) bool {
		return with(func(f *Fault) {
			if f.To.Time > 0 {
				f.To.Time -= f.From.Time - time.Duration(n)
			}
			f.From.Time = time.Duration(n)
		})
	})
	lower(int64(s[i].To.Step-s[i].From.Step), stepUnits, 1, func(n int64) bool {
		return with(func(f *Fault) { f.To.Step = f.From.Step + int(n) })
	})
	lower(int64(s[i].To.Time-s[i].From.Time), timeUnits, leastTime, func(n int64) bool {
		return with(func(f *Fault) { f.To.Time = f.From.Time + time.Duration(n) })
	})
	lower(int64(s[i].For), timeUnits, leastTime, func(n int64) bool { return with(func(f *Fault) { f.For = time.Duration(n) }) })
	return s
}

// leastTime is the length below which nothing is made shorter.
const leastTime = int64(time.Millisecond)

// What numbers are rounded to, coarsest first.
var (
	stepUnits = []int64{1000, 100, 10}
	timeUnits = []int64{
		int64(time.Hour), int64(time.Minute), int64(10 * time.Second), int64(time.Second), int64(100 * time.Millisecond),
		int64(10 * time.Millisecond), int64(time.Millisecond),
	}
)

// lower looks for a smaller number that is accepted: the least, then the one rounded down to a unit, then half of it, and
// again from what was accepted. It is for numbers above least.
func lower(n int64, units []int64, least int64, accept func(int64) bool) {
	for n > least {
		next, found := least, accept(least)
		for _, u := range units {
			if found {
				break
			}
			if next = n / u * u; next > least && next < n {
				found = accept(next)
			}
		}
		if !found {
			if next = n / 2; next > least {
				found = accept(next)
			}
		}
		if !found {
			return
		}
		n = next
	}
}
