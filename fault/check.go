package fault

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// valid tells what is wrong with a fault wherever it runs. What Parse returns is valid.
func (f Fault) valid() error {
	if int(f.Kind) >= len(kinds) {
		return fmt.Errorf("there is no fault of %s", f.Kind)
	}
	if err := f.validSubject(); err != nil {
		return err
	}
	switch f.Kind {
	case Slow:
		if !(f.Factor > 1 && f.Factor <= maxFactor) {
			return fmt.Errorf("x%s: how many times slower is above 1 and at most %d", printNumber(f.Factor), maxFactor)
		}
	case Drop:
		if !(f.Amount > 0 && f.Amount <= 1) {
			return fmt.Errorf("%s: a share of packets is above 0%% and up to 100%%", printNumber(f.Amount))
		}
	case Delay:
		if f.Delay <= 0 || f.Delay > maxTime {
			return fmt.Errorf("a delay of %s changes nothing", printTime(f.Delay))
		}
	case Limit:
		if !(f.Amount >= 1 && f.Amount <= maxRate) {
			return fmt.Errorf("a limit of %s bit/s: expected 1 to %s", printNumber(f.Amount), printNumber(maxRate))
		}
	case Corrupt:
		c, err := parseCorruption(f.How)
		if err != nil {
			return err
		}
		if c.String() != f.How {
			return fmt.Errorf("the corruption %q is written %q", f.How, c)
		}
	}
	return f.validTimes()
}

// validSubject holds whom the fault concerns.
func (f Fault) validSubject() error {
	if f.Kind.OnLink() {
		bad := strings.IndexFunc(f.Link, func(r rune) bool { return !unicode.IsPrint(r) || unicode.IsSpace(r) || strings.ContainsRune("{}#", r) })
		if f.Link == "" || bad >= 0 || len(f.Link) > maxLink {
			return fmt.Errorf("%q is not the name of a link, as in a-b", f.Link)
		}
		return nil
	}
	sides := [][]int{f.Ranks}
	if f.Kind == Partition {
		sides = append(sides, f.Others)
	}
	for _, side := range sides {
		if len(side) == 0 {
			return errors.New("it concerns no rank")
		}
		for i, r := range side {
			if r < 0 || r >= maxRank || i > 0 && r <= side[i-1] {
				return fmt.Errorf("rank %d: expected numbers from 0 to %d, ascending", r, maxRank-1)
			}
		}
	}
	if f.Kind == Partition {
		for _, r := range f.Ranks {
			if has(f.Others, r) {
				return fmt.Errorf("rank %d is on both sides of the partition", r)
			}
		}
	}
	return nil
}

// validTimes holds when the fault is in force.
func (f Fault) validTimes() error {
	for _, m := range []Moment{f.From, f.To} {
		if m.Step < 0 || m.Step > maxStep || m.Time < 0 || m.Time > maxTime || m.Step > 0 && m.Time > 0 {
			return fmt.Errorf("%s: expected a step from 1 to %d, or a time up to %s", m, int64(maxStep), printTime(maxTime))
		}
	}
	start, end := f.From == Moment{}, f.To == Moment{}
	switch {
	case f.For < 0 || f.For > maxTime || f.For > 0 && (!end || f.From.Step == 0):
		return fmt.Errorf("for %s: expected a time up to %s after a step, and no other end", printTime(f.For), printTime(maxTime))
	case f.Kind == Kill && (!end || f.For > 0):
		return errors.New("a kill has no end")
	case f.Kind == Stop && f.To.Step > 0:
		return errors.New(`a stopped worker comes to no step: give a time, as in "stop 2 at step 5 for 3s"`)
	case f.Kind.OnLink() && (f.From.Step > 0 || f.To.Step > 0):
		return errors.New(`a link knows no steps: give times, as in "from 10s to 20s"`)
	case f.Kind == Corrupt && (f.From.Time > 0 || f.To.Time > 0 || f.For > 0):
		return errors.New(`what a gradient is must not depend on time: give steps, as in "from step 10 to step 40"`)
	case end || start && f.To.Step > 0:
		return nil
	case f.From.Step > 0 != (f.To.Step > 0):
		return fmt.Errorf("it begins at %s and ends at %s: give both by step or both by time, or how long it lasts with \"for\"", f.From, f.To)
	case f.To.Step <= f.From.Step && f.To.Time <= f.From.Time:
		return fmt.Errorf("it ends at %s, which is not after %s", f.To, f.From)
	}
	return nil
}

// Check holds a script against a run: of ranks 0 to workers-1, of steps 1 to steps (0: no matter how many), with links,
// whose error about a name says what is wrong with it (nil: the run has no links that have names). The error says which
// line.
func (s Script) Check(workers, steps int, links func(string) error) error {
	killed := map[int]int{}
	for i, f := range s {
		if err := f.valid(); err != nil {
			return fmt.Errorf("%s: %w", f.at(), err)
		}
		for _, side := range [][]int{f.Ranks, f.Others} {
			if len(side) > 0 && side[len(side)-1] >= workers {
				return fmt.Errorf("%s: there is no rank %d: the ranks of %d workers are 0 to %d", f.at(), side[len(side)-1], workers, workers-1)
			}
		}
		if steps > 0 && f.From.Step > steps {
			return fmt.Errorf("%s: the run ends after step %d", f.at(), steps)
		}
		if f.Kind.OnLink() {
			err := errors.New("this run has no links with names")
			if links != nil {
				err = links(f.Link)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", f.at(), err)
			}
		}
		if f.Kind != Kill {
			continue
		}
		for _, r := range f.Ranks {
			if first, twice := killed[r]; twice {
				return fmt.Errorf("%s: rank %d is killed already by %s", f.at(), r, s[first].at())
			}
			killed[r] = i
		}
	}
	return nil
}

// has tells whether the ascending ranks hold r.
func has(ranks []int, r int) bool {
	_, ok := slices.BinarySearch(ranks, r)
	return ok
}
