package faulty

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/comm/commtest"
	"github.com/covey-ml/covey/comm/inproc"
	"github.com/covey-ml/covey/fault"
	"github.com/covey-ml/covey/rng"
)

func parse(t testing.TB, text string) fault.Script {
	t.Helper()
	s, err := fault.Parse("f.txt", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// world is groups of one process under a script, and what they tell.
type world struct {
	groups []comm.Group
	inner  []comm.Group
	mu     sync.Mutex
	told   []string
}

func (w *world) note(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.told = append(w.told, fmt.Sprintf(format, args...))
}

// all is what was told so far, sorted.
func (w *world) all() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Sorted(slices.Values(w.told))
}

const timeout = 10 * time.Second

// open wraps a group of n. A killed rank vanishes, and one that is stopped sleeps.
func open(t testing.TB, n int, script string) *world {
	t.Helper()
	w := &world{inner: inproc.New(n, timeout)}
	s := parse(t, script)
	for r, g := range w.inner {
		g, err := Wrap(g, Config{Script: s, Seed: 7, Timeout: timeout,
			Told: func(f Fired) { w.note("%d: %v at %v, step %d, %d times", r, s[f.Fault], f.At, f.Step, f.Times) },
			Kill: func() { inproc.Kill(g) },
			Stop: func(d time.Duration) { w.note("%d stands still for %v", r, d); time.Sleep(d) },
		})
		if err != nil {
			t.Fatal(err)
		}
		w.groups = append(w.groups, g)
	}
	return w
}

func (w *world) close() {
	for _, g := range w.groups {
		g.Close()
	}
}

// Without faults, and with some that keep messages back for no time, the groups are as good as the transport's own.
func TestExam(t *testing.T) {
	for name, script := range map[string]string{"empty": "", "lines": "partition 0 1 at 1h for 1s\nslow 0 x2 from 1h"} {
		sizes := []int{1, 2, 3, 5}
		if script != "" { // goroutines of its own, which make it slow
			sizes = []int{2, 3}
		}
		t.Run(name, func(t *testing.T) {
			var mu sync.Mutex
			inner := map[comm.Group]comm.Group{}
			commtest.Run(t, func(t *testing.T, n int, timeout time.Duration) []comm.Group {
				text := script
				if n < 2 {
					text = ""
				}
				groups := inproc.New(n, timeout)
				for r, g := range groups {
					f, err := Wrap(g, Config{Script: parse(t, text), Timeout: timeout})
					if err != nil {
						t.Fatal(err)
					}
					mu.Lock()
					inner[f] = g
					mu.Unlock()
					groups[r] = f
				}
				return groups
			}, commtest.Options{Shared: script == "", Sizes: sizes, Kill: func(_ *testing.T, groups []comm.Group, r comm.Rank) {
				mu.Lock()
				g := inner[groups[r]]
				mu.Unlock()
				inproc.Kill(g)
			}})
		})
	}
}

// took sends p to a rank and returns when it came there.
func took(t *testing.T, w *world, from, to int, size int) time.Duration {
	t.Helper()
	ctx, tag := context.Background(), comm.MakeTag(comm.OpSend, uint32(from))
	begun := time.Now()
	done := make(chan error)
	go func() { done <- w.groups[from].Send(ctx, comm.Rank(to), tag, make([]byte, size)) }()
	if _, n, err := w.groups[to].Recv(ctx, comm.Rank(from), tag, make([]byte, size)); err != nil || n != size {
		t.Fatalf("%d bytes, %v", n, err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return time.Since(begun)
}

func TestDelayAndLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, 4, "delay 50ms on link 1-0 to 1s\nlimit 8kbit/s on link 2-* from 1s to 20s\ndelay 1ms on link 2-3")
		defer w.close()
		for _, c := range []struct {
			from, to, size int
			want           time.Duration
		}{
			{0, 1, 1000, 50 * time.Millisecond}, {1, 0, 1000, 50 * time.Millisecond}, {1, 2, 1000, 0}, {2, 3, 1, time.Millisecond},
			{0, 0, 9, 0},
		} {
			if d := took(t, w, c.from, c.to, c.size); d != c.want {
				t.Errorf("%d to %d: %v, want %v", c.from, c.to, d, c.want)
			}
		}
		// Delays overlap: ten messages come as soon as one.
		ctx, tag := context.Background(), comm.MakeTag(comm.OpSend, 9)
		begun := time.Now()
		for i := range 10 {
			if err := w.groups[0].Send(ctx, 1, tag, []byte{byte(i)}); err != nil {
				t.Fatal(err)
			}
		}
		if d := time.Since(begun); d != 0 {
			t.Errorf("Send waited for %v", d)
		}
		for i := range 10 {
			var p [1]byte
			if _, _, err := w.groups[1].Recv(ctx, 0, tag, p[:]); err != nil || p[0] != byte(i) {
				t.Fatalf("message %d: %d, %v", i, p[0], err)
			}
		}
		if d := time.Since(begun); d != 50*time.Millisecond {
			t.Errorf("ten messages took %v", d)
		}
		time.Sleep(time.Second)
		for _, c := range []struct {
			from, to, size int
			want           time.Duration
		}{{0, 1, 1000, 0}, {1, 2, 1000, time.Second}, {2, 1, 2000, 2 * time.Second}, {2, 3, 500, 501 * time.Millisecond}} {
			if d := took(t, w, c.from, c.to, c.size); d != c.want {
				t.Errorf("limited, %d to %d: %v, want %v", c.from, c.to, d, c.want)
			}
		}
	})
}

