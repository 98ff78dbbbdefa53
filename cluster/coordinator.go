package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/covey-ml/covey/comm"
)

// Coordinator is a launcher's part in a run: it writes down what the run is, hears how it goes, and says when it is to stop. The
// run does not need it: workers go on without it for a while, and another one may take its place.
type Coordinator struct {
	store Store
	clock comm.Clock
	see   *notice
	end   context.CancelFunc
	off   func()
}

// News is what a Coordinator hears: one field is set.
type News struct {
	Joined *Member     // it is there for the first time
	Formed *Generation // a generation was formed
	Event  *Said       // a worker's progress
	Ended  *Member     // it ended, or has not been heard of for too long
	Report []byte      // the end of a run that went well
	Want   int         // how many workers there should be, from now on
}

// lastWord is how long the word of a process that has ended may be on its way.
const lastWord = 2 * beat

// silence is how long a member may be silent before its coordinator takes it for dead.
const silence = 15 * time.Second

// Coordinate takes part in the run that a store holds, or will hold. hear is called with the news, one call at a time, from
// other goroutines, until Close. What had happened before comes first.
func Coordinate(ctx context.Context, store Store, clock comm.Clock, hear func(News)) (*Coordinator, error) {
	over, end := context.WithCancel(context.WithoutCancel(ctx))
	c := &Coordinator{store: store, clock: clock, end: end}
	news := make(chan News, 64) // one goroutine calls hear
	tell := func(n News) {
		select {
		case news <- n:
		case <-over.Done():
		}
	}
	clock.Go(func() {
		for {
			select {
			case n := <-news:
				hear(n)
			case <-over.Done():
				return
			}
		}
	})
	off, err := store.Listen(topicEvents, func(p []byte) {
		var s Said
		if json.Unmarshal(p, &s) == nil {
			tell(News{Event: &s})
		}
	})
	if err != nil {
		end()
		return nil, err
	}
	c.off = off
	c.see = watch(over, store, clock, nil)
	clock.Go(func() { c.follow(over, tell) })
	return c, nil
}

// follow turns what the store holds into news.
func (c *Coordinator) follow(ctx context.Context, tell func(News)) {
	joined, ended := map[string]bool{}, map[string]bool{}
	var formed uint64
	reported, wanted := false, 0
	for {
		var all []News
		c.see.mu.Lock()
		v := c.see.view(0)
		for _, m := range v.Members {
			dead := m.State == Ended || m.Ago > silence || m.Ago > lastWord && vanished(m.Member)
			if !joined[m.ID] {
				joined[m.ID] = true
				all = append(all, News{Joined: &m.Member})
			}
			if dead && !ended[m.ID] {
				ended[m.ID] = true
				if m.State != Ended {
					m.Error = fmt.Sprintf("nothing was heard of it for %v", silence)
				}
				all = append(all, News{Ended: &m.Member})
			}
		}
		if g := v.Current; g != nil && g.Number > formed {
			formed = g.Number
			all = append([]News{{Formed: g}}, all...)
		}
		if v.Want != wanted {
			wanted = v.Want
			all = append(all, News{Want: wanted})
		}
		if c.see.end != nil && !reported {
			reported = true
			all = append([]News{{Report: c.see.end}}, all...)
		}
		c.see.mu.Unlock()
		for _, n := range all {
			tell(n)
		}
		if c.see.wait(ctx, c.clock.Now()+beat) != nil && ctx.Err() != nil {
			return
		}
	}
}

// Start writes the run down: workers that wait for it begin.
func (c *Coordinator) Start(ctx context.Context, r Run, want int) error {
	if err := r.Limits.Check(); err != nil {
		return err
	}
	r.Version = version
	ctx, cancel := c.clock.WithTimeout(ctx, soon)
	defer cancel()
	if err := putJSON(ctx, c.store, keyWant, want); err != nil {
		return err
	}
	return putJSON(ctx, c.store, keyRun, r)
}

// Standing is how a run stands that its launcher has left.
type Standing struct {
	Living  int  // workers that say that they live
	Silent  int  // workers that do not, and may live all the same
	Stopped bool // all were asked to save and stop
	Done    bool // it has come to its end, with a report
}

// Living tells how the run stands: as soon as it is done, or all workers have spoken that may live, or some have and the others had
// time to; of a run that was stopped, as soon as all have ended; at the end of ctx at the latest. A run that was never written down
// has no workers. An error says that the store did not tell.
func (c *Coordinator) Living(ctx context.Context) (Standing, error) {
	if err := c.see.confirm(ctx); err != nil {
		return Standing{}, err
	}
	since := c.clock.Now() // what a server that was behind has told until now may be old
	for {
		c.see.mu.Lock()
		s, err := c.see.standing(since), c.see.ended
		c.see.mu.Unlock()
		switch {
		case err != nil:
			return Standing{}, err
		case s.Done, s.Living+s.Silent == 0:
			return s, nil
		case !s.Stopped && (s.Silent == 0 || s.Living > 0 && c.clock.Now() > since+3*beat):
			return s, nil
		}
		if c.see.wait(ctx, c.clock.Now()+beat) != nil {
			return s, nil
		}
	}
}

