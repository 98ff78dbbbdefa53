package comm_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"sync"
	"testing"
	"time"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/comm/inproc"
	"github.com/covey-ml/covey/vec"
)

var bg = context.Background()

// each runs f on every rank at once and reports their errors.
func each(t testing.TB, groups []comm.Group, f func(g comm.Group) error) {
	t.Helper()
	errs := make([]error, len(groups))
	var wg sync.WaitGroup
	for r, g := range groups {
		wg.Go(func() { errs[r] = f(g) })
	}
	wg.Wait()
	for r, err := range errs {
		if err != nil {
			t.Errorf("rank %d: %v", r, err)
		}
	}
	if t.Failed() {
		t.FailNow()
	}
}

func open(t testing.TB, n int) []comm.Group {
	groups := inproc.New(n, time.Minute)
	t.Cleanup(func() {
		for _, g := range groups {
			g.Close()
		}
	})
	return groups
}

// The golden small thing: many roads, one result.
func TestAlgorithmsAgreeInEveryBit(t *testing.T) {
	const n, m, length = 8, 16, 999
	seed := rand.Uint64()
	tree := comm.NewTree(m, n)
	sums := map[comm.Algorithm][]float32{}
	for _, a := range []comm.Algorithm{comm.Direct, comm.Doubling, comm.Gather, comm.Binomial, comm.Torus, comm.Hierarchical.Hosts(3)} {
		groups := open(t, n)
		var mu sync.Mutex
		each(t, groups, func(g comm.Group) error {
			parts := make([][]float32, tree.Vectors(g.Rank()))
			for j := range parts {
				rng := rand.New(rand.NewPCG(seed, uint64(tree.FirstPart(g.Rank())+j)))
				parts[j] = make([]float32, length)
				for e := range parts[j] {
					parts[j][e] = float32(rng.NormFloat64() * math.Exp2(float64(rng.IntN(20))))
				}
			}
			if err := comm.AllReduceBy(bg, g, tree, parts, a); err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			if sums[a] == nil {
				sums[a] = parts[0]
			}
			for e, v := range parts[0] {
				if w := sums[a][e]; math.Float32bits(v) != math.Float32bits(w) {
					return fmt.Errorf("%v: element %d is %v here and %v elsewhere (seed %d)", a, e, v, w, seed)
				}
			}
			return nil
		})
	}
	for a, sum := range sums {
		for e, v := range sum {
			if w := sums[comm.Direct][e]; math.Float32bits(v) != math.Float32bits(w) {
				t.Fatalf("element %d is %v by %v and %v by direct (seed %d)", e, v, a, w, seed)
			}
		}
	}
}

// bare hides everything but the Group, as a transport that can do nothing more.
type bare struct{ comm.Group }

// Collectives, subgroups and ledgers work over a Group without abilities.
func TestCollectivesOverABareGroup(t *testing.T) {
	const n = 5
	groups := open(t, n)
	tree := comm.NewTree(12, n)
	each(t, groups, func(g comm.Group) error {
		l := comm.NewLedger()
		counted := comm.Count(bare{g}, l)
		for _, ability := range []bool{is[comm.Poisoner](counted), is[comm.Wire](counted)} {
			if ability {
				return errors.New("a wrapper offers what its group cannot do")
			}
		}
		s, err := comm.Sub(counted, []comm.Rank{4, 3, 2, 1, 0}, 9)
		if err != nil {
			return err
		}
		for _, a := range []comm.Algorithm{comm.Direct, comm.Gather, comm.Binomial, comm.Ring} {
			parts := make([][]float32, tree.Vectors(s.Rank()))
			for j := range parts {
				node := tree.Parts(s.Rank())[j]
				lo, hi := tree.Span(node)
				parts[j] = []float32{float32(hi - lo), float32(s.Rank()), 1}
			}
			if err := comm.AllReduceBy(bg, s, tree, parts, a); err != nil {
				return err
			}
			if p := parts[0]; p[0] != 12 || p[2] != float32(len(tree.AllParts())) {
				return fmt.Errorf("%v: %v", a, p)
			}
		}
		if err := comm.Barrier(bg, s); err != nil {
			return err
		}
		if b := l.Totals(); !b.Sum().Closes() {
			return fmt.Errorf("the books do not close:\n%s", b.String())
		}
		ctx, cancel := context.WithCancel(bg)
		cancel()
		if _, _, err := s.(comm.Poster).Post(comm.AnyRank, comm.MakeTag(comm.OpSend, 1), nil).Wait(ctx); !errors.Is(err, context.Canceled) {
			return err
		}
		return nil
	})
}

