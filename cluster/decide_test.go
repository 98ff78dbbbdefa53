package cluster

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// scene is a view in words: the seats of the current generation, and what each member says.
type scene struct {
	number  uint64   // of the current generation, 0: none
	seats   []string // its members
	min     int      // 0: 1
	max     int      // 0: 8
	want    int
	since   time.Duration // when the deciding member began to wait
	members []Seen
}

const sceneNow = 1000 * time.Second

func (s scene) view() View {
	v := View{Now: sceneNow, Since: s.since, Want: s.want, Orphan: time.Minute, Members: s.members,
		Limits: Limits{Min: max(1, s.min), Max: s.max, Meet: 40 * time.Second, Wait: 30 * time.Second, Patience: 20 * time.Second}}
	if v.Limits.Max == 0 {
		v.Limits.Max = 8
	}
	if s.number > 0 {
		v.Current = &Generation{Number: s.number}
		for _, id := range s.seats {
			v.Current.Seats = append(v.Current.Seats, Seat{ID: id, Name: id, Addr: "old " + id, Host: hostOf(id)})
		}
	}
	return v
}

// hostOf is the host that a member's name says: b1 and b2 are both on b.
func hostOf(id string) string { return id[:1] }

func says(id string, s State, was uint64, change ...func(*Seen)) Seen {
	m := Seen{Member: Member{ID: id, Name: id, Host: hostOf(id), State: s, Was: was, Addr: "new " + id, Writer: true}}
	if s == Busy || s == Leaving {
		m.Addr, m.Stood = "old "+id, time.Hour
	}
	for _, f := range change {
		f(&m)
	}
	return m
}

func ready(id string, was uint64, change ...func(*Seen)) Seen { return says(id, Ready, was, change...) }
func busy(id string, change ...func(*Seen)) Seen              { return says(id, Busy, 0, change...) }

func ago(d time.Duration) func(*Seen)   { return func(m *Seen) { m.Ago = d } }
func stood(d time.Duration) func(*Seen) { return func(m *Seen) { m.Stood = d } }
func asRank(r int) func(*Seen)          { return func(m *Seen) { m.Want = &r } }
func reader(m *Seen)                    { m.Writer = false }
func late(m *Seen)                      { m.Addr = "old " + m.ID }
func lost(id string) func(*Seen) {
	return func(m *Seen) { m.Lost = append(m.Lost, Loss{ID: id, How: "connection lost"}) }
}
func stalls(id string) func(*Seen) {
	return func(m *Seen) { m.Lost = append(m.Lost, Loss{ID: id, Stalled: true, How: "no answer in time"}) }
}
func died(how string) func(*Seen) { return func(m *Seen) { m.State, m.Error = Ended, how } }