func TestPartition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, 4, "partition {0,1} {2,3} at 1s for 5s\npartition 0 2 at step 4 for 1m")
		defer w.close()
		if d := took(t, w, 0, 2, 100); d != 0 {
			t.Errorf("before: %v", d)
		}
		time.Sleep(2 * time.Second)
		if d := took(t, w, 0, 1, 100); d != 0 {
			t.Errorf("on one side: %v", d)
		}
		if d := took(t, w, 3, 1, 100); d != 4*time.Second {
			t.Errorf("across, a second after it began: %v", d)
		}
		// One that outlasts the timeout: the receiver names the sender, and a sender with too much to say the receiver.
		for _, g := range w.groups {
			g.(comm.Faulty).Begin(4)
		}
		ctx, tag := context.Background(), comm.MakeTag(comm.OpSend, 1)
		if err := w.groups[0].Send(ctx, 2, tag, make([]byte, roomBytes)); err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		err := w.groups[0].Send(ctx, 2, tag, nil)
		var pe *comm.PeerError
		if !errors.As(err, &pe) || pe.Rank != 2 || !errors.Is(err, comm.ErrTimeout) || time.Since(begun) != timeout {
			t.Errorf("Send: %v after %v", err, time.Since(begun))
		}
		_, _, err = w.groups[2].Recv(ctx, 0, tag, nil)
		if !errors.As(err, &pe) || pe.Rank != 0 || !errors.Is(err, comm.ErrTimeout) {
			t.Errorf("Recv: %v", err)
		}
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		if err := w.groups[0].Send(short, 2, tag, nil); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, comm.ErrTimeout) {
			t.Errorf("Send with a deadline: %v", err)
		}
		begun = time.Now()
		if err := w.groups[0].Send(ctx, 3, tag, make([]byte, roomBytes+1)); !errors.As(err, &pe) || pe.Rank != 3 || time.Since(begun) != timeout {
			t.Errorf("Send of more than a line holds, which nobody receives: %v", err)
		}
		p := make([]byte, roomBytes)
		time.Sleep(25 * time.Second)
		if _, n, err := w.groups[2].Recv(ctx, 0, tag, p); err != nil || n != len(p) {
			t.Errorf("after it: %d bytes, %v", n, err)
		}
	})
}

// What Close finds kept back still arrives.
func TestCloseDrains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, 2, "delay 3s on link 0-1")
		ctx, tag := context.Background(), comm.MakeTag(comm.OpSend, 1)
		if err := w.groups[0].Send(ctx, 1, tag, []byte("the end")); err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		closed := make(chan error)
		go func() { closed <- w.groups[0].Close() }()
		p := make([]byte, 9)
		if _, n, err := w.groups[1].Recv(ctx, 0, tag, p); err != nil || string(p[:n]) != "the end" {
			t.Errorf("%q, %v", p[:n], err)
		}
		if err := <-closed; err != nil || time.Since(begun) != 3*time.Second {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
		if err := w.groups[0].Send(ctx, 1, tag, nil); err != comm.ErrClosed {
			t.Errorf("Send after Close: %v", err)
		}
		w.groups[1].Close()
	})
}

