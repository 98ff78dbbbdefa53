package sim

import (
	"time"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/fault"
	"github.com/covey-ml/covey/rng"
)

// faults makes a script come true.
type faults struct {
	state  *fault.State
	books  *fault.Books
	shapes []fault.Shape // by link
	cuts   bool          // there may be a partition
	next   event
}

func newFaults(w *World, s fault.Script) (*faults, error) {
	steps := 1 << 30 // how many there will be is not known here
	links := func(name string) error {
		_, err := w.find(name)
		return err
	}
	if err := s.Check(w.c.Workers, steps, links); err != nil {
		return nil, err
	}
	f := &faults{state: fault.NewState(s, w.c.Workers, 0), books: fault.NewBooks(s)}
	f.next = newEvent(f)
	for _, x := range s {
		f.cuts = f.cuts || x.Kind == fault.Partition
		if x.Kind.OnLink() && f.shapes == nil {
			f.shapes = make([]fault.Shape, len(w.links))
		}
	}
	f.arm(w)
	for i := range w.hosts {
		if m := &w.hosts[i].machine; len(m.Slow) > 0 {
			h := &schedule{w: w, host: i}
			h.e = newEvent(h)
			w.set(&h.e, 0)
		}
	}
	return f, nil
}

// arm sets the event of the next change by time.
func (f *faults) arm(w *World) {
	if at, ok := f.state.Next(); ok {
		w.set(&f.next, at)
	}
}

// happen makes the changes of this time.
func (f *faults) happen(w *World) {
	f.apply(w, f.state.Time(w.now))
	f.arm(w)
}

// step tells that a worker begins a step.
func (f *faults) step(w *World, n *node, step int) {
	if n.dead {
		return
	}
	n.step = step
	f.apply(w, f.state.Step(w.now, int(n.rank), step))
	f.arm(w)
}

func (f *faults) apply(w *World, changes []fault.Change) {
	for _, c := range changes {
		x := &w.c.Faults[c.Fault]
		ranks := x.Ranks
		if c.Rank >= 0 {
			ranks = []int{c.Rank}
		}
		step := 0
		if len(ranks) > 0 {
			step = w.nodes[ranks[0]].step
		}
		if c.Begins && x.Kind != fault.Corrupt {
			f.books.Fired(c.Fault, w.now, step)
		}
		switch {
		case x.Kind == fault.Partition:
			f.reroute(w)
		case x.Kind.OnLink():
			f.reshape(w, x.Link)
		}
		for _, r := range ranks {
			n := w.nodes[r]
			switch x.Kind {
			case fault.Kill:
				n.vanish()
			case fault.Stop:
				n.freeze(f.state.Stopped(r))
			case fault.Slow:
				n.slow(w.now)
			}
		}
	}
}

// cut tells whether a partition keeps the pair's messages from crossing.
func (f *faults) cut(_ *World, p *pair) bool {
	return f.cuts && f.state.Cut(int(p.from.rank), int(p.to.rank))
}

// reroute lets flows go, or stops them, after a partition has begun or ended.
func (f *faults) reroute(w *World) {
	for _, n := range w.nodes {
		for _, r := range n.peers() {
			if p := n.pairs[r]; len(p.fifo) > 0 {
				left := p.flow.most == 0
				if f.cut(w, p) != left {
					w.progress(&p.flow)
					rest := p.flow.left
					w.finish(&p.flow)
					w.launch(p)
					p.flow.left = min(p.flow.left, rest)
				}
			}
		}
	}
}

// reshape gives the links of a name what the faults in force leave of them.
func (f *faults) reshape(w *World, name string) {
	links, err := w.find(name)
	if err != nil {
		return // Check has found it
	}
	for _, l := range links {
		own := w.c.Network.Links[l].Name
		f.shapes[l] = f.state.Shape(func(link string) bool {
			is, err := w.find(link)
			if err != nil {
				return false
			}
			for _, i := range is {
				if i == l {
					return true
				}
			}
			return link == own
		})
		w.links[l].cap = w.c.Network.Links[l].Bandwidth
		if limit := f.shapes[l].Limit; limit > 0 {
			w.links[l].cap = min(w.links[l].cap, limit)
		}
		w.touch(&w.links[l])
	}
}

// delay is what faults add to the latency of a pair.
func (f *faults) delay(_ *World, p *pair) (d time.Duration) {
	if f.shapes != nil {
		for _, l := range p.links {
			d += f.shapes[l].Delay
		}
	}
	return d
}

// loss is the probability with which faults lose a packet on a link.
func (f *faults) loss(link int) float64 {
	if f.shapes == nil {
		return 0
	}
	return f.shapes[link].Drop
}

// freeze stops a worker as SIGSTOP does, or lets it go on: its computations stand still, what comes waits.
func (n *node) freeze(still bool) {
	if n.frozen == still || n.dead {
		return
	}
	n.frozen = still
	n.eachTask(func(t *task) {
		t.most = 1
		if still {
			t.most = 0
		}
	})
	n.queue()
}

// slow makes a worker as slow as the script and its host's schedule say.
func (n *node) slow(now time.Duration) {
	factor, _ := n.w.hosts[n.host].machine.SlowAt(now)
	factor *= n.w.faults.state.Slow(int(n.rank))
	by := factor / n.factor
	n.factor = factor
	n.eachTask(func(t *task) {
		n.w.progress(&t.activity)
		t.left, t.bytes = float64(t.left*by), float64(t.bytes*by)
		n.w.ends(&t.activity)
	})
}

// eachTask calls f for each of the worker's computations, and has the host's cores shared out anew.
func (n *node) eachTask(f func(*task)) {
	h := &n.w.hosts[n.host]
	for _, a := range h.cores.users {
		if t, ok := a.end.do.(*task); ok && t.n == n {
			f(t)
		}
	}
	n.w.touch(&h.cores)
}

// schedule is the slow-downs of a host by time.
type schedule struct {
	w    *World
	host int
	e    event
}

func (s *schedule) happen(w *World) {
	for _, n := range w.nodes {
		if n.host == s.host {
			n.slow(w.now)
		}
	}
	m := &w.hosts[s.host].machine
	if _, until := m.SlowAt(w.now); until > 0 {
		w.set(&s.e, until)
	}
}

// Begin implements comm.Faulty.
func (g *Group) Begin(step int) {
	n := g.n
	n.lock()
	defer n.unlock()
	if len(n.w.c.Faults) > 0 && !n.dead {
		n.settle()
		n.own = step
		n.ask(action{kind: actStep, n: n, bytes: step})
	}
}

// Spoil implements comm.Faulty.
func (g *Group) Spoil(x []float32, off int) {
	n := g.n
	script := n.w.c.Faults
	if len(script) == 0 {
		return
	}
	for _, i := range script.Corruptions(int(n.rank), n.own) {
		if off == 0 {
			n.w.faults.books.Fired(i, n.w.now, n.own)
		}
		if err := fault.Spoil(script[i].How, x, rng.Key(n.w.c.Seed, "spoil", uint64(n.rank), uint64(n.own), uint64(off))); err != nil {
			panic(err) // Check has seen the script
		}
	}
}

var _ comm.Faulty = (*Group)(nil)
