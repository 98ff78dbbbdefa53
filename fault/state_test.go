package fault

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// told prints changes: +1 is fault 1 for all, -0@3 the end of fault 0 for rank 3.
func told(changes []Change) string {
	var out []string
	for _, c := range changes {
		s := fmt.Sprintf("-%d", c.Fault)
		if c.Begins {
			s = fmt.Sprintf("+%d", c.Fault)
		}
		if c.Rank >= 0 {
			s += fmt.Sprintf("@%d", c.Rank)
		}
		out = append(out, s)
	}
	return strings.Join(out, " ")
}

func TestStateByTime(t *testing.T) {
	s := mustParse(t, `
slow {0-1} x2 from 10s to 30s
slow 1 x3 from 20s to 40s
stop 2 at 10s for 5s
stop 2 at 12s for 10s
partition {0} {1-2} at 30s for 10s
kill 3 at 15s
slow 3 x4
`)
	st := NewState(s, 4, 0)
	for _, c := range []struct {
		at     time.Duration
		told   string
		slow   []float64
		stop   bool // rank 2
		dead   bool // rank 3
		cut    bool // 0 from 1
		next   time.Duration
		noNext bool
	}{
		{at: 0, told: "+6", slow: []float64{1, 1, 1, 4}, next: 10},
		{at: 9, told: "", slow: []float64{1, 1, 1, 4}, next: 10},
		{at: 10, told: "+0 +2", slow: []float64{2, 2, 1, 4}, stop: true, next: 12},
		{at: 15, told: "+3 -2 +5", slow: []float64{2, 2, 1, 4}, stop: true, dead: true, next: 20},
		{at: 22, told: "+1 -3", slow: []float64{2, 6, 1, 4}, dead: true, next: 30},
		{at: 30, told: "-0 +4", slow: []float64{1, 3, 1, 4}, dead: true, cut: true, next: 40},
		{at: 99, told: "-1 -4", slow: []float64{1, 1, 1, 4}, dead: true, noNext: true},
	} {
		if got := told(st.Time(c.at * time.Second)); got != c.told {
			t.Errorf("at %d s: %s, want %s", c.at, got, c.told)
		}
		if got := []float64{st.Slow(0), st.Slow(1), st.Slow(2), st.Slow(3)}; !slices.Equal(got, c.slow) {
			t.Errorf("at %d s: slow %v, want %v", c.at, got, c.slow)
		}
		if st.Stopped(2) != c.stop || st.Stopped(1) || st.Dead(3) != c.dead || st.Dead(2) {
			t.Errorf("at %d s: stopped %v, dead %v", c.at, st.Stopped(2), st.Dead(3))
		}
		if st.Cut(0, 1) != c.cut || st.Cut(2, 0) != c.cut || st.Cut(1, 2) || st.Cut(0, 3) {
			t.Errorf("at %d s: cut %v, and back %v", c.at, st.Cut(0, 1), st.Cut(2, 0))
		}
		if next, ok := st.Next(); ok == c.noNext || next != c.next*time.Second {
			t.Errorf("at %d s: next %v, %v", c.at, next, ok)
		}
	}
}

func TestStateBySteps(t *testing.T) {
	s := mustParse(t, `
slow {0-1} x2 from step 3 to step 5
kill 2 at step 4
stop 0 at step 2 for 3s
partition {0-1} {2} at step 6 for 2 steps
partition 1 2 at step 2 for 1s
slow 1 x7 to step 2
`)
	st := NewState(s, 3, 0)
	for _, c := range []struct {
		at         time.Duration
		rank, step int
		told       string
	}{
		{0, 0, 1, "+5"}, {0, 1, 1, ""}, {0, 2, 1, ""},
		{1, 1, 2, "+4 -5@1"}, // the partition begins with the first that comes to step 2, and no second time
		{1, 2, 2, ""},
		{2, 0, 2, "-4 +2@0"},
		{5, 1, 2, "-2@0"}, // a step told again
		{5, 1, 3, "+0@1"},
		{6, 1, 5, "-0@1"},
	} {
		if got := told(st.Step(c.at*time.Second, c.rank, c.step)); got != c.told {
			t.Errorf("rank %d at step %d: %s, want %s", c.rank, c.step, got, c.told)
		}
	}
	// Rank 0 leaps over all of its slow-down, which so never was, and is the first behind the beginning of the partition.
	if got := told(st.Step(6*time.Second, 0, 7)); got != "+3" || st.Slow(0) != 1 || !st.Cut(2, 0) || st.Cut(0, 1) {
		t.Errorf("a leap: %s", got)
	}
	if got := told(st.Step(7*time.Second, 2, 4)); got != "+1@2" || !st.Dead(2) {
		t.Errorf("the kill: %s", got)
	}
	if got := told(st.Step(8*time.Second, 1, 8)); got != "-3" || st.Cut(2, 0) {
		t.Errorf("the end of the partition: %s", got)
	}
	for step := 1; step < 20; step++ { // a run that goes back to a checkpoint meets no fault again
		for r := range 3 {
			if got := told(st.Step(9*time.Second, r, step)); got != "" {
				t.Errorf("rank %d at step %d again: %s", r, step, got)
			}
		}
	}
	if _, ok := st.Next(); ok {
		t.Error("something is still to come")
	}
}

