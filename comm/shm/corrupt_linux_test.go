package shm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/covey-ml/covey/comm"
)

// scribble lets f damage what rank 1 shares with rank 0, while rank 0 looks the other way, and has rank 0 look at it.
func scribble(g comm.Group, f func(l *link)) (alive bool) {
	e := g.(*group).e
	e.mu.Lock()
	defer e.mu.Unlock()
	f(e.links[1])
	e.links[1].look()
	return !e.links[1].dead.Load()
}

// senseless checks that rank 0 lost rank 1 because of its ring, and says so.
func senseless(t *testing.T, g comm.Group) {
	t.Helper()
	for _, err := range []error{
		g.Send(t.Context(), 1, 99, nil),
		func() error { _, _, err := g.Recv(t.Context(), 1, 99, make([]byte, 8)); return err }(),
	} {
		var pe *comm.PeerError
		if !errors.As(err, &pe) || pe.Rank != 1 || !errors.Is(err, comm.ErrLost) || !errors.Is(err, errRing) || !strings.Contains(err.Error(), "makes no sense") {
			t.Fatalf("with a ring that makes no sense: %v", err)
		}
	}
}

// writeFrame puts a well-formed header into the ring that rank 0 reads, and says that it and n bytes are there.
func writeFrame(l *link, f frame, n int) {
	if l.dead.Load() {
		return
	}
	f.put(l.r.buf[l.r.head&uint64(len(l.r.buf)-1):])
	l.in.tail.Store(l.r.head + frameBytes + pad(uint64(n)))
}

func TestCorruptRing(t *testing.T) {
	const tag = comm.Tag(1)
	for name, damage := range map[string]func(l *link){
		"tail far ahead":       func(l *link) { l.in.tail.Store(l.r.head + uint64(len(l.r.buf)) + 1) },
		"tail behind":          func(l *link) { l.in.tail.Store(l.r.head - 1) },
		"tail amid a header":   func(l *link) { l.in.tail.Store(l.r.head + 5) },
		"header of zeros":      func(l *link) { l.in.tail.Store(l.r.head + frameBytes) },
		"nowhere in an arena":  func(l *link) { writeFrame(l, frame{frameThere, 7, tag, 1 << 39}, thereBytes) },
		"eager beyond bounds":  func(l *link) { writeFrame(l, frame{frameMessage, 0, tag, comm.EagerBytes + 1}, 0) },
		"part beyond bounds":   func(l *link) { writeFrame(l, frame{framePart, 0, tag, partBytes + 1}, 0) },
		"part without leave":   func(l *link) { writeFrame(l, frame{framePart, 7, tag, 10}, 10) },
		"tail before the pad":  func(l *link) { writeFrame(l, frame{frameMessage, 0, tag, 10}, 0); l.in.tail.Add(10) },
		"last words too long":  func(l *link) { l.slot.abort[3] = 1; l.in.said.Store(saidAborted) },
		"last words of no use": func(l *link) { l.slot.abort[0] = 3; l.in.said.Store(saidAborted) },
		"ask made twice": func(l *link) {
			writeFrame(l, frame{frameAsk, 3, tag, 1 << 39}, 0)
			l.look()
			writeFrame(l, frame{frameAsk, 3, tag, 1 << 39}, 0)
		},
		"more without leave than waits": func(l *link) {
			for range 2*comm.EagerBytes/1000 + 1 {
				writeFrame(l, frame{frameMessage, 0, tag, 1000}, 1000)
				l.look()
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := attachAll(t, 2, Options{Ring: minRing}, time.Minute)
			if scribble(g[0], damage) {
				t.Fatal("the peer was not lost")
			}
			senseless(t, g[0])
			// The other side hears of it.
			var pe *comm.PeerError
			if _, _, err := g[1].Recv(t.Context(), 0, 1, nil); !errors.As(err, &pe) || pe.Rank != 0 || !errors.Is(err, comm.ErrLost) {
				t.Fatalf("the other side: %v", err)
			}
		})
	}
	for _, c := range []struct {
		name   string
		ring   int
		damage func(l *link)
	}{
		{"head ahead of tail", minRing, func(l *link) { l.out.head.Store(1 << 40) }},
		{"head went backwards", minRing, func(l *link) { l.out.head.Store(^uint64(0)) }},
		{"more taken than was", wantRing, func(l *link) { l.out.taken.Store(1 << 50) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := attachAll(t, 2, Options{Ring: c.ring}, time.Minute)
			reader := &g[1].(*group).e.mu // the true reader is kept from putting it right
			reader.Lock()
			defer reader.Unlock()
			if !scribble(g[0], c.damage) {
				t.Fatal("the peer was lost before it mattered")
			}
			var err error
			for i := 0; err == nil && i < comm.EagerBytes/1000+1; i++ {
				err = g[0].Send(t.Context(), 1, 1, make([]byte, 1000))
			}
			if !errors.Is(err, errRing) {
				t.Fatalf("Send: %v", err)
			}
			senseless(t, g[0])
		})
	}
}

