package train

import (
	"math/rand/v2"
	"testing"

	"github.com/covey-ml/covey/data"
)

// However often the batch changes, and wherever in an epoch: each sample is in one microshard of one step of it, and as many
// steps are done in the end as were said after the last change.
func TestPaceUsesEachSampleOnce(t *testing.T) {
	seed := rand.Uint64()
	draw := rand.New(rand.NewPCG(seed, 1))
	for range 300 {
		n := 1 + draw.IntN(40)
		samples, err := data.NewSampler(n, n, seed)
		if err != nil {
			t.Fatal(err)
		}
		s := sliced{samples, 1 + draw.IntN(5), Pace{Batch: 1 + draw.IntN(n), Rate: 1, Workers: 1, Of: 1}}
		epochs := 1 + draw.IntN(4)
		var used []int // by sample, in the epoch under way
		in := -1
		step := 0
		for ; step < s.Steps(epochs); step++ {
			epoch, done := s.At(step)
			if draw.IntN(4) == 0 {
				s.pace = Pace{Step: step, Epoch: epoch, Used: done, Batch: 1 + draw.IntN(n), Rate: 1, Workers: 1, Of: 1}
				if err := s.pace.check(step, n); err != nil {
					t.Fatalf("seed %d: %v", seed, err)
				}
				if e, d := s.At(step); e != epoch || d != done {
					t.Fatalf("seed %d, %+v: step %d stood at %d, %d and is at %d, %d", seed, s.pace, step, epoch, done, e, d)
				}
			}
			if epoch != in {
				if in, used = epoch, make([]int, n); done != 0 {
					t.Fatalf("seed %d, %+v: the first step of epoch %d begins at %d", seed, s.pace, epoch, done)
				}
			}
			sum := 0
			for leaf := range s.shards {
				ids := s.Shard(step, leaf)
				if len(ids) != s.Count(step, leaf) {
					t.Fatalf("seed %d: %d samples, %d said", seed, len(ids), s.Count(step, leaf))
				}
				for _, id := range ids {
					used[id]++
				}
				sum += len(ids)
			}
			if sum != s.Size(step) || sum == 0 {
				t.Fatalf("seed %d, %+v: step %d has %d samples, %d said", seed, s.pace, step, sum, s.Size(step))
			}
			if next, _ := s.At(step + 1); next != epoch {
				for id, times := range used {
					if times != 1 {
						t.Fatalf("seed %d, %+v: sample %d was used %d times in epoch %d", seed, s.pace, id, times, epoch)
					}
				}
			}
		}
		if epoch, done := s.At(step); epoch != epochs || done != 0 {
			t.Fatalf("seed %d, %+v: after %d steps at %d, %d, expected the end of %d epochs", seed, s.pace, step, epoch, done, epochs)
		}
	}
}

// What a checkpoint or another worker says is held to what can be.
func TestPaceIsChecked(t *testing.T) {
	good := Pace{Step: 10, Epoch: 2, Used: 5, Batch: 8, Rate: 0.5, Workers: 2, Of: 4}
	if err := good.check(10, 20); err != nil {
		t.Fatal(err)
	}
	for _, spoil := range []func(*Pace){
		func(p *Pace) { p.Step = 11 }, func(p *Pace) { p.Step = -1 }, func(p *Pace) { p.Epoch = -1 }, func(p *Pace) { p.Used = 20 },
		func(p *Pace) { p.Used = -1 }, func(p *Pace) { p.Batch = 0 }, func(p *Pace) { p.Batch = 21 }, func(p *Pace) { p.Workers = 0 },
		func(p *Pace) { p.Of = 0 }, func(p *Pace) { p.Rate = 0 }, func(p *Pace) { p.Rate = 1e300 },
	} {
		p := good
		spoil(&p)
		if p.check(10, 20) == nil {
			t.Errorf("%+v passes", p)
		}
	}
}
