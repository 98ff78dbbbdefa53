package shm

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/covey-ml/covey/comm"
)

// The tests here run workers as real processes: this test binary, which finds its part in the environment.
const (
	roleVar    = "COVEY_SHM_TEST_ROLE"
	rankVar    = "COVEY_SHM_TEST_RANK"
	timeoutVar = "COVEY_SHM_TEST_TIMEOUT"
)

func TestMain(m *testing.M) {
	role := os.Getenv(roleVar)
	if role == "" {
		os.Exit(m.Run())
	}
	rank, _ := strconv.Atoi(os.Getenv(rankVar))
	timeout, _ := time.ParseDuration(os.Getenv(timeoutVar))
	g, err := Attach(os.NewFile(3, "shm"), comm.Rank(rank), timeout, timeout)
	if err != nil {
		say(report{Err: err.Error()})
		os.Exit(1)
	}
	if err := roles[role](g); err != nil {
		r := report{Err: err.Error(), Timeout: errors.Is(err, comm.ErrTimeout), Lost: errors.Is(err, comm.ErrLost)}
		var pe *comm.PeerError
		if errors.As(err, &pe) {
			r.Peer, r.IsPeer = int(pe.Rank), true
		}
		say(r)
		os.Exit(1)
	}
	if err := g.Close(); err != nil {
		say(report{Err: err.Error()})
		os.Exit(1)
	}
	os.Exit(0)
}

// report is what a worker says on its standard output, one line each.
type report struct {
	Ready   bool          `json:",omitempty"`
	Ticks   time.Duration `json:",omitempty"` // processor time
	Err     string        `json:",omitempty"`
	Timeout bool          `json:",omitempty"`
	Lost    bool          `json:",omitempty"`
	IsPeer  bool          `json:",omitempty"`
	Peer    int
}

func say(r report) {
	b, _ := json.Marshal(r)
	fmt.Printf("%s\n", b)
}

var roles = map[string]func(comm.Group) error{
	"exchange": func(g comm.Group) error { return exchange(g, 40) },
	// forever exchanges until it fails, and says that it is well on its way.
	"forever": func(g comm.Group) error {
		if err := exchange(g, 20); err != nil {
			return err
		}
		say(report{Ready: true})
		return exchange(g, 1<<40)
	},
	// sleepers wait for what nobody sends, in a Recv and, when the others take nothing, in a Send.
	"sleepers": func(g comm.Group) error {
		say(report{Ready: true})
		_, _, err := g.Recv(context.Background(), (g.Rank()+1)%comm.Rank(g.Size()), 1, make([]byte, 8))
		return err
	},
	"full": func(g comm.Group) error {
		say(report{Ready: true})
		if g.Rank() == 0 {
			return g.Send(context.Background(), 1, 1, make([]byte, 8<<20))
		}
		_, _, err := g.Recv(context.Background(), 0, 2, make([]byte, 8))
		return err
	},
	// rest waits for the end of its standard input and says what processor time the wait took.
	"rest": func(g comm.Group) error {
		if err := exchange(g, 5); err != nil {
			return err
		}
		r := g.(comm.Poster).Post((g.Rank()+1)%comm.Rank(g.Size()), 5, nil)
		waited := make(chan error)
		go func() {
			_, _, err := r.Wait(context.Background())
			waited <- err
		}()
		before := cpu()
		say(report{Ready: true})
		io.Copy(io.Discard, os.Stdin)
		say(report{Ticks: cpu() - before})
		if err := g.Send(context.Background(), (g.Rank()+comm.Rank(g.Size())-1)%comm.Rank(g.Size()), 5, nil); err != nil {
			return err
		}
		return <-waited
	},
	"pong4": func(g comm.Group) error { return pong(g, 4<<20) },
	// sum adds vectors until rank 0, which says before each how long they are, says 0.
	"sum": func(g comm.Group) error {
		x, tree := make([]float32, 4<<20), comm.NewTree(g.Size(), g.Size())
		for n := make([]byte, 4); ; {
			if err := comm.Broadcast(context.Background(), g, 0, n); err != nil {
				return err
			}
			k := binary.LittleEndian.Uint32(n)
			if k == 0 {
				return nil
			}
			if err := comm.AllReduce(context.Background(), g, tree, [][]float32{x[:k]}); err != nil {
				return err
			}
		}
	},
}