// A lost packet is sent again: a share of the messages, which the seed draws, come a retransmission timeout later.
func TestDrop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, 2, "drop 10% on link 0-1")
		defer w.close()
		const n = 2000
		late, free := 0, 0
		var first []bool
		for range n {
			switch d := took(t, w, 0, 1, 100); {
			case d >= retransmission:
				late++
			case d < time.Millisecond:
				free++
			}
			first = append(first, took(t, w, 1, 0, 100) >= retransmission)
		}
		// The packet is lost with probability 0.1, and what follows it is lost, too, in as many of these cases.
		mean, dev := n*0.1*0.1, 4.5
		if float64(late) < mean-5*dev || float64(late) > mean+5*dev || late+free != n {
			t.Errorf("%d of %d messages late, %d at once; expected %.0f late", late, n, free, mean)
		}
		again := open(t, 2, "drop 10% on link 0-1")
		defer again.close()
		for i := range n / 10 {
			if took(t, again, 1, 0, 100) >= retransmission != first[i] {
				t.Fatalf("message %d: the same seed draws another loss", i)
			}
		}
	})
}

func TestKillAndStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, 4, "stop 1 at 1s for 5s\nstop 1 at 2s for 1s\nkill 2 at 3s\nstop 3 at step 2 for 4s\nkill 0 at step 9")
		defer w.close()
		begun := time.Now()
		w.groups[3].(comm.Faulty).Begin(1)
		w.groups[3].(comm.Faulty).Begin(2)
		if d := time.Since(begun); d != 4*time.Second {
			t.Errorf("Begin of a stopped worker returned after %v", d)
		}
		time.Sleep(6 * time.Second)
		got := w.all()
		want := []string{
			"1 stands still for 5s", "1: stop 1 at 1s for 5s at 1s, step 0, 1 times", "1: stop 1 at 2s for 1s at 6s, step 0, 1 times",
			"2: kill 2 at 3s at 3s, step 0, 1 times", "3 stands still for 4s", "3: stop 3 at step 2 for 4s at 0s, step 2, 1 times",
		}
		if !slices.Equal(got, want) {
			t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		_, _, err := w.groups[1].Recv(context.Background(), 2, comm.MakeTag(comm.OpSend, 0), nil)
		if !errors.Is(err, comm.ErrLost) {
			t.Errorf("Recv from the killed rank: %v", err)
		}
	})
}

// A slow worker's computations take as many times as long; waiting does not, and a goroutine that talks meanwhile changes
// nothing.
func TestSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, 2, "slow 1 x5 from step 2 to step 3\nslow 1 x2 from step 3")
		defer w.close()
		g, clock := w.groups[1], w.groups[1].Clock()
		ctx, cancel := context.WithCancel(context.Background())
		var talk sync.WaitGroup
		talk.Add(1)
		clock.Go(func() {
			defer talk.Done()
			for clock.Sleep(ctx, time.Millisecond) == nil {
			}
		})
		for i, factor := range []time.Duration{1, 5, 2} {
			g.(comm.Faulty).Begin(i + 1)
			begun := time.Now()
			time.Sleep(10 * time.Millisecond) // computing
			clock.Spend(comm.Cost{FLOPs: 1})
			if d := time.Since(begun); d != factor*10*time.Millisecond {
				t.Errorf("step %d: 10 ms of computing take %v", i+1, d)
			}
			e := clock.Event()
			clock.Go(func() { clock.Sleep(ctx, 30*time.Millisecond); e.Set() })
			begun = time.Now()
			if err := e.Wait(ctx); err != nil {
				t.Fatal(err)
			}
			clock.Spend(comm.Cost{Bytes: 1})
			if d := time.Since(begun); d != 30*time.Millisecond {
				t.Errorf("step %d: waiting for 30 ms takes %v", i+1, d)
			}
		}
		if w.groups[0].Clock() != w.inner[0].Clock() {
			t.Error("a worker that is never slow has another clock")
		}
		cancel()
		talk.Wait()
	})
}

