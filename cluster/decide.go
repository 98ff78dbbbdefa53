package cluster

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// View is what one member knows of a run at a moment. It may be old: a generation that is formed from it is formed only if
// nobody else has formed one meanwhile.
type View struct {
	Now     time.Duration
	Since   time.Duration // when the deciding member began to wait
	Limits  Limits
	Want    int           // how many workers there should be
	Orphan  time.Duration // how long workers go on that cannot reach the store
	Current *Generation   // nil before the first
	Members []Seen
}

// size is how many workers there should be, within the limits.
func (v *View) size() int { return max(v.Limits.Min, min(v.Want, v.Limits.Max)) }

// writes tells whether who has a seat can write the run folder.
func (v *View) writes(s Seat) bool {
	return slices.ContainsFunc(v.Members, func(m Seen) bool { return m.ID == s.ID && m.Writer })
}

// writerFirst puts the first who can write the run folder before the others.
func (v *View) writerFirst(seats []Seat) []Seat {
	if i := slices.IndexFunc(seats, v.writes); i > 0 {
		return slices.Concat(seats[i:i+1], seats[:i], seats[i+1:])
	}
	return seats
}

// Seen is a member's record and how long ago, by the clock of who saw it, it was new.
type Seen struct {
	Member
	Ago   time.Duration // since it last said anything
	Stood time.Duration // since it first said what it says: its state, where it listens, what it has
}

// Decision is whether the next generation can be formed, and why.
type Decision struct {
	Next *Generation // without a secret; nil: not now
	Why  string
	// Until is when to look again though nothing has changed.
	Until time.Duration
	// Over says that waiting is of no use any more.
	Over bool
}

const (
	// expiry is how long a waiting member may be silent before it counts as dead: several beats.
	expiry = 5 * time.Second
	// settle is how long a member is waited for that others have lost: they may be wrong, or it may have closed its connections
	// because it lost somebody itself.
	settle = 250 * time.Millisecond
	// absence is how long those who are enough wait for one who can write the run folder: for a link that comes back, or a server that
	// is started anew, and not for a host that is gone.
	absence = 10 * time.Second
)

// Decide says who is in the next generation: the members of the current one that are ready to go on, in their order, and
// newcomers, until there are as many as wanted. It is a function of what is seen, so that all who see the same decide the
// same, and depends on no clock but through v.
func Decide(v View) Decision {
	kept, gone, since, wait := survivors(v, false)
	if wait.Why != "" {
		return wait
	}
	fresh := v.writerFirst(newcomers(v))
	if len(kept)+len(fresh) < v.Limits.Min { // without those who did not reach each other there are too few: maybe they do by now
		if all, others, _, _ := survivors(v, true); len(all)+len(fresh) >= v.Limits.Min {
			kept, gone = all, others
		}
	}
	want := v.size()
	seats := kept
	if len(seats) > want {
		for _, s := range seats[want:] {
			gone = append(gone, Loss{ID: s.ID, Spare: true, How: workers(want) + " enough"})
		}
		seats = seats[:want]
	}
	for _, m := range fresh {
		if len(seats) < want {
			seats = append(seats, m)
		}
	}
	until := max(v.Since, since) + v.Limits.Wait
	if v.Current == nil {
		until = v.Since + v.Limits.Meet
	}
	switch {
	case len(seats) < want && v.Current == nil && v.Now < until:
		return Decision{Why: fmt.Sprintf("%d of %d workers are there", len(seats), want), Until: until}
	case len(seats) < v.Limits.Min && v.Now < until:
		return Decision{Why: fmt.Sprintf("%s left, and the run needs %d", workers(len(seats)), v.Limits.Min), Until: until}
	case len(seats) < v.Limits.Min && v.Current == nil:
		return Decision{Why: fmt.Sprintf("only %d of %d workers came in time", len(seats), want), Over: true}
	case len(seats) < v.Limits.Min:
		return Decision{Why: fmt.Sprintf("%s left, the run needs %d, and none came within %v", workers(len(seats)), v.Limits.Min, v.Limits.Wait), Over: true}
	}
	// What is done while nobody can write the run folder may end with the run before anybody can.
	if until = min(until, max(v.Since, since)+absence); v.Current != nil && v.Now < until && !slices.ContainsFunc(seats, v.writes) {
		for _, m := range v.Members {
			if m.Writer && m.State != Ended {
				return Decision{Why: fmt.Sprintf("%s left, none can write the run folder, and %s may come back", workers(len(seats)), m.Name), Until: until}
			}
		}
	}
	next := &Generation{Number: 1, Seats: ordered(v, seats), Gone: gone}
	if v.Current != nil {
		next.Number = v.Current.Number + 1
	}
	next.Why = reason(v, next)
	return Decision{Next: next, Why: next.Why}
}