// cpu is the processor time of this process so far.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// exchange has everybody send to everybody, small and large, and checks every byte.
func exchange(g comm.Group, rounds int) error {
	n := g.Size()
	bufs := make([][]byte, n)
	receipts := make([]comm.Receipt, n)
	for round := range rounds {
		size := []int{0, 3, 1024, 70_000, 600_000}[round%5]
		tag := comm.MakeTag(comm.OpSend, uint32(round%7))
		for from := range n {
			bufs[from] = make([]byte, size)
			receipts[from] = g.(comm.Poster).Post(comm.Rank(from), tag, bufs[from])
		}
		p, want := make([]byte, size), make([]byte, size)
		pattern(p, g.Rank(), round)
		var failed error
		for i := range n {
			if err := g.Send(context.Background(), (g.Rank()+comm.Rank(i))%comm.Rank(n), tag, p); err != nil && failed == nil {
				failed = err
			}
		}
		if failed != nil {
			return failed
		}
		for from, r := range receipts {
			_, k, err := r.Wait(context.Background())
			if err != nil {
				return err
			}
			if pattern(want, comm.Rank(from), round); k != size || !bytes.Equal(bufs[from], want) {
				return fmt.Errorf("round %d: %d bytes of rank %d are not what it sent", round, size, from)
			}
		}
	}
	return nil
}

type worker struct {
	*exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
}

