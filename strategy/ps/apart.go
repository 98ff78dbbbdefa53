package ps

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/data"
	"github.com/covey-ml/covey/model"
	"github.com/covey-ml/covey/strategy"
	"github.com/covey-ml/covey/vec"
)

// apart is a Sparse model whose tables the servers keep, for one worker: its flat vector is the dense parameters, and it asks
// the servers for the rows that a batch needs. The gradients of rows stay with it until they are pushed. One call at a time.
type apart struct {
	gathered
	owners owners
	w      *strategy.Worker // nil before Prepare
	rank   func(server int) comm.Rank
	g      []float32 // the gradient of what is gathered
	one    reading

	found [][]sparse // by call of Grad in this step: the gradients of rows, by table
	calls int
	room  [][]sparse // by fold: a sum
	parts [][]sparse // of the push
	sum   [2][]sparse
	out   []rowsMessage // by server
	split split         // of one table's rows
	mine  []uint64      // a server's of these
}

var (
	_ model.Model     = (*apart)(nil)
	_ model.Predictor = (*apart)(nil)
)

// reading is rows that are asked for: by one call at a time.
type reading struct {
	splits  []split  // by table
	wants   []want   // by server
	answers []answer // to these
	asked   asked
}

// want is what is asked of a server.
type want struct {
	ask    []byte
	n      int // numbers
	answer []float32
}

func newApart(m model.Sparse, servers int) *apart {
	a := &apart{gathered: gathered{m: m, tables: m.Tables()}, owners: newOwners(servers), out: make([]rowsMessage, servers)}
	a.read = a.ask
	return a
}

// Grad implements model.Model.
func (a *apart) Grad(ctx context.Context, x, g []float32, b *data.Batch, done func(model.Segment)) (model.Loss, error) {
	if err := a.gather(ctx, x, b); err != nil {
		return model.Loss{}, err
	}
	a.g = vec.Resized(a.g, len(a.x))
	loss, err := a.m.Grad(ctx, a.x, a.g, b, &a.picked, func(s model.Segment) {
		copy(g[s.Off:s.Off+s.Len], a.g[s.Off:])
		if done != nil {
			done(s)
		}
	})
	if err != nil {
		return loss, err
	}
	if a.calls == len(a.found) {
		a.found = append(a.found, make([]sparse, len(a.tables)))
	}
	at := a.m.Layout().Len()
	for t, rows := range a.picked.Rows {
		s, n := &a.found[a.calls][t], len(rows)*a.tables[t].Width
		s.rows, s.x = append(s.rows[:0], rows...), append(s.x[:0], a.g[at:at+n]...)
		at += n
	}
	a.calls++
	return loss, nil
}

// ask reads rows: one message to each server that owns some, and one from it.
func (a *apart) ask(ctx context.Context, rows [][]uint64, out []float32) error {
	a.begin(ctx, &a.one, rows)
	return a.end(ctx, &a.one, out)
}

// begin asks for rows.
func (a *apart) begin(ctx context.Context, r *reading, rows [][]uint64) {
	servers := len(a.out)
	if r.wants == nil {
		r.splits, r.wants, r.answers = make([]split, len(a.tables)), make([]want, servers), make([]answer, servers)
	}
	for t := range rows {
		r.splits[t].by(a.owners, servers, rows[t])
	}
	for s := range r.wants {
		w := &r.wants[s]
		h := request{kind: read, generation: a.w.Generation, step: a.w.Step}
		w.ask, w.n = slices.Grow(w.ask[:0], headBytes)[:headBytes], 0
		h.encode(w.ask)
		for t := range rows {
			part := r.splits[t].part(s)
			w.ask = appendRows(w.ask, a.those(rows[t], part))
			w.n += len(part) * a.tables[t].Width
		}
		r.answers[s] = answer{to: a.rank(s)}
		if w.n > 0 {
			w.answer = vec.Resized(w.answer, max(w.n, refusalBytes/4))
			r.answers[s].b, r.answers[s].n = vec.Bytes(w.answer), 4*w.n
		}
	}
	r.asked = begin(a.w.Group, tagRowsPull, r.answers, " rows", func(s int) error { return send(ctx, a.w.Group, a.rank(s), tagPush, r.wants[s].ask) })
}

// those are some of rows, until it is called again.
func (a *apart) those(rows []uint64, part []uint64) []uint64 {
	a.mine = slices.Grow(a.mine[:0], len(part))[:len(part)]
	for i, p := range part {
		a.mine[i] = rows[p]
	}
	return a.mine
}

