package reduce

import (
	"context"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/comm/inproc"
	"github.com/covey-ml/covey/model"
	"github.com/covey-ml/covey/rng"
	"github.com/covey-ml/covey/vec"
)

// BenchmarkSum is one sum of the gradient of a 784-1024-1024-10 network, 1.86 million numbers, over 2 ranks in one process, which
// takes no time on the way: what is left is encoding, decoding, and what goes around them. The result is checked first: the
// same on both ranks, and with error feedback on both sides what was handed out and what is kept are what was brought.
func BenchmarkSum(b *testing.B) {
	layout := model.Layout{}.Add("0.weight", 1024, 784).Add("0.bias", 1024).Add("1.weight", 1024, 1024).Add("1.bias", 1024).
		Add("2.weight", 10, 1024).Add("2.bias", 10)
	n := testHead + layout.Len()
	brought := [2][]float32{make([]float32, n), make([]float32, n)}
	for rank := range brought {
		r := rng.New(3, "test", uint64(rank))
		for i := range brought[rank] {
			brought[rank][i] = normal(r) / 64
		}
	}
	for _, text := range []string{"none", "topk:0.01+ef", "powersgd:4+ef", "uniform:8+ef", "onebit+ef", "natural"} {
		b.Run(text, func(b *testing.B) {
			rules, err := ParseRules(text)
			if err != nil {
				b.Fatal(err)
			}
			groups := inproc.New(2, time.Minute)
			tree := comm.NewTree(2, 2)
			var red [2]Reducer
			var x [2][]float32
			step := 0
			for rank, g := range groups {
				defer g.Close()
				exact := &Exact{Group: g, Tree: tree}
				if red[rank], err = New(Config{Group: g, Tree: tree, Exact: exact, Layout: layout, Rules: rules}, nil); err != nil {
					b.Fatal(err)
				}
				x[rank] = make([]float32, n)
			}
			begin, done := make(chan bool), make(chan error)
			defer close(begin)
			sum := func(rank int) error {
				return red[rank].Sum(context.Background(), Vector{Parts: [][]float32{x[rank]}, Head: testHead, Total: 64, Step: step})
			}
			go func() {
				for range begin {
					done <- sum(1)
				}
			}()
			once := func() {
				for rank := range x {
					copy(x[rank], brought[rank])
				}
				b.StartTimer()
				begin <- true
				mine := sum(0)
				if theirs := <-done; mine != nil || theirs != nil {
					b.Fatal(mine, theirs)
				}
				b.StopTimer()
				step++
			}
			b.StopTimer()
			const before = 3
			handed := make([]float64, n)
			for range before {
				once()
				for i, v := range x[0] {
					handed[i] += float64(v)
				}
			}
			check(b, red, x, brought, handed, before)
			b.SetBytes(int64(4 * n))
			b.ResetTimer()
			b.StopTimer()
			for range b.N {
				once()
			}
		})
	}
}

func check(b *testing.B, red [2]Reducer, x, brought [2][]float32, handed []float64, steps int) {
	if !slices.Equal(vec.Bytes(x[0]), vec.Bytes(x[1])) {
		b.Fatal("the ranks have different sums")
	}
	want := make([]float64, len(handed))
	for i := range want {
		want[i] = float64(steps) * (float64(brought[0][i]) + float64(brought[1][i]))
	}
	all := true // that was brought was handed out or is kept
	for _, r := range red {
		c, ok := r.(*Compressed)
		if !ok {
			continue
		}
		for i := range c.segments {
			s := &c.segments[i]
			all = all && (s.way == exactly || s.feedback == remember)
			for k, v := range s.kept {
				handed[testHead+s.Off+k] += float64(v)
			}
			for k, v := range s.both {
				handed[testHead+s.Off+k] += float64(v)
			}
		}
	}
	var off, norm float64
	for i := range want {
		off += (handed[i] - want[i]) * (handed[i] - want[i])
		norm += want[i] * want[i]
	}
	if e := math.Sqrt(off / norm); all && e > 1e-5 || e > 0.3 {
		b.Fatalf("off by %v of the norm", e)
	}
}