// launch starts n workers on a new group, as the local launcher does.
func launch(t testing.TB, n int, role string, timeout time.Duration) []*worker {
	t.Helper()
	f, err := Create(n, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	workers := make([]*worker, n)
	for r := range workers {
		workers[r] = start(t, f, r, role, timeout)
	}
	return workers
}

func start(t testing.TB, f *os.File, rank int, role string, timeout time.Duration) *worker {
	t.Helper()
	w := &worker{Cmd: exec.Command(os.Args[0])}
	w.Env = append(os.Environ(), roleVar+"="+role, fmt.Sprintf("%s=%d", rankVar, rank), timeoutVar+"="+timeout.String())
	w.ExtraFiles = []*os.File{f}
	w.Stderr = os.Stderr
	in, err := w.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := w.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	w.in, w.out = in, bufio.NewScanner(out)
	t.Cleanup(func() {
		w.Process.Kill()
		w.Wait()
	})
	return w
}

// next returns the worker's next report; ok is false when there is none.
func (w *worker) next(t testing.TB) (r report, ok bool) {
	t.Helper()
	if !w.out.Scan() {
		return r, false
	}
	if err := json.Unmarshal(w.out.Bytes(), &r); err != nil {
		t.Fatalf("a worker said %q", w.out.Text())
	}
	return r, true
}

func (w *worker) ready(t testing.TB) {
	t.Helper()
	if r, ok := w.next(t); !ok || !r.Ready {
		t.Fatalf("worker is not ready: %+v", r)
	}
}

func TestProcesses(t *testing.T) {
	for _, n := range []int{1, 2, 5} {
		for rank, w := range launch(t, n, "exchange", 30*time.Second) {
			if r, ok := w.next(t); ok {
				t.Errorf("rank %d of %d: %s", rank, n, r.Err)
			}
			if err := w.Wait(); err != nil {
				t.Errorf("rank %d of %d: %v", rank, n, err)
			}
		}
	}
}

// TestKilled kills a worker in the middle of exchanges, or while everybody sleeps: the others name it within seconds.
func TestKilled(t *testing.T) {
	for _, c := range []struct {
		role      string
		n, victim int
		who       func(rank int) bool // who waits for the victim
	}{
		{"forever", 4, 2, func(int) bool { return true }},
		{"sleepers", 4, 2, func(rank int) bool { return rank == 1 }},
		{"full", 2, 1, func(int) bool { return true }},
		{"full", 2, 0, func(int) bool { return true }},
	} {
		workers := launch(t, c.n, c.role, time.Minute)
		for _, w := range workers {
			w.ready(t)
		}
		workers[c.victim].Process.Kill()
		killed := time.Now()
		for rank, w := range workers {
			if rank == c.victim || !c.who(rank) {
				continue
			}
			// The first to learn of it closes its group at once, so another rank can be the one that is missed first.
			r, ok := w.next(t)
			if took := time.Since(killed); !ok || !r.Lost || !r.IsPeer || took > 5*time.Second {
				t.Errorf("%s: rank %d after %v: %+v", c.role, rank, took, r)
			}
			if c.role != "forever" && r.Peer != c.victim {
				t.Errorf("%s: rank %d blames rank %d: %s", c.role, rank, r.Peer, r.Err)
			}
		}
	}
}

// TestStopped stops a worker without ending it: the others' waits time out.
func TestStopped(t *testing.T) {
	workers := launch(t, 3, "forever", 700*time.Millisecond)
	for _, w := range workers {
		w.ready(t)
	}
	if err := workers[1].Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	timeouts := 0
	for _, rank := range []int{0, 2} {
		r, ok := workers[rank].next(t)
		if !ok || !r.IsPeer {
			t.Errorf("rank %d: %+v", rank, r)
		}
		if r.Timeout && r.Peer == 1 {
			timeouts++
		}
	}
	if timeouts == 0 {
		t.Error("nobody's wait for the stopped worker timed out")
	}
}

// TestKilledWhileAttaching: a worker that dies before all have come is named by all who wait, though those who notice
// first leave, too, and by those who come later.
func TestKilledWhileAttaching(t *testing.T) {
	f, err := Create(5, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	l, err := readLayout(f)
	if err != nil {
		t.Fatal(err)
	}
	victim := start(t, f, 3, "exchange", time.Minute)
	head := make([]byte, 4)
	for head[0] == 0 { // until it has attached
		if _, err := f.ReadAt(head, int64(l.slots+3*slotBytes)); err != nil {
			t.Fatal(err)
		}
	}
	victim.Process.Kill()
	errs := make(chan error)
	attach := func(rank comm.Rank) {
		_, err := Attach(f, rank, time.Minute, time.Minute)
		errs <- err
	}
	go attach(0)
	go attach(1)
	for i := range 3 {
		if i == 2 {
			go attach(2)
		}
		var pe *comm.PeerError
		if err := <-errs; !errors.As(err, &pe) || pe.Rank != 3 || !errors.Is(err, comm.ErrLost) {
			t.Errorf("attach beside a dead worker: %v", err)
		}
	}
}

// TestRest: workers that wait use next to no processor time. The bound is on time used, a hundredth of the time waited
// and a little for the collector; it holds however slow the machine is.
func TestRest(t *testing.T) {
	const wait = 1500 * time.Millisecond
	workers := launch(t, 3, "rest", time.Minute)
	for _, w := range workers {
		w.ready(t)
	}
	var before []time.Duration
	for _, w := range workers {
		before = append(before, procTime(t, w.Process.Pid))
	}
	<-time.After(wait)
	for rank, w := range workers {
		if used := procTime(t, w.Process.Pid) - before[rank]; used > 50*time.Millisecond {
			t.Errorf("rank %d used %v of processor time while it waited for %v", rank, used, wait)
		}
	}
	for _, w := range workers {
		w.in.Close()
	}
	for rank, w := range workers {
		if r, ok := w.next(t); !ok || r.Ticks > 60*time.Millisecond {
			t.Errorf("rank %d says that it used %v while it waited for %v", rank, r.Ticks, wait)
		}
		if err := w.Wait(); err != nil {
			t.Errorf("rank %d: %v", rank, err)
		}
	}
}

// procTime reads a process's processor time, which the kernel counts in ticks of 10 ms.
func procTime(t *testing.T, pid int) time.Duration {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	var ticks int
	for _, s := range f[11:13] { // utime and stime
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatalf("%q in /proc/%d/stat", s, pid)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// TestNothingIsLeft: the memory has no name anywhere, and goes with the last process that has it, killed or not.
func TestNothingIsLeft(t *testing.T) {
	names := func() string {
		var all []string
		for _, dir := range []string{"/dev/shm", os.TempDir()} {
			entries, err := os.ReadDir(dir)
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Fatal(err)
			}
			for _, e := range entries {
				if name := strings.ToLower(e.Name()); strings.Contains(name, "covey") || dir == "/dev/shm" {
					all = append(all, dir+"/"+e.Name())
				}
			}
		}
		return strings.Join(all, " ")
	}
	before := names()
	workers := launch(t, 3, "forever", time.Minute)
	for _, w := range workers {
		w.ready(t)
	}
	if during := names(); during != before {
		t.Errorf("files while a group is at work: %s; before: %s", during, before)
	}
	for _, w := range workers {
		w.Process.Kill()
	}
	for _, w := range workers {
		w.Wait()
	}
	if after := names(); after != before {
		t.Errorf("files after all were killed: %s; before: %s", after, before)
	}
}
