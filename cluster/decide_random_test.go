package cluster

import (
	"flag"
	"math/rand/v2"
	"testing"
)

var seedFlag = flag.Uint64("seed", 0, "the seed of the random tests; 0: a new one")

// seeds calls f with n seeds, or with the one that was asked for.
func seeds(t *testing.T, n int, f func(t *testing.T, seed uint64)) {
	t.Helper()
	seed := *seedFlag
	defer func() {
		if t.Failed() {
			t.Logf("that was with -seed %d", seed)
		}
	}()
	if seed != 0 {
		f(t, seed)
		return
	}
	for range n {
		seed = rand.Uint64()
		if f(t, seed); t.Failed() {
			return
		}
	}
}

func TestDecideAnything(t *testing.T) {
	formed, waited, over := 0, 0, 0
	seeds(t, 6000, func(t *testing.T, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 1))
		v := drawView(r.IntN)
		checkDecision(t, v)
		switch d := Decide(v); {
		case d.Next != nil:
			formed++
		case d.Over:
			over++
		default:
			waited++
		}
	})
	if *seedFlag == 0 && (formed < 300 || waited < 300 || over < 60) {
		t.Errorf("of the views that were drawn %d form a generation, %d wait, %d give up: some of these are hardly tested", formed, waited, over)
	}
}
