package train_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/covey-ml/covey/cluster"
	"github.com/covey-ml/covey/cluster/clustertest"
	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/comm/inproc"
	"github.com/covey-ml/covey/train"
)

var splitSeed = flag.Uint64("split-seed", 0, "the seed of TestNoSplitBrain; 0: new ones")

// Time in a bubble of synctest begins where the bubble does.
type bubble struct {
	comm.Clock
	began time.Time
}

// Now implements comm.Clock.
func (b bubble) Now() time.Duration { return time.Since(b.began) }

// land is where workers train that a network connects which can be cut, to each other and to the store in which they meet.
type land struct {
	clock  comm.Clock
	server *clustertest.Server

	mu     sync.Mutex
	cut    map[[2]string]bool
	groups map[string][]comm.Group // by the secret of a generation
	all    map[string]*farmer
}

// farmer is a worker.
type farmer struct {
	land  *land
	id    string
	store *clustertest.Store
	m     *cluster.Worker
	kill  context.CancelFunc

	current *cluster.Generation
	tries   int

	// The land's mutex guards these.
	inner  comm.Group
	dead   bool
	over   bool
	report *train.Report
	err    error
}

const (
	slow  = 3 * time.Second        // a receive that takes longer has failed
	pause = 250 * time.Millisecond // a step takes as long
)

// road is a group some of whose links are cut.
type road struct {
	comm.Group
	f     *farmer
	seats []cluster.Seat
}

