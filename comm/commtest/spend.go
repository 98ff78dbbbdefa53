package commtest

import (
	"context"
	"sync/atomic"

	"github.com/covey-ml/covey/comm"
)

// Tally is a clock that adds up what is spent.
type Tally struct {
	comm.Clock
	FLOPs, Bytes atomic.Int64
}

// Spend implements comm.Clock.
func (c *Tally) Spend(k comm.Cost) {
	c.FLOPs.Add(k.FLOPs)
	c.Bytes.Add(k.Bytes)
}

// Priced is a group with a Tally for a clock, and, since it offers nothing else, without shared memory.
type Priced struct {
	comm.Group
	Tally *Tally
}

// Price puts a Tally of its own on a group.
func Price(g comm.Group) *Priced { return &Priced{g, &Tally{Clock: g.Clock()}} }

// Clock implements comm.Group.
func (g *Priced) Clock() comm.Clock { return g.Tally }

// Hollow is a priced group for times alone: what is sent has the length of what was given, and what comes is dropped.
type Hollow struct{ *Priced }

// Hollow implements comm.Hollow.
func (Hollow) Hollow() bool { return true }

// Send implements comm.Group.
func (h Hollow) Send(ctx context.Context, to comm.Rank, tag comm.Tag, p []byte) error {
	return h.Group.Send(ctx, to, tag, make([]byte, len(p)))
}

// Recv implements comm.Group.
func (h Hollow) Recv(ctx context.Context, from comm.Rank, tag comm.Tag, p []byte) (comm.Rank, int, error) {
	return h.Group.Recv(ctx, from, tag, make([]byte, len(p)))
}
