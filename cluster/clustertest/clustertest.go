// Package clustertest has a cluster.Store in memory whose network delays, loses and can be cut, member by member: for tests of
// what becomes of a run then, on virtual time.
//
//	s := clustertest.New(clustertest.Config{Clock: clock, Seed: 1, Delay: 20 * time.Millisecond})
//	a, b := s.Open("a"), s.Open("b")
//	s.Cut("a", true)
//
// What it does badly is what a real server's clients see: a request is carried out though its sender has given up, an answer
// is lost, a watch is behind, and a cut is noticed only after a while. What it promises is what a real one does: of writes that
// expect the same revision one succeeds, what one client asks for is done in that order, and who watches misses no key's last
// value for ever.
package clustertest

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/covey-ml/covey/cluster"
	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/rng"
)

// Config is how bad the network is.
type Config struct {
	Clock  comm.Clock
	Seed   uint64
	Delay  time.Duration // a message takes up to this long
	Lag    time.Duration // one in eight pieces of news of a change comes up to this much later; 0: none does
	Lose   float64       // the share of what is told that is lost, and of answers
	Notice time.Duration // a client notices that it is cut off after half of this to all of it; 0: after 4 s
}

// Write is a write that was carried out.
type Write struct {
	By string // whose
	cluster.Entry
}

// Server is what all clients share.
type Server struct {
	c Config

	mu       sync.Mutex
	entries  map[string]cluster.Entry
	writes   []Write
	clients  map[string]*Store
	watchers map[*watcher]bool
	ears     map[*ear]bool
}

// watcher is who waits for a change of anything.
type watcher struct{ changed comm.Event }

// ear is who listens to a topic.
type ear struct {
	of      *Store
	topic   string
	heard   [][]byte
	changed comm.Event
	off     bool
}

var (
	errClosed = errors.New("clustertest: the store was closed")
	errAway   = errors.New("clustertest: the server is out of reach")
)

// New makes a server that holds nothing.
func New(c Config) *Server {
	if c.Notice <= 0 {
		c.Notice = 4 * time.Second
	}
	return &Server{c: c, entries: map[string]cluster.Entry{}, clients: map[string]*Store{}, watchers: map[*watcher]bool{}, ears: map[*ear]bool{}}
}

// Open connects a client, by a name that no other one has.
func (s *Server) Open(name string) *Store {
	st := &Store{s: s, name: name, changed: s.c.Clock.Event()}
	s.mu.Lock()
	s.clients[name] = st
	s.mu.Unlock()
	s.c.Clock.Go(st.carry)
	return st
}

// Cut takes a client's connection away, or gives it back.
func (s *Server) Cut(name string, cut bool) { s.cut(name, cut, true) }

// Mute is Cut for a client whose own server is cut off from the others: the connection stays, and nothing is carried out or told.
func (s *Server) Mute(name string, mute bool) { s.cut(name, mute, false) }

func (s *Server) cut(name string, cut, noticed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.clients[name]
	if st == nil || st.cut == cut || st.closed {
		return
	}
	st.cut = cut
	st.cuts++
	n := st.cuts
	later := func(d time.Duration, f func()) {
		s.c.Clock.Go(func() {
			s.c.Clock.Sleep(context.Background(), d)
			s.mu.Lock()
			defer s.mu.Unlock()
			if st.cuts == n && !st.closed {
				f()
			}
		})
	}
	switch {
	case cut && !noticed:
	case cut:
		later(s.c.Notice/2+st.draw(s.c.Notice/2), func() {
			st.away, st.lost = true, s.c.Clock.Now()
			for _, r := range st.queue {
				r.end(errAway)
			}
			st.queue = nil
			s.wake()
		})
	case st.away:
		later(s.c.Delay+st.draw(200*time.Millisecond), func() {
			st.away = false
			s.wake()
		})
	default: // nobody has noticed
		s.wake()
	}
}

// Writes lists what was written to a key, in order.
func (s *Server) Writes(key string) (all []Write) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range s.writes {
		if w.Key == key {
			all = append(all, w)
		}
	}
	return all
}

