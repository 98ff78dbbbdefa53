package cluster

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/covey-ml/covey/comm"
)

// still is a store that says nothing, and time that stands still.
type still struct {
	Store
	comm.Clock
	now time.Duration
}

func (still) Silent() time.Duration { return 0 }
func (s still) Now() time.Duration  { return s.now }
func known(s *still) *notice {
	return &notice{store: s, clock: s, changed: comm.RealClock().Event(), members: map[string]*heard{}}
}

// Whatever stands in the store, who reads it neither fails nor forms what must not be.
func FuzzTake(f *testing.F) {
	put := func(v any) string {
		b, err := json.Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		return string(b)
	}
	seats := []Seat{{ID: "a", Addr: "a:1", Host: "h"}, {ID: "b", Addr: "b:1", Host: "h"}}
	limits := Limits{Min: 1, Max: 4, Meet: time.Second, Wait: time.Second, Patience: time.Second}
	for _, lines := range [][]string{
		{"run " + put(Run{Version: version, Limits: limits}), "want 2", "member.a " + put(Member{ID: "a", State: Ready, Addr: "a:1"}),
			"member.b " + put(Member{ID: "b", State: Ready, Addr: "b:1"})},
		{"run " + put(Run{Limits: limits}), "want 3", "generation " + put(Generation{Number: 4, Seats: seats}),
			"member.a " + put(Member{ID: "a", State: Ready, Was: 4, Lost: []Loss{{ID: "b", Stalled: true}}}), "member.b " + put(Member{ID: "b", State: Busy})},
		{"generation " + put(Generation{Number: 4, Seats: append(seats, seats...)}), "generation {}", "want -1", "want 1e9", "stop", "end", "member. {}", "run [", " "},
	} {
		f.Add(strings.Join(lines, "\n"))
	}
	f.Fuzz(func(t *testing.T, text string) {
		n := known(&still{now: time.Hour})
		w := &Worker{ID: "a", see: n}
		n.hook = func() { w.look(n) }
		for i, line := range strings.Split(text, "\n") {
			if i > 100 {
				break
			}
			before := n.current
			key, value, _ := strings.Cut(line, " ")
			n.take(Entry{Key: key, Value: []byte(value), Revision: uint64(i + 1)})
			if g := n.current; g != before {
				if before != nil && g.Number <= before.Number {
					t.Fatalf("generation %d after %d", g.Number, before.Number)
				}
				if g.check() != nil || n.revision != uint64(i+1) {
					t.Fatalf("generation %+v at revision %d", g, n.revision)
				}
			}
			if n.want < 0 || n.want > mostSeats {
				t.Fatalf("%d workers wanted", n.want)
			}
			v := n.view(0)
			if len(v.Members) > i+1 {
				t.Fatalf("%d members from %d entries", len(v.Members), i+1)
			}
			for _, m := range v.Members {
				if m.ID == "" || n.members[m.ID] == nil || m.Ago < 0 || m.Stood < m.Ago {
					t.Fatalf("a member %+v", m)
				}
			}
			if v.Limits.Check() == nil {
				if d := Decide(v); d.Next != nil {
					if err := d.Next.check(); err != nil {
						t.Fatal(err)
					}
					if len(d.Next.Seats) < v.Limits.Min || len(d.Next.Seats) > v.Limits.Max {
						t.Fatalf("%d seats, within %+v", len(d.Next.Seats), v.Limits)
					}
				}
			}
		}
	})
}

