package train_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/comm/inproc"
	"github.com/covey-ml/covey/train"
)

// floor is where a run's workers meet, in one process, to form one generation after the other: all who live are in the next.
type floor struct {
	mu      sync.Mutex
	meeting []*dancer // who waits for the next generation
	living  int
	number  uint64
	first   int // workers of the first generation
	before  []*dancer
	over    bool // somebody has come to the end
}

// dancer is a worker.
type dancer struct {
	floor *floor
	n     int
	ctx   context.Context
	sends int // messages that it may still send before it dies; below 0: no end
	leave bool
	next  chan train.Generation

	mu sync.Mutex
	c  comm.Group
}

var (
	errDead = errors.New("killed")
	errLeft = errors.New("left")
)

// mortal is a group whose rank dies with a message.
type mortal struct {
	comm.Group
	d *dancer
}

func (m *mortal) Send(ctx context.Context, to comm.Rank, tag comm.Tag, p []byte) error {
	m.d.mu.Lock()
	if m.d.sends == 0 {
		m.d.mu.Unlock()
		m.Group.Close()
		return errDead
	}
	m.d.sends--
	m.d.mu.Unlock()
	return m.Group.Send(ctx, to, tag, p)
}

func (d *dancer) dead() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.sends == 0
}

// Next implements train.Generations.
func (d *dancer) Next(ctx context.Context, ended error) (train.Generation, error) {
	f := d.floor
	if d.dead() {
		return train.Generation{}, errDead
	}
	f.mu.Lock()
	if d.leave && ended != nil {
		f.living--
		f.form()
		f.mu.Unlock()
		return train.Generation{}, errLeft
	}
	over := f.over && ended == nil // too late to join
	if over {
		f.living--
	} else {
		f.meeting = append(f.meeting, d)
	}
	f.form()
	f.mu.Unlock()
	if over {
		return train.Generation{}, errLeft
	}
	select {
	case g := <-d.next:
		if g.Group == nil {
			return g, errLeft
		}
		return g, nil
	case <-ctx.Done():
		return train.Generation{}, context.Cause(ctx)
	}
}

// form makes a generation when all are there. f.mu is held.
func (f *floor) form() {
	if len(f.meeting) < f.living || len(f.meeting) < f.first || f.living == 0 {
		return
	}
	var gone []string
	order := []*dancer{}
	for i, d := range f.before {
		if slices.Contains(f.meeting, d) {
			order = append(order, d)
		} else {
			gone = append(gone, fmt.Sprint(i))
		}
	}
	slices.SortFunc(f.meeting, func(a, b *dancer) int { return a.n - b.n })
	for _, d := range f.meeting {
		if !slices.Contains(order, d) {
			order = append(order, d)
		}
	}
	f.number++
	f.first = 0
	for r, g := range inproc.New(len(order), timeout) {
		order[r].next <- train.Generation{Group: &mortal{g, order[r]}, Number: f.number, Kept: slices.Contains(f.before, order[r]), Gone: gone}
	}
	f.before, f.meeting = order, nil
}

// dies takes a dead worker off the floor.
func (f *floor) dies() {
	f.mu.Lock()
	f.living--
	f.form()
	f.mu.Unlock()
}

// ends takes a worker off the floor that has come to the end, and those who came too late.
func (f *floor) ends() {
	f.mu.Lock()
	f.living--
	f.over = true
	late := f.meeting[:0]
	for _, d := range f.meeting {
		if slices.Contains(f.before, d) {
			late = append(late, d) // it lost somebody who is done: the rest come, too
		} else {
			f.living--
			d.next <- train.Generation{}
		}
	}
	f.meeting = late
	f.form()
	f.mu.Unlock()
}

// leads tells whether a worker has rank 0.
func (f *floor) leads(d *dancer) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.before[0] == d
}

// enters lets a worker on the floor: the others are to regroup.
func (f *floor) enters() {
	f.mu.Lock()
	f.living++
	f.mu.Unlock()
}

// waiting tells whether somebody waits for the others to regroup, or one of them wants to leave.
func (f *floor) waiting() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, d := range f.before {
		if d.leave {
			return true
		}
	}
	return len(f.meeting) > 0
}

// changes are what happens to an elastic run.
type changes struct {
	workers int
	kill    map[int]int // by worker, the message with which it dies
	join    []int       // the steps after which a worker joins
	leave   map[int]int // by worker, the step after which it would rather go
}

func (c changes) String() string {
	return fmt.Sprintf("%d workers, kill with message %v, join after %v, leave after %v", c.workers, c.kill, c.join, c.leave)
}