func TestDecide(t *testing.T) {
	const now = sceneNow
	for name, c := range map[string]struct {
		scene
		seats string // of the next generation, * before those that are kept; empty: none is formed
		why   string
		until time.Duration
		over  bool
	}{
		"all are there": {scene{want: 2, since: now, members: []Seen{ready("a", 0), ready("b", 0)}},
			"a b", "2 workers are there", 0, false},
		"one is early": {scene{want: 2, since: now, members: []Seen{ready("a", 0)}},
			"", "1 of 2 workers are there", now + 40*time.Second, false},
		"one has joined and does not listen yet": {scene{want: 2, since: now, members: []Seen{ready("a", 0), busy("b")}},
			"", "1 of 2 workers are there", now + 40*time.Second, false},
		"the second does not come": {scene{want: 2, since: now - 40*time.Second, members: []Seen{ready("a", 0)}},
			"a", "1 worker is there", 0, false},
		"too few come": {scene{want: 3, min: 2, since: now - 40*time.Second, members: []Seen{ready("a", 0)}},
			"", "only 1 of 3 workers came in time", 0, true},
		"one has died meanwhile": {scene{want: 2, since: now, members: []Seen{ready("a", 0), ready("b", 0, ago(expiry))}},
			"", "1 of 2 workers are there", now + 40*time.Second, false},
		"more than wanted": {scene{want: 2, since: now, members: []Seen{ready("a", 0), ready("b", 0), ready("c", 0)}},
			"a b", "2 workers are there", 0, false},
		"more wanted than allowed": {scene{want: 9, max: 2, since: now, members: []Seen{ready("a", 0), ready("b", 0), ready("c", 0)}},
			"a b", "2 workers are there", 0, false},
		"fewer wanted than needed": {scene{want: 1, min: 2, since: now, members: []Seen{ready("a", 0), ready("b", 0)}},
			"a b", "2 workers are there", 0, false},
		"those started as ranks come first": {scene{want: 3, since: now, members: []Seen{ready("a", 0), ready("b", 0, asRank(1)), ready("c", 0, asRank(0))}},
			"c b a", "3 workers are there", 0, false},
		"host by host": {scene{want: 4, since: now, members: []Seen{ready("a1", 0), ready("b1", 0, asRank(0)), ready("b2", 0), ready("a2", 0, asRank(1))}},
			"b1 b2 a2 a1", "4 workers are there", 0, false},
		"who can write is first": {scene{want: 3, since: now, members: []Seen{ready("a", 0, reader), ready("b", 0, reader), ready("c", 0)}},
			"c a b", "3 workers are there", 0, false},
		"nobody can write": {scene{want: 2, since: now, members: []Seen{ready("a", 0, reader), ready("b", 0, reader)}},
			"a b", "2 workers are there", 0, false},
		"who can write is first, and its host with it": {scene{want: 3, since: now, members: []Seen{ready("a1", 0, reader), ready("a2", 0), ready("b1", 0)}},
			"a2 a1 b1", "3 workers are there", 0, false},

		"lost by its connection, and ended": {scene{number: 4, seats: []string{"a", "b", "c"}, want: 3, since: now,
			members: []Seen{ready("a", 4, lost("b")), busy("b", died("killed")), ready("c", 4)}},
			"*a *c", "without b (killed)", 0, false},
		"ended without a word": {scene{number: 4, seats: []string{"a", "b"}, want: 2, since: now,
			members: []Seen{ready("a", 4), busy("b", died(""))}},
			"*a", "without b (it ended)", 0, false},
		"lost by its connection, and perhaps wrongly": {scene{number: 4, seats: []string{"a", "b", "c"}, want: 3, since: now,
			members: []Seen{ready("a", 4, lost("b")), busy("b"), ready("c", 4)}},
			"", "b may not be lost", now + settle, false},
		"lost by its connection, for good": {scene{number: 4, seats: []string{"a", "b", "c"}, want: 3, since: now - settle,
			members: []Seen{ready("a", 4, lost("b"), stood(settle)), busy("b"), ready("c", 4)}},
			"*a *c", "without b (connection lost)", 0, false},
		"the accuser comes late": {scene{number: 4, seats: []string{"a", "b", "c"}, want: 3, since: now - 10*time.Second,
			members: []Seen{ready("a", 4, stood(10*time.Second)), busy("b"), ready("c", 4, lost("b"))}},
			"", "b may not be lost", now + settle, false},
		"lost wrongly": {scene{number: 4, seats: []string{"a", "b", "c"}, want: 3, since: now,
			members: []Seen{ready("a", 4, lost("b")), ready("b", 4, lost("c")), ready("c", 4)}},
			"*a *b *c", "all go on", 0, false},
		"it stalled": {scene{number: 4, seats: []string{"a", "b"}, want: 2, since: now - settle,
			members: []Seen{ready("a", 4, stalls("b"), stood(settle)), busy("b", ago(time.Minute))}},
			"*a", "without b (no answer in time)", 0, false},
		"it is amid a step": {scene{number: 4, seats: []string{"a", "b"}, want: 2, since: now,
			members: []Seen{ready("a", 4), busy("b")}},
			"", "b is still at work", now + 20*time.Second, false},
		"it stays amid a step": {scene{number: 4, seats: []string{"a", "b"}, want: 2, since: now - 20*time.Second,
			members: []Seen{ready("a", 4, stood(20*time.Second)), busy("b")}},
			"*a", "without b (it did not stop within 20s)", 0, false},
		"it waited, and fell silent": {scene{number: 4, seats: []string{"a", "b"}, want: 2, since: now,
			members: []Seen{ready("a", 4), ready("b", 4, ago(expiry))}},
			"*a", "without b (it has not been heard of for 5s)", 0, false},
		"nothing is known of it": {scene{number: 4, seats: []string{"a", "b"}, want: 2, since: now, members: []Seen{ready("a", 4)}},
			"*a", "without b (nothing is known of it any more)", 0, false},
		"it started anew": {scene{number: 4, seats: []string{"a", "b"}, want: 2, since: now,
			members: []Seen{ready("a", 4), ready("b", 3)}},
			"*a b", "without b (it lost its state); with b", 0, false},
		"it has yet to take its seat": {scene{number: 4, seats: []string{"a", "b"}, want: 2, since: now,
			members: []Seen{ready("a", 4), ready("b", 3, late)}},
			"", "b is still at work", now + 20*time.Second, false},

		"two do not reach each other": {scene{number: 4, seats: []string{"a", "b", "c"}, want: 3, since: now,
			members: []Seen{ready("a", 4), ready("b", 4, stalls("c")), ready("c", 4, stalls("b"))}},
			"*a *b", "without c (no answer in time)", 0, false},
		"two of two do not reach each other": {scene{number: 4, seats: []string{"a", "b"}, want: 2, since: now,
			members: []Seen{ready("a", 4, stalls("b")), ready("b", 4, stalls("a"))}},
			"*a", "without b (no answer in time)", 0, false},
		"two did not reach each other, and none can be spared": {scene{number: 4, seats: []string{"a", "b", "c"}, want: 3, min: 3, since: now,
			members: []Seen{ready("a", 4), ready("b", 4, stalls("c")), ready("c", 4, stalls("b"))}},
			"*a *b *c", "all go on", 0, false},
		"nor would it help": {scene{number: 4, seats: []string{"a", "b", "c"}, want: 3, min: 3, since: now,
			members: []Seen{busy("a", died("killed")), ready("b", 4, stalls("c")), ready("c", 4, stalls("b"))}},
			"", "1 worker is left, and the run needs 3", now + 30*time.Second, false},
		"the first does not reach the others": {scene{number: 4, seats: []string{"a", "b", "c"}, want: 3, since: now,
			members: []Seen{ready("a", 4, stalls("b"), stalls("c")), ready("b", 4, stalls("a")), ready("c", 4, stalls("a"))}},
			"*b *c", "without a (no answer in time)", 0, false},
		"one way only": {scene{number: 4, seats: []string{"a", "b", "c"}, want: 3, since: now,
			members: []Seen{ready("a", 4), ready("b", 4), ready("c", 4, stalls("b"))}},
			"*a *c", "without b (no answer in time)", 0, false},
		"who goes does not take others along": {scene{number: 4, seats: []string{"a", "b", "c", "d"}, want: 4, since: now,
			members: []Seen{ready("a", 4, stalls("b")), ready("b", 4, stalls("c")), ready("c", 4), ready("d", 4, lost("c"))}},
			"*a *c *d", "without b (no answer in time)", 0, false},
		"who waited for a lost one is excused": {scene{number: 4, seats: []string{"a", "b", "c"}, want: 3, since: now,
			members: []Seen{ready("a", 4, stalls("b")), ready("b", 4, stalls("c")), busy("c", died("killed"))}},
			"*a *b", "without c (killed)", 0, false},
		"who is told that it is lost is excused while others are": {scene{number: 4, seats: []string{"a", "b", "c", "d"}, want: 4, min: 3,
			since: now - 20*time.Second, members: []Seen{ready("a", 4, stood(20*time.Second)), ready("b", 4, stalls("a"), stood(20*time.Second)),
				ready("c", 4, stalls("a"), stood(20*time.Second)), busy("d")}},
			"*a *b *c", "without d (it did not stop within 20s)", 0, false},
		"so it is when another one comes late": {scene{number: 4, seats: []string{"a", "b", "c"}, want: 3, since: now - time.Second,
			members: []Seen{ready("a", 4, stood(time.Second)), ready("b", 4, stalls("a"), stood(time.Second)), ready("c", 4, stalls("a"))}},
			"*a *b *c", "all go on", 0, false},
		"but not when it is late itself": {scene{number: 4, seats: []string{"a", "b", "c"}, want: 3, since: now - time.Second,
			members: []Seen{ready("a", 4), ready("b", 4, stalls("a"), stood(time.Second)), ready("c", 4, stalls("a"), stood(time.Second))}},
			"*b *c", "without a (no answer in time)", 0, false},
		"accused by who is gone": {scene{number: 4, seats: []string{"a", "b", "c"}, want: 3, since: now,
			members: []Seen{ready("a", 4), ready("b", 4), ready("c", 4, stalls("a"), ago(expiry))}},
			"*a *b", "without c (it has not been heard of for 5s)", 0, false},
		"accused of an earlier time": {scene{number: 4, seats: []string{"a", "b"}, want: 2, since: now,
			members: []Seen{ready("a", 4), ready("b", 4, stalls("x"))}},
			"*a *b", "all go on", 0, false},

		"too few are left": {scene{number: 4, seats: []string{"a", "b"}, want: 2, min: 2, since: now,
			members: []Seen{ready("a", 4), busy("b", died("killed"))}},
			"", "1 worker is left, and the run needs 2", now + 30*time.Second, false},
		"nobody comes": {scene{number: 4, seats: []string{"a", "b"}, want: 2, min: 2, since: now - 30*time.Second,
			members: []Seen{ready("a", 4, stood(30*time.Second)), busy("b", died("killed"), stood(30*time.Second))}},
			"", "1 worker is left, the run needs 2, and none came within 30s", 0, true},
		"a spare waits as long as the others": {scene{number: 4, seats: []string{"a", "b"}, want: 3, min: 3, since: now - time.Hour,
			members: []Seen{ready("a", 4), busy("b", died("killed"), stood(0)), ready("s", 0)}},
			"", "2 workers are left, and the run needs 3", now + 30*time.Second, false},
		"a newcomer takes the place": {scene{number: 4, seats: []string{"a", "b"}, want: 2, min: 2, since: now,
			members: []Seen{ready("a", 4), busy("b", died("killed")), ready("n", 0)}},
			"*a n", "without b (killed); with n", 0, false},
		"a newcomer joins": {scene{number: 4, seats: []string{"a", "b"}, want: 4, since: now,
			members: []Seen{ready("a", 4), ready("b", 4), ready("n", 0)}},
			"*a *b n", "with n", 0, false},
		"a newcomer goes to its host": {scene{number: 4, seats: []string{"a1", "b1"}, want: 4, since: now,
			members: []Seen{ready("a1", 4), ready("b1", 4), ready("a2", 0)}},
			"*a1 a2 *b1", "with a2", 0, false},
		"who was cut off comes as a newcomer": {scene{number: 4, seats: []string{"b", "c"}, want: 3, since: now,
			members: []Seen{ready("a", 3), ready("b", 4), ready("c", 4)}},
			"*b *c a", "with a", 0, false},
		"there is no room for it": {scene{number: 4, seats: []string{"a", "b"}, want: 2, since: now,
			members: []Seen{ready("a", 4), ready("b", 4), ready("n", 0)}},
			"*a *b", "all go on", 0, false},
		"fewer are wanted": {scene{number: 4, seats: []string{"a", "b", "c"}, want: 2, since: now,
			members: []Seen{ready("a", 4), ready("b", 4), ready("c", 4)}},
			"*a *b", "without c (2 workers are enough)", 0, false},
		"fewer are wanted than needed": {scene{number: 4, seats: []string{"a", "b", "c"}, want: 1, min: 2, since: now,
			members: []Seen{ready("a", 4), ready("b", 4), ready("c", 4)}},
			"*a *b", "without c (2 workers are enough)", 0, false},
		"one leaves": {scene{number: 4, seats: []string{"a", "b"}, want: 2, since: now,
			members: []Seen{ready("a", 4), says("b", Leaving, 0)}},
			"", "b is still at work", now + 20*time.Second, false},
		"who wrote has gone": {scene{number: 4, seats: []string{"a", "b", "c"}, want: 3, since: now,
			members: []Seen{busy("a", died("killed")), ready("b", 4, reader), ready("c", 4)}},
			"*c *b", "without a (killed)", 0, false},
		"nobody who is left can write": {scene{number: 4, seats: []string{"a", "b", "c"}, want: 3, since: now,
			members: []Seen{ready("a", 4, lost("b"), reader, stood(settle)), ready("c", 4, lost("b"), reader), busy("b", ago(expiry))}},
			"", "2 workers are left, none can write the run folder, and b may come back", now + absence, false},
		"who can write comes back": {scene{number: 4, seats: []string{"a", "b", "c"}, want: 3, since: now,
			members: []Seen{ready("a", 4, reader), ready("c", 4, reader), ready("b", 3), ready("d", 0, asRank(0), reader)}},
			"b *a *c", "without b (it lost its state); with b", 0, false},
		"who can write does not come back": {scene{number: 4, seats: []string{"a", "b", "c"}, want: 3, since: now - absence,
			members: []Seen{ready("a", 4, lost("b"), reader, stood(absence)), ready("c", 4, lost("b"), reader, stood(absence)), busy("b", ago(expiry))}},
			"*a *c", "without b (connection lost)", 0, false},
		"who can write has ended": {scene{number: 4, seats: []string{"a", "b", "c"}, want: 3, since: now,
			members: []Seen{ready("a", 4, reader), ready("c", 4, reader), busy("b", died("killed"))}},
			"*a *c", "without b (killed)", 0, false},

		// A worker that waits outside must not take a run away from those who train, however long it has waited.
		"a spare does not take over": {scene{number: 4, seats: []string{"a", "b"}, want: 2, since: now - time.Hour,
			members: []Seen{busy("a"), busy("b"), ready("s", 0, stood(time.Hour))}},
			"", "generation 4 is at work", 0, false},
		"nor from those who cannot say that they train": {scene{number: 4, seats: []string{"a", "b"}, want: 2, since: now - time.Hour,
			members: []Seen{busy("a", ago(time.Minute)), busy("b", ago(time.Minute)), ready("s", 0, stood(time.Hour))}},
			"", "generation 4 is at work", 0, false},
		"once they must have stopped it does": {scene{number: 4, seats: []string{"a", "b"}, want: 2, since: now - time.Hour,
			members: []Seen{busy("a", ago(90*time.Second)), busy("b", ago(90*time.Second)), ready("s", 0, stood(time.Hour))}},
			"s", "without a (it did not stop within 20s), b (it did not stop within 20s); with s", 0, false},
		"all have ended": {scene{number: 4, seats: []string{"a", "b"}, want: 2, since: now - time.Hour,
			members: []Seen{busy("a", died("killed")), busy("b", died("killed")), ready("s", 0, stood(time.Hour))}},
			"s", "without a (killed), b (killed); with s", 0, false},
		"a stale view of a member": {scene{number: 4, seats: []string{"a", "b"}, want: 2, since: now,
			members: []Seen{ready("a", 4), ready("b", 5)}},
			"*a b", "without b (it lost its state); with b", 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			v := c.view()
			d := Decide(v)
			got := ""
			if d.Next != nil {
				var all []string
				for _, s := range d.Next.Seats {
					id := s.ID
					if s.Kept {
						id = "*" + id
					}
					if all = append(all, id); s.Addr != "new "+s.ID {
						t.Errorf("%s is expected at %q", s.ID, s.Addr)
					}
				}
				got = strings.Join(all, " ")
				if d.Next.Number != c.number+1 || d.Next.Why != d.Why {
					t.Errorf("generation %d, %q after %d, %q", d.Next.Number, d.Next.Why, c.number, d.Why)
				}
			}
			if got != c.seats || d.Why != c.why || d.Until != c.until || d.Over != c.over {
				t.Errorf("[%s] %q until %v, over: %v; expected [%s] %q until %v, over: %v", got, d.Why, d.Until, d.Over, c.seats, c.why, c.until, c.over)
			}
		})
	}
}