// A run that goes on from a checkpoint does not die of what has happened before it.
func TestStateResumed(t *testing.T) {
	s := mustParse(t, `
kill 0 at step 10
kill 1 at step 11
stop 0 at step 9 for 5s
partition 0 1 at step 9
slow 0 x2 from step 8 to step 20
slow 0 x3 from step 8 to step 10
slow 0 x5 from step 8 for 5s
slow 1 x7 from step 8
slow 1 x9 to step 10
`)
	st := NewState(s, 2, 10)
	if got := told(st.Step(0, 0, 11)) + " " + told(st.Step(0, 1, 11)); got != "+4@0 +1@1 +7@1" {
		t.Errorf("resumed: %s", got)
	}
	if st.Slow(0) != 2 || st.Slow(1) != 7 || st.Dead(0) || !st.Dead(1) || st.Cut(0, 1) {
		t.Errorf("slow %v %v, dead %v %v", st.Slow(0), st.Slow(1), st.Dead(0), st.Dead(1))
	}
}

func TestShape(t *testing.T) {
	s := mustParse(t, `
drop 50% on link a-b from 1s to 9s
drop 20% on link a-b from 2s to 8s
delay 50ms on link a-b from 1s to 9s
delay 20ms on link b-a from 1s to 9s
limit 80Mbit/s on link a-b from 1s to 9s
limit 8Mbit/s on link a-b from 2s to 8s
drop 100% on link c from 1s to 9s
`)
	st := NewState(s, 1, 0)
	ab := func(name string) bool { return name == "a-b" || name == "b-a" }
	for _, c := range []struct {
		at   time.Duration
		want Shape
	}{
		{0, Shape{}},
		{1, Shape{0.5, 70 * time.Millisecond, 10e6}},
		{2, Shape{0.6, 70 * time.Millisecond, 1e6}},
		{8, Shape{0.5, 70 * time.Millisecond, 10e6}},
		{9, Shape{}},
	} {
		st.Time(c.at * time.Second)
		if got := st.Shape(ab); got != c.want {
			t.Errorf("at %d s: %+v, want %+v", c.at, got, c.want)
		}
	}
}

func TestQuestionsAllocateNothing(t *testing.T) {
	s := mustParse(t, "partition {0-499} {500-999} at 0s\nslow {0-999} x2\nstop 3 at 0s\ndrop 1% on link a-b\ncorrupt gradient of 4 zero")
	st := NewState(s, 1000, 0)
	st.Time(0)
	on := func(name string) bool { return name == "a-b" }
	sum := 0.0
	if n := testing.AllocsPerRun(100, func() {
		for r := range 10 {
			if st.Cut(r, 999-r) && !st.Dead(r) && !st.Stopped(r) {
				sum += st.Slow(r)
			}
			sum += float64(len(st.Step(0, r, 5)) + len(s.Corruptions(r+5, 5)))
		}
		sum += st.Shape(on).Drop
		st.Next()
	}); n != 0 || sum == 0 {
		t.Errorf("%v allocations, sum %v", n, sum)
	}
}

// naive says by definition which ranks a fault is in force for, when every rank has told each of its steps at its time:
// began[r][k] is when rank r began step k+1.
func naive(f Fault, rank int, at time.Duration, began [][]time.Duration) bool {
	come := func(m Moment) (time.Duration, bool) {
		if m.Step == 0 {
			return m.Time, m.Time <= at
		}
		ranks := []int{rank}
		if f.Kind == Partition {
			ranks = slices.Concat(f.Ranks, f.Others)
		}
		first, ok := time.Duration(1<<62), false
		for _, r := range ranks {
			if m.Step <= len(began[r]) && began[r][m.Step-1] <= at {
				first, ok = min(first, began[r][m.Step-1]), true
			}
		}
		return first, ok
	}
	from, begun := come(f.From)
	if !begun {
		return false
	}
	if f.For > 0 {
		return at < from+f.For
	}
	_, ended := come(f.To)
	return f.To == Moment{} || !ended
}

// State, told of a run event by event, says at each what the definition says.
func TestStateIsTheDefinition(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		const workers, steps = 4, 8
		seed := rapid.Uint64().Draw(rt, "seed")
		s := Random(seed, Chaos{Workers: workers, Steps: steps, Span: 20 * time.Second, Faults: 6, Kinds: []Kind{Stop, Slow, Partition}})
		began := make([][]time.Duration, workers)
		st := NewState(s, workers, 0)
		var at time.Duration
		for range 60 {
			at += time.Duration(rapid.IntRange(0, 700).Draw(rt, "ms")) * time.Millisecond
			r := rapid.IntRange(0, workers-1).Draw(rt, "rank")
			if len(began[r]) == steps || rapid.Bool().Draw(rt, "tick") {
				st.Time(at)
			} else {
				began[r] = append(began[r], at)
				st.Step(at, r, len(began[r]))
			}
			for r := range workers {
				slow, stopped := 1.0, false
				for _, f := range s {
					if !has(f.Ranks, r) || !naive(f, r, at, began) {
						continue
					}
					switch f.Kind {
					case Slow:
						slow *= f.Factor
					case Stop:
						stopped = true
					}
				}
				if st.Slow(r) != slow || st.Stopped(r) != stopped {
					rt.Fatalf("at %v, rank %d: slow %v, stopped %v, want %v, %v\n%s%v", at, r, st.Slow(r), st.Stopped(r), slow, stopped, s, began)
				}
				for q := range workers {
					cut := slices.ContainsFunc(s, func(f Fault) bool {
						across := has(f.Ranks, r) && has(f.Others, q) || has(f.Ranks, q) && has(f.Others, r)
						return f.Kind == Partition && across && naive(f, r, at, began)
					})
					if st.Cut(r, q) != cut {
						rt.Fatalf("at %v, %d to %d: cut %v, want %v\n%s%v", at, r, q, st.Cut(r, q), cut, s, began)
					}
				}
			}
		}
	})
}