// Send implements comm.Group: over a link that is cut a message waits, and in the end is not sent.
func (r *road) Send(ctx context.Context, to comm.Rank, tag comm.Tag, p []byte) error {
	l := r.f.land
	for until := l.clock.Now() + slow; ; {
		l.mu.Lock()
		cut := l.cut[both(r.f.id, r.seats[to].ID)]
		l.mu.Unlock()
		if !cut {
			return r.Group.Send(ctx, to, tag, p)
		}
		if l.clock.Now() > until {
			return &comm.PeerError{Rank: to, Op: tag.Op(), Step: -1, Missing: int64(len(p)), Cause: comm.ErrTimeout}
		}
		if err := l.clock.Sleep(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}

func both(a, b string) [2]string { return [2]string{min(a, b), max(a, b)} }

// Next implements train.Generations.
func (f *farmer) Next(ctx context.Context, ended error) (train.Generation, error) {
	var lost []cluster.Loss
	was := uint64(0)
	if f.current != nil {
		was = f.current.Number
		var peer *comm.PeerError
		if errors.As(ended, &peer) && peer.Rank >= 0 && int(peer.Rank) < len(f.current.Seats) && f.current.Seats[peer.Rank].ID != f.id {
			lost = []cluster.Loss{{ID: f.current.Seats[peer.Rank].ID, Stalled: errors.Is(ended, comm.ErrTimeout), How: peer.Cause.Error()}}
		}
	}
	f.tries++
	g, err := f.m.Next(ctx, fmt.Sprintf("%s:%d", f.id, f.tries), was, lost)
	if err != nil {
		return train.Generation{}, err
	}
	f.current = g
	l := f.land
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.groups[g.Secret] == nil {
		l.groups[g.Secret] = inproc.New(len(g.Seats), slow)
	}
	r := g.Rank(f.id)
	f.inner = l.groups[g.Secret][r]
	out := train.Generation{Group: &road{f.inner, f, g.Seats}, Number: g.Number, Kept: g.Seats[r].Kept, Why: g.Why}
	for _, x := range g.Gone {
		out.Gone = append(out.Gone, x.ID)
	}
	return out, nil
}

// settle starts a worker.
func (l *land) settle(ctx context.Context, id string, rank int, c train.Config) {
	ctx, kill := context.WithCancel(ctx)
	f := &farmer{land: l, id: id, kill: kill, store: l.server.Open(id)}
	l.mu.Lock()
	l.all[id] = f
	l.mu.Unlock()
	l.clock.Go(func() {
		report, err := f.work(ctx, rank, c)
		f.store.Close()
		l.mu.Lock()
		defer l.mu.Unlock()
		f.report, f.err, f.over = report, err, true
	})
}

func (f *farmer) work(ctx context.Context, rank int, c train.Config) (*train.Report, error) {
	clock := f.land.clock
	short, cancel := clock.WithTimeout(ctx, time.Minute)
	defer cancel()
	m, err := cluster.Join(short, f.store, cluster.Joining{ID: f.id, Want: rank, Writer: true}, clock)
	if err != nil {
		return nil, err
	}
	defer m.Close()
	f.m = m
	over, orphaned := context.WithCancelCause(ctx)
	defer orphaned(nil)
	m.WatchStop(over, func(cause error) { orphaned(cause) })
	c.Regroup = func() bool { due, _ := m.Due(); return due }
	c.Events.Step = func(train.StepInfo) { clock.Sleep(over, pause) }
	report, err := train.Elastic(over, f, c)
	if ctx.Err() == nil {
		if err == nil {
			m.Report(ctx, f.current.Rank(f.id) == 0, report.Weights)
			m.Fail(nil, 0)
		} else {
			m.Fail(err, 1)
		}
	}
	return report, err
}

func (l *land) living() (all []*farmer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range l.all {
		if !f.over && !f.dead {
			all = append(all, f)
		}
	}
	slices.SortFunc(all, func(a, b *farmer) int { return strings.Compare(a.id, b.id) })
	return all
}

// partition puts each of those who live on a side; the store is on the side of false.
func (l *land) partition(living []*farmer, side map[string]bool, cut bool) {
	for i, a := range living {
		l.server.Cut(a.id, cut && side[a.id])
		for _, b := range living[:i] {
			l.mu.Lock()
			l.cut[both(a.id, b.id)] = cut && side[a.id] != side[b.id]
			l.mu.Unlock()
		}
	}
}

// However workers are cut off from each other and from where they meet: whoever comes to the end has the weights of the calm
// run, and one side at most goes on meanwhile.
func TestNoSplitBrain(t *testing.T) {
	c := config(t, "mlp:24")
	c.Microshards, c.Epochs, c.Optimizer = 6, 14, "adam"
	calm, err := train.Local(t.Context(), 3, timeout, c)
	if err != nil {
		t.Fatal(err)
	}
	seeds := []uint64{*splitSeed}
	if seeds[0] == 0 {
		seeds = nil
		for range 12 {
			seeds = append(seeds, rand.Uint64())
		}
	}
	ended, generations := 0, 0
	for _, seed := range seeds {
		synctest.Test(t, func(t *testing.T) {
			clock := bubble{comm.RealClock(), time.Now()}
			l := &land{clock: clock, cut: map[[2]string]bool{}, groups: map[string][]comm.Group{}, all: map[string]*farmer{},
				server: clustertest.New(clustertest.Config{Clock: clock, Seed: seed, Delay: 30 * time.Millisecond, Notice: 5 * time.Second})}
			ctx, cancel := context.WithCancel(t.Context())
			draw := rand.New(rand.NewPCG(seed, 3))
			n := 3 + draw.IntN(3)
			launcher := l.server.Open("launcher")
			co, err := cluster.Coordinate(ctx, launcher, clock, func(cluster.News) {})
			if err != nil {
				t.Fatal(err)
			}
			limits := cluster.Limits{Min: 1 + draw.IntN(2), Max: 8, Meet: 10 * time.Second, Wait: 20 * time.Second, Patience: 8 * time.Second}
			if err := co.Start(ctx, cluster.Run{Limits: limits, Elastic: true, Orphan: 20 * time.Second}, n); err != nil {
				t.Fatal(err)
			}
			for i := range n {
				l.settle(ctx, fmt.Sprintf("f%d", i), i, c)
			}
			var script []string
			for range 1 + draw.IntN(3) {
				clock.Sleep(ctx, time.Duration(300+draw.IntN(5000))*time.Millisecond)
				living := l.living()
				if len(living) > 2 && draw.IntN(4) == 0 {
					f := living[draw.IntN(len(living))]
					script = append(script, fmt.Sprintf("%v: kill %s", clock.Now(), f.id))
					l.mu.Lock()
					f.dead = true
					if f.inner != nil {
						inproc.Kill(f.inner)
					}
					l.mu.Unlock()
					f.store.Close()
					f.kill()
					continue
				}
				side := map[string]bool{}
				for _, f := range living {
					side[f.id] = draw.IntN(2) == 0
				}
				d := time.Duration(500+draw.IntN(15000)) * time.Millisecond
				script = append(script, fmt.Sprintf("%v: for %v cut off from the store: %v", clock.Now(), d, side))
				l.partition(living, side, true)
				clock.Sleep(ctx, d)
				l.partition(living, side, false)
			}
			limit := clock.Now() + 10*time.Minute
			for len(l.living()) > 0 && clock.Now() < limit {
				clock.Sleep(ctx, time.Second)
			}
			label := fmt.Sprintf("-run TestNoSplitBrain -split-seed %d, %d workers, %+v, %s", seed, n, limits, strings.Join(script, "; "))
			well := 0
			var orphan *cluster.OrphanedError
			var few *cluster.TooFewError
			l.mu.Lock()
			for _, f := range l.all {
				switch {
				case f.dead:
				case !f.over:
					t.Errorf("%s: %s has not come to an end", label, f.id)
				case f.err == nil:
					if well++; f.report.Weights != calm.Weights || f.report.Steps != calm.Steps {
						t.Errorf("%s: %s ends with %d steps and weights %.12s, the calm run with %d and %.12s", label, f.id, f.report.Steps, f.report.Weights, calm.Steps, calm.Weights)
					}
				case errors.As(f.err, &orphan), errors.As(f.err, &few), errors.Is(f.err, cluster.ErrCalledOff):
				default:
					t.Errorf("%s: %s ends with %v", label, f.id, f.err)
				}
			}
			l.mu.Unlock()
			ended += well
			formed := len(l.server.Writes("generation"))
			generations += formed
			if gave := few != nil || orphan != nil; well == 0 && !gave {
				t.Errorf("%s: nobody came to the end", label)
			}
			t.Logf("seed %d: %d of %d came to the end in %d generations, at %v", seed, well, n, formed, clock.Now())
			cancel()
			co.Close()
			launcher.Close()
			clock.Sleep(context.Background(), time.Minute) // what is under way on the network comes to an end
		})
		if t.Failed() {
			return
		}
	}
	if len(seeds) > 1 && (generations < 2*len(seeds) || ended < 2*len(seeds)) {
		t.Errorf("%d workers came to the end of %d runs, in %d generations: the faults do not do what they should", ended, len(seeds), generations)
	}
}