// What a gradient becomes depends on seed, rank, step and place alone; every changed one is told, by step.
func TestSpoil(t *testing.T) {
	w := open(t, 2, "corrupt gradient of 1 scale:3 from step 2 to step 4\ncorrupt gradient of {0,1} noise:2 from step 3")
	defer w.close()
	for step := 1; step <= 4; step++ {
		f := w.groups[1].(comm.Faulty)
		f.Begin(step)
		for range 2 { // two microshards
			got, want := []float32{1, 2, 3}, []float32{1, 2, 3}
			f.Spoil(got[:2], 0)
			f.Spoil(got[2:], 2)
			if step == 2 || step == 3 {
				for i := range want {
					want[i] *= 3
				}
			}
			if step >= 3 {
				for _, at := range [][2]int{{0, 2}, {2, 3}} {
					if err := fault.Spoil("noise:2", want[at[0]:at[1]], rng.Key(7, "spoil", 1, uint64(step), uint64(at[0]))); err != nil {
						t.Fatal(err)
					}
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("step %d: %v, want %v", step, got, want)
			}
		}
	}
	w.groups[1].Close()
	var told []string
	for _, s := range w.all() {
		a, _, _ := strings.Cut(s, " at ")
		_, b, _ := strings.Cut(s, ", ")
		told = append(told, a+", "+b)
	}
	want := []string{"1: corrupt gradient of 1 scale:3 from step 2 to step 4", "1: corrupt gradient of 1 scale:3 from step 2 to step 4",
		"1: corrupt gradient of {0-1} noise:2 from step 3", "1: corrupt gradient of {0-1} noise:2 from step 3"}
	for i, s := range []string{", step 2, 2 times", ", step 3, 2 times", ", step 3, 2 times", ", step 4, 2 times"} {
		want[i] += s
	}
	slices.Sort(told)
	if !slices.Equal(told, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(told, "\n"), strings.Join(want, "\n"))
	}
}

// Faults that messages have leave no way around them.
func TestAbilities(t *testing.T) {
	for script, board := range map[string]bool{
		"": true, "kill 1 at step 3\ncorrupt gradient of 0 nan": true, "slow 1 x2": false, "partition 0 1 at 1h": false, "drop 1% on link 0-1": false,
	} {
		w := open(t, 2, script)
		for _, g := range w.groups {
			if got := g.(comm.Boarder).Board() != nil; got != board {
				t.Errorf("%q: a board: %v", script, got)
			}
			if got := comm.CostsOf(g).Board != (comm.BoardCosts{}); got != board {
				t.Errorf("%q: a board's costs: %v", script, got)
			}
			if _, ok := g.(comm.Wire); ok {
				t.Errorf("%q: a wire, which inproc is not", script)
			}
		}
		w.close()
	}
}

func TestCheck(t *testing.T) {
	for text, want := range map[string]string{
		"kill 4 at step 1":          "line 1: kill 4 at step 1: there is no rank 4",
		"delay 1s on link a-b":      "links of a real run are named by their ranks, as in 0-1, or 1-* for all of rank 1, not \"a-b\"",
		"delay 1s on link 0-4":      "link 0-4: there is no rank 4: the ranks of 4 workers are 0 to 3",
		"delay 1s on link 1-1":      "link 1-1 has one end",
		"delay 1s on link 1":        "links of a real run",
		"slow 1 x2\nkill 1 at 1s":   "line 2: kill 1 at 1s: workers that are goroutines of one process cannot be killed",
		"stop 1 at step 2 for 1s":   "line 1: stop 1 at step 2 for 1s: workers that are goroutines",
		"delay 1s on link 3-*":      "",
		"partition 0 {1-3} at 1s":   "",
		"corrupt gradient of 2 nan": "",
	} {
		err := Check(parse(t, text), 4, false)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
	if err := Check(parse(t, "kill 1 at 1s\nstop 2 at 1s"), 4, true); err != nil {
		t.Error(err)
	}
}