// TestScribble writes random words and frames into what two ranks share, some of them plausible: whatever comes of it,
// every call returns within its timeout, and nothing is read or written out of bounds.
func TestScribble(t *testing.T) {
	trials := 150
	if testing.Short() {
		trials = 30
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	lost := 0
	for trial := range trials {
		rng := rand.New(rand.NewPCG(seed, uint64(trial)))
		g := attachAll(t, 2, Options{Ring: minRing}, 20*time.Millisecond)
		p := make([]byte, 3000)
		alive := true
		for range 40 {
			if rng.IntN(4) == 0 {
				g[0].(comm.Poster).Post(comm.Rank(rng.IntN(2)), comm.Tag(rng.IntN(3)), p)
			}
			alive = scribble(g[0], func(l *link) {
				switch rng.IntN(9) {
				case 0:
					l.in.tail.Store(rng.Uint64() >> rng.IntN(64))
				case 1:
					for range 8 {
						l.r.buf[rng.IntN(len(l.r.buf))] = byte(rng.Uint32())
					}
				case 2:
					l.in.asks[rng.IntN(maxAsks)].Store(rng.Uint32N(6))
				case 3:
					l.out.head.Store(rng.Uint64() >> rng.IntN(64))
				case 4:
					binary.LittleEndian.PutUint64(l.slot.abort[rng.IntN(32):], rng.Uint64()>>rng.IntN(64))
					l.in.said.Store(rng.Uint32N(8))
				case 5:
					l.out.asks[rng.IntN(maxAsks)].Store(rng.Uint32N(6))
				default:
					f := frame{kind(rng.IntN(4)), rng.IntN(4), comm.Tag(rng.IntN(3)), rng.IntN(2000)}
					if f.kind == frameAsk || f.kind == frameThere {
						f.n = int(rng.Uint64()>>rng.IntN(64)) & (1<<40 - 1)
						l.in.asks[f.number].Store(askMade)
					}
					writeFrame(l, f, f.payload())
				}
			})
			if !alive {
				lost++
				break
			}
		}
		if err := g[0].Send(t.Context(), 1, 1, p[:100]); err != nil && !alive && !errors.Is(err, comm.ErrLost) {
			t.Fatalf("seed %d, trial %d: %v", seed, trial, err)
		}
		for _, g := range g {
			if err := g.Close(); err != nil {
				t.Fatalf("seed %d, trial %d: %v", seed, trial, err)
			}
		}
	}
	if lost < trials/2 {
		t.Errorf("seed %d: only %d of %d damaged links were given up", seed, lost, trials)
	}
}

func FuzzFrame(f *testing.F) {
	b := make([]byte, frameBytes)
	for _, h := range []frame{{frameMessage, 0, 1, 100}, {frameAsk, 63, comm.MakeTag(comm.OpBarrier, 7), maxMessage}, {framePart, 1, 1, partBytes}, {frameThere, 1, 1, maxMessage}} {
		h.put(b)
		f.Add(bytes.Clone(b))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < frameBytes {
			return
		}
		h, err := parseFrame(b)
		if err != nil {
			return
		}
		if h.n < 0 || h.n > maxMessage || h.number < 0 || h.number >= maxAsks || h.kind > frameThere || h.payload() > max(comm.EagerBytes, partBytes) {
			t.Fatalf("%+v", h)
		}
		again := make([]byte, frameBytes)
		if h.put(again); !bytes.Equal(again, b[:frameBytes]) {
			t.Fatalf("%x is read as %+v, which is written as %x", b[:frameBytes], h, again)
		}
	})
}

func FuzzHeader(f *testing.F) {
	for _, n := range []int{1, 2, 256} {
		o := Options{Generation: 3}
		if err := o.validate(n); err != nil {
			f.Fatal(err)
		}
		l, err := layoutOf(Info{n, o.Ring, o.Arena, 3})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(l.encode(), int64(l.total))
	}
	f.Fuzz(func(t *testing.T, b []byte, size int64) {
		l, err := parseHeader(b, size)
		if err != nil {
			return
		}
		if l.Size < 1 || l.Size > MaxRanks || l.Ring < minRing || l.Ring > maxRing || l.Ring&(l.Ring-1) != 0 || int64(l.total) != size ||
			l.slots+l.Size*slotBytes > l.controls || l.controls+l.Size*(l.Size-1)*controlBytes > l.rings || l.rings+l.Size*(l.Size-1)*l.Ring > l.cells ||
			l.cells+l.Size*cellBytes > l.scratch || l.scratch+l.Size*comm.ScratchBytes > l.arenas || l.arenas+l.Size*l.Arena > l.total {
			t.Fatalf("%+v", l)
		}
		if again := l.encode(); !bytes.Equal(again, b[:len(again)]) {
			t.Fatalf("%x is read as %+v", b, l)
		}
	})
}

func FuzzAbort(f *testing.F) {
	b := make([]byte, abortBytes)
	putAbort(b, &comm.PeerError{Rank: 3, Op: comm.OpBarrier, Step: 9, Missing: 4, Cause: comm.ErrTimeout})
	f.Add(b)
	f.Fuzz(func(t *testing.T, p []byte) {
		b := make([]byte, abortBytes)
		copy(b, p)
		if e, err := parseAbort(b); err == nil && (e.Cause == nil || e.Error() == "") {
			t.Fatalf("%+v", e)
		}
	})
}
