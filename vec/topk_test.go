package vec

import (
	"fmt"
	"math"
	"slices"
	"testing"
)

func init() {
	kernelCases = append(kernelCases, []kernelCase{
		{"TopK", func(s *source, n int) []float32 {
			x := s.numbers(n)
			if n > 64 {
				x = s.numbers(n * 60) // enough for a sample
			}
			idx := make([]int32, s.r.IntN(min(n, 200)+1))
			TopK(idx, x)
			return numbers(idx)
		}},
		{"Above", func(s *source, n int) []float32 {
			x, room := s.numbers(3*n), s.r.IntN(2*n+1)
			idx := unsafeInts(s.raw(room))
			found, read := Above(idx, x, 1.2)
			return append(numbers(idx[:found]), float32(found), float32(read))
		}},
	}...)
}

// topKByDefinition sorts.
func topKByDefinition(k int, x []float32) []int32 {
	all := make([]int32, len(x))
	for i := range all {
		all[i] = int32(i)
	}
	slices.SortStableFunc(all, func(a, b int32) int {
		p, q := math.Abs(float64(x[a])), math.Abs(float64(x[b]))
		switch {
		case p != p || q != q:
			if p != p && q != q {
				return 0
			} else if p != p {
				return -1
			}
			return 1
		case p > q:
			return -1
		case p < q:
			return 1
		}
		return 0
	})
	slices.Sort(all[:k])
	return all[:k]
}

func TestTopK(t *testing.T) {
	const seed = 51
	shapes := map[string]func(s *source, n int) []float32{
		"numbers": func(s *source, n int) []float32 { return s.numbers(n) },
		"equal":   func(s *source, n int) []float32 { return make([]float32, n) },
		"few values": func(s *source, n int) []float32 {
			x := make([]float32, n)
			for i := range x {
				x[i] = float32(s.r.IntN(5) - 2)
			}
			return x
		},
		"large where no sample is": func(s *source, n int) []float32 {
			x := s.numbers(n)
			for i := range x {
				if i%512 > 20 {
					x[i] *= 1e6
				}
			}
			return x
		},
		"large where the sample is": func(s *source, n int) []float32 {
			x := s.numbers(n)
			for i := range x {
				if i%64 < 16 {
					x[i] *= 1e6
				}
			}
			return x
		},
		"rising": func(s *source, n int) []float32 {
			x := make([]float32, n)
			for i := range x {
				x[i] = float32(i)
			}
			return x
		},
	}
	for name, draw := range shapes {
		for round, n := range []int{1, 2, 31, 32, 33, 100, 4095, 4096, 5000, 20000} {
			for kind := range numKinds {
				s := newSource(seed, kind, uint64(round))
				x := draw(s, n)
				for _, k := range []int{0, 1, n / 100, n / 7, n / 2, n - 1, n} {
					idx := make([]int32, k)
					TopK(idx, x)
					if want := topKByDefinition(k, x); !slices.Equal(idx, want) {
						t.Fatalf("seed %d, %s, kind %d: the largest %d of %d are %v, want %v", seed, name, kind, k, n, idx, want)
					}
				}
			}
		}
	}
}

func TestAbove(t *testing.T) {
	const seed = 52
	for round := range 200 {
		s := newSource(seed, round%numKinds, uint64(round))
		n := s.r.IntN(5000)
		x := s.numbers(n)
		for _, bound := range []float32{-1, 0, 0.5, 1.9, float32(math.Inf(1)), 1e-40} {
			var want []int32
			for i, v := range x {
				if !(math.Abs(float64(v)) < float64(bound)) {
					want = append(want, int32(i))
				}
			}
			for _, room := range []int{n, len(want), len(want) / 2} {
				idx := make([]int32, room)
				found, read := Above(idx, x, bound)
				wantRead := n
				if room < len(want) {
					wantRead = int(want[room])
				}
				if found != min(room, len(want)) || read != wantRead || !slices.Equal(idx[:found], want[:found]) {
					t.Fatalf("seed %d, round %d: %d of at least %g, read %d of %d; want %d and %d", seed, round, found, bound, read, n, min(room, len(want)), wantRead)
				}
			}
		}
	}
}

func TestGatherScatter(t *testing.T) {
	x, v := []float32{1, 2, 3}, make([]float32, 2)
	Gather(v, x, []int32{2, 0})
	if v[0] != 3 || v[1] != 1 {
		t.Errorf("gathered %v", v)
	}
	ScatterAdd(x, []int32{1, 1}, v)
	if x[1] != 6 {
		t.Errorf("scattered to %v", x)
	}
	for name, f := range map[string]func(){
		"index":    func() { Gather(v, x, []int32{0, 3}) },
		"negative": func() { ScatterAdd(x, []int32{0, -1}, v) },
		"lengths":  func() { ScatterAdd(x, []int32{0}, v) },
		"too many": func() { TopK(make([]int32, 4), x) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			f()
		}()
	}
}

func TestTopKAllocatesNothing(t *testing.T) {
	x, idx := newSource(53, plain).numbers(10_000), make([]int32, 100)
	if n := testing.AllocsPerRun(20, func() { TopK(idx, x); Above(idx, x, 1.99) }); n != 0 {
		t.Errorf("%v allocations a selection", n)
	}
}

func BenchmarkTopK(b *testing.B) {
	for _, n := range []int{100_000, 2_000_000} {
		s := newSource(1, plain)
		x := make([]float32, n)
		for i := range x {
			x[i] = float32(s.r.NormFloat64())
		}
		for _, per := range []int{1000, 100, 10} {
			b.Run(fmt.Sprintf("%d/%d", n, n/per), func(b *testing.B) {
				k := n / per
				idx, v, y := make([]int32, k), make([]float32, k), make([]float32, n)
				TopK(idx, x)
				if !slices.Equal(idx, topKByDefinition(k, x)) {
					b.Fatal("not the largest")
				}
				b.SetBytes(4 * int64(n))
				for b.Loop() {
					TopK(idx, x)
					Gather(v, x, idx)
					ScatterAdd(y, idx, v)
				}
			})
		}
	}
}

// The bound is near the one sought also where many elements have much the same magnitude, as what error feedback keeps does:
// evenly spread below the largest, 6 % of them share 4 bits of fraction. Otherwise all of x is searched, which takes twice as long.
func TestBoundIsNear(t *testing.T) {
	const n = 1 << 19
	x := make([]float32, n)
	Uniform(x, 1, 0)
	for _, k := range []int{n / 1000, n / 100, n / 10} {
		below := new(topScratch).bound(x, k)
		found := 0
		for _, v := range x {
			if magnitude(v) > below {
				found++
			}
		}
		if found < k || found > 2*k+1000 {
			t.Errorf("of %d sought %d are above the bound", k, found)
		}
	}
}
