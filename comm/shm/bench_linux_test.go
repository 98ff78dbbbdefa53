package shm

import (
	"context"
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"github.com/covey-ml/covey/comm"
)

// pong answers every message of tag 1 with itself until a message of tag 2's length says stop (an empty one).
func pong(g comm.Group, n int) error {
	p := make([]byte, n)
	for {
		_, k, err := g.Recv(context.Background(), 0, 1, p)
		if err != nil || k == 0 {
			return err
		}
		if err := g.Send(context.Background(), 0, 1, p[:k]); err != nil {
			return err
		}
	}
}

func ping(b *testing.B, g comm.Group, n int) {
	p, q := make([]byte, n), make([]byte, n)
	pattern(p, 0, n)
	turn := func() {
		r := g.(comm.Poster).Post(1, 1, q)
		if err := g.Send(context.Background(), 1, 1, p); err != nil {
			b.Fatal(err)
		}
		if _, _, err := r.Wait(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
	turn()
	if string(p) != string(q) {
		b.Fatal("the echo differs")
	}
	b.SetBytes(2 * int64(n))
	for b.Loop() {
		turn()
	}
	b.StopTimer()
	if err := g.Send(context.Background(), 1, 1, nil); err != nil {
		b.Fatal(err)
	}
}

var benchSizes = []int{8, 1 << 10, 64 << 10, 4 << 20}

// BenchmarkPingPong times a message there and back, so a message takes half of that.
func BenchmarkPingPong(b *testing.B) {
	for _, n := range benchSizes {
		b.Run(fmt.Sprintf("goroutines/%d", n), func(b *testing.B) {
			groups := attachAll(b, 2, Options{}, time.Minute)
			done := make(chan error)
			go func() { done <- pong(groups[1], n) }()
			ping(b, groups[0], n)
			if err := <-done; err != nil {
				b.Fatal(err)
			}
		})
	}
}

// BenchmarkPingPongProcesses is the same with the echo in another process.
func BenchmarkPingPongProcesses(b *testing.B) {
	for _, n := range benchSizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			f, err := Create(2, Options{})
			if err != nil {
				b.Fatal(err)
			}
			defer f.Close()
			echo := start(b, f, 1, "pong4", time.Minute)
			g, err := Attach(f, 0, time.Minute, time.Minute)
			if err != nil {
				b.Fatal(err)
			}
			defer g.Close()
			ping(b, g, n)
			if err := echo.Wait(); err != nil {
				b.Fatal(err)
			}
		})
	}
}

// BenchmarkAllReduceProcesses times a broadcast of 4 bytes and an all-reduce of float32s between processes.
func BenchmarkAllReduceProcesses(b *testing.B) {
	for _, ranks := range []int{2, 4} {
		for _, n := range []int{256, 4 << 10, 1 << 20} {
			b.Run(fmt.Sprintf("%d/%dKiB", ranks, n/256), func(b *testing.B) {
				f, err := Create(ranks, Options{})
				if err != nil {
					b.Fatal(err)
				}
				defer f.Close()
				for r := 1; r < ranks; r++ {
					start(b, f, r, "sum", time.Minute)
				}
				g, err := Attach(f, 0, time.Minute, time.Minute)
				if err != nil {
					b.Fatal(err)
				}
				defer g.Close()
				x, tree := make([]float32, n), comm.NewTree(ranks, ranks)
				sum := func(k int) {
					if err := comm.Broadcast(b.Context(), g, 0, binary.LittleEndian.AppendUint32(nil, uint32(k))); err != nil {
						b.Fatal(err)
					}
					if k == 0 {
						return
					}
					for i := range x {
						x[i] = float32(i)
					}
					if err := comm.AllReduce(b.Context(), g, tree, [][]float32{x}); err != nil {
						b.Fatal(err)
					}
				}
				sum(n) // the others' vectors hold zeros
				for i := range x {
					if x[i] != float32(i) {
						b.Fatalf("element %d is %v", i, x[i])
					}
				}
				for b.Loop() {
					sum(n)
				}
				b.StopTimer()
				sum(0)
			})
		}
	}
}
