package rng

import (
	"fmt"
	"testing"
)

// The draws are part of what a run computes: a change of these numbers changes every model.
func ExampleNew() {
	r := New(1, "example", 7)
	fmt.Println(r.Uint64(), r.IntN(100), r.Float32())
	// Output: 8278405290535942862 64 0.16758275
}

func TestKeysTellDrawsApart(t *testing.T) {
	seen := map[uint64]string{}
	add := func(what string, k uint64) {
		if other, ok := seen[k]; ok {
			t.Errorf("%s and %s have one key", what, other)
		}
		seen[k] = what
	}
	for seed := range uint64(20) {
		for _, purpose := range []string{"a", "b", "ab", "ba"} {
			add(fmt.Sprintf("seed %d, %s", seed, purpose), Key(seed, purpose))
			for k := range uint64(20) {
				add(fmt.Sprintf("seed %d, %s, %d", seed, purpose, k), Key(seed, purpose, k))
				add(fmt.Sprintf("seed %d, %s, 0, %d", seed, purpose, k), Key(seed, purpose, 0, k))
			}
		}
	}
}

func TestWith(t *testing.T) {
	if got, want := With(Key(7, "rows", 1), 2), Key(7, "rows", 1, 2); got != want {
		t.Errorf("Key with one more key is %#x, expected %#x", got, want)
	}
}

// Mix is a bijection in which each input bit moves about half of the output bits.
func TestMixAvalanche(t *testing.T) {
	for bit := range 64 {
		flips := 0
		const n = 1000
		for x := range uint64(n) {
			for d := Mix(x) ^ Mix(x^1<<bit); d != 0; d &= d - 1 {
				flips++
			}
		}
		if mean := float64(flips) / n; mean < 28 || mean > 36 {
			t.Errorf("input bit %d moves %.1f output bits on average", bit, mean)
		}
	}
}