// A member of the current generation stands in one of these ways towards it.
type standing int

const (
	atWork  standing = iota // it trains, or has yet to take its seat
	goesOn                  // it waits for the next generation, with the state of this one
	silent                  // so did it, and has not been heard of since
	gaveUp                  // it waits for the next generation without a state
	ended                   // for good
	unknown                 // nothing is known of it
)

// stands says how the member of a seat does.
func stands(v View, s Seat, m Seen, ok bool) standing {
	switch {
	case !ok:
		return unknown
	case m.State == Ended:
		return ended
	case m.State == Ready && m.Was == v.Current.Number && m.Ago < expiry:
		return goesOn
	case m.State == Ready && m.Was == v.Current.Number:
		return silent
	case m.State == Ready && m.Addr != s.Addr:
		return gaveUp
	}
	return atWork
}

// survivors are the members of the current generation that go on, and those that do not; with forgive, those go on, too, whom others
// did not reach and who are there. since is when the generation broke; wait says why it is not known yet who goes on.
func survivors(v View, forgive bool) (kept []Seat, gone []Loss, since time.Duration, wait Decision) {
	if v.Current == nil {
		return nil, nil, 0, wait
	}
	seen := map[string]Seen{}
	for _, m := range v.Members {
		seen[m.ID] = m
	}
	since, broken := brokeAt(v, seen)
	if !broken {
		return nil, nil, 0, Decision{Why: fmt.Sprintf("generation %d is at work", v.Current.Number)}
	}
	lost := accused(v, seen)
	for _, s := range v.Current.Seats {
		m, ok := seen[s.ID]
		loss, accused := lost[s.ID]
		hold := func(until time.Duration, why string) {
			if v.Now < until && (wait.Until == 0 || until < wait.Until) {
				wait = Decision{Why: s.Name + " " + why, Until: until}
			}
		}
		switch stands(v, s, m, ok) {
		case unknown:
			gone = append(gone, Loss{ID: s.ID, How: "nothing is known of it any more"})
		case ended:
			gone = append(gone, Loss{ID: s.ID, How: cmp.Or(m.Error, "it ended")})
		case goesOn:
			if accused && loss.cut && !forgive {
				gone = append(gone, loss.Loss)
				continue
			}
			kept = append(kept, Seat{ID: s.ID, Addr: m.Addr, Host: s.Host, Name: s.Name, Kept: true, Local: s.Local})
		case silent:
			gone = append(gone, Loss{ID: s.ID, Stalled: true, How: fmt.Sprintf("it has not been heard of for %v", expiry)})
		case gaveUp: // it comes as a newcomer
			gone = append(gone, Loss{ID: s.ID, How: "it lost its state"})
		case atWork:
			if accused {
				gone = append(gone, loss.Loss)
				hold(loss.at+settle, "may not be lost")
				continue
			}
			gone = append(gone, Loss{ID: s.ID, Stalled: true, How: fmt.Sprintf("it did not stop within %v", v.Limits.Patience)})
			hold(max(v.Since, since)+v.Limits.Patience, "is still at work")
		}
	}
	return kept, gone, since, wait
}

// brokeAt tells since when the current generation cannot do another step, because one of its members does not take part any
// more. While all do, nobody may form another one, who only waits outside: there would be two that train. Of members that
// nobody hears of this is known once they have been out of reach for longer than they may go on.
func brokeAt(v View, seen map[string]Seen) (since time.Duration, broken bool) {
	for _, s := range v.Current.Seats {
		m, ok := seen[s.ID]
		at := v.Now - m.Stood
		switch stands(v, s, m, ok) {
		case unknown:
			at = 0
		case atWork:
			if at = v.Now - m.Ago + v.Orphan + expiry; v.Now < at {
				continue
			}
		}
		if !broken || at < since {
			since, broken = at, true
		}
	}
	return since, broken
}

// accusation is what is held against a member.
type accusation struct {
	Loss
	at  time.Duration // since when
	cut bool          // it is there, and one of the others does not reach it: of the two this one has to go
}