// elastic trains while workers come and go, and returns the report and what was told.
func elastic(t *testing.T, c train.Config, what changes) (*train.Report, []train.GenerationInfo, []train.EpochInfo) {
	t.Helper()
	f := &floor{living: what.workers, first: what.workers}
	var all sync.WaitGroup
	var mu sync.Mutex
	var report *train.Report
	var generations []train.GenerationInfo
	var epochs []train.EpochInfo
	joined := 0
	var start func(n int)
	start = func(n int) {
		d := &dancer{floor: f, n: n, sends: -1, next: make(chan train.Generation, 1)}
		if at, ok := what.kill[n]; ok {
			d.sends = at
		}
		own := c
		own.Regroup = f.waiting
		at, leaves := what.leave[n]
		own.Events.Step = func(i train.StepInfo) {
			mu.Lock()
			defer mu.Unlock()
			if joined < len(what.join) && i.Step >= what.join[joined] {
				joined++
				f.enters()
				start(what.workers + joined - 1)
			}
			if leaves && i.Step >= at {
				f.mu.Lock()
				d.leave = true
				f.mu.Unlock()
			}
		}
		own.Events.Generation = func(i train.GenerationInfo) {
			mu.Lock()
			generations = append(generations, i)
			mu.Unlock()
		}
		own.Events.Epoch = func(i train.EpochInfo) {
			mu.Lock()
			epochs = append(epochs, i)
			mu.Unlock()
		}
		all.Go(func() {
			r, err := train.Elastic(t.Context(), d, own)
			switch {
			case err == nil:
				mu.Lock()
				if f.leads(d) { // servers do not have all parameters
					report = r
				}
				mu.Unlock()
				f.ends()
			case errors.Is(err, errDead), errors.Is(err, comm.ErrClosed) && d.dead():
				f.dies()
			case errors.Is(err, errLeft):
			default:
				fmt.Printf("%v: worker %d: %v\n", what, n, err)
				t.Errorf("%v: worker %d: %v", what, n, err)
				f.dies()
			}
		})
	}
	for n := range what.workers {
		start(n)
	}
	done := make(chan struct{})
	go func() { all.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		panic(fmt.Sprintf("%v: not over after a minute", what)) // with the stacks of all
	}
	if report != nil && report.BytesSent != report.BytesExpected-report.Unsent {
		t.Errorf("%v: %d bytes sent, %d expected less %d that were not sent any more", what, report.BytesSent, report.BytesExpected, report.Unsent)
	}
	return report, generations, epochs
}

// whole checks that the books of every epoch are closed, and that each sample was used once in it.
func whole(t *testing.T, what any, epochs []train.EpochInfo, n int) {
	t.Helper()
	seen := map[int]bool{}
	for _, e := range epochs {
		if !e.Exactly {
			t.Errorf("%v: %s", what, e.Booked())
		}
		seen[e.Epoch] = true
	}
	if len(seen) != n {
		t.Errorf("%v: books of %d epochs, expected %d", what, len(seen), n)
	}
}

// Whoever is killed, with whatever message, whoever joins or leaves: with microshards fixed the run ends with the weights of the
// calm one, and its sample ledger is exact.
func TestElasticBits(t *testing.T) {
	for name, c := range map[string]train.Config{"adam": config(t, "mlp:24"), "clipped": config(t, "mlp:24"), "buckets": config(t, "mlp:24")} {
		c.Microshards, c.Epochs, c.Optimizer = 6, 3, "adam"
		switch name {
		case "clipped":
			c.Optimizer = "momentum:clip=0.5"
		case "buckets":
			c.Bucket = 256
		}
		calm, err := train.Local(t.Context(), 3, timeout, c)
		if err != nil {
			t.Fatal(err)
		}
		seed := rand.Uint64()
		draw := rand.New(rand.NewPCG(seed, 1))
		for range 30 {
			what := changes{workers: 2 + draw.IntN(4), kill: map[int]int{}, leave: map[int]int{}}
			for n := range 1 + draw.IntN(2) {
				if n < what.workers-1 {
					what.kill[draw.IntN(what.workers)] = 1 + draw.IntN(10*calm.Steps)
				}
			}
			if draw.IntN(2) == 0 {
				what.join = append(what.join, 1+draw.IntN(calm.Steps-2))
			}
			if draw.IntN(3) == 0 {
				what.leave[draw.IntN(what.workers)] = 1 + draw.IntN(calm.Steps-2)
			}
			if len(what.kill)+len(what.leave) >= what.workers {
				continue
			}
			r, _, epochs := elastic(t, c, what)
			if r == nil || r.Weights != calm.Weights || r.Steps != calm.Steps {
				t.Errorf("seed %d, %s, %v: %+v; the calm run has %d steps and weights %.12s", seed, name, what, r, calm.Steps, calm.Weights)
			}
			whole(t, fmt.Sprintf("seed %d, %s, %v", seed, name, what), epochs, 3)
		}
	}
}

