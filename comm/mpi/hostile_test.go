//go:build mpi && cgo

package mpi

import (
	"errors"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/covey-ml/covey/comm"
)

// tell has rank 0 read a frame as if rank 1 had sent it.
func tell(g comm.Group, h header, payload []byte) {
	b := make([]byte, HeaderBytes+len(payload))
	h.put(b)
	copy(b[HeaderBytes:], payload)
	l := g.(*group).links[1]
	l.e.mu.Lock()
	defer l.e.mu.Unlock()
	l.read(b)
}

// A peer whose frames make no sense is lost, by an error that says so, and so is this rank to it.
func TestSenselessFrames(t *testing.T) {
	for name, say := range map[string]func(g comm.Group){
		"an unknown kind":       func(g comm.Group) { tell(g, header{kind: numKinds}, nil) },
		"a part of nothing":     func(g comm.Group) { tell(g, header{kind: framePart, size: 3}, make([]byte, 3)) },
		"taken what never went": func(g comm.Group) { tell(g, header{kind: frameTaken, taken: 1}, nil) },
		"a length that lies":    func(g comm.Group) { tell(g, header{kind: frameMessage, size: 9}, make([]byte, 3)) },
		"an abort of nothing":   func(g comm.Group) { tell(g, header{kind: frameAbort}, nil) },
		"leave asked twice": func(g comm.Group) {
			for n := range uint32(2) {
				tell(g, header{kind: frameAsk, number: n, size: 1 << 20}, nil)
			}
		},
		"more without leave than waits": func(g comm.Group) {
			for range 4 {
				tell(g, header{kind: frameMessage, size: comm.EagerBytes}, make([]byte, comm.EagerBytes))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := open(t, 2, 5*time.Second)
			defer g[1].Close()
			defer g[0].Close()
			say(g[0])
			var pe *comm.PeerError
			err := g[0].Send(t.Context(), 1, 1, nil)
			if !errors.As(err, &pe) || pe.Rank != 1 || !errors.Is(err, comm.ErrLost) || !strings.Contains(err.Error(), "makes no sense") {
				t.Errorf("the sound rank says: %v", err)
			}
		})
	}
}

// TestNoise: whatever frames come, every call returns within its timeout.
func TestNoise(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	draw := rand.New(rand.NewPCG(seed, 0))
	lost := 0
	for range 60 {
		g := open(t, 2, 20*time.Millisecond)
		for range 30 {
			h := header{kind: kind(draw.IntN(int(numKinds) + 1)), number: draw.Uint32N(3), tag: comm.Tag(draw.IntN(2))}
			payload := make([]byte, draw.IntN(100))
			if h.size = len(payload); h.kind == frameAsk {
				h.size, payload = draw.IntN(1<<18), nil
			}
			if h.kind == frameAbort || draw.IntN(8) > 0 && h.kind > framePart {
				continue
			}
			if draw.IntN(3) == 0 {
				g[0].(comm.Poster).Post(1, h.tag, make([]byte, draw.IntN(1<<18)))
			}
			tell(g[0], h, payload)
		}
		if err := g[0].Send(t.Context(), 1, 1, make([]byte, 100)); err != nil {
			if lost++; !errors.Is(err, comm.ErrLost) {
				t.Fatalf("seed %d: %v", seed, err)
			}
		}
		for _, g := range g {
			if err := g.Close(); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
		}
	}
	if lost < 20 {
		t.Errorf("seed %d: only %d of 60 noisy peers were given up", seed, lost)
	}
}

// A process whose only worker waits for a message leaves the processor to others.
func TestRest(t *testing.T) {
	g := open(t, 2, time.Second)
	defer g[1].Close()
	defer g[0].Close()
	spent := func() time.Duration {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			t.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	before := spent()
	if _, _, err := g[0].Recv(t.Context(), 1, 1, nil); !errors.Is(err, comm.ErrTimeout) {
		t.Fatal(err)
	}
	if took := spent() - before; took > 300*time.Millisecond {
		t.Errorf("a second of waiting took %v of processor time", took)
	} else {
		t.Logf("a second of waiting took %v of processor time", took)
	}
}
