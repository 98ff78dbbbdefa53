package reduce

import (
	"testing"
	"time"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/comm/inproc"
)

// A large vector is updated in parts, unless the sum goes by another algorithm: the one asked for, or the one that saves
// the network between hosts.
func TestScatters(t *testing.T) {
	groups := inproc.New(4, time.Minute)
	defer func() {
		for _, g := range groups {
			g.Close()
		}
	}()
	one, two := comm.NewTree(4, 4), comm.NewTree(4, 4).On(comm.Hosts{0, 2})
	for _, c := range []struct {
		tree comm.Tree
		alg  comm.Algorithm
		n    int
		want bool
	}{
		{one, comm.Auto, 16 << 10, true}, {one, comm.Auto, 16<<10 - 1, false}, {one, comm.Direct, 16 << 10, true},
		{one, comm.Torus, 16 << 10, false}, {two, comm.Auto, 1 << 20, false}, {two, comm.Direct, 1 << 20, true},
	} {
		messages := struct{ comm.Group }{groups[0]} // and no shared memory
		e := &Exact{Group: messages, Tree: c.tree, Algorithm: c.alg}
		if got := e.Scatters(c.n); got != c.want {
			t.Errorf("%v of %d elements: %v", c.alg, c.n, got)
		}
	}
	if e := (&Exact{Group: groups[0], Tree: two}); !e.Scatters(1 << 20) {
		t.Error("ranks that share memory do not scatter, whatever hosts the tree tells")
	}
}
