package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/covey-ml/covey/cluster"
	"github.com/covey-ml/covey/cluster/clustertest"
	"github.com/covey-ml/covey/comm"
)

// world is a run on virtual time: workers that only count steps, links between them that can be cut, and a store of which they
// can be cut off. A step is done by who has heard of it from all members of its generation.
type world struct {
	server *clustertest.Server
	clock  comm.Clock
	seed   uint64
	ends   time.Duration // when the workers vote to end

	mu    sync.Mutex
	cuts  map[[2]string]int // links, and by how many faults they are cut
	away  map[string]int    // workers, and by how many faults they are cut off from the store
	rooms map[string]*room  // by the secret of a generation
	done  []commit
	wrong []string // what must not be
	all   map[string]*hand
	fresh int // generations that had nothing to go on from
}

// hand is a worker.
type hand struct {
	id      string
	store   *clustertest.Store
	m       *cluster.Worker
	kill    context.CancelFunc
	dead    bool
	leaving bool
	over    bool
	err     error
	last    *cluster.Generation
	been    map[uint64]bool // the generations that it was in
	state   []uint64        // a digest a step: of the generations that did it and of the steps before
}

// commit is a step that a worker has done.
type commit struct {
	at   time.Duration
	by   string
	gen  uint64
	step int
}

// room is where the members of a generation hear each other.
type room struct {
	posts map[string][]post // by member, in order
	left  map[string]bool
}

// post is what a member tells all others in one exchange.
type post struct {
	kept      bool
	state     []uint64
	stop, end bool
}

const (
	stepTime  = 500 * time.Millisecond
	lookTime  = 25 * time.Millisecond
	meetTime  = 10 * time.Second
	stallTime = 3 * time.Second // of an exchange, which then is a stall
)

var (
	errKilled = errors.New("killed")
	errLeft   = errors.New("it left")
)

// bubble is the clock inside of a bubble of synctest, where it begins to count: the real one began outside, years later.
type bubble struct {
	comm.Clock
	began time.Time
}

// Now implements comm.Clock.
func (b bubble) Now() time.Duration { return time.Since(b.began) }

func newWorld(seed uint64, lose float64, lag time.Duration) *world {
	clock := bubble{comm.RealClock(), time.Now()}
	return &world{clock: clock, seed: seed, cuts: map[[2]string]int{}, away: map[string]int{}, rooms: map[string]*room{}, all: map[string]*hand{},
		server: clustertest.New(clustertest.Config{Clock: clock, Seed: seed, Delay: 50 * time.Millisecond, Lag: lag, Lose: lose, Notice: 6 * time.Second})}
}

func (w *world) fault(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wrong = append(w.wrong, fmt.Sprintf("at %v: ", w.clock.Now()-w.ends)+fmt.Sprintf(format, args...))
}

func pair(a, b string) [2]string { return [2]string{min(a, b), max(a, b)} }

// link cuts the link of two workers, by is 1, or mends what one fault has cut, -1.
func (w *world) link(a, b string, by int) {
	w.mu.Lock()
	w.cuts[pair(a, b)] += by
	w.mu.Unlock()
}

// cutOff is link for the store. mute says that a server remains in reach that is cut off itself.
func (w *world) cutOff(id string, by int, mute bool) {
	w.mu.Lock()
	w.away[id] += by
	cut := w.away[id] > 0
	w.mu.Unlock()
	if mute {
		w.server.Mute(id, cut)
	} else {
		w.server.Cut(id, cut)
	}
}

