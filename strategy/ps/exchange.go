package ps

import (
	"context"
	"errors"
	"fmt"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/strategy"
)

// send announces a message, and sends it.
func send(ctx context.Context, g comm.Group, to comm.Rank, tag comm.Tag, b []byte) error {
	comm.Announce(g, tag.Op(), comm.Bill{{Messages: 1, Size: len(b)}})
	return g.Send(ctx, to, tag, b)
}

// answer is what a worker expects of a server: so many bytes. Any other number is a refusal, for which there is room.
type answer struct {
	to comm.Rank
	b  []byte // nil: the server is not asked
	n  int
}

// exchange asks servers, and waits for their answers. This worker begins with another one than its neighbours, so that not all
// are at one. A refusal is an error: "server 1 refuses worker 2", what, and why.
func exchange(ctx context.Context, g comm.Group, tag comm.Tag, answers []answer, what string, ask func(server int) error) error {
	receipts := make([]comm.Receipt, len(answers))
	for s, a := range answers {
		if a.b != nil {
			receipts[s] = comm.Post(g, a.to, tag, a.b)
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var err error
	for i := range answers {
		s := (int(g.Rank()) + i) % len(answers)
		if receipts[s] == nil {
			continue
		}
		if err = ask(s); err != nil {
			cancel(err)
			break
		}
	}
	for s, r := range receipts {
		if r == nil {
			continue
		}
		_, n, e := r.Wait(ctx)
		if a := answers[s]; e == nil && n != a.n {
			e = fmt.Errorf("ps: server %d refuses worker %d%s: %s", s, g.Rank(), what, a.b[:n])
		}
		if e != nil && err == nil {
			err = e
			cancel(e)
		}
	}
	return err
}

// lost tells the others of a peer that is gone: all have a part in a step.
func lost(w *strategy.Worker, err error) error {
	var peer *comm.PeerError
	if p, ok := w.Group.(comm.Poisoner); ok && errors.As(err, &peer) {
		return p.Poison(peer)
	}
	return err
}
