package comm

import (
	"errors"
	"sync"
)

// Poison implements Poisoner.
func (m *Mesh) Poison(e *PeerError) *PeerError {
	m.mu.Lock()
	if m.poison != nil {
		e = m.poison
	} else if !m.closed {
		m.condemn(e)
	}
	tell := !m.told && !m.closed
	m.told = true
	m.mu.Unlock()
	if !tell {
		return e
	}
	for _, l := range m.links { // what a peer told, too: this rank may leave before the others hear it from there
		if l != nil {
			l.Abort(e)
		}
	}
	return e
}

// Poisoned implements Poisoner.
func (m *Mesh) Poisoned() *PeerError {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.poison
}

// condemn ends everything that belongs to collectives: receives fail with e, messages are thrown away.
func (m *Mesh) condemn(e *PeerError) {
	m.poison = e
	m.trouble()
	for b, q := range m.boxes {
		if !b.tag.Collective() {
			continue
		}
		for _, r := range q.posts {
			r.finish(b.from, 0, e)
		}
		for _, msg := range q.came {
			if msg.full {
				m.give(msg)
			} else {
				msg.kind = dropped
			}
		}
		delete(m.boxes, b)
	}
	for tag, w := range m.any {
		if !tag.Collective() {
			continue
		}
		for _, r := range w {
			r.finish(AnyRank, 0, e)
		}
		delete(m.any, tag)
	}
	for i := range m.peers {
		m.signalRoom(Rank(i))
	}
}

// Close implements Group.
func (m *Mesh) Close() error {
	ended, poison := m.end()
	if !ended {
		return nil
	}
	errs := make([]error, m.size)
	var wg sync.WaitGroup
	for i, l := range m.links {
		if l == nil {
			continue
		}
		wg.Go(func() {
			// A rank that heard of an abort and leaves may be heard before the one that began it.
			if poison != nil {
				l.Abort(poison)
			}
			errs[i] = l.Close()
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Vanish ends this rank's view in one instant, as the death of its process does: it is closed, and nothing is said to
// the peers. It is for tests that kill a rank which lives in their own process; they cut the links afterwards.
func (m *Mesh) Vanish() { m.end() }

// end makes everything under way, and whatever comes, return ErrClosed. It tells whether the group was open, and
// its poison.
func (m *Mesh) end() (bool, *PeerError) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return false, nil
	}
	m.closed = true
	m.trouble()
	for b, q := range m.boxes {
		for _, r := range q.posts {
			r.finish(b.from, 0, ErrClosed)
		}
		for _, msg := range q.came {
			msg.kind = dropped
		}
	}
	clear(m.boxes)
	for _, w := range m.any {
		for _, r := range w {
			r.finish(AnyRank, 0, ErrClosed)
		}
	}
	clear(m.any)
	for i := range m.peers {
		m.signalRoom(Rank(i))
	}
	return true, m.poison
}

// Closed tells whether Close was called.
func (m *Mesh) Closed() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.closed
}
