package ps

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/covey-ml/covey/ckpt"
	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/model"
	"github.com/covey-ml/covey/optim"
	"github.com/covey-ml/covey/spec"
	"github.com/covey-ml/covey/strategy"
	"github.com/covey-ml/covey/vec"
)

// The tables of a model.Sparse are not in the flat vector: their rows are on the servers, dealt out by consistent hashing
// (owners). A worker reads the rows of a microshard before it computes its gradient (apart), and what it pushes of them goes
// along with the push of the dense parameters, so that one decision holds for both. Where pushes are held, the rows of all
// workers are summed in the order of the canonical tree and updated once: the bits of the same model with its tables in the
// flat vector, for optimizers that leave a parameter alone whose gradient is 0 (sgd, adagrad, ftrl). Others, with momentum or
// weight decay, are lazy: they move the rows that a step has (package table).

// kept is what a rank knows of the tables.
type kept struct {
	of     []model.Table
	rule   *spec.Spec
	seed   uint64
	apart  *apart        // what is trained; servers know its layout alone
	names  []string      // of the rule's vectors
	state  []ckpt.Tensor // on rank 0, once Tables was called: which rows were updated, and their state
	loaded []ckpt.Tensor // from a checkpoint, until SetTables
}

// mostWhole bounds the tables that one rank brings together, in bytes of their numbers.
const mostWhole = 1 << 30

// rowsPrefix is what the names of rows' state begin with.
const rowsPrefix = "tables/"

// Keep implements strategy.Keeper.
func (s *Strategy) Keep(m model.Model, rule *spec.Spec, seed uint64) (model.Model, error) {
	whole, ok := m.(*model.Whole)
	if !ok || len(whole.Sparse().Tables()) == 0 {
		return m, nil
	}
	switch {
	case s.cfg.Servers > mostOwners:
		return nil, fmt.Errorf("ps: %d servers are too many for tables: at most %d", s.cfg.Servers, mostOwners)
	case s.cfg.Deal:
		return nil, errors.New("ps: deal=dynamic goes with models whose parameters are all dense, and this one has tables: leave it out")
	case s.cfg.Mode == Backup:
		return nil, fmt.Errorf("ps: mode=%s goes with models whose parameters are all dense, and this one has tables: take %s, %s or %s", Backup, BSP, SSP, Async)
	}
	o, err := optim.New(rule, model.Layout{}.Add("probe", 1))
	if err != nil {
		return nil, err
	}
	if !o.Local() {
		return nil, fmt.Errorf("ps: the optimizer %v needs norms of all parameters, and servers update the rows that a step has: take one such as adagrad or ftrl, without clip=", rule)
	}
	k := &kept{of: whole.Sparse().Tables(), rule: rule, seed: seed, apart: newApart(whole.Sparse(), s.cfg.Servers)}
	for _, t := range o.State() {
		k.names = append(k.names, t.Name)
	}
	s.kept = k
	return k.apart, nil
}

// prepareTables makes a server's tables, or lets a worker ask for rows.
func (s *Strategy) prepareTables(w *strategy.Worker) (err error) {
	if comm.IsHollow(w.Group) {
		return errors.New("ps: a run for times alone has no samples, and they say which rows of a model's tables are needed")
	}
	k := s.kept
	if s.server == nil {
		s.worker.tables = k.apart
		k.apart.w, k.apart.rank = w, func(server int) comm.Rank { return s.worker.rank(w, server) }
		return nil
	}
	v := s.server
	budget := s.cfg.Budget / spec.Bytes(1+len(v.duplicates))
	shelf := func(of int) (*shelf, error) {
		a, err := newShelf(s.cfg, of, budget, k.of, k.rule, k.seed, w.Group.Clock().Now())
		if err == nil && w.Undo && s.cfg.Held() {
			a.was = make([]sparse, len(k.of))
		}
		return a, err
	}
	if v.shelf, err = shelf(s.serves()); err != nil {
		return err
	}
	for _, d := range v.duplicates {
		if d.shelf, err = shelf(d.of); err != nil {
			return err
		}
	}
	return nil
}

// shelves are this rank's: of a server its own and those of whose copies it keeps.
func (s *Strategy) shelves() (all []*shelf) {
	if s.server == nil {
		return nil
	}
	if s.server.shelf != nil {
		all = append(all, s.server.shelf)
	}
	for _, d := range s.server.duplicates {
		if d.shelf != nil {
			all = append(all, d.shelf)
		}
	}
	return all
}

// Reading implements strategy.Keeper: servers serve, as in a step, until all workers meet.
func (s *Strategy) Reading(ctx context.Context, f func() error) error {
	if s.server != nil {
		s.server.begin(ctx, s.w.Step+1, int(s.updates[0]), nil)
		return s.server.settle(ctx)
	}
	s.worker.dirty = true
	if err := f(); err != nil {
		return err
	}
	return s.worker.settle(ctx, s.w)
}

