package sim

import (
	"sync"
	"time"

	"github.com/covey-ml/covey/comm"
)

// pace lets a world keep real time: events happen when their time has come, and whoever uses the groups need not be a
// goroutine of the world. So the groups can be used like any other transport's, in the exam that all of them sit.
type pace struct {
	w     *World
	mu    sync.Mutex
	start time.Time
	poked chan struct{}
	stop  chan struct{}
	ended chan struct{}
}

// Paced makes a world on real time and returns its groups and a function that ends it, after they are closed.
func Paced(c Config) (*World, []comm.Group, func(), error) {
	w, err := New(c)
	if err != nil {
		return nil, nil, nil, err
	}
	p := &pace{w: w, start: time.Now(), poked: make(chan struct{}, 1), stop: make(chan struct{}), ended: make(chan struct{})}
	w.pace = p
	go p.run()
	groups := make([]comm.Group, len(w.nodes))
	for r, n := range w.nodes {
		groups[r] = n.group.view()
	}
	return w, groups, func() {
		close(p.stop)
		<-p.ended
	}, nil
}

// Kill ends a worker of a paced world as the death of its process does.
func (w *World) Kill(r comm.Rank) {
	w.pace.lock()
	defer w.pace.unlock()
	w.nodes[r].vanish()
}

// lock takes the world, at its present time.
func (p *pace) lock() {
	p.mu.Lock()
	p.catchUp()
}

func (p *pace) unlock() {
	p.w.settle()
	p.mu.Unlock()
}

// catchUp makes happen what is to have happened by now.
func (p *pace) catchUp() {
	w := p.w
	for now := time.Since(p.start); ; {
		if len(w.events) == 0 || w.events[0].at > now {
			w.now = max(w.now, now)
			return
		}
		w.advance()
	}
}

// run waits for the time of the next event, again and again.
func (p *pace) run() {
	defer close(p.ended)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		p.lock()
		wait := time.Hour
		if len(p.w.events) > 0 {
			wait = p.w.events[0].at - p.w.now
		}
		p.unlock()
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-p.poked:
		case <-p.stop:
			return
		}
	}
}

// poke says that an event has become the next one.
func (p *pace) poke() {
	select {
	case p.poked <- struct{}{}:
	default:
	}
}

// park gives the world away until q is woken. The world is locked.
func (p *pace) park(q *proc) error {
	var done <-chan struct{}
	if q.ctx != nil {
		done = q.ctx.Done()
	}
	p.unlock()
	select {
	case <-q.resume:
	case <-done:
		p.lock()
		if q.waits {
			q.n.giveUp(q, contextCause(q))
		}
		p.unlock()
		<-q.resume
	}
	p.lock()
	return q.err
}
