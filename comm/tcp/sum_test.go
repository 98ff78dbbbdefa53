package tcp

import (
	"hash/crc32"
	"math/rand/v2"
	"testing"
)

// update is crc32.Update for every length, place and sum so far.
func TestUpdate(t *testing.T) {
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	var rest remainder
	b := make([]byte, 5000)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	for n := range 4500 {
		sum, at := rng.Uint32(), rng.IntN(500)
		p := b[at : at+n]
		if got, want := update(sum, p, &rest), crc32.Update(sum, castagnoli, p); got != want {
			t.Fatalf("seed %d: %d bytes from %d on after %08x: %08x, not %08x", seed, n, at, sum, got, want)
		}
	}
	if n := testing.AllocsPerRun(100, func() { update(0, b, &rest) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkUpdate(b *testing.B) {
	p := make([]byte, FrameBytes)
	var rest remainder
	b.SetBytes(FrameBytes)
	for range b.N {
		update(0, p, &rest)
	}
}
