package comm

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// deaf is a link of a mesh whose peers exist only as calls of the test.
type deaf struct {
	mu     sync.Mutex
	aborts []*PeerError
	broken func(error)
	send   func(context.Context) error
}

func (d *deaf) Send(ctx context.Context, _ Tag, _ []byte) error {
	if d.send != nil {
		return d.send(ctx)
	}
	return nil
}
func (d *deaf) Close() error { return nil }
func (d *deaf) Abort(e *PeerError) {
	d.mu.Lock()
	d.aborts = append(d.aborts, e)
	d.mu.Unlock()
}
func (d *deaf) Break(cause error) {
	if d.broken != nil {
		d.broken(cause)
	}
}

func lone(size int, timeout time.Duration) (*Mesh, []*deaf) {
	m := NewMesh(0, size, RealClock(), timeout)
	links := make([]*deaf, size)
	for r := 1; r < size; r++ {
		links[r] = &deaf{}
		m.Connect(Rank(r), links[r])
	}
	return m, links
}

const tag = Tag(7)

var bg = context.Background()

func begin(t *testing.T, m *Mesh, from Rank, tag Tag, s string) *Message {
	t.Helper()
	p, msg, ok := m.Begin(from, tag, len(s))
	if !ok {
		t.Fatalf("no room for %q", s)
	}
	copy(p, s)
	return msg
}

func recv(t *testing.T, m *Mesh, from Rank, tag Tag, want string) {
	t.Helper()
	p := make([]byte, 100)
	_, n, err := m.Recv(bg, from, tag, p)
	if err != nil || string(p[:n]) != want {
		t.Fatalf("Recv: %q, %v; want %q", p[:n], err, want)
	}
}

func ended(t *testing.T, m *Mesh) context.Context {
	t.Helper()
	ctx, cancel := context.WithCancel(bg)
	cancel()
	return ctx
}

func TestMeshCancelledReceivePutsAnUnaskedMessageBack(t *testing.T) {
	m, _ := lone(2, time.Minute)
	first := begin(t, m, 1, tag, "one") // comes unasked, and is asked for before it is whole
	second := begin(t, m, 1, tag, "two")
	var p, q, late [10]byte
	r1, r2, r3 := m.Post(1, tag, p[:]), m.Post(1, tag, q[:]), m.Post(1, tag, late[:])
	if _, _, err := r1.Wait(ended(t, m)); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	// "one" is free again and goes to r3, which waits for something.
	m.End(second)
	m.End(first)
	if _, n, err := r2.Wait(bg); err != nil || string(q[:n]) != "two" {
		t.Fatalf("%q, %v", q[:n], err)
	}
	if _, n, err := r3.Wait(bg); err != nil || string(late[:n]) != "one" {
		t.Fatalf("%q, %v", late[:n], err)
	}
	if p != [10]byte{} {
		t.Fatalf("a cancelled receive's buffer was written: %q", p)
	}
}

