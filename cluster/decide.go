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
	Want    int         // how many workers there should be
	Current *Generation // nil before the first
	Members []Seen
}

// Seen is a member's record and how long ago, by the clock of who saw it, it was new.
type Seen struct {
	Member
	Ago time.Duration // since it last said anything
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
)

// Decide says who is in the next generation: the members of the current one that are ready to go on, in their order, and
// newcomers, until there are as many as wanted. It is a function of what is seen, so that all who see the same decide the
// same, and depends on no clock but through v.
func Decide(v View) Decision {
	kept, gone, wait := survivors(v)
	if wait.Why != "" {
		return wait
	}
	fresh := newcomers(v)
	want := min(v.Want, v.Limits.Max)
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
	until := v.Since + v.Limits.Wait
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
	next := &Generation{Number: 1, Seats: ordered(v, seats), Gone: gone}
	if v.Current != nil {
		next.Number = v.Current.Number + 1
	}
	next.Why = reason(v, next)
	return Decision{Next: next, Why: next.Why}
}

// survivors are the members of the current generation that go on, and those that do not. wait says why that is not known yet.
func survivors(v View) (kept []Seat, gone []Loss, wait Decision) {
	if v.Current == nil {
		return nil, nil, wait
	}
	seen := map[string]Seen{}
	for _, m := range v.Members {
		seen[m.ID] = m
	}
	lost := accused(v, seen)
	ready := 0
	for _, s := range v.Current.Seats {
		if m, ok := seen[s.ID]; ok && m.State == Ready && m.Was == v.Current.Number {
			ready++
		}
	}
	for _, s := range v.Current.Seats {
		m, ok := seen[s.ID]
		loss, accused := lost[s.ID]
		hold := func(d time.Duration, why string) {
			if until := v.Since + d; v.Now < until && (wait.Until == 0 || until < wait.Until) {
				wait = Decision{Why: s.Name + " " + why, Until: until}
			}
		}
		switch {
		case !ok:
			gone = append(gone, Loss{ID: s.ID, How: "nothing is known of it any more"})
		case m.State == Ended:
			how := cmp.Or(m.Error, "it ended")
			gone = append(gone, Loss{ID: s.ID, How: how})
		case m.State == Ready && m.Was == v.Current.Number && m.Ago < expiry:
			if accused && loss.cut {
				gone = append(gone, loss.Loss)
				continue
			}
			kept = append(kept, Seat{ID: s.ID, Addr: m.Addr, Host: s.Host, Name: s.Name, Kept: true, Local: s.Local})
		case m.State == Ready && m.Was == v.Current.Number:
			gone = append(gone, Loss{ID: s.ID, Stalled: true, How: fmt.Sprintf("it has not been heard of for %v", expiry)})
		case m.State == Ready: // it has given up what it had, and comes as a newcomer
			gone = append(gone, Loss{ID: s.ID, How: "it lost its state"})
		case accused:
			gone = append(gone, loss.Loss)
			hold(settle, "may not be lost")
		default:
			gone = append(gone, Loss{ID: s.ID, Stalled: true, How: fmt.Sprintf("it did not stop within %v", v.Limits.Patience)})
			hold(v.Limits.Patience, "is still at work")
		}
	}
	return kept, gone, wait
}

// accusation is what is held against a member.
type accusation struct {
	Loss
	cut bool // it is there, and one of the others does not reach it: of the two this one has to go
}

// accused lists whom ready members of the current generation have lost. Of two that are both ready and do not reach each other,
// one has to go, or they would fail again: the one that more members have lost, and of equals the later in rank.
func accused(v View, seen map[string]Seen) map[string]accusation {
	all := map[string]accusation{}
	by := map[string]int{}
	rank := map[string]int{}
	for r, s := range v.Current.Seats {
		rank[s.ID] = r
	}
	goesOn := func(id string) bool {
		m, ok := seen[id]
		return ok && m.State == Ready && m.Was == v.Current.Number && m.Ago < expiry
	}
	for _, s := range v.Current.Seats {
		if !goesOn(s.ID) {
			continue
		}
		for _, l := range seen[s.ID].Lost {
			if _, ok := rank[l.ID]; ok && l.ID != s.ID {
				by[l.ID]++
				if _, told := all[l.ID]; !told {
					all[l.ID] = accusation{Loss: l}
				}
			}
		}
	}
	for _, s := range v.Current.Seats {
		if !goesOn(s.ID) {
			continue
		}
		for _, l := range seen[s.ID].Lost {
			if !l.Stalled || !goesOn(l.ID) || all[s.ID].cut || all[l.ID].cut {
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
		if m.State == Ready && m.Ago < expiry && (v.Current == nil || m.Was != v.Current.Number) {
			ready = append(ready, m)
		}
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
	writes := func(s Seat) bool {
		return slices.ContainsFunc(v.Members, func(m Seen) bool { return m.ID == s.ID && m.Writer })
	}
	seats = slices.Clone(seats)
	if i := slices.IndexFunc(seats, writes); i > 0 {
		first := seats[i]
		seats = slices.Insert(slices.Delete(seats, i, i+1), 0, first)
	}
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
	want := min(v.Want, v.Limits.Max)
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
