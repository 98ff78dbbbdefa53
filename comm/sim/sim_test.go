package sim

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/fault"
	"github.com/covey-ml/covey/network"
	"github.com/covey-ml/covey/rng"
)

var bg = context.Background()

func tag(n uint32) comm.Tag { return comm.MakeTag(comm.OpSend, n) }

// plain is hosts of one core at 1 GFLOP/s and 1 GB/s on links of 1 MB/s and 10 ms (20 ms from host to host), and messages that
// cost a millisecond at each end.
const plain = `
name: plain
machine: {cores: 1, flops: 1GFLOP/s, memory: 1GB/s}
hosts: {name: h, count: %d, uplink: {bandwidth: 1MB/s, latency: 10ms}}
messages: {send: 1ms, receive: 1ms, send_byte: 0s, receive_byte: 0s, wire: 1}`

func world(t testing.TB, workers int, faults string, text string, args ...any) *World {
	t.Helper()
	return worldOf(t, Config{Workers: workers}, faults, text, args...)
}

func worldOf(t testing.TB, c Config, faults string, text string, args ...any) *World {
	t.Helper()
	s, err := fault.Parse("faults.txt", []byte(faults))
	if err != nil {
		t.Fatal(err)
	}
	c.Network, c.Faults, c.Seed = parse(t, text, args...), s, 1
	if c.Timeout == 0 {
		c.Timeout = time.Minute
	}
	w, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// run runs f on every worker and returns their errors.
func run(t testing.TB, w *World, f func(g comm.Group) error) []error {
	t.Helper()
	errs := make([]error, w.Workers())
	if err := w.Run(bg, func(g comm.Group) {
		errs[g.Rank()] = f(g)
		g.Close()
	}); err != nil {
		t.Fatal(err)
	}
	return errs
}

func noErrors(t testing.TB, errs []error) {
	t.Helper()
	for r, err := range errs {
		if err != nil {
			t.Errorf("worker %d: %v", r, err)
		}
	}
}

// The heap of events gives them back in the order of their times, and of their setting, however they are set, moved and taken
// back.
func TestEvents(t *testing.T) {
	w := &World{}
	draw := rng.New(7, "events")
	all := make([]event, 200)
	var order []*event
	for i := range all {
		all[i] = newEvent(nil)
	}
	for range 20_000 {
		e := &all[draw.IntN(len(all))]
		order = slices.DeleteFunc(order, func(o *event) bool { return o == e })
		switch draw.IntN(4) {
		case 0:
			w.unset(e)
		case 1: // the first one comes
			w.unset(e)
			if len(order) > 0 {
				if w.events[0].e != order[0] {
					t.Fatalf("the first event is at %v, want %v", w.events[0].at, order[0].at)
				}
				w.now = order[0].at
				w.unset(order[0])
				order = order[1:]
			}
		default:
			w.set(e, w.now+time.Duration(draw.IntN(50)))
			i, _ := slices.BinarySearchFunc(order, e, func(a, b *event) int {
				if a.at <= b.at { // what was set before comes before
					return -1
				}
				return 1
			})
			order = slices.Insert(order, i, e)
		}
		if len(w.events) != len(order) {
			t.Fatalf("%d events, want %d", len(w.events), len(order))
		}
		for i, s := range w.events {
			if s.e.idx != i {
				t.Fatalf("event %d believes to be number %d", i, e.idx)
			}
		}
	}
}

// A message takes its sender's processor, the slowest link, the latency, and its receiver's processor.
func TestMessageTime(t *testing.T) {
	w := world(t, 2, "", plain, 2)
	var at time.Duration
	noErrors(t, run(t, w, func(g comm.Group) error {
		if g.Rank() == 0 {
			return g.Send(bg, 1, tag(1), make([]byte, 100_000-HeaderBytes))
		}
		_, n, err := g.Recv(bg, 0, tag(1), make([]byte, 100_000))
		at = g.Clock().Now()
		if n != 100_000-HeaderBytes {
			t.Errorf("%d bytes came", n)
		}
		return err
	}))
	if want := time.Millisecond + 100*time.Millisecond + 20*time.Millisecond + time.Millisecond; at != want {
		t.Errorf("the message took %v, want %v", at, want)
	}
}

// Two senders share the receiver's link; when one of them has ended, the other has it to itself.
func TestLinksAreShared(t *testing.T) {
	w := world(t, 3, "", plain, 3)
	at := make([]time.Duration, 3)
	noErrors(t, run(t, w, func(g comm.Group) error {
		if r := g.Rank(); r > 0 {
			return g.Send(bg, 0, tag(1), make([]byte, int(r)*100_000-HeaderBytes))
		}
		for from := comm.Rank(1); from < 3; from++ {
			if _, _, err := g.Recv(bg, from, tag(1), make([]byte, 200_000)); err != nil {
				return err
			}
			at[from] = g.Clock().Now()
		}
		return nil
	}))
	const ends = 22 * time.Millisecond // latency and both processors
	if want := 200*time.Millisecond + ends; at[1] != want {
		t.Errorf("100 kB beside 200 kB took %v, want %v", at[1], want)
	}
	if want := 300*time.Millisecond + ends; at[2] != want {
		t.Errorf("200 kB beside 100 kB took %v, want %v", at[2], want)
	}
}

// Max-min fairness: of three flows, two that share a narrow uplink get half of it each, and the third the rest of the link
// where it meets one of them.
func TestMaxMin(t *testing.T) {
	w := world(t, 4, "", `
name: narrow
zones:
  - {name: z, uplink: {bandwidth: 1MB/s, latency: 0s}, hosts: {name: a, count: 2, uplink: {bandwidth: 10MB/s, latency: 0s}}}
hosts: {name: b, count: 2, uplink: {bandwidth: 2MB/s, latency: 0s}}
messages: {send: 0s, receive: 0s, send_byte: 0s, receive_byte: 0s, wire: 1}`)
	rank := map[string]comm.Rank{}
	for r, n := range w.nodes {
		rank[w.c.Network.Hosts[n.host].Name] = comm.Rank(r)
	}
	var names []string
	for n := range rank {
		names = append(names, n)
	}
	slices.Sort(names) // two of zone z, and two beside it
	in, out := []comm.Rank{rank[names[0]], rank[names[1]]}, []comm.Rank{rank[names[2]], rank[names[3]]}
	at := map[comm.Rank]time.Duration{}
	noErrors(t, run(t, w, func(g comm.Group) error {
		const mb = 1_000_000 - HeaderBytes
		switch g.Rank() {
		case in[0], in[1]: // half a megabyte a second each, to the first beside
			return g.Send(bg, out[0], tag(1), make([]byte, mb))
		case out[1]: // the rest of its link of two: one
			return g.Send(bg, out[0], tag(1), make([]byte, mb))
		}
		for _, from := range []comm.Rank{out[1], in[0], in[1]} {
			if _, _, err := g.Recv(bg, from, tag(1), make([]byte, mb)); err != nil {
				return err
			}
			at[from] = g.Clock().Now()
		}
		return nil
	}))
	if at[out[1]] != time.Second || at[in[0]] != 2*time.Second || at[in[1]] != 2*time.Second {
		t.Errorf("the messages came at %v, %v and %v; want 1s, 2s and 2s", at[out[1]], at[in[0]], at[in[1]])
	}
}

// Workers of a host share its cores and its memory, and a fault slows one of them.
func TestCoresAreShared(t *testing.T) {
	for _, c := range []struct {
		cores, workers int
		cost           comm.Cost
		faults         string
		want           []time.Duration
	}{
		{1, 1, comm.Cost{FLOPs: 1e9}, "", []time.Duration{time.Second}},
		{1, 2, comm.Cost{FLOPs: 1e9}, "", []time.Duration{2 * time.Second, 2 * time.Second}},
		{2, 3, comm.Cost{FLOPs: 1e9}, "", []time.Duration{1500 * time.Millisecond, 1500 * time.Millisecond, 1500 * time.Millisecond}},
		{4, 2, comm.Cost{FLOPs: 1e9, Bytes: 1e9}, "", []time.Duration{2 * time.Second, 2 * time.Second}},
		{4, 4, comm.Cost{Bytes: 1e9}, "", []time.Duration{2 * time.Second, 2 * time.Second, 2 * time.Second, 2 * time.Second}},
		{2, 2, comm.Cost{FLOPs: 1e9}, "slow 1 x5 from 0s to 2s", []time.Duration{time.Second, 2600 * time.Millisecond}},
		{2, 2, comm.Cost{FLOPs: 1e9}, "stop 1 at 500ms for 3s", []time.Duration{time.Second, 4 * time.Second}},
	} {
		w := world(t, c.workers, c.faults, `
name: one
machine: {cores: %d, flops: 1GFLOP/s, memory: 1GB/s, memory_all: 2GB/s}
hosts: {name: h, workers: %d}`, c.cores, c.workers)
		at := make([]time.Duration, c.workers)
		noErrors(t, run(t, w, func(g comm.Group) error {
			g.Clock().Spend(c.cost)
			at[g.Rank()] = g.Clock().Now()
			return nil
		}))
		if !slices.Equal(at, c.want) {
			t.Errorf("%d workers on %d cores, %+v, %q: %v, want %v", c.workers, c.cores, c.cost, c.faults, at, c.want)
		}
	}
}

// talk is a program in which everything happens: sums by several algorithms, computations, goroutines, timeouts, messages
// from anybody.
func talk(g comm.Group) error {
	n, clock := g.Size(), g.Clock()
	tree := comm.NewTree(n, n)
	for round := range 3 {
		x := make([]float32, 3000)
		for i := range x {
			x[i] = float32(int(g.Rank())*round + i)
		}
		clock.Spend(comm.Cost{FLOPs: 1e6 * int64(1+(int(g.Rank())+round)%3)})
		met := clock.Event()
		clock.Go(func() {
			clock.Spend(comm.Cost{Bytes: 1e6})
			met.Set()
		})
		for _, a := range []comm.Algorithm{comm.Direct, comm.Binomial, comm.Gather} {
			if err := comm.AllReduceBy(bg, g, tree, [][]float32{x}, a); err != nil {
				return err
			}
		}
		if err := met.Wait(bg); err != nil {
			return err
		}
		if g.Rank() > 0 {
			if err := g.Send(bg, 0, tag(7), make([]byte, 100*int(g.Rank()))); err != nil {
				return err
			}
		} else {
			for range n - 1 {
				if _, _, err := g.Recv(bg, comm.AnyRank, tag(7), make([]byte, 100*n)); err != nil {
					return err
				}
			}
		}
		ctx, cancel := clock.WithTimeout(bg, 3*time.Millisecond)
		if _, _, err := g.Recv(ctx, comm.AnyRank, tag(9), nil); !errors.Is(err, context.DeadlineExceeded) {
			return fmt.Errorf("a receive with a timeout of its own says %v", err)
		}
		cancel()
		if err := comm.Barrier(bg, g); err != nil {
			return err
		}
	}
	return nil
}

const rough = `
name: rough
machine: {cores: 2, flops: 1GFLOP/s, memory: 1GB/s, speed: "lognormal:0.3", tail: {probability: 0.2, shape: 1.5, most: 20}}
hosts: {name: h, count: 5, workers: 2, uplink: {bandwidth: 10MB/s, latency: 1ms, jitter: 500us, loss: 1%%}}`

// The trace is the same, byte for byte, on every repeat, with one core and with several.
func TestTraceRepeats(t *testing.T) {
	var first []byte
	var took time.Duration
	for i, cores := range []int{1, 1, 2, 4, 8} {
		var trace bytes.Buffer
		w := worldOf(t, Config{Workers: 9, Cores: cores, Trace: &trace}, "slow 3 x4 from 10ms to 50ms\npartition {0-3} {4-8} at 20ms for 30ms\n", rough)
		noErrors(t, run(t, w, talk))
		if i == 0 {
			first, took = trace.Bytes(), w.Now()
			if len(first) < 10_000 || took < 50*time.Millisecond {
				t.Fatalf("a trace of %d bytes after %v", len(first), took)
			}
		} else if !bytes.Equal(first, trace.Bytes()) || took != w.Now() {
			t.Fatalf("run %d, on %d cores, took %v with %d bytes of trace; the first %v with %d", i, cores, w.Now(), trace.Len(), took, len(first))
		}
	}
}

// The trace is JSON of the kind that trace viewers open: spans within the run, of which no two of a goroutine overlap.
func TestTraceForm(t *testing.T) {
	var out bytes.Buffer
	w := worldOf(t, Config{Workers: 9, Trace: &out}, "", rough)
	noErrors(t, run(t, w, talk))
	var trace struct {
		TraceEvents []struct {
			Ph, Name, Cat string
			Pid, Tid      int
			Ts, Dur       float64
		}
	}
	if err := json.Unmarshal(out.Bytes(), &trace); err != nil {
		t.Fatal(err)
	}
	ends := map[[2]int]float64{}
	time := map[string]float64{}
	for _, e := range trace.TraceEvents {
		if e.Ph != "X" {
			continue
		}
		at := [2]int{e.Pid, e.Tid}
		if e.Pid < 0 || e.Pid >= 9 || e.Name == "" || e.Dur <= 0 || e.Ts < ends[at]-0.001 || e.Ts+e.Dur > float64(w.Now())/1e3+0.001 {
			t.Fatalf("%+v after %v, in a run of %v", e, ends[at], w.Now())
		}
		ends[at] = e.Ts + e.Dur
		time[e.Cat] += e.Dur
	}
	for _, cat := range []string{"compute", "communication", "wait"} {
		if time[cat] == 0 {
			t.Errorf("no %s in %v", cat, time)
		}
	}
}

// A hollow world has the times of the full one: the trace of a program that looks at no number is the same, at 64 workers and
// at 1,000 (by those algorithms whose messages are not workers times workers).
func TestHollowTrace(t *testing.T) {
	for n, algorithms := range map[int][]comm.Algorithm{
		64:   {comm.Direct, comm.Binomial, comm.Doubling, comm.Torus, comm.Ring},
		1000: {comm.Binomial, comm.Torus},
	} {
		var traces [2]bytes.Buffer
		for i := range traces {
			net, err := network.New("home:spread=0.3", n)
			if err != nil {
				t.Fatal(err)
			}
			w, err := New(Config{Network: net, Workers: n, Timeout: time.Hour, Seed: 3, Trace: &traces[i], Hollow: i == 1})
			if err != nil {
				t.Fatal(err)
			}
			noErrors(t, run(t, w, func(g comm.Group) error {
				tree := comm.NewTree(n, n)
				x := comm.Alloc(g, 5000)
				for _, a := range algorithms {
					g.Clock().Spend(comm.Cost{FLOPs: 1e7})
					if err := comm.AllReduceBy(bg, g, tree, [][]float32{x}, a); err != nil {
						return fmt.Errorf("%v: %w", a, err)
					}
				}
				return nil
			}))
			if messages, _ := w.Sent(); messages < int64(len(algorithms)*n) {
				t.Fatalf("%d messages", messages)
			}
		}
		if !bytes.Equal(traces[0].Bytes(), traces[1].Bytes()) {
			t.Errorf("%d workers: the trace of the hollow world differs from that of the full one", n)
		}
	}
}

// Goroutines that wait for what will never come are named.
func TestDeadlock(t *testing.T) {
	w := world(t, 2, "", plain, 2)
	err := w.Run(bg, func(g comm.Group) {
		if g.Rank() == 1 {
			g.Clock().Event().Wait(bg)
		}
		g.Close()
	})
	var dead *DeadlockError
	if !errors.As(err, &dead) || len(dead.Waits) != 1 || !strings.Contains(err.Error(), "worker 1, goroutine 0: waits for an event of its own worker since 0s") {
		t.Errorf("%v", err)
	}
}

// A message that nobody sends is not waited for longer than the group's timeout, in the world's time.
func TestTimeout(t *testing.T) {
	w := world(t, 2, "", plain, 2)
	errs := run(t, w, func(g comm.Group) error {
		if g.Rank() == 1 {
			return g.Clock().Sleep(bg, 2*time.Minute)
		}
		_, _, err := g.Recv(bg, 1, tag(1), make([]byte, 8))
		if g.Clock().Now() != time.Minute {
			t.Errorf("the receive ended at %v", g.Clock().Now())
		}
		return err
	})
	var pe *comm.PeerError
	if !errors.As(errs[0], &pe) || pe.Rank != 1 || !errors.Is(pe, comm.ErrTimeout) || pe.Missing != 8 {
		t.Errorf("%v", errs[0])
	}
}

// Faults come when they are to, survivors name the rank, and the books say what fired.
func TestFaults(t *testing.T) {
	for _, c := range []struct {
		name, faults string
		timeout      time.Duration
		check        func(t *testing.T, w *World, errs []error)
	}{
		{"kill by time", "kill 2 at 15ms", time.Second, func(t *testing.T, w *World, errs []error) {
			if w.Now() > 200*time.Millisecond {
				t.Errorf("the others took until %v to see it", w.Now())
			}
			for r, err := range errs {
				var pe *comm.PeerError
				switch {
				case r == 2 && err != comm.ErrClosed:
					t.Errorf("the killed worker's call says %v", err)
				case r != 2 && (!errors.As(err, &pe) || pe.Rank != 2 || !errors.Is(err, comm.ErrLost)):
					t.Errorf("worker %d: %v", r, err)
				}
			}
		}},
		{"stop for longer than the timeout", "stop 1 at 10ms for 10s", 500 * time.Millisecond, func(t *testing.T, _ *World, errs []error) {
			for r, err := range errs {
				var pe *comm.PeerError
				if !errors.As(err, &pe) || r != 1 && pe.Rank != 1 {
					t.Errorf("worker %d: %v", r, err)
				}
			}
		}},
		{"stop for less", "stop 1 at 10ms for 300ms", time.Second, func(t *testing.T, w *World, errs []error) {
			noErrors(t, errs)
			if w.Now() < 310*time.Millisecond {
				t.Errorf("all was over at %v", w.Now())
			}
		}},
		{"partition", "partition {0} {1-3} at 5ms for 400ms", time.Second, func(t *testing.T, w *World, errs []error) {
			noErrors(t, errs)
			if w.Now() < 405*time.Millisecond {
				t.Errorf("all was over at %v", w.Now())
			}
		}},
		{"partition for longer than the timeout", "partition {0} {1-3} at 5ms for 10s", 300 * time.Millisecond, func(t *testing.T, _ *World, errs []error) {
			for r, err := range errs {
				var pe *comm.PeerError
				if !errors.As(err, &pe) || !errors.Is(err, comm.ErrTimeout) {
					t.Errorf("worker %d: %v", r, err)
				}
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := worldOf(t, Config{Workers: 4, Timeout: c.timeout}, c.faults, plain, 4)
			errs := run(t, w, talk)
			c.check(t, w, errs)
			for _, o := range w.Outcomes() {
				if o.Fired == 0 {
					t.Errorf("did not fire: %v", o)
				}
			}
		})
	}
}

// Faults on links change the time that messages take.
func TestLinkFaults(t *testing.T) {
	took := func(faults string) time.Duration {
		w := world(t, 2, faults, plain, 2)
		noErrors(t, run(t, w, func(g comm.Group) error {
			if g.Rank() == 0 {
				return g.Send(bg, 1, tag(1), make([]byte, 500_000))
			}
			_, _, err := g.Recv(bg, 0, tag(1), make([]byte, 500_000))
			return err
		}))
		return w.Now()
	}
	calm := took("")
	link := parse(t, plain, 2).Links[0].Name
	if d := took("delay 50ms on link " + link); d != calm+50*time.Millisecond {
		t.Errorf("with 50 ms of delay a message takes %v, %v without", d, calm)
	}
	if d := took("delay 50ms on link 1-*"); d != calm+50*time.Millisecond { // as real runs call it
		t.Errorf("with 50 ms of delay at rank 1 a message takes %v, %v without", d, calm)
	}
	if d := took("limit 4Mbit/s on link " + link); d < calm+400*time.Millisecond || d > calm+600*time.Millisecond {
		t.Errorf("at half the rate 500 kB take %v, %v at all of it", d, calm)
	}
	if d := took("drop 5% on link " + link); d <= calm {
		t.Errorf("with 5 %% of the packets lost a message takes %v, %v without", d, calm)
	}
}

// Names of links that mean nothing here are refused.
func TestLinkNames(t *testing.T) {
	for name, want := range map[string]string{
		"4-*": "link 4-*: there is no rank 4: the ranks of 4 workers are 0 to 3",
		"1-*": "rank 1 has no links of its own: it shares host h0 with rank 0",
		"0-1": "has no link \"0-1\"",
	} {
		s, err := fault.Parse("f.txt", []byte("drop 1% on link "+name))
		if err != nil {
			t.Fatal(err)
		}
		net := parse(t, "name: pairs\nhosts: {name: h, count: 2, workers: 2, uplink: {bandwidth: 1Mbit/s}}")
		if _, err := New(Config{Network: net, Workers: 4, Timeout: time.Second, Faults: s}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
}