// wake lets all look who wait for anything. s.mu is held.
func (s *Server) wake() {
	for w := range s.watchers {
		w.changed.Set()
	}
	for _, st := range s.clients {
		st.changed.Set()
	}
}

// write carries out a write. s.mu is held.
func (s *Server) write(by, key string, value []byte) {
	e := cluster.Entry{Key: key, Value: bytes.Clone(value), Revision: uint64(len(s.writes) + 1)}
	s.entries[key] = e
	s.writes = append(s.writes, Write{by, e})
	s.wake()
}

// Store is a client. It implements cluster.Store.
type Store struct {
	s       *Server
	name    string
	changed comm.Event // for carry

	// The server's mutex guards these.
	queue  []*request // what was asked for, in order
	cut    bool
	cuts   int // times that this changed
	away   bool
	lost   time.Duration // since when
	closed bool
	drawn  uint64
}

var _ cluster.Store = (*Store)(nil)

// request is a write under way.
type request struct {
	at   time.Duration // when it comes to the server
	do   func() error
	done comm.Event
	over bool
	err  error
}

// end is the answer. The server's mutex is held.
func (r *request) end(err error) {
	if !r.over {
		r.over, r.err = true, err
		r.done.Set()
	}
}

// draw is a time below d that depends on the seed, the client, and how often it drew before: what others do changes nothing, and
// no two things happen at the same time. The server's mutex is held.
func (st *Store) draw(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return time.Duration(st.roll("delay") % uint64(d))
}

func (st *Store) roll(what string) uint64 {
	st.drawn++
	var name uint64
	for _, b := range []byte(st.name) {
		name = name<<8 | name>>56 ^ uint64(b)
	}
	return rng.Key(st.s.c.Seed, what, name, st.drawn)
}

// loses tells whether something is lost on the way.
func (st *Store) loses() bool { return float64(st.roll("loss")>>11)/(1<<53) < st.s.c.Lose }

// carry takes requests to the server, one after the other, until the client is closed.
func (st *Store) carry() {
	s, clock := st.s, st.s.c.Clock
	for {
		s.mu.Lock()
		var r *request
		if !st.cut && !st.away && len(st.queue) > 0 {
			r = st.queue[0]
		}
		closed := st.closed
		s.mu.Unlock()
		if closed {
			return
		}
		if r == nil {
			st.changed.Wait(context.Background())
			continue
		}
		if d := r.at - clock.Now(); d > 0 {
			clock.Sleep(context.Background(), d)
			continue // it may have been cut off meanwhile
		}
		s.mu.Lock()
		if st.cut || st.away || st.closed || len(st.queue) == 0 || st.queue[0] != r {
			s.mu.Unlock()
			continue
		}
		st.queue = st.queue[1:]
		err := r.do()
		back, lost := st.draw(s.c.Delay), st.loses()
		s.mu.Unlock()
		clock.Go(func() {
			clock.Sleep(context.Background(), back)
			s.mu.Lock()
			defer s.mu.Unlock()
			if !st.cut && !st.closed && !lost {
				r.end(err)
			}
		})
	}
}

