package sim

import (
	"math"
	"time"
)

// Links and cores are shared: what uses one at the same time gets as much of it as is fair, which is max-min fairness
// (Bertsekas and Gallager, Data Networks, 1992, section 6.5.2): nobody can get more without somebody who has no more than
// he getting less. Rates are found by filling: all grow alike until a resource is full, those that use it stay, the others
// grow on.

// resource is a link, in bytes a second, or a host's cores or memory, in cores.
type resource struct {
	cap   float64
	users []*activity
	dirty bool
	room  float64 // while it is being filled
	open  int     // users that still grow
}

// activity uses resources for a while.
type activity struct {
	left  float64 // of its work, at time at
	at    time.Duration
	rate  float64 // of work a second
	most  float64 // of its rate
	uses  []*resource
	place []int // in the users of each
	end   event
	fixed bool
	round uint64 // of the last settling that looked at it
}

// begin adds a to its resources.
func (w *World) begin(a *activity) {
	a.at, a.rate = w.now, 0
	a.place = a.place[:0]
	for _, r := range a.uses {
		a.place = append(a.place, len(r.users))
		r.users = append(r.users, a)
		w.touch(r)
	}
	if len(a.uses) == 0 {
		a.rate = a.most
		w.ends(a)
	}
}

// finish takes a away from them.
func (w *World) finish(a *activity) {
	for i, r := range a.uses {
		last := len(r.users) - 1
		moved := r.users[last]
		r.users[a.place[i]] = moved
		for k, o := range moved.uses {
			if o == r && moved.place[k] == last {
				moved.place[k] = a.place[i]
			}
		}
		r.users[last] = nil
		r.users = r.users[:last]
		w.touch(r)
	}
	a.uses, a.place = a.uses[:0], a.place[:0]
	w.unset(&a.end)
}

// touch says that a resource is to be shared out anew.
func (w *World) touch(r *resource) {
	if !r.dirty {
		r.dirty = true
		w.dirty = append(w.dirty, r)
	}
}

// progress books what an activity has done until now.
func (w *World) progress(a *activity) {
	if a.at < w.now {
		a.left = max(0, a.left-float64(a.rate*(w.now-a.at).Seconds()))
		a.at = w.now
	}
}

// ends sets the time at which a will be done at its rate.
func (w *World) ends(a *activity) {
	if a.rate <= 0 {
		w.unset(&a.end)
		return
	}
	ns := math.Ceil(float64(float64(a.left/a.rate)*1e9) - 1e-3) // what is left of a nanosecond by rounding is none
	if !(ns < math.MaxInt64/4) {
		w.unset(&a.end)
		return
	}
	w.set(&a.end, w.now+time.Duration(ns))
}

// settle shares out the resources that were touched, and those that depend on them.
func (w *World) settle() {
	for len(w.dirty) > 0 {
		first := w.dirty[0]
		w.dirty = pop(w.dirty)
		if first.dirty {
			w.fill(first)
		}
	}
}

// fill shares out a resource and everything that is connected with it by activities.
func (w *World) fill(first *resource) {
	w.round++
	if w.alone(first) {
		return
	}
	rs, as := w.fillRs[:0], w.fillAs[:0]
	first.dirty, first.open = false, -1
	rs = append(rs, first)
	least := math.Inf(1) // bound of those that still grow, or less
	for i := 0; i < len(rs); i++ {
		for _, a := range rs[i].users {
			if a.round == w.round {
				continue
			}
			a.round, a.fixed = w.round, false
			as, least = append(as, a), min(least, a.most)
			for _, r := range a.uses {
				if r.open != -1 {
					r.dirty, r.open = false, -1
					rs = append(rs, r)
				}
			}
		}
	}
	for _, r := range rs {
		r.room, r.open = r.cap, len(r.users)
	}
	for left, open := len(as), rs; left > 0; {
		level, some := math.Inf(1), open[:0]
		for _, r := range open {
			if r.open > 0 {
				level, some = min(level, r.room/float64(r.open)), append(some, r)
			}
		}
		open = some
		if least <= float64(level*(1+1e-9)) { // else a resource is full before any activity is at its bound
			least = leastMost(as)
			level = min(level, least)
		}
		level = max(level, 0)
		bound := float64(level * (1 + 1e-9))
		was := left
		for _, r := range open { // who is at a full resource stays
			if r.open > 0 && r.room/float64(r.open) <= bound {
				for _, a := range r.users {
					if !a.fixed {
						left--
						w.fix(a, level)
					}
				}
			}
		}
		if least <= bound {
			for _, a := range as {
				if !a.fixed && a.most <= bound {
					left--
					w.fix(a, min(level, a.most))
				}
			}
		}
		if left == was {
			panic("sim: sharing that does not end")
		}
	}
	clear(as)
	w.fillRs, w.fillAs = rs[:0], as[:0]
}

// leastMost is the least bound of those that still grow.
func leastMost(as []*activity) float64 {
	least := math.Inf(1)
	for _, a := range as {
		if !a.fixed {
			least = min(least, a.most)
		}
	}
	return least
}

// alone shares out a resource that has room for all of its users, who use nothing else, which is the common case of a
// host's cores.
func (w *World) alone(r *resource) bool {
	sum := 0.0
	for _, a := range r.users {
		if len(a.uses) != 1 {
			return false
		}
		sum += a.most
	}
	if sum > r.cap {
		return false
	}
	r.dirty = false
	for _, a := range r.users {
		w.setRate(a, a.most)
	}
	return true
}

func (w *World) fix(a *activity, rate float64) {
	a.fixed = true
	for _, r := range a.uses {
		r.room = max(0, r.room-rate)
		r.open--
	}
	w.setRate(a, rate)
}

func (w *World) setRate(a *activity, rate float64) {
	if rate == a.rate && (rate == 0 || a.end.idx >= 0) {
		return
	}
	w.progress(a)
	a.rate = rate
	w.ends(a)
}