func TestMeshPutBackKeepsTheOrder(t *testing.T) {
	m, _ := lone(2, time.Minute)
	a, b := begin(t, m, 1, tag, "a"), begin(t, m, 1, tag, "b")
	r1, r2 := m.Post(1, tag, make([]byte, 1)), m.Post(1, tag, make([]byte, 1))
	for _, r := range []Receipt{r1, r2} {
		if _, _, err := r.Wait(ended(t, m)); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
	m.End(b)
	m.End(a)
	m.End(begin(t, m, 1, tag, "c"))
	recv(t, m, 1, tag, "a")
	recv(t, m, 1, tag, "b")
	recv(t, m, 1, tag, "c")
}

func TestMeshCancelWhilePartIsHereBreaksThatLink(t *testing.T) {
	m, links := lone(3, time.Minute)
	p := make([]byte, 5)
	r := m.Post(1, tag, p)
	_, msg, _ := m.Begin(1, tag, 5)
	m.Progress(msg, 2)
	links[1].broken = func(cause error) { m.Fail(msg, 3, cause); m.Lose(1, cause) }
	links[2].broken = func(error) { t.Error("the wrong link was broken") }
	_, _, err := r.Wait(ended(t, m))
	var pe *PeerError
	if !errors.As(err, &pe) || pe.Rank != 1 || pe.Missing != 3 || !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if _, _, err := m.Recv(bg, 1, tag, p); !errors.As(err, &pe) || pe.Rank != 1 {
		t.Fatalf("the link is broken, and Recv says %v", err)
	}
}

// A context that ends while the first message of a collective is on its way, in or out, has not left the group as it
// was: this rank is to blame, says so itself, and tells the others.
func TestCollectiveCutInItsFirstMessage(t *testing.T) {
	for _, sending := range []bool{true, false} {
		m, links := lone(3, time.Minute)
		ctx, cancel := context.WithCancel(bg)
		var err error
		if sending {
			links[1].send = func(ctx context.Context) error {
				cancel()
				return CutOff(context.Cause(ctx))
			}
			links[2].send = links[1].send
			err = Broadcast(ctx, m, 0, make([]byte, 9))
		} else {
			links[1].broken = func(cause error) { m.Lose(1, cause) }
			p := make([]byte, 9)
			go func() {
				for ok := false; !ok; { // until it has been asked for
					m.mu.Lock()
					ok = len(m.boxes) > 0
					m.mu.Unlock()
				}
				_, msg, _ := m.Begin(1, MakeTag(OpBroadcast, 0), len(p))
				m.Progress(msg, 5)
				links[1].broken = func(cause error) { m.Fail(msg, 4, cause); m.Lose(1, cause) }
				cancel()
			}()
			err = Broadcast(ctx, m, 1, p)
		}
		var pe *PeerError
		if !errors.As(err, &pe) || pe.Rank != 0 || !errors.Is(err, context.Canceled) {
			t.Errorf("sending is %v: %v", sending, err)
		}
		if again := Barrier(bg, m); again != err {
			t.Errorf("sending is %v: first %v, then %v", sending, err, again)
		}
		if len(links[2].aborts) != 1 {
			t.Errorf("sending is %v: rank 2 was told %d times", sending, len(links[2].aborts))
		}
	}
}

func TestMeshAnyRankGoesOnAfterHalfAMessage(t *testing.T) {
	m, _ := lone(3, time.Minute)
	p := make([]byte, 5)
	r := m.Post(AnyRank, tag, p)
	half := begin(t, m, 1, tag, "xx")
	m.Fail(half, 3, ErrLost)
	m.Lose(1, ErrLost)
	m.End(begin(t, m, 2, tag, "whole"))
	if from, n, err := r.Wait(bg); from != 2 || n != 5 || err != nil {
		t.Fatal(from, n, err)
	}
	r = m.Post(AnyRank, tag, p)
	m.Lose(2, ErrLeft)
	var pe *PeerError
	if _, _, err := r.Wait(bg); !errors.As(err, &pe) || !errors.Is(err, ErrLost) {
		t.Fatalf("nobody is left, and Recv from any says %v", err)
	}
}

func TestMeshAnyRankCancelledWhileItsSenderFails(t *testing.T) {
	m, links := lone(3, time.Minute)
	r := m.Post(AnyRank, tag, make([]byte, 5))
	half := begin(t, m, 1, tag, "xx")
	links[1].broken = func(cause error) { m.Fail(half, 3, cause); m.Lose(1, cause) }
	if _, _, err := r.Wait(ended(t, m)); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

func TestMeshAnyRankTakesTheOldest(t *testing.T) {
	m, _ := lone(4, time.Minute)
	for _, r := range []Rank{3, 1, 2} {
		m.End(begin(t, m, r, tag, fmt.Sprint(r)))
	}
	for _, want := range []string{"3", "1", "2"} {
		recv(t, m, AnyRank, tag, want)
	}
}

func TestMeshMemoryIsBoundedByBytes(t *testing.T) {
	for _, n := range []int{0, 1, 63, 64, 65, 1000, 4097, EagerBytes} {
		m, _ := lone(2, time.Minute)
		count, held := 0, 0
		for {
			p, msg, ok := m.Begin(1, MakeTag(OpSend, uint32(count%5)), n)
			if !ok {
				break
			}
			count, held = count+1, held+cap(p)
			m.End(msg)
		}
		if want := EagerBytes / max(n, MinMessage); count != want || held > 2*EagerBytes {
			t.Errorf("messages of %d bytes: %d are kept in %d bytes; want %d in at most %d", n, count, held, want, 2*EagerBytes)
		}
		p := make([]byte, n)
		if _, _, err := m.Recv(bg, 1, MakeTag(OpSend, 0), p); err != nil {
			t.Fatal(err)
		}
		if _, _, ok := m.Begin(1, tag, n); !ok {
			t.Errorf("no room for %d bytes after as many were taken", n)
		}
	}
}

func TestMeshDropsEmptyQueues(t *testing.T) {
	m, _ := lone(2, time.Minute)
	for i := range uint32(10000) {
		tag := MakeTag(OpSend, i)
		m.End(begin(t, m, 1, tag, "x"))
		recv(t, m, 1, tag, "x")
		r := m.Post(AnyRank, tag, make([]byte, 1))
		m.End(begin(t, m, 1, tag, "y"))
		if _, _, err := r.Wait(bg); err != nil {
			t.Fatal(err)
		}
	}
	if len(m.boxes) > 2*minSweep || len(m.any) > 2*minSweep {
		t.Fatalf("%d queues, %d of any rank, after 10000 tags", len(m.boxes), len(m.any))
	}
}

func TestMeshSteadyTrafficDoesNotAllocate(t *testing.T) {
	m, _ := lone(2, time.Minute)
	p := make([]byte, 1000)
	once := func() {
		for range 20 {
			_, msg, _ := m.Begin(1, tag, 1000) // unasked
			m.End(msg)
		}
		for range 20 {
			m.Recv(bg, 1, tag, p)
		}
		r := m.Post(1, tag, p)
		_, msg, _ := m.Begin(1, tag, 1000) // asked
		m.End(msg)
		r.Wait(bg)
	}
	once()
	if n := testing.AllocsPerRun(200, once); n >= 1 && !RaceEnabled {
		t.Errorf("%v allocations a round", n)
	}
}

// The buffers of messages that come no more give way to those of messages that come.
func TestMeshOtherTrafficDoesNotAllocate(t *testing.T) {
	const peers, small, large = 6, 1000, 33000
	m, _ := lone(1+peers, time.Minute)
	p := make([]byte, large)
	for r := Rank(1); r <= peers; r++ {
		for range EagerBytes / small {
			_, msg, _ := m.Begin(r, tag, small)
			m.End(msg)
		}
	}
	for r := Rank(1); r <= peers; r++ {
		for range EagerBytes / small {
			m.Recv(bg, r, tag, p)
		}
	}
	once := func() {
		_, msg, _ := m.Begin(1, tag, large)
		m.End(msg)
		m.Recv(bg, 1, tag, p)
	}
	once()
	if n := testing.AllocsPerRun(200, once); n >= 1 && !RaceEnabled {
		t.Errorf("%v allocations a message", n)
	}
	if m.store.bytes > keepBytes {
		t.Errorf("%d bytes are kept", m.store.bytes)
	}
}

func TestMeshPoisonEndsReceivesAndDropsMessages(t *testing.T) {
	m, links := lone(3, time.Minute)
	col := MakeTag(OpAllReduce, 1)
	half := begin(t, m, 1, col, "half")
	m.End(begin(t, m, 1, MakeTag(OpAllReduce, 2), "whole"))
	m.End(begin(t, m, 1, tag, "program's"))
	r, own := m.Post(2, col, make([]byte, 4)), m.Post(2, tag, make([]byte, 4))
	e := &PeerError{Rank: 2, Op: OpAllReduce, Step: -1, Cause: ErrLost}
	if got := m.Poison(e); got != e {
		t.Fatal(got)
	}
	other := &PeerError{Rank: 1, Op: OpBarrier, Step: -1, Cause: ErrTimeout}
	if got := m.Poison(other); got != e {
		t.Fatalf("a second poison returns %v", got)
	}
	m.Aborted(other)
	if m.Poisoned() != e {
		t.Fatal("the first error must stay")
	}
	if _, _, err := r.Wait(bg); err != e {
		t.Fatal(err)
	}
	if _, _, err := m.Recv(bg, 1, col, make([]byte, 4)); err != e {
		t.Fatal(err)
	}
	if err := m.Send(bg, 1, col, nil); err != e {
		t.Fatal(err)
	}
	m.End(half)
	if got := m.peers[1].buffered; got != MinMessage {
		t.Fatalf("%d bytes are still held for rank 1; the program's message is %d", got, MinMessage)
	}
	p, big, ok := m.Begin(1, col, 1<<40) // goes nowhere, but must neither block the link nor take its length's memory
	if !ok || p != nil {
		t.Fatalf("a message of the dead collective gets %d bytes, %v", len(p), ok)
	}
	m.End(big)
	recv(t, m, 1, tag, "program's")
	m.End(begin(t, m, 2, tag, "own"))
	if _, n, err := own.Wait(bg); n != 3 || err != nil {
		t.Fatal(n, err)
	}
	for _, l := range links[1:] {
		if len(l.aborts) != 1 || l.aborts[0] != e {
			t.Fatalf("told %v", l.aborts)
		}
	}
}

func TestMeshSlowMessageIsNotATimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const timeout = time.Second
		m, links := lone(2, timeout)
		begun := RealClock().Now()
		r := m.Post(1, tag, make([]byte, 1<<20))
		_, msg, _ := m.Begin(1, tag, 1<<20)
		links[1].broken = func(cause error) { m.Fail(msg, 1<<20-msg.got, cause); m.Lose(1, cause) }
		go func() { // nine pieces, each 0.9 timeouts after the one before, and then no more
			for i := range 9 {
				time.Sleep(timeout * 9 / 10)
				m.Progress(msg, i+1)
			}
		}()
		_, _, err := r.Wait(bg)
		var pe *PeerError
		if !errors.As(err, &pe) || pe.Missing != 1<<20-9 || !errors.Is(err, ErrTimeout) {
			t.Fatal(err)
		}
		if got, want := RealClock().Now()-begun, 9*timeout*9/10+timeout; got != want {
			t.Fatalf("gave up after %v; the last piece was a timeout old at %v", got, want)
		}
	})
}