func TestDue(t *testing.T) {
	two := []string{"a", "b"}
	for name, c := range map[string]struct {
		scene
		why string // empty: not due
	}{
		"before the first":              {scene{want: 2, members: []Seen{ready("a", 0)}}, ""},
		"all is well":                   {scene{number: 4, seats: two, want: 2, members: []Seen{busy("a"), busy("b")}}, ""},
		"a worker joins":                {scene{number: 4, seats: two, want: 3, members: []Seen{busy("a"), busy("b"), ready("n", 0)}}, "a worker joins"},
		"one that was cut off joins":    {scene{number: 4, seats: two, want: 3, members: []Seen{busy("a"), busy("b"), ready("n", 3)}}, "a worker joins"},
		"it does not listen yet":        {scene{number: 4, seats: two, want: 3, members: []Seen{busy("a"), busy("b"), busy("n")}}, ""},
		"it is dead":                    {scene{number: 4, seats: two, want: 3, members: []Seen{busy("a"), busy("b"), ready("n", 0, ago(expiry))}}, ""},
		"there is no room for it":       {scene{number: 4, seats: two, want: 2, members: []Seen{busy("a"), busy("b"), ready("n", 0)}}, ""},
		"more are not allowed":          {scene{number: 4, seats: two, want: 3, max: 2, members: []Seen{busy("a"), busy("b"), ready("n", 0)}}, ""},
		"a seat has yet to be taken":    {scene{number: 4, seats: two, want: 3, members: []Seen{busy("a"), ready("b", 3, late)}}, ""},
		"fewer are wanted":              {scene{number: 4, seats: two, want: 1, members: []Seen{busy("a"), busy("b")}}, "1 worker is enough"},
		"fewer are wanted than needed":  {scene{number: 4, seats: two, want: 1, min: 2, members: []Seen{busy("a"), busy("b")}}, ""},
		"one leaves":                    {scene{number: 4, seats: two, want: 2, members: []Seen{busy("a"), says("b", Leaving, 0)}}, "a worker leaves"},
		"one leaves that is needed":     {scene{number: 4, seats: two, want: 2, min: 2, members: []Seen{busy("a"), says("b", Leaving, 0)}}, ""},
		"its place is taken":            {scene{number: 4, seats: two, want: 2, min: 2, members: []Seen{busy("a"), says("b", Leaving, 0), ready("n", 0)}}, "a worker leaves"},
		"one outside leaves":            {scene{number: 4, seats: two, want: 2, members: []Seen{busy("a"), busy("b"), says("n", Leaving, 0)}}, ""},
		"one is waited for by another":  {scene{number: 4, seats: two, want: 2, members: []Seen{ready("a", 4), busy("b")}}, ""},
		"the only one leaves, unneeded": {scene{number: 4, seats: two[:1], want: 1, members: []Seen{says("a", Leaving, 0)}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			if due, why := Due(c.view()); due != (c.why != "") || why != c.why {
				t.Errorf("%v, %q; expected %q", due, why, c.why)
			}
		})
	}
}