// ask has the server do something.
func (st *Store) ask(ctx context.Context, do func() error) error {
	s := st.s
	s.mu.Lock()
	r := &request{do: do, at: s.c.Clock.Now() + st.draw(s.c.Delay), done: s.c.Clock.Event()}
	switch {
	case st.closed:
		r.end(errClosed)
	case st.away:
		r.end(errAway)
	default:
		st.queue = append(st.queue, r)
		st.changed.Set()
	}
	s.mu.Unlock()
	if err := r.done.Wait(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return r.err
}

// Put implements cluster.Store.
func (st *Store) Put(ctx context.Context, key string, value []byte) error {
	return st.ask(ctx, func() error {
		st.s.write(st.name, key, value)
		return nil
	})
}

// Swap implements cluster.Store.
func (st *Store) Swap(ctx context.Context, key string, value []byte, revision uint64) error {
	return st.ask(ctx, func() error {
		if st.s.entries[key].Revision != revision {
			return cluster.ErrSwapped
		}
		st.s.write(st.name, key, value)
		return nil
	})
}

// Watch implements cluster.Store.
func (st *Store) Watch(ctx context.Context, tell func(cluster.Entry), current func()) error {
	s, clock := st.s, st.s.c.Clock
	w := &watcher{clock.Event()}
	s.mu.Lock()
	s.watchers[w] = true
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.watchers, w)
		s.mu.Unlock()
	}()
	seen := uint64(0)
	told := false
	for {
		var news []cluster.Entry
		s.mu.Lock()
		closed, reached := st.closed, !st.cut && !st.away
		if reached {
			for e := range maps.Values(s.entries) {
				if e.Revision > seen {
					e.Value = bytes.Clone(e.Value)
					news = append(news, e)
				}
			}
		}
		d := st.draw(s.c.Delay)
		if s.c.Lag > 0 && st.roll("lag")%8 == 0 {
			d += st.draw(s.c.Lag)
		}
		s.mu.Unlock()
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case closed:
			return errClosed
		case reached && (len(news) > 0 || !told):
			if err := clock.Sleep(ctx, d); err != nil {
				return err
			}
			s.mu.Lock()
			reached = !st.cut && !st.away && !st.closed
			s.mu.Unlock()
			if !reached {
				continue
			}
			slices.SortFunc(news, func(a, b cluster.Entry) int { return int(a.Revision) - int(b.Revision) })
			for _, e := range news {
				seen = e.Revision
				tell(e)
			}
			if !told {
				told = true
				current()
			}
		default:
			if err := w.changed.Wait(ctx); err != nil {
				return err
			}
		}
	}
}

// Tell implements cluster.Store.
func (st *Store) Tell(topic string, p []byte, sure bool) error {
	s := st.s
	p = bytes.Clone(p)
	spread := func() error {
		for e := range s.ears {
			if e.topic == topic && !e.of.cut && !e.of.away && !e.of.loses() {
				e.heard = append(e.heard, p)
				e.changed.Set()
			}
		}
		return nil
	}
	if sure {
		ctx, cancel := s.c.Clock.WithTimeout(context.Background(), time.Second)
		defer cancel()
		return st.ask(ctx, spread)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case st.closed:
		return errClosed
	case st.away:
		return errAway
	case !st.cut && !st.loses():
		st.queue = append(st.queue, &request{do: spread, at: s.c.Clock.Now() + st.draw(s.c.Delay), done: s.c.Clock.Event()})
		st.changed.Set()
	}
	return nil
}

// Listen implements cluster.Store.
func (st *Store) Listen(topic string, f func([]byte)) (off func(), err error) {
	s := st.s
	e := &ear{of: st, topic: topic, changed: s.c.Clock.Event()}
	s.mu.Lock()
	defer s.mu.Unlock()
	if st.closed {
		return nil, errClosed
	}
	s.ears[e] = true
	s.c.Clock.Go(func() {
		for {
			e.changed.Wait(context.Background())
			s.mu.Lock()
			heard, off := e.heard, e.off
			e.heard = nil
			s.mu.Unlock()
			if off {
				return
			}
			for _, p := range heard {
				f(p)
			}
		}
	})
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		e.off = true
		delete(s.ears, e)
		e.changed.Set()
	}, nil
}

// Silent implements cluster.Store.
func (st *Store) Silent() time.Duration {
	st.s.mu.Lock()
	defer st.s.mu.Unlock()
	if !st.away {
		return 0
	}
	return max(1, st.s.c.Clock.Now()-st.lost)
}

// Host implements cluster.Store.
func (*Store) Host() string { return "127.0.0.1" }

// Close implements cluster.Store. What was asked for and is not carried out is lost, as it is when a process is killed.
func (st *Store) Close() error {
	s := st.s
	s.mu.Lock()
	defer s.mu.Unlock()
	st.closed = true
	for _, r := range st.queue {
		r.end(errClosed)
	}
	st.queue = nil
	for e := range s.ears {
		if e.of == st {
			e.off = true
			delete(s.ears, e)
			e.changed.Set()
		}
	}
	s.wake()
	return nil
}