// What others must not say is left out, and what they say again keeps its age.
func TestTake(t *testing.T) {
	s := &still{now: time.Minute}
	n := known(s)
	say := func(key string, v any) {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		n.take(Entry{Key: key, Value: b, Revision: 1})
	}
	say("member.a", Member{ID: "b", State: Ready})
	say("member.", Member{State: Ready})
	if len(n.members) != 0 {
		t.Errorf("of a record under another's name came %v", n.members)
	}
	for _, g := range []Generation{{}, {Number: 1}, {Number: 1, Seats: []Seat{{ID: "a"}, {ID: "a"}}}, {Number: 1, Seats: []Seat{{}}}} {
		say(keyGeneration, g)
		if n.current != nil {
			t.Fatalf("%+v was taken for a generation", g)
		}
	}
	one := []Seat{{ID: "a"}}
	say(keyGeneration, Generation{Number: 3, Seats: one})
	say(keyGeneration, Generation{Number: 2, Seats: one})
	if n.current == nil || n.current.Number != 3 {
		t.Errorf("the newest generation is %+v", n.current)
	}
	see := func(state State, was uint64, addr string, want time.Duration) {
		t.Helper()
		s.now += 10 * time.Second
		say("member.a", Member{ID: "a", State: state, Was: was, Addr: addr})
		s.now += time.Second
		v := n.view(0)
		if i := slices.IndexFunc(v.Members, func(m Seen) bool { return m.ID == "a" }); i < 0 || v.Members[i].Ago != time.Second || v.Members[i].Stood != want {
			t.Errorf("seen: %+v; expected it to stand so for %v", v.Members, want)
		}
	}
	see(Ready, 0, "x", time.Second)
	see(Ready, 0, "x", 12*time.Second)
	see(Busy, 0, "x", time.Second)
	see(Ready, 3, "x", time.Second)
	see(Ready, 3, "y", time.Second)
	see(Ready, 3, "y", 12*time.Second)
}

// Who still trains in a generation whose place another one has taken is told to stop.
func TestGivenUp(t *testing.T) {
	n := known(&still{now: time.Minute})
	w := &Worker{ID: "a", see: n}
	n.hook = func() { w.look(n) }
	w.in.Store(3)
	n.want, n.run = 1, &Run{Limits: Limits{Min: 1, Max: 1}}
	for number, want := range map[int]string{3: "", 4: "generation 4 has taken the place of generation 3"} {
		n.current = nil
		b, err := json.Marshal(Generation{Number: uint64(number), Seats: []Seat{{ID: "b"}}})
		if err != nil {
			t.Fatal(err)
		}
		n.take(Entry{Key: keyGeneration, Value: b})
		if due, why := w.Due(); due != (want != "") || why != want {
			t.Errorf("in generation 3, with generation %d formed: %v, %q", number, due, why)
		}
	}
}

func TestLimits(t *testing.T) {
	good := Limits{Min: 1, Max: 2, Meet: 1, Wait: 1, Patience: 1}
	if err := good.Check(); err != nil {
		t.Error(err)
	}
	for _, f := range []func(*Limits){
		func(l *Limits) { l.Min = 0 }, func(l *Limits) { l.Max = 0 }, func(l *Limits) { l.Meet = 0 }, func(l *Limits) { l.Wait = -1 }, func(l *Limits) { l.Patience = 0 },
	} {
		l := good
		if f(&l); l.Check() == nil {
			t.Errorf("%+v is allowed", l)
		}
	}
}

func TestLoopback(t *testing.T) {
	for addr, want := range map[string]bool{"127.0.0.1:1": true, "127.9.9.9:1": true, "[::1]:1": true, "localhost:1": true, "0.0.0.0:1": false, "192.0.2.1:1": false,
		"localhost": false, "": false, ":1": false, "localhost.example.org:1": false, "[::]:1": false, "127.0.0.1.example.org:1": false} {
		if Loopback(addr) != want {
			t.Errorf("%q is loopback: %v", addr, !want)
		}
	}
}

// FuzzAddress: an address that cannot be used is refused in words, and one beyond loopback is not dialled without certificates.
func FuzzAddress(f *testing.F) {
	for _, s := range []string{"127.0.0.1:1", "nats://127.0.0.1:1", "example.org", "://", "[::1]:1", "tls://192.0.2.1:4222", "%zz", "ws://127.0.0.1:1", "nats://u:p@127.0.0.1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		u, err := address(s, false)
		if err != nil {
			if !strings.Contains(err.Error(), "expected HOST:PORT") && !strings.Contains(err.Error(), "needs certificates") {
				t.Fatal(err)
			}
			return
		}
		if !Loopback(u.Host) {
			t.Fatalf("%q: %s without certificates", s, u.Host)
		}
		if _, err := address(u.String(), false); err != nil {
			t.Fatalf("%q, then %q: %v", s, u, err)
		}
	})
}