// One reader per peer brings messages as a transport does, with Begin and Room; receivers post, cancel and wait.
// Every message must come out once, in order, whatever the interleaving.
func TestMeshStress(t *testing.T) {
	const peers, tags, each = 3, 2, 400
	seed := rand.Uint64()
	defer func() {
		if t.Failed() {
			t.Logf("seed %d", seed)
		}
	}()
	m, _ := lone(peers+1, time.Minute)
	var wg sync.WaitGroup
	for from := Rank(1); from <= peers; from++ {
		rng := rand.New(rand.NewPCG(seed, uint64(from)))
		wg.Go(func() { // the transport
			for i := range each * tags {
				n := 8 + rng.IntN(3000)
				if rng.IntN(20) == 0 {
					n = 8 + rng.IntN(2*EagerBytes)
				}
				var p []byte
				var msg *Message
				for ok := false; ; {
					if p, msg, ok = m.Begin(from, Tag(i%tags), n); ok {
						break
					}
					<-m.Room(from)
				}
				binary.LittleEndian.PutUint64(p, uint64(i/tags))
				m.Progress(msg, 8)
				for j := range p[8:] {
					p[8+j] = byte(i)
				}
				m.End(msg)
			}
		})
		for tg := range tags {
			rng := rand.New(rand.NewPCG(seed, uint64(from)<<8|uint64(tg)))
			wg.Go(func() { // the program
				big, small := make([]byte, 3*EagerBytes), make([]byte, 8+rng.IntN(2000))
				for i := range each {
					for {
						p := big
						if rng.IntN(3) == 0 {
							p = small
						}
						_, n, err := m.Recv(bg, from, Tag(tg), p)
						var se *SizeError
						if errors.As(err, &se) {
							if se.Need <= len(p) || se.Have != len(p) || se.From != from {
								t.Errorf("%v for a buffer of %d", err, len(p))
							}
							p = make([]byte, se.Need)
							_, n, err = m.Recv(bg, from, Tag(tg), p)
						}
						if err != nil {
							t.Error(err)
							return
						}
						if got := binary.LittleEndian.Uint64(p); got != uint64(i) {
							t.Errorf("rank %d tag %d: message %d came as number %d", from, tg, got, i)
							return
						}
						if !bytes.Equal(p[8:n], bytes.Repeat([]byte{byte(i*tags + tg)}, n-8)) {
							t.Errorf("rank %d tag %d: message %d is torn", from, tg, i)
						}
						break
					}
				}
			})
		}
	}
	wg.Wait()
	for i, p := range m.peers {
		if p.buffered != 0 {
			t.Errorf("%d bytes of rank %d are still counted", p.buffered, i)
		}
	}
}