func is[T any](x any) bool { _, ok := x.(T); return ok }

func TestWrongArgumentsAreRefused(t *testing.T) {
	g := open(t, 2)[0]
	two, x := comm.NewTree(2, 2), make([]float32, 4)
	for what, err := range map[string]error{
		"no tree":              comm.AllReduce(bg, g, comm.Tree{}, [][]float32{x}),
		"another group's tree": comm.AllReduce(bg, g, comm.NewTree(3, 3), [][]float32{x}),
		"too many parts":       comm.AllReduce(bg, g, two, [][]float32{x, x}),
		"no parts":             comm.ReduceScatter(bg, g, two, nil),
		"uneven parts":         comm.AllReduce(bg, g, comm.NewTree(6, 2), [][]float32{x, x[:3]}),
		"doubling that cannot": comm.AllReduceBy(bg, g, comm.NewTree(6, 2), [][]float32{x, make([]float32, 4)}, comm.Doubling),
		"no such algorithm":    comm.AllReduceBy(bg, g, two, [][]float32{x}, 77),
		"no such root":         comm.Broadcast(bg, g, 2, nil),
		"too few to send":      comm.AllToAll(bg, g, make([][]byte, 1), make([][]byte, 2)),
		"uneven to itself":     comm.AllToAll(bg, g, [][]byte{{1}, nil}, make([][]byte, 2)),
	} {
		var pe *comm.PeerError
		if err == nil || errors.As(err, &pe) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for what, ranks := range map[string][]comm.Rank{"not this one": {1}, "twice": {0, 0}, "not in it": {0, 2}, "any": {0, comm.AnyRank}} {
		if _, err := comm.Sub(g, ranks, 1); err == nil {
			t.Errorf("%s: Sub of %v succeeds", what, ranks)
		}
	}
	if _, err := comm.Sub(g, []comm.Rank{0}, 0); err == nil {
		t.Error("Sub with id 0 succeeds")
	}
	if e := g.(comm.Poisoner).Poisoned(); e != nil {
		t.Errorf("wrong arguments poisoned the group: %v", e)
	}
}

func TestCountBooksByOperation(t *testing.T) {
	groups := open(t, 2)
	l := comm.NewLedger()
	g := comm.Count(headed{groups[0]}, l)
	l.SetStep(3)
	comm.Announce(g, comm.OpSend, comm.Bill{{1, 100}})
	for _, m := range []struct {
		to   comm.Rank
		op   comm.Op
		size int
	}{{1, comm.OpSend, 100}, {1, comm.OpControl, 50}, {0, comm.OpSend, 1000}} {
		if err := g.Send(bg, m.to, comm.MakeTag(m.op, 0), make([]byte, m.size)); err != nil {
			t.Fatal(err)
		}
	}
	step, b := l.Take()
	if step != 3 || b[comm.OpSend] != (comm.Entry{Messages: 1, Payload: 100, Header: 30, ExpectedMessages: 1, Expected: 130}) ||
		b[comm.OpControl] != (comm.Entry{Control: 80}) || b.Sum().Sent() != 210 {
		t.Errorf("step %d:\n%s", step, b.String())
	}
	if _, again := l.Take(); again != (comm.Books{}) {
		t.Errorf("taken twice:\n%s", again.String())
	}
	if l.Totals() != b {
		t.Error("the totals forget")
	}
	if err := g.Send(bg, 1, comm.MakeTag(comm.OpSend, 0), nil); err != nil {
		t.Fatal(err)
	}
	if _, b := l.Take(); b[comm.OpSend].Closes() {
		t.Error("books close over a message that nobody announced")
	}
}

// headed says that each message takes 30 bytes more.
type headed struct{ comm.Group }

func (headed) Overhead(int) int { return 30 }

func TestCountGivesErrorsTheirStep(t *testing.T) {
	groups := inproc.New(2, time.Minute)
	l := comm.NewLedger()
	l.SetStep(12)
	g := comm.Count(groups[0], l)
	inproc.Kill(groups[1])
	_, _, err := g.Recv(bg, 1, 0, nil)
	var pe *comm.PeerError
	if !errors.As(err, &pe) || pe.Step != 12 || pe.Rank != 1 {
		t.Errorf("%v", err)
	}
	first := comm.Barrier(bg, g)
	l.SetStep(13)
	if again := comm.Barrier(bg, g); again != first || !errors.As(first, &pe) || pe.Step != 12 {
		t.Errorf("first %v, then %v", first, again)
	}
	g.Close()
}

// In the steady state a collective allocates nothing.
func TestCollectivesDoNotAllocate(t *testing.T) {
	if comm.RaceEnabled {
		t.Skip("the race detector allocates")
	}
	const n = 4
	tree := comm.NewTree(12, n) // two parts a rank
	even := comm.NewTree(8, n)
	calls := map[string]func(g comm.Group, x [][]float32) error{
		"direct":   func(g comm.Group, x [][]float32) error { return comm.AllReduceBy(bg, g, tree, x, comm.Direct) },
		"gather":   func(g comm.Group, x [][]float32) error { return comm.AllReduceBy(bg, g, tree, x, comm.Gather) },
		"tree":     func(g comm.Group, x [][]float32) error { return comm.AllReduceBy(bg, g, tree, x, comm.Binomial) },
		"ring":     func(g comm.Group, x [][]float32) error { return comm.AllReduceBy(bg, g, tree, x, comm.Ring) },
		"doubling": func(g comm.Group, x [][]float32) error { return comm.AllReduceBy(bg, g, even, x[:1], comm.Doubling) },
		"torus":    func(g comm.Group, x [][]float32) error { return comm.AllReduceBy(bg, g, even, x[:1], comm.Torus) },
		"hierarchical": func(g comm.Group, x [][]float32) error {
			return comm.AllReduceBy(bg, g, tree, x, comm.Hierarchical.Hosts(3))
		},
		"chosen": func(g comm.Group, x [][]float32) error { return comm.AllReduce(bg, g, tree, x) },
		"reduce-scatter": func(g comm.Group, x [][]float32) error {
			return comm.ReduceScatter(bg, g, tree, x)
		},
		"all-gather": func(g comm.Group, x [][]float32) error { return comm.AllGather(bg, g, x[0]) },
		"broadcast":  func(g comm.Group, x [][]float32) error { return comm.Broadcast(bg, g, 1, vec.Bytes(x[0])) },
		"barrier":    func(g comm.Group, x [][]float32) error { return comm.Barrier(bg, g) },
	}
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // a collection empties the pools
	for name, call := range calls {
		for _, length := range []int{10, 50000} {
			groups := open(t, n)
			var goOn [n]chan bool
			done := make(chan error)
			for r, g := range groups {
				goOn[r] = make(chan bool)
				sub, err := comm.Sub(comm.Count(g, comm.NewLedger()), []comm.Rank{0, 1, 2, 3}, 1)
				if err != nil {
					t.Fatal(err)
				}
				x := [][]float32{make([]float32, length), make([]float32, length)}
				go func() {
					for range goOn[r] {
						done <- call(sub, x)
					}
				}()
			}
			once := func() {
				for _, c := range goOn {
					c <- true
				}
				for range n {
					if err := <-done; err != nil {
						t.Error(err)
					}
				}
			}
			for range 50 { // pools fill
				once()
			}
			if got := testing.AllocsPerRun(200, once); got > 1 {
				t.Errorf("%s of %d elements: %v allocations on %d ranks", name, length, got, n)
			}
			for _, c := range goOn {
				close(c)
			}
		}
	}
}

// A group at rest has no goroutines, and its waiting members burn no CPU.
func TestWaitingBurnsNothing(t *testing.T) {
	before := runtime.NumGoroutine()
	groups := open(t, 8)
	if now := runtime.NumGoroutine(); now > before { // those of other tests may end meanwhile
		t.Errorf("a group at rest has %d goroutines", now-before)
	}
	var wg sync.WaitGroup
	for _, g := range groups[1:] {
		wg.Go(func() {
			if err := comm.Barrier(bg, g); err != nil {
				t.Error(err)
			}
		})
	}
	start, waited := cpuTime(), comm.RealClock().Now()
	if err := comm.RealClock().Sleep(bg, 300*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	used := cpuTime() - start
	if waited = comm.RealClock().Now() - waited; used > waited/3 {
		t.Errorf("seven ranks that wait for an eighth used %v of CPU in %v", used, waited)
	}
	if err := comm.Barrier(bg, groups[0]); err != nil {
		t.Error(err)
	}
	wg.Wait()
}

func ExampleAllReduce() {
	const workers, microshards = 3, 6
	tree := comm.NewTree(microshards, workers)
	var wg sync.WaitGroup
	for _, g := range inproc.New(workers, time.Minute) {
		wg.Go(func() {
			defer g.Close()
			lo, hi := tree.Run(g.Rank())
			steps := tree.Folds(lo, hi)
			buffers := make([][]float32, comm.Buffers(steps))
			for i := range buffers {
				buffers[i] = make([]float32, 2)
			}
			for _, s := range steps {
				if s.Leaf < 0 {
					vec.Add(buffers[s.Dst], buffers[s.Src])
				} else { // a worker would compute the microshard's gradient here
					buffers[s.Dst][0], buffers[s.Dst][1] = float32(s.Leaf), 1
				}
			}
			sum := buffers[:tree.Vectors(g.Rank())]
			if err := comm.AllReduce(context.Background(), g, tree, sum); err != nil {
				fmt.Println(err)
			}
			if g.Rank() == 0 {
				fmt.Println(sum[0])
			}
		})
	}
	wg.Wait()
	// Output: [15 6]
}

func ExampleBroadcast() {
	groups := inproc.New(3, time.Minute)
	said := make([][]byte, len(groups))
	var wg sync.WaitGroup
	for r, g := range groups {
		wg.Go(func() {
			said[r] = []byte("?????")
			if g.Rank() == 1 {
				said[r] = []byte("hello")
			}
			if err := comm.Broadcast(context.Background(), g, 1, said[r]); err != nil {
				fmt.Println(err)
			}
		})
	}
	wg.Wait()
	for _, g := range groups {
		g.Close()
	}
	fmt.Printf("%s\n", said)
	// Output: [hello hello hello]
}

func ExampleCount() {
	groups := inproc.New(2, time.Minute)
	books := comm.NewLedger()
	groups[0] = comm.Count(groups[0], books)
	tree := comm.NewTree(2, 2)
	var wg sync.WaitGroup
	for _, g := range groups {
		wg.Go(func() {
			x := [][]float32{make([]float32, 1000)}
			if err := comm.AllReduceBy(context.Background(), g, tree, x, comm.Direct); err != nil {
				fmt.Println(err)
			}
		})
	}
	wg.Wait()
	for _, g := range groups {
		g.Close()
	}
	_, step := books.Take()
	fmt.Print(step.String())
	fmt.Println("closes:", step[comm.OpAllReduce].Closes())
	// Output:
	// all-reduce: 2 messages, 4000 payload, 0 header, 0 control
	// closes: true
}

func ExampleSub() {
	groups := inproc.New(4, time.Minute)
	sums := make([]float32, 4)
	var wg sync.WaitGroup
	for r, g := range groups {
		wg.Go(func() {
			host := comm.Rank(r / 2) // ranks 0 and 1 on one host, 2 and 3 on another
			s, err := comm.Sub(g, []comm.Rank{2 * host, 2*host + 1}, uint32(1+host))
			if err != nil {
				fmt.Println(err)
				return
			}
			x := [][]float32{{float32(r)}}
			if err := comm.AllReduce(context.Background(), s, comm.NewTree(2, 2), x); err != nil {
				fmt.Println(err)
			}
			sums[r] = x[0][0]
		})
	}
	wg.Wait()
	for _, g := range groups {
		g.Close()
	}
	fmt.Println(sums)
	// Output: [1 1 5 5]
}