// After whatever a view shows, what is formed keeps to the limits.
func FuzzDecide(f *testing.F) {
	f.Add([]byte("a view is drawn from these bytes, one after the other"))
	f.Add([]byte{3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3, 8, 4, 6, 2, 6, 4, 3, 3, 8, 3, 2, 7, 9, 5, 0, 2, 8, 8, 4, 1, 9, 7, 1, 6, 9, 3, 9, 9, 3, 7, 5, 1})
	f.Fuzz(func(t *testing.T, p []byte) {
		draw := func(n int) int {
			if len(p) == 0 {
				return 0
			}
			b := p[0]
			p = p[1:]
			return int(b) % n
		}
		checkDecision(t, drawView(draw))
	})
}

// drawView makes any view at all.
func drawView(draw func(n int) int) View {
	ids := []string{"a1", "a2", "b1", "b2", "c1", "c2", "d1"}
	v := View{Now: sceneNow, Since: sceneNow - time.Duration(draw(50))*time.Second, Want: draw(9), Orphan: time.Duration(draw(60)) * time.Second,
		Limits: Limits{Min: 1 + draw(4), Meet: time.Duration(1+draw(60)) * time.Second, Wait: time.Duration(1+draw(60)) * time.Second, Patience: time.Duration(1+draw(60)) * time.Second}}
	v.Limits.Max = v.Limits.Min + draw(5)
	usual := uint64(draw(4))
	if draw(4) > 0 {
		v.Current = &Generation{Number: uint64(1 + draw(3))}
		if draw(2) == 0 {
			usual = v.Current.Number
		}
		for _, id := range ids {
			if draw(2) == 0 {
				v.Current.Seats = append(v.Current.Seats, Seat{ID: id, Name: id, Addr: "old " + id, Host: hostOf(id), Kept: draw(2) == 0})
			}
		}
	}
	for _, id := range ids {
		if draw(8) == 0 {
			continue
		}
		m := says(id, []State{Ready, Ready, Ready, Busy, Leaving, Ended}[draw(6)], usual, ago(time.Duration(max(0, draw(120)-70))*time.Second),
			stood(time.Duration(draw(90))*time.Second))
		if draw(4) == 0 {
			m.Was = uint64(draw(4))
		}
		if m.Writer = draw(2) == 0; draw(3) == 0 {
			asRank(draw(4))(&m)
		}
		if draw(5) == 0 {
			late(&m)
		}
		for range draw(3) {
			m.Lost = append(m.Lost, Loss{ID: ids[draw(len(ids))], Stalled: draw(2) == 0, How: "lost"})
		}
		v.Members = append(v.Members, m)
	}
	return v
}

