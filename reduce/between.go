package reduce

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/covey-ml/covey/ckpt"
	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/vec"
)

// Between sums exactly inside each host and compresses between hosts: the ranks of a host all-reduce among themselves, the
// first of them speaks for the host, and gives the result to the others. What crosses between hosts is what Compressed
// sends for as many ranks as there are hosts.
type Between struct {
	near   comm.Group // of this host's ranks
	tree   comm.Tree  // of near, one vector a rank
	far    *Compressed
	speaks bool // this rank calls far; on the others it holds what they loaded, until the next Sum brings it together
	loaded bool
}

// The subgroups' numbers.
const (
	nearGroup = 0x6e656172
	farGroup  = 0x666172
)

// New returns what c describes: exact sums where no rule compresses, and Between where the rules ask for that. All ranks
// call it, with the same arguments.
func New(c Config, hosts comm.Hosts) (Reducer, error) {
	switch {
	case !c.Rules.Lossy():
		return c.Exact, nil
	case !c.Rules.Hosts:
		return NewCompressed(c), nil
	}
	return newBetween(c, hosts)
}

func newBetween(c Config, hosts comm.Hosts) (*Between, error) {
	size, me := c.Group.Size(), c.Group.Rank()
	active := min(size, c.Tree.Leaves())
	if len(hosts) < 2 {
		return nil, errors.New("+hosts compresses what crosses between hosts, and all workers are on one: leave it out")
	}
	var heads, mine []comm.Rank
	for i, first := range hosts {
		end := comm.Rank(size)
		if i+1 < len(hosts) {
			end = hosts[i+1]
		}
		if int(first) >= active {
			return nil, fmt.Errorf("host %d of %d has no worker with a microshard: give more microshards or fewer workers", i, len(hosts))
		}
		heads = append(heads, first)
		for r := first; r < end && me >= first && me < end; r++ {
			mine = append(mine, r)
		}
	}
	b := &Between{speaks: me == mine[0]}
	var err error
	if b.near, err = comm.Sub(c.Group, mine, nearGroup); err != nil {
		return nil, err
	}
	b.tree = comm.NewTree(min(len(mine), active-int(mine[0])), len(mine))
	if b.speaks {
		if c.Group, err = comm.Sub(c.Group, heads, farGroup); err != nil {
			return nil, err
		}
	}
	c.Tree = comm.NewTree(len(heads), len(heads))
	c.Exact = &Exact{Group: c.Group, Tree: c.Tree}
	b.far = NewCompressed(c)
	return b, nil
}

var (
	_ Reducer       = (*Between)(nil)
	_ Coder         = (*Between)(nil)
	_ ckpt.Stateful = (*Between)(nil)
)

// Sum implements Reducer.
func (b *Between) Sum(ctx context.Context, v Vector) error {
	if err := b.settle(ctx); err != nil {
		return err
	}
	x := v.Parts[0]
	for _, part := range v.Parts[1:] {
		add(b.near, x, part)
	}
	v.Parts = v.Parts[:1]
	if err := comm.AllReduce(ctx, b.near, b.tree, v.Parts); err != nil {
		return err
	}
	said := []byte{fine}
	var own error
	if b.speaks {
		own = b.far.Sum(ctx, v)
		if own != nil && !errors.Is(own, ErrNotFinite) && !errors.Is(own, ErrNoCode) {
			return own // the group is broken, or this rank is
		}
		said[0] = ending(own)
	}
	if err := comm.Broadcast(ctx, b.near, 0, said); err != nil {
		return err
	}
	if own != nil {
		return own
	}
	if err, ok := verdict(said[0]); !ok {
		return fmt.Errorf("reduce: this host's first worker ended its sum with %d", said[0])
	} else if err != nil {
		return err
	}
	return comm.Broadcast(ctx, b.near, 0, vec.Bytes(x))
}

// settle gives what the ranks of a host loaded of a sum over ranks to the one that speaks.
func (b *Between) settle(ctx context.Context) error {
	if !b.loaded {
		return nil
	}
	b.loaded = false
	all := comm.NewTree(b.near.Size(), b.near.Size())
	for _, t := range b.far.State() {
		if t.Shard != ckpt.Summed {
			continue
		}
		x := vec.Floats(t.Data)
		if err := comm.AllReduce(ctx, b.near, all, [][]float32{x}); err != nil {
			return err
		}
		if !b.speaks {
			clear(x)
		}
	}
	if b.speaks { // what the others had as theirs came along
		b.far.disown()
	}
	return nil
}

// Codec implements Coder.
func (b *Between) Codec() time.Duration { return b.far.Codec() }

// State implements ckpt.Stateful.
func (b *Between) State() []ckpt.Tensor { return b.far.State() }

// Load implements ckpt.Stateful.
func (b *Between) Load(ts []ckpt.Tensor) error {
	err := b.far.Load(ts)
	b.loaded = err == nil
	return err
}