// Close implements strategy.Keeper.
func (s *Strategy) Close() (err error) {
	for _, of := range s.shelves() {
		err = errors.Join(err, of.drop())
	}
	return err
}

// Large implements strategy.Keeper.
func (s *Strategy) Large() error {
	left := uint64(mostWhole / 4)
	for _, t := range s.kept.of {
		if t.Rows > left/uint64(t.Width) {
			return fmt.Errorf("ps: with the %d rows of table %q, of %d numbers each, tables have more than the %v that one rank brings together for a checkpoint or a hash", t.Rows, t.Name, t.Width, spec.Bytes(mostWhole))
		}
		left -= t.Rows * uint64(t.Width)
	}
	return nil
}

// Blank implements strategy.Keeper.
func (s *Strategy) Blank() []ckpt.Tensor {
	var ts []ckpt.Tensor
	for _, t := range s.kept.of {
		ts = append(ts, ckpt.Float32s(t.Name, []int{int(t.Rows), t.Width}, make([]float32, int(t.Rows)*t.Width)))
	}
	return ts
}

// Tables implements strategy.Keeper: server after server sends its rows, some MiB at a time.
func (s *Strategy) Tables(ctx context.Context) ([]ckpt.Tensor, error) {
	switch {
	case s.server != nil:
		return nil, lost(s.w, s.server.shelf.send(ctx, s.w, 0, tagRowsPull))
	case s.w.Group.Rank() != 0:
		return nil, nil
	}
	k := s.kept
	each := make([]sparse, len(k.of)) // what all servers have
	for i := range s.cfg.Servers {
		err := k.receive(ctx, s.w, s.worker.rank(s.w, i), tagRowsPull, func(table int, rows sparse) error {
			to := &each[table]
			to.rows, to.x = append(to.rows, rows.rows...), append(to.x, rows.x...)
			return nil
		})
		if err != nil {
			return nil, lost(s.w, err)
		}
	}
	whole := s.Blank()
	k.state = nil
	for i, t := range k.of {
		k.assemble(t, each[i], vec.Floats(whole[i].Data))
	}
	return whole, nil
}

// send sends a rank all rows with their state: a table's in messages of one part, the last of which is empty.
func (s *shelf) send(ctx context.Context, w *strategy.Worker, to comm.Rank, tag comm.Tag) error {
	var out rowsMessage
	for i, t := range s.tables {
		put := func(rows []uint64, values []float32) error {
			m, err := out.of([]sparse{{rows, values}})
			if err != nil {
				return err
			}
			return send(ctx, w.Group, to, tag, m)
		}
		if err := t.Each(put); err != nil {
			return fmt.Errorf("ps: table %q: %w", s.of[i].Name, err)
		}
		if err := put(nil, nil); err != nil {
			return err
		}
	}
	return nil
}

// receive calls f with what another rank's send sends, some rows of a table at a time.
func (k *kept) receive(ctx context.Context, w *strategy.Worker, from comm.Rank, tag comm.Tag, f func(table int, rows sparse) error) error {
	var m []float32
	for i := range k.of {
		width := k.stride(k.of[i])
		for {
			var err error
			if m, err = receiveRows(ctx, w.Group, from, tag, m); err != nil {
				return err
			}
			parts, err := decodeRowsMessage(nil, m, 1, k.of[i:i+1], []int{width})
			if err != nil {
				return fmt.Errorf("ps: from the server that is rank %d came %w", from, err)
			}
			if len(parts[0][0].rows) == 0 {
				break
			}
			if err := f(i, parts[0][0]); err != nil {
				return err
			}
		}
	}
	return nil
}

// stride is how many numbers a row has with its state.
func (k *kept) stride(t model.Table) int { return t.Width * (1 + len(k.names)) }

// assemble writes a table to x, and adds to k.state which rows were updated, in order, and their state.
func (k *kept) assemble(t model.Table, all sparse, x []float32) {
	stride := k.stride(t)
	order := make([]int, len(all.rows))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		if all.rows[a] < all.rows[b] {
			return -1
		}
		return 1
	})
	initial := t.Initial(k.seed)
	for row := range int(t.Rows) {
		initial(x[row*t.Width:], uint64(row))
	}
	rows := make([]uint64, len(order))
	moments := make([][]float32, len(k.names))
	for n, i := range order {
		rows[n] = all.rows[i]
		row := all.x[i*stride : (i+1)*stride]
		copy(x[int(rows[n])*t.Width:], row[:t.Width])
		for j := range moments {
			moments[j] = append(moments[j], row[(1+j)*t.Width:(2+j)*t.Width]...)
		}
	}
	prefix := rowsPrefix + t.Name + "/"
	k.state = append(k.state, ckpt.Uint64s(prefix+"rows", []int{len(rows)}, rows))
	for j, m := range moments {
		k.state = append(k.state, ckpt.Float32s(prefix+k.names[j], []int{len(rows), t.Width}, m))
	}
}

