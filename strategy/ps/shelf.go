package ps

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/model"
	"github.com/covey-ml/covey/spec"
	"github.com/covey-ml/covey/strategy"
	"github.com/covey-ml/covey/strategy/ps/table"
	"github.com/covey-ml/covey/vec"
)

// shelf is a server's rows of the tables.
type shelf struct {
	of     []model.Table
	tables []*table.Table
	widths []int // of a row
	owners owners
	me     int           // of the servers
	began  time.Duration // to count, when there had been so many updates
	before uint64
	reads  atomic.Uint64 // rows that workers read
	out    rowsMessage   // that goes to who keeps a copy
	users  int           // strategies that have it: of one rank, of its groups one after the other
	was    []sparse      // where ranks may be lost and pushes are held: what the rows of the last change were before it; else nil
	back   bool          // reads are of that: others do the step again that is here already
	room   [][]sparse    // by merge: a sum
	one    [2][]sparse
}

// rowsIn is what a server has of a worker's request beside what stands in its peer.
type rowsIn struct {
	sums  int        // parts of a push
	more  []byte     // a request that is longer than a push
	ids   []byte     // of a read: its rows
	rows  []uint64   // of one table
	out   []float32  // the answer
	m     []float32  // the rows that came along with a push
	parts [][]sparse // they, by part and table; their numbers are m's
}

// newShelf makes a server's empty tables, which share a budget by how wide their rows are.
func newShelf(c Config, me int, budget spec.Bytes, tables []model.Table, rule *spec.Spec, seed uint64, now time.Duration) (*shelf, error) {
	s := &shelf{of: tables, owners: newOwners(c.Servers), me: me, users: 1, began: now}
	wide := 0
	for _, t := range tables {
		wide += t.Width
	}
	for _, t := range tables {
		m, err := table.New(table.Config{Name: t.Name, Rows: t.Rows, Owned: s.owns, Width: t.Width, Seed: seed, Init: t.Bound, Rule: rule, Spill: c.Spill,
			Budget: budget / spec.Bytes(wide) * spec.Bytes(t.Width)})
		if err != nil {
			return nil, errors.Join(fmt.Errorf("ps: %w", err), s.drop())
		}
		s.tables, s.widths = append(s.tables, m), append(s.widths, t.Width)
	}
	return s, nil
}

func (s *shelf) owns(row uint64) bool { return s.owners.of(row) == s.me }

// drop is called by a strategy that does without it from now on: nobody has it then, or another one.
func (s *shelf) drop() (err error) {
	if s.users--; s.users > 0 {
		return nil
	}
	for _, t := range s.tables {
		err = errors.Join(err, t.Close())
	}
	return err
}

// foreign says which of some rows of a table this server does not own; empty: none.
func (s *shelf) foreign(table int, rows []uint64) (why string) {
	if row, ok := s.tables[table].Foreign(rows); ok {
		return fmt.Sprintf("row %d of table %q is another server's", row, s.of[table].Name)
	}
	return ""
}

// answer writes the rows that a request asks for to in.out, or says why it does not.
func (s *shelf) answer(w *strategy.Worker, in *rowsIn) (why string, err error) {
	in.out = in.out[:0]
	b := in.ids
	for i, t := range s.tables {
		if in.rows, b, err = readRows(in.rows, b, s.of[i]); err != nil {
			return err.Error(), nil
		}
		if why := s.foreign(i, in.rows); why != "" {
			return why, nil
		}
		at, n := len(in.out), len(in.rows)*s.widths[i]
		if 4*(at+n) > mostBytes {
			return fmt.Sprintf("%d rows and more are over %d bytes: take smaller batches, or more servers", len(in.rows), mostBytes), nil
		}
		s.reads.Add(uint64(len(in.rows)))
		in.out = longer(w.Group, in.out, n)
		w.Pass(n, 2, func() { err = t.Get(in.rows, in.out[at:]) })
		if err != nil {
			return "", fmt.Errorf("ps: %w", err)
		}
		if s.back {
			s.was[i].over(in.rows, in.out[at:], s.widths[i])
		}
	}
	if len(b) > 0 {
		return fmt.Sprintf("%d bytes too many", len(b)), nil
	}
	return "", nil
}

// read reads the rows that came along with so many parts, and says why they are not as they should be.
func (s *shelf) read(in *rowsIn, parts int) (why string) {
	var err error
	if in.parts, err = decodeRowsMessage(in.parts, in.m, parts, s.of, s.widths); err != nil {
		return err.Error()
	}
	for _, part := range in.parts {
		for i, rows := range part {
			if why := s.foreign(i, rows.rows); why != "" {
				return why
			}
		}
	}
	return ""
}

// take is read of a push, which is not taken either where it is not finite.
func (s *shelf) take(in *rowsIn, parts int) (why string) {
	if why := s.read(in, parts); why != "" {
		return why
	}
	for _, part := range in.parts {
		for i, rows := range part {
			if !vec.Finite(rows.x) {
				return fmt.Sprintf("the gradient of table %q is not finite", s.of[i].Name)
			}
		}
	}
	return ""
}