// join starts a worker.
func (w *world) join(ctx context.Context, id string, rank int) *hand {
	ctx, kill := context.WithCancel(ctx)
	h := &hand{id: id, store: w.server.Open(id), kill: kill, been: map[uint64]bool{}}
	w.mu.Lock()
	w.all[id] = h
	w.mu.Unlock()
	w.clock.Go(func() {
		err := w.work(ctx, h, rank)
		if errors.Is(err, context.Canceled) {
			err = errKilled
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		h.err, h.over = err, true
		h.store.Close()
	})
	return h
}

// strike kills a worker as kill -9 does.
func (w *world) strike(h *hand) {
	w.mu.Lock()
	h.dead = true
	w.mu.Unlock()
	h.store.Close()
	h.kill()
}

// work is a worker's life.
func (w *world) work(ctx context.Context, h *hand, rank int) error {
	short, cancel := w.clock.WithTimeout(ctx, 2*time.Minute)
	m, err := cluster.Join(short, h.store, cluster.Joining{ID: h.id, Want: rank, Writer: true}, w.clock)
	cancel()
	if err != nil {
		return err
	}
	defer m.Close()
	w.mu.Lock()
	h.m = m
	w.mu.Unlock()
	err = w.generations(ctx, h)
	if ctx.Err() == nil {
		code := 0
		if err != nil {
			code = 1
		}
		m.Fail(err, code)
	}
	return err
}

func (w *world) generations(ctx context.Context, h *hand) error {
	var lost []cluster.Loss
	was := uint64(0)
	for n := 0; ; n++ {
		w.mu.Lock()
		leaving := h.leaving
		w.mu.Unlock()
		if leaving {
			return errLeft
		}
		g, err := h.m.Next(ctx, fmt.Sprintf("%s:%d", h.id, n), was, lost)
		if err != nil {
			return err
		}
		if g.Number <= was || h.been[g.Number] {
			w.fault("%s came from generation %d to %d", h.id, was, g.Number)
		}
		was = g.Number
		w.mu.Lock()
		h.last, h.been[was] = g, true
		if !g.Seats[g.Rank(h.id)].Kept {
			h.state = nil
		}
		w.mu.Unlock()
		l, err := w.train(ctx, h, g)
		w.leave(g, h.id)
		switch {
		case errors.Is(err, errRegroup):
			lost = nil
			if l != nil {
				lost = []cluster.Loss{*l}
			}
		case err == nil:
			h.m.Report(ctx, g.Rank(h.id) == 0, was) // whose answer may be lost
			return nil
		default:
			return err
		}
	}
}

var errRegroup = errors.New("another generation")

// train takes part in a generation: nil at the end of the run, errRegroup when another is to be formed, with whom it lost.
func (w *world) train(ctx context.Context, h *hand, g *cluster.Generation) (*cluster.Loss, error) {
	all, lost, err := w.exchange(ctx, h, g, 0, post{kept: g.Seats[g.Rank(h.id)].Kept, state: h.state}, meetTime)
	if err != nil {
		return lost, err
	}
	w.reconcile(h, g, all)
	draw := rand.New(rand.NewPCG(w.seed, uint64(g.Rank(h.id))))
	for n := 1; ; n++ {
		if err := w.clock.Sleep(ctx, stepTime+time.Duration(draw.Int64N(int64(50*time.Millisecond)))); err != nil {
			return nil, err
		}
		if err := h.m.Orphaned(); err != nil {
			return nil, err
		}
		due, _ := h.m.Due()
		all, lost, err := w.exchange(ctx, h, g, n, post{stop: due, end: w.clock.Now() >= w.ends}, stallTime)
		if err != nil {
			return lost, err
		}
		w.mu.Lock()
		sum := fnv.New64()
		last := uint64(0)
		if n := len(h.state); n > 0 {
			last = h.state[n-1]
		}
		fmt.Fprint(sum, last, g.Secret)
		h.state = append(h.state, sum.Sum64())
		w.done = append(w.done, commit{w.clock.Now(), h.id, g.Number, len(h.state)})
		w.mu.Unlock()
		switch {
		case slices.ContainsFunc(all, func(p post) bool { return p.end }):
			return nil, nil
		case slices.ContainsFunc(all, func(p post) bool { return p.stop }):
			return nil, errRegroup
		}
	}
}

// reconcile has a worker go on from the newest state of those who were in the generation before. These must agree: the steps
// that two of them have done are the same ones, and one is at most one step ahead.
func (w *world) reconcile(h *hand, g *cluster.Generation, all []post) {
	var newest []uint64
	for _, p := range all {
		if p.kept && len(p.state) > len(newest) {
			newest = p.state
		}
	}
	for r, p := range all {
		if !p.kept || len(p.state) == 0 {
			continue
		}
		if n := len(p.state); n < len(newest)-1 || !slices.Equal(p.state, newest[:n]) {
			w.fault("in generation %d, %s and another have gone on by themselves: %d and %d steps", g.Number, g.Seats[r].ID, n, len(newest))
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(newest) == 0 && g.Number > 1 && g.Rank(h.id) == 0 {
		w.fresh++
	}
	h.state = slices.Clone(newest)
}

// exchange tells all members of a generation something, and hears what they tell.
func (w *world) exchange(ctx context.Context, h *hand, g *cluster.Generation, n int, mine post, most time.Duration) ([]post, *cluster.Loss, error) {
	w.mu.Lock()
	r := w.rooms[g.Secret]
	if r == nil {
		r = &room{posts: map[string][]post{}, left: map[string]bool{}}
		w.rooms[g.Secret] = r
	}
	mine.state = slices.Clone(mine.state)
	r.posts[h.id] = append(r.posts[h.id], mine)
	w.mu.Unlock()
	for until := w.clock.Now() + most; ; {
		var all []post
		var lost *cluster.Loss
		w.mu.Lock()
		for _, s := range g.Seats {
			o := w.all[s.ID]
			reached := s.ID == h.id || w.cuts[pair(s.ID, h.id)] == 0
			switch {
			case reached && len(r.posts[s.ID]) > n:
				all = append(all, r.posts[s.ID][n])
			case reached && (r.left[s.ID] || o.dead || o.over):
				lost = &cluster.Loss{ID: s.ID, How: "its connection is gone"}
			case w.clock.Now() >= until && lost == nil:
				lost = &cluster.Loss{ID: s.ID, Stalled: true, How: "it did not answer"}
			}
		}
		w.mu.Unlock()
		switch {
		case len(all) == len(g.Seats):
			return all, nil, nil
		case lost != nil:
			return nil, lost, errRegroup
		}
		if err := w.clock.Sleep(ctx, lookTime); err != nil {
			return nil, nil, err
		}
	}
}

// leave says goodbye to the members of a generation.
func (w *world) leave(g *cluster.Generation, id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if r := w.rooms[g.Secret]; r != nil {
		r.left[id] = true
	}
}

// living lists the workers that have not ended.
func (w *world) living() (all []*hand) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, h := range w.all {
		if !h.over && !h.dead {
			all = append(all, h)
		}
	}
	slices.SortFunc(all, func(a, b *hand) int {
		if a.id < b.id {
			return -1
		}
		return 1
	})
	return all
}
