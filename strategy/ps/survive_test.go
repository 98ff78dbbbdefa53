package ps

import (
	"testing"
	"time"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/comm/inproc"
	"github.com/covey-ml/covey/strategy"
)

// What a worker takes up is acknowledged once a server has answered: should the only rank that has it be lost before others get their
// copies, the run goes on from those that there are.
func TestTakenUpIsNotAcknowledged(t *testing.T) {
	groups := inproc.New(2, time.Minute)
	tree := comm.NewTree(2, 1).Spare(1)
	s := New(Config{Servers: 1, Mode: Async})
	s.w, s.worker, s.origin = &strategy.Worker{Group: groups[0], Tree: tree}, &worker{}, 1
	s.worker.again([]int{2, 2}, 2)
	said := [][]standing{{s.Standing().(standing)}, {{Origin: 1, Ranges: []rangeStanding{{Range: 0, Version: 1, tally: tally{Done: []int{2, 0}, Applied: 2}}}}}}
	a, err := s.agree(said)
	if err != nil {
		t.Fatal(err)
	}
	if a.step != 0 || a.regular != 2 {
		t.Errorf("the run goes on from step %d, as usual from %d, expected 0 and 2", a.step, a.regular)
	}
	s.worker.acked = 1
	if said[0][0] = s.Standing().(standing); said[0][0].Acked != 1 {
		t.Fatalf("%+v", said[0][0])
	}
	if _, err := s.agree(said); err == nil {
		t.Error("an acknowledged step that no server has is passed over")
	}
}
