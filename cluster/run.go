package cluster

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/covey-ml/covey/comm"
)

// version is checked when a worker joins: workers of one run are the same program.
const version = 4

// Run is what a launcher writes down of a run, for all who join it.
type Run struct {
	Version int               `json:"version"`
	Job     []byte            `json:"job"`              // as YAML
	Places  map[string]string `json:"places,omitempty"` // who set each key of the job, for errors
	Resume  string            `json:"resume,omitempty"` // the checkpoint to go on from
	Done    int               `json:"done,omitempty"`   // its step
	Faults  string            `json:"faults,omitempty"` // a script of package fault, for every worker to follow
	Local   int               `json:"local"`            // workers that the launcher starts on its host
	Limits  Limits            `json:"limits"`
	// Elastic says that a run goes on when workers are lost; else it ends.
	Elastic bool `json:"elastic,omitempty"`
	// Orphan is how long workers go on without their launcher's server before they save and end.
	Orphan time.Duration `json:"orphan"`
}

// ErrNoRun says that a server knows of no such run.
var ErrNoRun = errors.New("no such run")

// NewToken makes a secret.
func NewToken() string {
	b := make([]byte, 16)
	rand.Read(b) // never fails, says its documentation
	return hex.EncodeToString(b)
}

// NewID names a member.
func NewID() string { return NewToken()[:12] }

// notice is what the store says of a run: who has joined it and what has become of them. Each who takes part has one.
type notice struct {
	store   Store
	clock   comm.Clock
	changed comm.Event

	mu       sync.Mutex
	known    bool   // a server has told all that it held at first, which may be behind; see confirm
	word     string // that was read last, see confirm
	run      *Run
	want     int
	stop     bool
	end      []byte
	current  *Generation
	revision uint64 // of current
	members  map[string]*heard
	away     time.Duration // since when the store was last out of reach
	back     time.Duration // until when
	mute     bool          // it did not write down what was said last
	written  time.Duration // when it last did
	ended    error         // of the watch
	hook     func()        // after each change but a sign of life, with mu held; may be nil
}

// heard is a member's record and when it came.
type heard struct {
	Member
	at    time.Duration
	from  time.Duration // since when it says what it says, but for its beats
	again bool          // it was heard of before
}

// watch follows the store until ctx ends.
func watch(ctx context.Context, store Store, clock comm.Clock, hook func(*notice)) *notice {
	n := &notice{store: store, clock: clock, changed: clock.Event(), members: map[string]*heard{}}
	if hook != nil {
		n.hook = func() { hook(n) }
	}
	clock.Go(func() {
		err := store.Watch(ctx, n.take, func() { n.change(func() bool { n.known = true; return true }) })
		n.change(func() bool { n.ended = err; return true })
	})
	return n
}

// change lets f change what is known; it tells whether that is more than a sign of life, of which there is one a second from each.
func (n *notice) change(f func() bool) {
	n.mu.Lock()
	if f() && n.hook != nil {
		n.hook()
	}
	n.mu.Unlock()
	n.changed.Set()
}

// take reads one entry. What cannot be read is left out: it comes from another version, or from somebody who has no business
// here.
func (n *notice) take(e Entry) {
	n.change(func() bool {
		switch id, member := strings.CutPrefix(e.Key, keyMember); {
		case member:
			var m Member
			if json.Unmarshal(e.Value, &m) == nil && m.ID == id && id != "" {
				h := &heard{Member: m, at: n.clock.Now()}
				h.from = h.at
				if old := n.members[id]; old != nil {
					h.again = true
					if old.State == m.State && old.Was == m.Was && old.Addr == m.Addr {
						h.from = old.from
					}
				}
				n.members[id] = h
				return h.from == h.at
			}
		case e.Key == keyGeneration:
			var g Generation
			if json.Unmarshal(e.Value, &g) == nil && g.check() == nil && (n.current == nil || g.Number > n.current.Number) {
				n.current, n.revision = &g, e.Revision
			}
		case e.Key == keyRun:
			var r Run
			if json.Unmarshal(e.Value, &r) == nil {
				n.run = &r
			}
		case e.Key == keyWant:
			var want int
			if json.Unmarshal(e.Value, &want) == nil && want > 0 && want <= mostSeats {
				n.want = want
			}
		case e.Key == keyStop:
			n.stop = true
		case e.Key == keyEnd:
			n.end = e.Value
		case e.Key == keyWord:
			json.Unmarshal(e.Value, &n.word)
		}
		return true
	})
}

// confirm waits until all is known that stood in the store when it was called. One of several servers may be behind and tell all that
// it holds, down to nothing of a run that the others keep. A write has its place after all that most of them have agreed on, so who
// reads a word of its own has read what came before.
func (n *notice) confirm(ctx context.Context) error {
	word := NewID()
	for {
		short, cancel := n.clock.WithTimeout(ctx, soon)
		failed := putJSON(short, n.store, keyWord, word)
		cancel()
		until := n.clock.Now() + beat // then again: another launcher may have written over it
		for n.clock.Now() < until {
			n.mu.Lock()
			read, err := n.known && n.word == word, n.ended
			n.mu.Unlock()
			if read || err != nil {
				return err
			}
			if err := n.wait(ctx, until); err != nil {
				if failed != nil {
					err = fmt.Errorf("%w: %w", failed, err)
				}
				return err
			}
		}
	}
}

// view is what is known now. n.mu is held.
func (n *notice) view(since time.Duration) View {
	v := View{Now: n.clock.Now(), Since: since, Want: n.want, Current: n.current}
	if n.run != nil {
		v.Limits, v.Orphan = n.run.Limits, n.run.Orphan
	}
	if d := n.unreached(v.Now); d > 0 {
		n.away, n.back = v.Now-d, v.Now
	}
	for _, id := range slices.Sorted(maps.Keys(n.members)) {
		m := n.members[id]
		at := m.at
		if at >= n.away-expiry { // while the store is away nobody falls silent
			at = max(at, n.back)
		}
		v.Members = append(v.Members, Seen{m.Member, v.Now - at, v.Now - m.from})
	}
	return v
}

// unreached is for how long by now the store has been out of reach, or has written nothing down; 0: it is well. n.mu is held.
func (n *notice) unreached(now time.Duration) time.Duration {
	d := n.store.Silent()
	if n.mute {
		d = max(d, now-n.written)
	}
	return d
}

// wait waits for a change, until a time at the latest; 0: for ever.
func (n *notice) wait(ctx context.Context, until time.Duration) error {
	if until > 0 {
		limited, cancel := n.clock.WithTimeout(ctx, max(time.Millisecond, until-n.clock.Now()))
		defer cancel()
		n.changed.Wait(limited)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return nil
	}
	return n.changed.Wait(ctx)
}

func putJSON(ctx context.Context, s Store, key string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if len(b) > maxValue {
		return fmt.Errorf("cluster: %s takes %d bytes, over the limit of %d", key, len(b), maxValue)
	}
	return s.Put(ctx, key, b)
}