// end waits for the rows, and writes them to out.
func (a *apart) end(ctx context.Context, r *reading, out []float32) error {
	if err := r.asked.wait(ctx); err != nil {
		return lost(a.w, err)
	}
	a.w.Pass(len(out), 2, func() { a.place(r, out) })
	return nil
}

// place writes the servers' answers to where they belong.
func (a *apart) place(r *reading, out []float32) {
	for s := range r.wants {
		from := r.wants[s].answer
		to := out
		for t := range r.splits {
			width, part := a.tables[t].Width, r.splits[t].part(s)
			n := len(part) * width
			vec.ScatterRows(from[:n], to, part, width, width)
			from, to = from[n:], to[len(r.splits[t].of)*width:]
		}
	}
}

// fold makes of the gradients that Grad found in this step the parts' sums, as folds made those of the dense parameters. A
// worker without microshards has one part without rows.
func (a *apart) fold(folds []comm.Fold, parts int) {
	slots := make([][]sparse, max(parts, comm.Buffers(folds)))
	leaf := 0
	for i, f := range folds {
		if f.Leaf >= 0 {
			slots[f.Dst] = a.found[leaf]
			leaf++
			continue
		}
		for len(a.room) <= i {
			a.room = append(a.room, nil)
		}
		a.room[i] = mergeAll(a.room[i], slots[f.Dst], slots[f.Src], a.tables)
		slots[f.Dst] = a.room[i]
	}
	if leaf == 0 {
		slots[0] = make([]sparse, len(a.tables))
	}
	a.parts, a.calls = slots[:parts], 0
}

// alone has the gradient that Grad found pushed by itself.
func (a *apart) alone() { a.parts, a.calls = a.found[:1], 0 }

// nothing has so many parts without rows pushed.
func (a *apart) nothing(parts int) {
	a.parts = make([][]sparse, parts)
	for i := range a.parts {
		a.parts[i] = make([]sparse, len(a.tables))
	}
}

// collect adds a step's parts to those that wait to be pushed, as one.
func (a *apart) collect(first bool) {
	for i, part := range a.parts {
		if first && i == 0 {
			a.sum[0] = cloneAll(a.sum[0], part)
			continue
		}
		a.sum[1] = mergeAll(a.sum[1], a.sum[0], part, a.tables)
		a.sum[0], a.sum[1] = a.sum[1], a.sum[0]
	}
	a.parts = a.sum[:1]
}

// pack makes the messages that go along with the next push.
func (a *apart) pack() {
	for s := range a.out {
		a.out[s].g = a.w.Group
		a.out[s].begin()
	}
	for _, part := range a.parts {
		for t, rows := range part {
			a.packTable(rows, a.tables[t].Width)
		}
	}
}

func (a *apart) packTable(rows sparse, width int) {
	a.split.by(a.owners, len(a.out), rows.rows)
	for s := range a.out {
		m, part := &a.out[s], a.split.part(s)
		m.ids = appendRows(m.ids, a.those(rows.rows, part))
		vec.GatherRows(m.more(len(part)*width), rows.x, part, width, width)
	}
}

// push sends a server the rows that go along with a push.
func (a *apart) push(ctx context.Context, server int) error {
	m, err := a.out[server].end()
	if err != nil {
		return err
	}
	return send(ctx, a.w.Group, a.rank(server), tagRowsPush, m)
}

// receiveRows receives a message of rows in the memory of m.
func receiveRows(ctx context.Context, g comm.Group, from comm.Rank, tag comm.Tag, m []float32) ([]float32, error) {
	m = m[:cap(m)]
	for {
		_, n, err := g.Recv(ctx, from, tag, vec.Bytes(m))
		var size *comm.SizeError
		switch {
		case errors.As(err, &size) && size.Need <= mostBytes:
			m = make([]float32, size.Need/4+size.Need/16+1) // with room for some more
		case err != nil:
			return m, err
		case n%4 != 0:
			return m, fmt.Errorf("ps: from rank %d came a message of rows of %d bytes, which are no float32", from, n)
		default:
			return m[:n/4], nil
		}
	}
}

// mostBytes bounds a message.
const mostBytes = 1 << 30

var (
	tagRowsPush = comm.MakeTag(comm.OpPush, 1)
	tagRowsPull = comm.MakeTag(comm.OpPull, 1)
)