// merged is the canonical sum of all workers' parts, in global order, which it uses up.
func (s *shelf) merged(tree comm.Tree, parts [][]sparse) []sparse {
	merges := tree.Merge()
	for len(s.room) < len(merges) {
		s.room = append(s.room, nil)
	}
	for i, a := range merges {
		s.room[i] = mergeAll(s.room[i], parts[a.Dst], parts[a.Src], s.of)
		parts[a.Dst] = s.room[i]
	}
	return parts[0]
}

// added is the sum of a worker's own parts, in order.
func (s *shelf) added(parts [][]sparse) []sparse {
	sum := parts[0]
	for i, part := range parts[1:] {
		s.one[i%2] = mergeAll(s.one[i%2], sum, part, s.of)
		sum = s.one[i%2]
	}
	return sum
}

// apply makes the change of some rows of each table. It uses them up.
func (s *shelf) apply(w *strategy.Worker, c *change) (err error) {
	for i, rows := range c.rows {
		if s.was != nil {
			if err := s.remember(i, rows.rows); err != nil {
				return err
			}
		}
		if len(rows.rows) == 0 {
			continue
		}
		w.Apply(w.Optimizer, len(rows.x), func() { err = s.tables[i].Apply(rows.rows, rows.x, c.update, c.rate, c.mean) })
		if err != nil {
			return fmt.Errorf("ps: %w", err)
		}
	}
	return nil
}

// remember notes what some rows of a table are.
func (s *shelf) remember(table int, rows []uint64) error {
	was := &s.was[table]
	was.rows, was.x = append(was.rows[:0], rows...), vec.Resized(was.x, len(rows)*s.widths[table])
	if err := s.tables[table].Get(was.rows, was.x); err != nil {
		return fmt.Errorf("ps: %w", err)
	}
	return nil
}

// takes adds to a report the room that the tables take.
func (s *shelf) takes(to *strategy.Served) {
	for _, t := range s.tables {
		st := t.Stats()
		to.Resident += st.Resident
		to.Spilled += st.Spilled
	}
}

// report adds what the tables have come to.
func (s *shelf) report(to *strategy.Served, since time.Duration) {
	to.RowReads = s.reads.Load()
	for _, t := range s.tables {
		st := t.Stats()
		to.Rows += st.Rows
		to.RowUpdates += st.Updates
	}
	if since > 0 {
		to.RowsPerSec = float64(to.RowUpdates-s.before) / since.Seconds()
	}
}

// count begins to count updates a second.
func (s *shelf) count(now time.Duration) {
	s.began, s.before = now, 0
	for _, t := range s.tables {
		s.before += t.Stats().Updates
	}
}

// receiveLong takes a request that has no room where pushes have: one for rows may be as long. Another is not taken, which
// leaves it where it is: the server cannot go on.
func (v *server) receiveLong(ctx context.Context, p *peer, need int) ([]byte, error) {
	most := 4 * len(p.in)
	if v.shelf != nil {
		most = max(most, mostBytes)
	}
	if need > most {
		why := fmt.Sprintf("a request of %d bytes: at most %d are taken", need, most)
		return nil, errors.Join(fmt.Errorf("ps: from worker %d came %s", p.rank, why), v.reply(ctx, p, refusal(why, refusalBytes)))
	}
	if cap(p.rows.more) < need {
		p.rows.more = make([]byte, need+need/4)
	}
	_, n, err := v.w.Group.Recv(ctx, p.rank, tagPush, p.rows.more[:cap(p.rows.more)])
	return p.rows.more[:n], err
}

// read answers a request for rows.
func (v *server) read(ctx context.Context, p *peer, r *request) error {
	v.mu.Lock()
	why := v.bad
	v.mu.Unlock()
	switch {
	case why != "":
	case v.shelf == nil:
		why = "this model has no tables"
	case r.generation != v.w.Generation:
		why = fmt.Sprintf("they are asked for in generation %d, and this is %d", r.generation, v.w.Generation)
	}
	if why == "" {
		var err error
		if why, err = v.shelf.answer(&v.w, &p.rows); err != nil {
			return err
		}
	}
	b := vec.Bytes(p.rows.out)
	if why != "" {
		b = refusal(why, refusalBytes)
	}
	return send(ctx, v.w.Group, p.rank, tagRowsPull, b)
}

// withRows receives the rows that come along with a push.
func (v *server) withRows(ctx context.Context, p *peer) (err error) {
	p.rows.m, err = receiveRows(ctx, v.w.Group, p.rank, tagRowsPush, p.rows.m)
	return err
}

// sumRows is the canonical sum of the rows in all workers' pushes of a step; nil: there are no tables.
func (v *server) sumRows() []sparse {
	if v.shelf == nil {
		return nil
	}
	defer v.working()()
	var parts [][]sparse
	for _, p := range v.peers {
		parts = append(parts, p.rows.parts...)
	}
	return v.shelf.merged(v.w.Tree, parts)
}

// addRows is the sum of the rows in one worker's push; nil: there are no tables.
func (v *server) addRows(p *peer) []sparse {
	if v.shelf == nil {
		return nil
	}
	defer v.working()()
	return v.shelf.added(p.rows.parts)
}
