package shm

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/covey-ml/covey/comm"
)

// attachAll returns all ranks of a new group, each with its own descriptor and mapping, as processes have them.
func attachAll(t testing.TB, n int, o Options, timeout time.Duration) []comm.Group {
	t.Helper()
	f, err := Create(n, o)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	groups := make([]comm.Group, n)
	errs := make([]error, n)
	var wg sync.WaitGroup
	for r := range groups {
		wg.Go(func() { groups[r], errs[r] = Attach(f, comm.Rank(r), timeout, timeout) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, g := range groups {
			g.Close()
		}
	})
	return groups
}

// pattern fills p with bytes that depend on their place, the rank and the round.
func pattern(p []byte, from comm.Rank, round int) {
	for i := range p {
		p[i] = byte(i*7 + int(from)*31 + round*101 + i>>8)
	}
}

// TestExchange sends messages of many lengths both ways at once, with rings smaller and larger than the messages.
func TestExchange(t *testing.T) {
	lengths := []int{0, 1, 15, 16, 17, 1000, 4079, 4080, 4081, 65535, 65536, 65537, 300_001}
	for _, ring := range []int{4096, 64 << 10, 1 << 20} {
		groups := attachAll(t, 3, Options{Ring: ring}, 20*time.Second)
		var wg sync.WaitGroup
		for _, g := range groups {
			wg.Go(func() {
				for round, n := range lengths {
					tag := comm.MakeTag(comm.OpSend, uint32(round%3))
					var receipts [3]comm.Receipt
					var bufs [3][]byte
					for from := range groups {
						bufs[from] = make([]byte, n)
						receipts[from] = g.(comm.Poster).Post(comm.Rank(from), tag, bufs[from])
					}
					for i := range groups {
						to := (comm.Rank(i) + g.Rank()) % 3
						p := make([]byte, n)
						pattern(p, g.Rank(), round)
						if err := g.Send(t.Context(), to, tag, p); err != nil {
							t.Errorf("ring %d: send of %d bytes from %d to %d: %v", ring, n, g.Rank(), to, err)
							return
						}
					}
					for from, r := range receipts {
						got, k, err := r.Wait(t.Context())
						want := make([]byte, n)
						pattern(want, comm.Rank(from), round)
						if err != nil || k != n || int(got) != from || !bytes.Equal(bufs[from], want) {
							t.Errorf("ring %d: %d bytes from %d to %d: got %d bytes from %d, %v; same bytes: %v",
								ring, n, from, g.Rank(), k, got, err, bytes.Equal(bufs[from], want))
							return
						}
					}
				}
			})
		}
		wg.Wait()
	}
}

// TestEagerSendsDoNotWait sends EagerBytes that nobody asks for through a ring of a sixteenth of that.
func TestEagerSendsDoNotWait(t *testing.T) {
	groups := attachAll(t, 2, Options{Ring: 4096}, 20*time.Second)
	p := make([]byte, 1024)
	for i := range comm.EagerBytes / len(p) {
		pattern(p, 0, i)
		if err := groups[0].Send(t.Context(), 1, 7, p); err != nil {
			t.Fatal(err)
		}
	}
	// Another that nobody asks for may wait; when its context ends, nothing is broken.
	ctx, cancel := context.WithCancel(t.Context())
	errs := make(chan error)
	go func() {
		var err error
		for err == nil {
			err = groups[0].Send(ctx, 1, 8, p)
		}
		errs <- err
	}()
	e := groups[0].(*group).e
	for l := e.links[1]; ; {
		e.mu.Lock()
		waiting := len(l.waits) > 0
		e.mu.Unlock()
		if waiting {
			break
		}
		runtime.Gosched()
	}
	cancel()
	if err := <-errs; !errors.Is(err, context.Canceled) {
		t.Fatalf("send with a context that ended: %v", err)
	}
	want, got := make([]byte, 1024), make([]byte, 1024)
	for i := range comm.EagerBytes / len(p) {
		pattern(want, 0, i)
		if _, n, err := groups[1].Recv(t.Context(), 0, 7, got); err != nil || n != 1024 || !bytes.Equal(got, want) {
			t.Fatalf("message %d: %d bytes, %v", i, n, err)
		}
	}
	r := groups[1].(comm.Poster).Post(0, 9, got)
	if err := groups[0].Send(t.Context(), 1, 9, p); err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestClose(t *testing.T) {
	groups := attachAll(t, 2, Options{}, 20*time.Second)
	// More than the peer's mesh takes unasked: the second message waits outside it, and must not go with its sender.
	const n = comm.EagerBytes - 100
	want, got := make([]byte, n), make([]byte, n)
	for round := range 2 {
		pattern(want, 0, round)
		if err := groups[0].Send(t.Context(), 1, 1, want); err != nil {
			t.Fatal(err)
		}
		for out := groups[0].(*group).e.links[1].out; out.taken.Load() < n; { // until the mesh has the first
			runtime.Gosched()
		}
	}
	if err := groups[0].Close(); err != nil {
		t.Fatal(err)
	}
	for round := range 2 {
		pattern(want, 0, round)
		if _, k, err := groups[1].Recv(t.Context(), 0, 1, got); err != nil || k != n || !bytes.Equal(got, want) {
			t.Fatalf("message %d, sent before the goodbye: %d bytes, %v", round, k, err)
		}
	}
	var pe *comm.PeerError
	if _, _, err := groups[1].Recv(t.Context(), 0, 1, got); !errors.As(err, &pe) || pe.Rank != 0 || !errors.Is(err, comm.ErrLeft) {
		t.Fatalf("receive from a peer that closed: %v", err)
	}
	if err := groups[0].Send(t.Context(), 1, 1, nil); err != comm.ErrClosed {
		t.Fatalf("send after Close: %v", err)
	}
}

func TestAttachRefuses(t *testing.T) {
	f, err := Create(3, Options{Generation: 9})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if i, err := Stat(f); err != nil || i != (Info{Size: 3, Ring: wantRing, Arena: 16 << 30, Generation: 9}) {
		t.Fatalf("Stat: %+v, %v", i, err)
	}
	refused := func(what string, err error, words ...string) {
		t.Helper()
		if err == nil {
			t.Fatalf("%s: no error", what)
		}
		for _, w := range words {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %q does not say %q", what, err, w)
			}
		}
	}
	_, err = Attach(f, 3, time.Second, time.Second)
	refused("rank out of range", err, "rank 3", "0 to 2")
	_, err = Attach(f, 0, 0, 0)
	refused("no timeout", err, "timeout")
	_, err = Attach(f, 1, 10*time.Millisecond, 10*time.Millisecond)
	refused("nobody comes", err, "rank 0, 2", "2 of 3")
	if !errors.Is(err, comm.ErrTimeout) {
		t.Errorf("nobody comes: %v is no timeout", err)
	}
	_, err = Attach(f, 1, time.Second, time.Second)
	refused("second time", err, "rank 1", "before", "new file")

	if _, err := Create(0, Options{}); err == nil {
		t.Error("a group of 0 was made")
	}
	_, err = Create(MaxRanks+1, Options{})
	refused("too many", err, "256")
	_, err = Create(2, Options{Ring: 5000})
	refused("odd ring", err, "5000", "4096")
}

// TestAttachForeignFile gives Attach files that Create did not make, or that were damaged.
func TestAttachForeignFile(t *testing.T) {
	good, err := Create(2, Options{Ring: 4096})
	if err != nil {
		t.Fatal(err)
	}
	defer good.Close()
	image := make([]byte, headerBytes)
	if _, err := good.ReadAt(image, 0); err != nil {
		t.Fatal(err)
	}
	st, _ := good.Stat()
	try := func(what string, size int64, head []byte, word string) {
		t.Helper()
		f, err := makeFile(int(size))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteAt(head, 0); err != nil {
			t.Fatal(err)
		}
		if _, err := Attach(f, 0, time.Second, time.Second); err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("%s: %v, want it to say %q", what, err, word)
		}
	}
	try("empty", 0, nil, "not a file that Create made")
	try("zeros", 1<<20, nil, "not a file that Create made")
	try("short", st.Size()-page, image, "bytes")
	try("not sealed", st.Size(), image, "sealed")
	for i := range 52 {
		bad := bytes.Clone(image)
		bad[i] ^= 0x40
		try("a flipped bit", st.Size(), bad, "shm:")
	}
	newer := bytes.Clone(image)
	binary.LittleEndian.PutUint32(newer[8:], version+1)
	try("newer", st.Size(), newer, "version 4")
	file, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.Write(image); err != nil {
		t.Fatal(err)
	}
	if _, err := Attach(file, 0, time.Second, time.Second); err == nil {
		t.Error("attached to a plain file")
	}
}
