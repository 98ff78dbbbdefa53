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

// answer is what a worker expects of a server: so many bytes. Any other number is a refusal, for which there is room. Of codes any
// even number is an answer, and n what has come.
type answer struct {
	to    comm.Rank
	b     []byte // nil: the server is not asked
	n     int
	coded bool
}

// is tells whether so many bytes are an answer.
func (a *answer) is(n int) bool {
	if a.coded && n%2 == 0 {
		a.n = n
	}
	return n == a.n
}

// asked is what servers have been asked, and have not all answered.
type asked struct {
	g        comm.Group
	what     string
	answers  []answer
	receipts []comm.Receipt // by server; nil: it is not asked
	err      error          // of asking: some were not
}

// exchange asks servers, and waits for their answers.
func exchange(ctx context.Context, g comm.Group, tag comm.Tag, answers []answer, what string, ask func(server int) error) error {
	q := begin(g, tag, answers, what, ask)
	return q.wait(ctx)
}

// begin asks servers. This worker begins with another one than its neighbours, so that not all are at one.
func begin(g comm.Group, tag comm.Tag, answers []answer, what string, ask func(server int) error) asked {
	q := asked{g: g, what: what, answers: answers, receipts: make([]comm.Receipt, len(answers))}
	for s, a := range answers {
		if a.b != nil {
			q.receipts[s] = comm.Post(g, a.to, tag, a.b)
		}
	}
	for i := range answers {
		s := (int(g.Rank()) + i) % len(answers)
		if q.receipts[s] == nil {
			continue
		}
		if q.err = ask(s); q.err != nil {
			break
		}
	}
	return q
}

// wait waits for the answers. A refusal is an error: "server 1 refuses worker 2", what, and why.
func (q *asked) wait(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	err := q.err
	if err != nil {
		cancel(err)
	}
	for s, r := range q.receipts {
		if r == nil {
			continue
		}
		_, n, e := r.Wait(ctx)
		if a := &q.answers[s]; e == nil && !a.is(n) {
			e = fmt.Errorf("ps: server %d refuses worker %d%s: %s", s, q.g.Rank(), q.what, a.b[:n])
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