// Close, Lose, Poison and ended contexts race with deliveries; every Wait must return, once.
func TestMeshEndsRace(t *testing.T) {
	for round := range 300 {
		m, links := lone(3, time.Minute)
		for r := Rank(1); r < 3; r++ {
			links[r].broken = func(cause error) { m.Lose(r, cause) }
		}
		ctx, cancel := context.WithCancel(bg)
		col := MakeTag(OpBroadcast, 3)
		var wg sync.WaitGroup
		for i := range 6 {
			from := Rank(1 + i%2)
			if i == 5 {
				from = AnyRank
			}
			r := m.Post(from, col, make([]byte, 100))
			wg.Go(func() { r.Wait(ctx) })
		}
		for from := Rank(1); from < 3; from++ {
			wg.Go(func() {
				for range 2 {
					if p, msg, ok := m.Begin(from, col, 50); ok {
						copy(p, "x")
						m.End(msg)
					}
				}
				if p, msg, ok := m.Begin(from, col, 50); ok {
					copy(p, "x")
					m.Fail(msg, 49, ErrLost)
				}
				m.Lose(from, ErrLost)
			})
		}
		wg.Go(func() {
			switch round % 3 {
			case 0:
				m.Poison(&PeerError{Rank: 1, Cause: ErrLost})
			case 1:
				cancel()
			}
			m.Close()
		})
		wg.Wait()
		cancel()
	}
}