func checkDecision(t *testing.T, v View) {
	t.Helper()
	d := Decide(v)
	fail := func(what string, args ...any) {
		t.Helper()
		t.Fatalf(what+"\nview %+v\ngeneration %+v\ndecision %+v\nnext %+v", append(args, v, v.Current, d, d.Next)...)
	}
	if again := Decide(v); !reflect.DeepEqual(d, again) {
		fail("two decisions of one view: the other is %+v", again)
	}
	due, why := Due(v)
	if due != (why != "") {
		fail("due: %v, for the reason %q", due, why)
	}
	if d.Why == "" || d.Over && d.Next != nil || d.Until != 0 && (d.Next != nil || d.Until <= v.Now) {
		fail("a decision that contradicts itself")
	}
	if d.Next == nil {
		return
	}
	if err := d.Next.check(); err != nil {
		fail("%v", err)
	}
	number := uint64(1)
	if v.Current != nil {
		number = v.Current.Number + 1
	}
	if n := len(d.Next.Seats); n < v.Limits.Min || n > v.Limits.Max || n > max(v.Want, v.Limits.Min) || d.Next.Number != number {
		fail("%d seats in generation %d", n, d.Next.Number)
	}
	last, hosts := map[string]int{}, []string{}
	for i, s := range d.Next.Seats {
		j := slices.IndexFunc(v.Members, func(m Seen) bool { return m.ID == s.ID })
		if j < 0 {
			fail("a seat for %s, of whom nothing is known", s.ID)
		}
		m := v.Members[j]
		if m.State != Ready || m.Ago >= expiry || m.Addr != s.Addr || m.Host != s.Host {
			fail("a seat for %s at %s, who says %+v", s.ID, s.Addr, m)
		}
		was := -1
		if v.Current != nil {
			was = v.Current.Rank(s.ID)
		}
		if s.Kept != (was >= 0 && m.Was == v.Current.Number) {
			fail("%s is kept: %v", s.ID, s.Kept)
		}
		if before, ok := last[s.Host]; ok && s.Kept && was < before && i > 1 && d.Next.Seats[0].Host != s.Host {
			fail("%s has gone behind its neighbours", s.ID)
		}
		if s.Kept {
			last[s.Host] = was
		}
		if i == 0 || hosts[len(hosts)-1] != s.Host {
			if slices.Contains(hosts, s.Host) {
				fail("host %s is in two places", s.Host)
			}
			hosts = append(hosts, s.Host)
		}
		if i > 0 && m.Writer && slices.IndexFunc(v.Members, func(m Seen) bool { return m.ID == d.Next.Seats[0].ID && m.Writer }) < 0 {
			fail("%s can write, and is not first", s.ID)
		}
	}
	if v.Current == nil {
		return
	}
	for _, s := range v.Current.Seats { // each of the generation before goes on, or it is said why not
		kept := slices.ContainsFunc(d.Next.Seats, func(n Seat) bool { return n.ID == s.ID && n.Kept })
		gone := slices.ContainsFunc(d.Next.Gone, func(l Loss) bool { return l.ID == s.ID && l.How != "" })
		if kept == gone {
			fail("%s is kept: %v, gone: %v", s.ID, kept, gone)
		}
	}
}
