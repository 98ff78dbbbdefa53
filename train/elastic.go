package train

import (
	"context"
	"errors"

	"github.com/covey-ml/covey/ckpt"
	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/strategy"
)

// ErrRegroup says that a generation of workers ended between two steps, as asked, so that another can take its place.
var ErrRegroup = errors.New("train: the workers are about to change")

// Generations gives a worker its groups, one after the other.
type Generations interface {
	// Next waits for the next generation. ended is why the one before is over: nil before the first, ErrRegroup, or the
	// *comm.PeerError by which it was broken. The group of the one before is closed. The error that it returns ends the run.
	Next(ctx context.Context, ended error) (Generation, error)
}

// Generation is a fixed set of workers that train together.
type Generation struct {
	Group  comm.Group
	Hosts  comm.Hosts // where its ranks are; nil: on one host
	Number uint64
	// Kept says that this worker was in the generation before, as that stood to the end: what it knows of the run counts.
	Kept bool
	Why  string   // it was formed, in words
	Gone []string // who of the generation before is not in it, and why
}

// GenerationInfo is told when a generation after the first begins to train.
type GenerationInfo struct {
	StartInfo // its Notes say what was lost with those who are gone
	Number    uint64
	Workers   int
	Why       string
	Gone      []string `json:",omitempty"`
}

// Elastic trains on one worker in one generation of workers after the other, until the run ends. When one is lost the others go
// on from the last step that all can go on from, which is held in their memories; who comes new is given what it needs by the
// others.
//
// A step of the exact all-reduce is done by all or undone: at most one, the one under way, is done again, and with microshards
// fixed the run ends with the parameters that it would have come to, unless its batch follows its workers (Config.Rescale). Other methods keep a copy of their state after each
// exchange, and go back to that; what a lost worker alone knew is lost, and told (Events.Generation).
func Elastic(ctx context.Context, gens Generations, c Config) (*Report, error) {
	c.kept = &kept{ledger: comm.NewLedger()}
	defer c.kept.forget()
	c.Replicate = true // a part that one worker alone has is lost with it
	var ended error
	for {
		gen, err := gens.Next(ctx, ended)
		if err != nil {
			return nil, err
		}
		if !gen.Kept {
			c.kept.shots = nil
			c.kept.forget()
		}
		c.kept.generation = gen
		c.Hosts = gen.Hosts
		report, err := Run(ctx, gen.Group, c)
		gen.Group.Close()
		var peer *comm.PeerError
		lost := errors.As(err, &peer)
		c.kept.wire.add(gen.Group, c.kept.ledger, lost)
		switch {
		case ctx.Err() == nil && lost, errors.Is(err, ErrRegroup):
			ended = err
		default:
			return report, err
		}
	}
}

// regroups tells whether all stop for another generation, and not because the run is to stop.
func (r *run) regroups(ctx context.Context) (bool, error) {
	return decide(ctx, r.g, r.c.Stop != nil && r.c.Stop(), func(stops []bool) (bool, error) {
		for _, stop := range stops {
			if stop {
				return false, nil
			}
		}
		return true, nil
	})
}

// undoable tells whether a step that fails leaves everything as it was before, so that no copies have to be kept.
func (r *run) undoable() bool {
	_, undoes := r.strategy.(strategy.Undoer)
	_, keeps := r.w.Reducer.(ckpt.Stateful)
	return undoes && !keeps && len(r.strategy.State()) == 0
}

// announce tells that the training begins, or goes on in another generation.
func (r *run) announce() {
	epochs, part := r.sampler.At(r.total)
	start := StartInfo{Step: r.step, Steps: r.total, Epoch: r.epoch, Epochs: epochs + min(part, 1), At: r.g.Clock().Now() - r.began,
		Samples: r.c.Train.Len(), Parameters: r.size, Pace: r.paceInForce(), Notes: r.notes, Books: r.ledger.Totals()}
	again := r.kept != nil && r.kept.generation.Number > 1
	switch e := r.c.Events; {
	case !again && e.Start != nil:
		e.Start(start)
	case again && e.Generation != nil:
		gen := r.kept.generation
		e.Generation(GenerationInfo{StartInfo: start, Number: gen.Number, Workers: r.g.Size(), Why: gen.Why, Gone: gen.Gone})
	}
}