func TestPeerErrorCrossesTheWire(t *testing.T) {
	for _, cause := range []error{ErrTimeout, ErrLost, ErrLeft, context.Canceled, context.DeadlineExceeded,
		errors.New("disk on fire"), fmt.Errorf("reading: %w", ErrLost)} {
		e := &PeerError{Rank: 3, Op: OpAllToAll, Step: 1 << 40, Missing: 1 << 50, Cause: cause}
		b := AppendPeerError(nil, e)
		got, err := ParsePeerError(b)
		if err != nil || got.Error() != e.Error() {
			t.Fatalf("%v, %v; want %v", got, err, e)
		}
		for _, k := range kinds[1:] {
			if errors.Is(got, k) != errors.Is(e, k) {
				t.Errorf("%v: errors.Is(%v) is %v on this side", e, k, errors.Is(got, k))
			}
		}
	}
	long := AppendPeerError(nil, &PeerError{Rank: AnyRank, Step: -1, Cause: errors.New(string(make([]byte, 5000)))})
	if len(long) != PeerErrorSize {
		t.Fatal(len(long))
	}
	if e, err := ParsePeerError(long); err != nil || e.Rank != AnyRank || e.Step != -1 {
		t.Fatal(e, err)
	}
	for n := range peerErrorFixed {
		if _, err := ParsePeerError(long[:n]); err == nil {
			t.Fatalf("%d bytes parsed", n)
		}
	}
}

func FuzzParsePeerError(f *testing.F) {
	f.Add(AppendPeerError(nil, &PeerError{Rank: 2, Op: OpBarrier, Step: 7, Missing: 4, Cause: ErrTimeout}))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := ParsePeerError(b)
		if err == nil && e.Error() == "" {
			t.Fatal("an error without words")
		}
	})
}

func TestRealClock(t *testing.T) {
	c := RealClock()
	ev := c.Event()
	ev.Set()
	ev.Set()
	if err := ev.Wait(ended(t, nil)); err != nil {
		t.Fatalf("a raised flag must win: %v", err)
	}
	if err := ev.Wait(ended(t, nil)); err != context.Canceled {
		t.Fatal(err)
	}
	c.Go(ev.Set)
	if err := ev.Wait(bg); err != nil {
		t.Fatal(err)
	}
	before := c.Now()
	if err := c.Sleep(bg, 3*time.Millisecond); err != nil || c.Now()-before < 3*time.Millisecond {
		t.Fatal(err, c.Now()-before)
	}
	if err := c.Sleep(ended(t, nil), time.Hour); err != context.Canceled {
		t.Fatal(err)
	}
	ctx, cancel := c.WithTimeout(bg, time.Millisecond)
	defer cancel()
	if err := c.Sleep(ctx, time.Hour); err != context.DeadlineExceeded {
		t.Fatal(err)
	}
}
