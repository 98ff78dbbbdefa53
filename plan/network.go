package plan

import (
	"context"
	"errors"
	"time"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/comm/sim"
	"github.com/covey-ml/covey/network"
)

// On is the scene of workers on a network, as the simulator has it: alpha and beta are those of the first host and the last
// one, and of workers of one host, when nobody else uses the links. That links are shared is not in the formulas: covey sim
// shares them.
func On(ctx context.Context, n *network.Network, workers int) (Scene, error) {
	var s Scene
	w, err := world(n, workers)
	if err != nil {
		return s, err
	}
	err = w.Run(ctx, func(g comm.Group) {
		if g.Rank() == 0 {
			s = SceneOn(g)
		}
	})
	s.Name, s.Hosts = n.Name, w.Hosts()
	return s, err
}

// patience is how long simulated workers wait for each other, in their own time.
const patience = time.Hour

func world(n *network.Network, workers int) (*sim.World, error) {
	return sim.New(sim.Config{Network: n, Workers: workers, Timeout: patience})
}

// Simulated runs on workers of a simulated network.
func Simulated(n *network.Network) Run {
	return func(ctx context.Context, workers int, f func(context.Context, comm.Group) error) error {
		w, err := world(n, workers)
		if err != nil {
			return err
		}
		errs := make([]error, workers)
		err = w.Run(ctx, func(g comm.Group) { errs[g.Rank()] = f(ctx, g) })
		return errors.Join(append(errs, err)...)
	}
}