// standing counts who has spoken since a time, and who may still. n.mu is held.
func (n *notice) standing(since time.Duration) Standing {
	s := Standing{Stopped: n.stop, Done: n.end != nil}
	for _, m := range n.members {
		switch {
		case m.State == Ended || vanished(m.Member):
		case m.at > since && m.again:
			s.Living++
		case n.stop && n.current != nil && n.current.Rank(m.ID) < 0: // the others have done without it, and it cannot begin by itself
		default:
			s.Silent++
		}
	}
	if n.current != nil {
		for _, seat := range n.current.Seats {
			if n.members[seat.ID] == nil { // what it said last is on its way
				s.Silent++
			}
		}
	}
	return s
}

// vanished tells of a member on this host, and not in another container of it, whether its process is gone.
func vanished(m Member) bool {
	if m.Host != HostID() || m.Space != pidSpace() || m.PID <= 0 {
		return false
	}
	if _, err := os.Stat("/proc/self"); err != nil {
		return false // this system does not tell
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", m.PID))
	if _, state, ok := strings.Cut(string(stat), ") "); ok {
		return strings.HasPrefix(state, "Z") // it has ended, and nobody has asked how
	}
	return errors.Is(err, os.ErrNotExist)
}

// Open tells whether members have not ended, or may not have, as far as is known.
func (c *Coordinator) Open() bool {
	c.see.mu.Lock()
	defer c.see.mu.Unlock()
	if !c.see.known {
		return true
	}
	for _, m := range c.see.view(0).Members {
		if m.State != Ended && m.Ago <= silence && !(m.Ago > lastWord && vanished(m.Member)) {
			return true
		}
	}
	return false
}

// Over tells whether all members are known to have ended: by what they said, or since they were processes of this host. Who is
// silent may be at work where this coordinator does not reach.
func (c *Coordinator) Over() bool {
	c.see.mu.Lock()
	defer c.see.mu.Unlock()
	for _, m := range c.see.members {
		if m.State != Ended && !vanished(m.Member) {
			return false
		}
	}
	return true
}

// Run waits until the store says what the run is.
func (c *Coordinator) Run(ctx context.Context) (*Run, error) {
	for {
		c.see.mu.Lock()
		known, run, err := c.see.known, c.see.run, c.see.ended
		c.see.mu.Unlock()
		switch {
		case err != nil:
			return nil, err
		case known && run != nil:
			return run, nil
		}
		if err := c.see.wait(ctx, 0); err != nil {
			return nil, err
		}
	}
}

// Report asks the store anew, until ctx ends, what the run came to; nil when there is no report.
func (c *Coordinator) Report(ctx context.Context) ([]byte, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	see := watch(ctx, c.store, c.clock, nil)
	err := see.confirm(ctx)
	see.mu.Lock()
	defer see.mu.Unlock()
	if see.end != nil {
		return see.end, nil
	}
	return nil, err
}

// Members lists all that have ever joined.
func (c *Coordinator) Members() (all []Member) {
	c.see.mu.Lock()
	defer c.see.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(c.see.members)) {
		all = append(all, c.see.members[id].Member)
	}
	return all
}

// Generation is the newest one, nil before the first.
func (c *Coordinator) Generation() *Generation {
	c.see.mu.Lock()
	defer c.see.mu.Unlock()
	return c.see.current
}

// Want is how many workers there should be.
func (c *Coordinator) Want() int {
	c.see.mu.Lock()
	defer c.see.mu.Unlock()
	return c.see.want
}

// Scale says how many workers there should be from now on.
func (c *Coordinator) Scale(ctx context.Context, want int) error {
	ctx, cancel := c.clock.WithTimeout(ctx, soon)
	defer cancel()
	return putJSON(ctx, c.store, keyWant, want)
}

// Stop asks all workers to save and stop.
func (c *Coordinator) Stop() error {
	ctx, cancel := c.clock.WithTimeout(context.Background(), soon)
	defer cancel()
	return putJSON(ctx, c.store, keyStop, true)
}

// Dead says of a member that it has ended, since who watches its process knows first.
func (c *Coordinator) Dead(id, how string, code int) error {
	c.see.mu.Lock()
	m := Member{ID: id, Name: id}
	if h := c.see.members[id]; h != nil {
		m = h.Member
	}
	c.see.mu.Unlock()
	if m.State == Ended {
		return nil
	}
	m.State, m.Error, m.Code = Ended, how, code
	ctx, cancel := c.clock.WithTimeout(context.Background(), soon)
	defer cancel()
	return putJSON(ctx, c.store, keyMember+id, m)
}

// Close ends the coordinator's part. The store stays open, and the run goes on.
func (c *Coordinator) Close() {
	c.off()
	c.end()
}