// Methods that keep something of each worker's own go back to their last exchange, and say what was lost.
func TestElasticMethods(t *testing.T) {
	for _, m := range []struct{ method, optimizer, compress string }{
		{"local:K=3", "sgd", ""}, {"local:K=3", "momentum", ""}, {"diloco:K=4,fragments=2,overlap=1", "momentum", ""}, {"easgd:K=2", "sgd", ""},
		{"scaffold:K=3", "sgd", ""}, {"bmuf:K=3", "sgd", ""}, {"hierarchical:K=2,groups=2,outer=2", "sgd", ""},
		{"", "momentum", "topk:0.05+ef"}, {"", "momentum", "powersgd:2+ef"}, {"", "sgd", "dgc:0.05"}, {"", "momentum", "uniform:8"},
	} {
		c := config(t, "mlp:24")
		c.Microshards, c.Epochs, c.Rate, c.Optimizer, c.Compress = 6, 4, 0.02, m.optimizer, m.compress
		if m.method != "" {
			c = replicas(t, c, m.method)
		}
		calm, err := train.Local(t.Context(), 3, timeout, c)
		if err != nil {
			t.Fatalf("%v: %v", m, err)
		}
		seed := rand.Uint64()
		draw := rand.New(rand.NewPCG(seed, 1))
		for range 6 {
			what := changes{workers: 3, kill: map[int]int{draw.IntN(3): 5 + draw.IntN(100)}}
			if draw.IntN(2) == 0 {
				what.join = []int{1 + draw.IntN(calm.Steps-2)}
			}
			r, told, epochs := elastic(t, c, what)
			label := fmt.Sprintf("seed %d, %v, %v", seed, m, what)
			if r == nil || r.Steps != calm.Steps || !(r.Loss < 1.5*calm.Loss+0.05) {
				t.Errorf("%s: %+v; the calm run has a loss of %v", label, r, calm.Loss)
			}
			whole(t, label, epochs, 4)
			notes := ""
			for _, g := range told {
				if len(g.Gone) > 0 {
					notes += strings.Join(g.Notes, "; ")
				}
			}
			killed := slices.ContainsFunc(told, func(g train.GenerationInfo) bool { return len(g.Gone) > 0 && g.Step > 0 })
			if killed && (m.compress != "" && strings.Contains(m.compress, "ef") || m.method != "") && !strings.Contains(notes, "lost with their worker") {
				t.Errorf("%s: nothing was said to be lost: %+v", label, told)
			}
		}
	}
}

// seated is a dancer whose group is known.
type seated struct {
	*dancer
	group comm.Group
}

func (s *seated) Next(ctx context.Context, ended error) (train.Generation, error) {
	g, err := s.dancer.Next(ctx, ended)
	s.group = g.Group
	return g, err
}

// The first worker, which stands still until the other has done the rest without it, leaves the run folder alone when it wakes.
func TestElasticOvertaken(t *testing.T) {
	c := config(t, "mlp:16")
	c.Dir, c.SaveEvery = t.TempDir(), 2
	f := &floor{living: 2, first: 2}
	done := make(chan struct{})
	var left map[string]string
	var all sync.WaitGroup
	for range 2 {
		s := &seated{dancer: &dancer{floor: f, sends: -1, next: make(chan train.Generation, 1)}}
		own := c
		own.Events.Step = func(i train.StepInfo) {
			if i.Step != 3 || s.group.Size() == 1 || s.group.Rank() > 0 {
				return
			}
			s.group.Close()
			f.dies()
			<-done
			left = folderOf(t, c.Dir)
		}
		all.Go(func() {
			if r, err := train.Elastic(t.Context(), s, own); err == nil {
				if r.Steps != 10 {
					t.Errorf("%d steps of 10", r.Steps)
				}
				close(done)
			}
		})
	}
	all.Wait()
	if now := folderOf(t, c.Dir); !maps.Equal(now, left) {
		t.Errorf("the folder had %v, and has %v", slices.Sorted(maps.Keys(left)), slices.Sorted(maps.Keys(now)))
	}
	if left[filepath.Join(c.Dir, train.MetricsFile)] == "" {
		t.Error("there are no metrics")
	}
}