// keepState keeps what there is of rows for SetTables, and returns the rest.
func (k *kept) keepState(ts []ckpt.Tensor) (rest []ckpt.Tensor) {
	k.loaded = ckpt.Under(rowsPrefix, ts)
	for _, t := range ts {
		if !strings.HasPrefix(t.Name, rowsPrefix) {
			rest = append(rest, t)
		}
	}
	return rest
}

// SetTables implements strategy.Keeper: a server takes the rows that it owns or keeps a copy of, whoever had them before.
func (s *Strategy) SetTables(whole []ckpt.Tensor) error {
	k := s.kept
	for i, t := range k.of {
		ts := ckpt.Under(t.Name+"/", k.loaded)
		rows, moments, err := k.stateOf(t, ts)
		if err != nil {
			return fmt.Errorf("ps: %w", err)
		}
		for _, of := range s.shelves() {
			if err := of.put(i, rows, vec.Floats(whole[i].Data), moments); err != nil {
				return err
			}
		}
	}
	k.loaded = nil
	return nil
}

// Streams implements strategy.Keeper: a server's are snapshots of its tables.
func (s *Strategy) Streams() (all []ckpt.Stream) {
	if s.server == nil {
		return nil
	}
	for _, t := range s.server.shelf.tables {
		all = append(all, t.Snapshot)
	}
	return all
}

// LoadStreams implements strategy.Keeper: a server takes the rows that it owns or keeps a copy of, whoever had them before.
func (s *Strategy) LoadStreams(read func(f func(i int, r io.Reader) error) error) error {
	shelves := s.shelves()
	if len(shelves) == 0 {
		return nil
	}
	return read(func(i int, r io.Reader) error {
		if err := hasTable(len(s.kept.of), i); err != nil {
			return err
		}
		return shelves[0].tables[i].Read(r, func(rows []uint64, values []float32) error {
			for _, of := range shelves {
				if err := of.putOwn(i, rows, values); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

// putOwn stores those of some rows that this server owns, with their state. The rows are distinct and increase.
func (s *shelf) putOwn(i int, rows []uint64, values []float32) error {
	stride := s.tables[i].Stride()
	var own sparse
	for n, row := range rows {
		if s.owns(row) {
			own.rows, own.x = append(own.rows, row), append(own.x, values[n*stride:(n+1)*stride]...)
		}
	}
	if err := s.tables[i].Put(own.rows, own.x); err != nil {
		return fmt.Errorf("ps: %w", err)
	}
	return nil
}

// stateOf checks what a checkpoint has of a table's rows.
func (k *kept) stateOf(t model.Table, ts []ckpt.Tensor) (rows []uint64, moments [][]float32, err error) {
	if len(ts) != 1+len(k.names) {
		return nil, nil, fmt.Errorf("table %q has %d tensors of state, expected %d", t.Name, len(ts), 1+len(k.names))
	}
	for i, name := range append([]string{"rows"}, k.names...) {
		at := slices.IndexFunc(ts, func(t ckpt.Tensor) bool { return t.Name == name })
		if at < 0 {
			return nil, nil, fmt.Errorf("table %q has no state %q", t.Name, name)
		}
		if i == 0 {
			rows = make([]uint64, ts[at].Len())
			err = ts[at].CopyTo(rows)
		} else {
			m := make([]float32, len(rows)*t.Width)
			err = ts[at].CopyTo(m)
			moments = append(moments, m)
		}
		if err != nil {
			return nil, nil, err
		}
	}
	for i, row := range rows {
		if row >= t.Rows || i > 0 && row <= rows[i-1] {
			return nil, nil, fmt.Errorf("table %q: row %d, of %d, is not where it belongs", t.Name, row, t.Rows)
		}
	}
	return rows, moments, nil
}

// put stores those of some rows that this server owns, with their state.
func (s *shelf) put(i int, rows []uint64, x []float32, moments [][]float32) error {
	const most = 1 << 12 // at a time
	width := s.widths[i]
	var mine []uint64
	var values []float32
	for n, row := range rows {
		if s.owns(row) {
			mine, values = append(mine, row), append(values, x[int(row)*width:(int(row)+1)*width]...)
			for _, m := range moments {
				values = append(values, m[n*width:(n+1)*width]...)
			}
		}
		if len(mine) == most || n == len(rows)-1 {
			if err := s.tables[i].Put(mine, values); err != nil {
				return fmt.Errorf("ps: %w", err)
			}
			mine, values = mine[:0], values[:0]
		}
	}
	return nil
}
