package ps

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/covey-ml/covey/comm"
)

// dealtOut is how long a step takes in which workers, who need so long for a microshard, ask for one whenever they have none, and how
// many each gets.
func dealtOut(d *deal, takes []time.Duration) (over time.Duration, got []int) {
	free := make([]time.Duration, len(takes))
	got = make([]int, len(takes))
	step := d.step
	for out := map[int]bool{}; len(out) < len(takes); {
		who := -1
		for w := range free {
			if !out[w] && (who < 0 || free[w] < free[who]) {
				who = w
			}
		}
		now := free[who]
		if d.holds[who] {
			d.holds[who], d.took[who] = false, smooth(d.took[who], now-d.began[who])
		}
		if d.step > step { // as workers do, who then fetch
			out[who] = true
			continue
		}
		if p := d.next(who, now); p.step > step {
			out[who] = true
			continue
		}
		got[who]++
		free[who] = now + takes[who]
		over = max(over, free[who])
	}
	return over, got
}

// All microshards of a step are handed out, each once, whatever paces workers have. Once these are known a step takes no longer than if
// each went to whoever asks first, and a slow worker does not begin the last one.
func TestDealIsOverSooner(t *testing.T) {
	const fast = 10 * time.Millisecond
	for _, of := range []struct {
		leaves int
		takes  []time.Duration
		want   time.Duration
	}{
		{16, []time.Duration{fast, fast, fast, fast}, 4 * fast},
		{16, []time.Duration{fast, fast, fast, 5 * fast}, 5 * fast}, // 5 each, and one
		{12, []time.Duration{fast, fast, fast, 5 * fast}, 4 * fast}, // the slow one gets none: with one it would be 5
		{17, []time.Duration{fast, fast, fast, 5 * fast}, 6 * fast}, // 16 for the others
		{4, []time.Duration{fast, 100 * fast}, 4 * fast},            // nothing for the slow one
		{3, []time.Duration{fast}, 3 * fast},
	} {
		d := newDeal(comm.NewTree(of.leaves, len(of.takes)), len(of.takes))
		d.begin(0)
		d.took = append(d.took[:0], of.takes...)
		over, got := dealtOut(d, of.takes)
		if over != of.want {
			t.Errorf("%d microshards for %v: %v, expected %v; they got %v", of.leaves, of.takes, over, of.want, got)
		}
	}
	seed := rand.Uint64()
	draw := rand.New(rand.NewPCG(seed, 1))
	for range 500 {
		takes := make([]time.Duration, 1+draw.IntN(6))
		for i := range takes {
			takes[i] = time.Duration(1+draw.IntN(50)) * time.Millisecond
		}
		leaves := len(takes) + draw.IntN(30)
		d := newDeal(comm.NewTree(leaves, len(takes)), len(takes))
		d.begin(7)
		label := fmt.Sprintf("seed %d: %d microshards for %v", seed, leaves, takes)
		before, got := dealtOut(d, takes) // paces are not known at first
		if n := sum(got); n != leaves || d.step != 8 || d.leaf != 0 {
			t.Fatalf("%s: %d were handed out, and next is %d of step %d", label, n, d.leaf, d.step)
		}
		d.begin(8)
		copy(d.took, takes)
		after, got := dealtOut(d, takes)
		if n := sum(got); n != leaves || after > before {
			t.Fatalf("%s: %d were handed out in %v, and in %v without known paces: %v", label, n, after, before, got)
		}
	}
}