// accused lists whom members of the current generation have lost that go on. Of two that both go on and do not reach each
// other, one has to go, or they would fail again: the one that more members have lost, and of equals the later in rank. Who
// waited for somebody that is lost itself could not answer either, and has an excuse; and so has, while anybody is missing or came
// later than itself, who names nobody: others told it that it is the one that is lost before its own wait was over.
func accused(v View, seen map[string]Seen) map[string]accusation {
	all := map[string]accusation{}
	by := map[string]int{}
	rank := map[string]int{}
	there := map[string]bool{}
	for r, s := range v.Current.Seats {
		rank[s.ID] = r
		m, ok := seen[s.ID]
		there[s.ID] = stands(v, s, m, ok) == goesOn
	}
	for _, s := range v.Current.Seats {
		if !there[s.ID] {
			continue
		}
		at := v.Now - seen[s.ID].Stood
		for _, l := range seen[s.ID].Lost {
			if _, ok := rank[l.ID]; ok && l.ID != s.ID {
				by[l.ID]++
				if a, told := all[l.ID]; !told {
					all[l.ID] = accusation{Loss: l, at: at}
				} else if at < a.at {
					a.at = at
					all[l.ID] = a
				}
			}
		}
	}
	excused := func(id string) bool {
		lost := seen[id].Lost
		if len(lost) == 0 {
			return slices.ContainsFunc(v.Current.Seats, func(s Seat) bool { return !there[s.ID] || seen[s.ID].Stood+settle < seen[id].Stood })
		}
		return slices.ContainsFunc(lost, func(l Loss) bool { return !there[l.ID] })
	}
	for _, s := range v.Current.Seats {
		if !there[s.ID] {
			continue
		}
		for _, l := range seen[s.ID].Lost {
			if !l.Stalled || l.ID == s.ID || !there[l.ID] || all[s.ID].cut || all[l.ID].cut || excused(l.ID) {
				continue
			}
			out := l.ID
			if by[s.ID] > by[l.ID] || by[s.ID] == by[l.ID] && rank[s.ID] > rank[l.ID] {
				out = s.ID
			}
			a := all[out]
			a.ID, a.cut, a.Stalled = out, true, true
			a.How = cmp.Or(a.How, l.How)
			all[out] = a
		}
	}
	return all
}

// newcomers are the ready members without a state of the current generation: those that were started as a rank first.
func newcomers(v View) (all []Seat) {
	var ready []Seen
	for _, m := range v.Members {
		if m.State != Ready || m.Ago >= expiry {
			continue
		}
		if g := v.Current; g != nil {
			if m.Was == g.Number {
				continue
			}
			if r := g.Rank(m.ID); r >= 0 && g.Seats[r].Addr == m.Addr { // it has yet to take the seat that it has
				continue
			}
		}
		ready = append(ready, m)
	}
	rank := func(m Seen) int {
		if m.Want == nil {
			return mostSeats
		}
		return *m.Want
	}
	slices.SortStableFunc(ready, func(a, b Seen) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.ID, b.ID))
	})
	for _, m := range ready {
		all = append(all, Seat{ID: m.ID, Addr: m.Addr, Host: m.Host, Name: m.Name, Local: m.Want != nil})
	}
	return all
}

// ordered numbers the members: who can write the run folder first, if the first one cannot; then host by host, in the order of
// the hosts' first members.
func ordered(v View, seats []Seat) []Seat {
	seats = slices.Clone(v.writerFirst(seats))
	var hosts []string
	for _, s := range seats {
		if !slices.Contains(hosts, s.Host) {
			hosts = append(hosts, s.Host)
		}
	}
	slices.SortStableFunc(seats, func(a, b Seat) int { return slices.Index(hosts, a.Host) - slices.Index(hosts, b.Host) })
	return seats
}

// reason says in words what is new in a generation.
func reason(v View, g *Generation) string {
	if v.Current == nil {
		return workers(len(g.Seats)) + " there"
	}
	name := map[string]string{}
	for _, s := range v.Current.Seats {
		name[s.ID] = s.Name
	}
	var left, came []string
	for _, l := range g.Gone {
		left = append(left, fmt.Sprintf("%s (%s)", name[l.ID], l.How))
	}
	for _, s := range g.Seats {
		if !s.Kept {
			came = append(came, s.Name)
		}
	}
	switch {
	case len(left) > 0 && len(came) > 0:
		return fmt.Sprintf("without %s; with %s", names(left), names(came))
	case len(left) > 0:
		return "without " + names(left)
	case len(came) > 0:
		return "with " + names(came)
	}
	return "all go on"
}

// Due says whether members that train should stop after a step for another generation, and why: to let somebody in, or out.
func Due(v View) (bool, string) {
	if v.Current == nil {
		return false, ""
	}
	want := v.size()
	size := len(v.Current.Seats)
	staying := size
	for _, m := range v.Members {
		if m.State == Leaving && v.Current.Rank(m.ID) >= 0 {
			staying--
		}
	}
	fresh := len(newcomers(v))
	switch {
	case staying < size && min(want, staying+fresh) >= v.Limits.Min:
		return true, "a worker leaves"
	case want < size:
		return true, workers(want) + " enough"
	case fresh > 0 && size < want:
		return true, "a worker joins"
	}
	return false, ""
}
