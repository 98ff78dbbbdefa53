package comm

import (
	"context"
	"errors"
)

// AllReducer is asked for at run time: a Group whose transport sums by itself.
type AllReducer interface {
	// AllReduce replaces x, on every rank, by the sum of all ranks' x, added in whatever order the transport likes. All
	// ranks call it, with vectors of one length, one call at a time. After an error what x holds is unspecified, and no
	// later call need succeed; the caller's context, Poison and Close end it as they end a receive.
	AllReduce(ctx context.Context, x []float32) error
}

// allReducer is a wrapper of a group that may sum by itself.
type allReducer interface{ allReducer() AllReducer }

// allReducerOf returns g's own sum, or nil.
func allReducerOf(g Group) AllReducer {
	if w, ok := g.(allReducer); ok {
		return w.allReducer()
	}
	r, _ := g.(AllReducer)
	return r
}

// native implements Native: a rank first adds its own parts in order; a spare adds nothing.
func native(ctx context.Context, g Group, t Tree, parts [][]float32) error {
	r := allReducerOf(g)
	if r == nil {
		return errors.New("comm: all-reduce by native needs a transport that sums by itself (mpi does); auto takes what there is")
	}
	c, err := enter(ctx, g, OpAllReduce, nil)
	if err != nil {
		return err
	}
	x := parts[0]
	e := Entry{Messages: 1, Payload: int64(word * len(x))}
	if b, ok := g.(booker); ok {
		b.book(OpAllReduce, Entry{ExpectedMessages: e.Messages, Expected: e.Payload})
	}
	for _, part := range parts[1:] {
		c.add(x, part)
	}
	if len(t.Parts(c.rank)) == 0 {
		clear(x)
	}
	c.touched = true // the others count on this rank from here on
	if err = r.AllReduce(ctx, x); err == nil {
		if b, ok := g.(booker); ok {
			b.book(OpAllReduce, e)
		}
	}
	return c.leave(err)
}
