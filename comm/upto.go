package comm

import (
	"context"
	"fmt"
)

// AllToAllUpTo sends send[r] to each rank r and receives what r sends here into recv[r], which is as long as the longest
// message that may come and is cut to the length of the one that did. Lengths need not be agreed on beforehand: an empty
// message is a message. Where recv[r] is nil nothing comes, and where send[r] is nil nothing goes; both ends must agree
// on that. What a rank sends to itself is left alone. A longer message than expected is the sender's error. One round,
// at most P-1 messages, and the bytes of send, less its own, a rank. Errors are as for AllReduce.
func AllToAllUpTo(ctx context.Context, g Group, send, recv [][]byte) error {
	if len(send) != g.Size() || len(recv) != g.Size() {
		return fmt.Errorf("comm: all-to-all of a group of %d with %d slices to send and %d to fill", g.Size(), len(send), len(recv))
	}
	return exchange(ctx, g, OpAllToAll, func(r Rank) []byte { return send[r] }, recv, true)
}

// AllGatherUpTo sends mine to every other rank and receives theirs, as AllToAllUpTo does with recv. A rank whose mine is
// nil sends nothing. One round, P-1 messages and (P-1) len(mine) bytes a rank. Errors are as for AllReduce.
func AllGatherUpTo(ctx context.Context, g Group, mine []byte, recv [][]byte) error {
	if len(recv) != g.Size() {
		return fmt.Errorf("comm: all-gather of a group of %d with %d slices to fill", g.Size(), len(recv))
	}
	return exchange(ctx, g, OpAllGather, func(Rank) []byte { return mine }, recv, true)
}

// exchange sends send(r) to every other rank and fills recv[r] with what comes from there. With upTo, recv[r] is cut to what
// came, and only nil is no message; otherwise lengths are agreed on, and an empty slice is none either.
func exchange(ctx context.Context, g Group, op Op, send func(Rank) []byte, recv [][]byte, upTo bool) error {
	c, err := enter(ctx, g, op, nil)
	if err != nil {
		return err
	}
	goes := func(r Rank, p []byte) bool { return r != c.rank && p != nil && (upTo || len(p) > 0) }
	for r := range Rank(c.size) {
		if p := send(r); goes(r, p) {
			c.announce(Bill{{1, len(p)}})
		}
	}
	for r, p := range recv {
		if goes(Rank(r), p) {
			c.waits[c.post(Rank(r), 0, p)].upTo = upTo
		}
	}
	for i := 1; i < c.size && err == nil; i++ {
		to := (c.rank + Rank(i)) % Rank(c.size)
		if p := send(to); goes(to, p) {
			err = c.send(to, 0, p)
		}
	}
	if err == nil {
		err = c.all(0)
	}
	if err == nil {
		for _, w := range c.waits {
			recv[w.from] = recv[w.from][:w.got]
		}
	}
	return c.leave(err)
}
