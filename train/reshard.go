package train

import (
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/covey-ml/covey/ckpt"
	"github.com/covey-ml/covey/comm"
)

// Re-sharding: what n workers saved, m load. By a tensor's Shard:
//
//	replicated  Rank 0's is saved, and all load it.
//	summed      Each worker's [...] is a row of the saved [n, ...]. As many workers get their own rows back, bit for bit.
//	            Others get equal shares of the sum, which is added in the order of the rows, in float64: the shares add
//	            up to it within 2^-24 of its size. Who owns no microshard may bring a row, and with another number of
//	            workers gets zeros, since a worker that is not asked for a gradient may never say what it keeps.
//	client      A worker has a row for each client (microshard) that it owns, the saved tensor those of all, in order.
//	            A row follows its client, bit for bit, whatever n and m are.
//	dropped     Not saved. The manifest lists it, who resumes is told, and it begins anew.

// kind is what all workers must bring alike of a tensor that each has its own part of. It carries no data.
type kind struct {
	Name  string
	Type  ckpt.DType
	Row   []int
	Shard ckpt.Shard
}

// bytes is the size of a row.
func (k kind) bytes() int { return k.Type.Size() * ckpt.Tensor{Shape: k.Row}.Len() }

func (k kind) String() string { return fmt.Sprintf("rows of %s %v, %s", k.Type, k.Row, k.Shard) }

// brings is what a worker says of its state before it is gathered.
type brings struct {
	Kinds []kind
	Err   string // why its state cannot be saved
}

// kinds lists a worker's tensors that each has its own part of; leaves is how many microshards it owns.
func kinds(state []ckpt.Tensor, leaves int) brings {
	var b brings
	seen := map[string]bool{}
	bad := func(t ckpt.Tensor, format string, args ...any) brings {
		return brings{Err: fmt.Sprintf("tensor %q: "+format, append([]any{t.Name}, args...)...)}
	}
	for _, t := range state {
		k := kind{t.Name, t.Type, t.Shape, t.Shard}
		rows := 1
		switch t.Shard {
		case ckpt.Summed:
			if t.Type != ckpt.F32 && t.Type != ckpt.F64 {
				return bad(t, "%s has no shares of a sum: %s and %s have", t.Type, ckpt.F32, ckpt.F64)
			}
		case ckpt.PerClient:
			if len(t.Shape) == 0 || t.Shape[0] != leaves {
				return bad(t, "its shape is %v, expected a row for each of %d clients", t.Shape, leaves)
			}
			rows, k.Row = leaves, t.Shape[1:]
		default:
			continue
		}
		if len(t.Data) != rows*k.bytes() {
			return bad(t, "%s %v takes %d bytes, there are %d", t.Type, t.Shape, rows*k.bytes(), len(t.Data))
		}
		if seen[t.Name] {
			return bad(t, "it is there twice")
		}
		seen[t.Name] = true
		b.Kinds = append(b.Kinds, k)
	}
	return b
}

// alike tells whether all workers bring the same tensors; the error names the first worker and tensor that differ from
// worker 0's.
func alike(all []brings) error {
	for rank, b := range all {
		if b.Err != "" {
			return fmt.Errorf("train: the state of worker %d: %s", rank, b.Err)
		}
	}
	first := make(map[string]kind, len(all[0].Kinds))
	for _, k := range all[0].Kinds {
		first[k.Name] = k
	}
	for rank, b := range all {
		for _, k := range b.Kinds {
			switch o, ok := first[k.Name]; {
			case !ok:
				return fmt.Errorf("train: the state of worker %d: tensor %q (%v) is not among worker 0's", rank, k.Name, k)
			case o.String() != k.String():
				return fmt.Errorf("train: the state of worker %d: tensor %q has %v; worker 0's has %v", rank, k.Name, k, o)
			}
		}
		for _, k := range all[0].Kinds {
			if !slices.ContainsFunc(b.Kinds, func(o kind) bool { return o.Name == k.Name }) {
				return fmt.Errorf("train: the state of worker %d: tensor %q (%v) is missing", rank, k.Name, k)
			}
		}
	}
	return nil
}

// assemble returns, on rank 0, what a checkpoint holds of the state of all, and the names of what it drops. Data may
// alias live memory. It is a collective; the error is the same on every rank.
func (r *run) assemble(ctx context.Context) (saved []ckpt.Tensor, dropped []string, err error) {
	mine := r.state()
	lo, hi := r.w.Tree.Run(r.g.Rank())
	// In the order of rank 0's.
	each, err := decide(ctx, r.g, kinds(mine, hi-lo), func(all []brings) ([]kind, error) { return all[0].Kinds, alike(all) })
	if err != nil {
		return nil, nil, err
	}
	at := make(map[string]int, len(mine))
	for i, t := range mine {
		at[t.Name] = i
	}
	for _, k := range each {
		t := &mine[at[k.Name]]
		if t.Data, err = collect(ctx, r.g, t.Data, k.sizes(r.w.Tree)); err != nil {
			return nil, nil, err
		}
		t.Shape = append([]int{k.rows(r.w.Tree)}, k.Row...)
	}
	for _, t := range mine {
		if t.Shard == ckpt.Dropped {
			dropped = append(dropped, t.Name)
		} else {
			saved = append(saved, t)
		}
	}
	return saved, dropped, nil
}

// sizes is how many bytes each rank brings of a tensor.
func (k kind) sizes(tree comm.Tree) []int {
	out := make([]int, tree.Ranks())
	for rank := range out {
		out[rank] = k.bytes()
		if k.Shard == ckpt.PerClient {
			lo, hi := tree.Run(comm.Rank(rank))
			out[rank] *= hi - lo
		}
	}
	return out
}

// rows is how many rows the saved tensor has.
func (k kind) rows(tree comm.Tree) int {
	if k.Shard == ckpt.PerClient {
		return tree.Leaves()
	}
	return tree.Ranks()
}

// pieceBytes bounds the messages in which state is gathered and handed out.
const pieceBytes = 4 << 20

// collect returns, on rank 0, everybody's bytes one after the other, in the order of ranks; nil elsewhere. sizes are
// the same on every rank. A worker sends its own once, in pieces.
func collect(ctx context.Context, g comm.Group, mine []byte, sizes []int) ([]byte, error) {
	if g.Size() == 1 {
		return mine, nil
	}
	send, recv := make([][]byte, len(sizes)), make([][]byte, len(sizes))
	var all []byte
	if g.Rank() == 0 {
		total := 0
		for _, n := range sizes {
			total += n
		}
		all = make([]byte, total)
		copy(all, mine)
	}
	cut := func(p []byte, at int) []byte { return p[min(at, len(p)):min(at+pieceBytes, len(p))] }
	for at := 0; at < slices.Max(sizes[1:]); at += pieceBytes {
		if g.Rank() == 0 {
			start := sizes[0]
			for rank, n := range sizes[1:] {
				recv[rank+1] = cut(all[start:start+n], at)
				start += n
			}
		} else {
			send[0] = cut(mine, at)
		}
		if err := comm.AllToAll(ctx, g, send, recv); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// spread gives every rank the n bytes of one of them, in pieces: memory is taken as they come.
func spread(ctx context.Context, g comm.Group, from comm.Rank, p []byte, n int) ([]byte, error) {
	for at := 0; at < n && g.Size() > 1; at += pieceBytes {
		end := min(at+pieceBytes, n)
		if g.Rank() != from {
			p = slices.Grow(p, end-at)[:end]
		}
		if err := comm.Broadcast(ctx, g, from, p[at:end]); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// deal returns a rank's own part of a saved tensor, in the shape in which State gives it. workers is how many saved it.
func deal(t ckpt.Tensor, workers int, tree comm.Tree, rank comm.Rank) (ckpt.Tensor, error) {
	var rows int
	switch t.Shard {
	case ckpt.Summed:
		if rows = workers; t.Type != ckpt.F32 && t.Type != ckpt.F64 {
			return t, fmt.Errorf("tensor %q is saved as %s, %s, which has no shares of a sum: %s and %s have", t.Name, t.Type, t.Shard, ckpt.F32, ckpt.F64)
		}
	case ckpt.PerClient:
		rows = tree.Leaves()
	default:
		return t, nil
	}
	if len(t.Shape) == 0 || t.Shape[0] != rows || len(t.Data)%rows != 0 {
		return t, fmt.Errorf("tensor %q is saved as %s %v, %s, expected %d rows", t.Name, t.Type, t.Shape, t.Shard, rows)
	}
	size := len(t.Data) / rows
	lo, hi := int(rank), int(rank)+1
	if t.Shard == ckpt.PerClient {
		lo, hi = tree.Run(rank)
		t.Shape = append([]int{hi - lo}, t.Shape[1:]...)
	} else {
		t.Shape = t.Shape[1:]
	}
	if t.Shard == ckpt.PerClient || workers == tree.Ranks() {
		t.Data = t.Data[lo*size : hi*size]
		return t, nil
	}
	share := make([]byte, size)
	if n := owners(tree); int(rank) < n {
		average(share, t, workers, n)
	}
	t.Data = share
	return t, nil
}

// owners is how many ranks own microshards: those from 0 on.
func owners(tree comm.Tree) (n int) {
	for n < tree.Ranks() {
		if lo, hi := tree.Run(comm.Rank(n)); lo == hi {
			break
		}
		n++
	}
	return n
}

// average writes the sum of t's rows divided by n to dst.
func average(dst []byte, t ckpt.Tensor, rows, n int) {
	le := binary.LittleEndian
	size := t.Type.Size()
	for i := 0; i < len(dst); i += size {
		sum := 0.0
		for r := range rows {
			if at := t.Data[r*len(dst)+i:]; t.Type == ckpt.F32 {
				sum += float64(math.Float32frombits(le.Uint32(at)))
			} else {
				sum += math.Float64frombits(le.Uint64(at))
			}
		}
		if sum /= float64(n); t.Type == ckpt.F32 {
			le.PutUint32(dst[i:], math.Float32bits(float32(sum)))
		} else {
			le.PutUint64(dst[i:], math.Float64bits(sum))
		}
	}
}

// part is what has state, and what its tensors' names begin with in a checkpoint.
type part struct {
	prefix string
	holder ckpt.Stateful
}

// parts lists all that has state, but for the parameters and the sample books.
func (r *run) parts() []part {
	ps := []part{{"strategy/", r.strategy}}
	if r.w.Optimizer != nil {
		ps = append([]part{{"optimizer/", r.w.Optimizer}}, ps...)
	}
	if s, ok := r.w.Reducer.(ckpt.Stateful); ok {
		ps = append(ps, part{"reducer/", s})
	}
	for _, name := range slices.Sorted(maps.Keys(r.others)) {
		ps = append(ps, part{othersPrefix + name + "/", r.others[name]})
	}
	return ps
}

// booksPrefix is what the sample books' tensors begin with.
const booksPrefix = "samples/"

// othersPrefix and a name are what tensors of a reducer beside the first begin with.
const othersPrefix = "reducers/"

// fits checks what a part is going to get against what it has now, when it has it already; the rest is for its Load to
// judge. It returns it with what is dropped, as that is now.
func fits(saved, live []ckpt.Tensor) ([]ckpt.Tensor, error) {
	saved = slices.Clip(saved)
	for _, l := range live {
		i := slices.IndexFunc(saved, func(s ckpt.Tensor) bool { return s.Name == l.Name })
		switch {
		case l.Shard == ckpt.Dropped && i < 0:
			saved = append(saved, l)
		case i < 0:
			return nil, fmt.Errorf("tensor %q (%s %v) is expected and not in the checkpoint", l.Name, l.Type, l.Shape)
		case way(saved[i]) != way(l):
			return nil, fmt.Errorf("tensor %q is saved as %s and %s here", l.Name, way(saved[i]), way(l))
		case saved[i].Type != l.Type || !slices.Equal(saved[i].Shape, l.Shape):
			return nil, fmt.Errorf("tensor %q is %s %v where %s %v is expected", l.Name, saved[i].Type, saved[i].Shape, l.Type, l.Shape)
		}
	}
	return saved, nil
}

// way is a tensor's Shard, by its name.
func way(t ckpt.Tensor) ckpt.Shard {
	if t.Shard == "" {
		return ckpt.Replicated
	}
	return t.Shard
}

// take gives this worker its part of a checkpoint that so many workers saved. Everything is checked first: when it does
// not fit, nothing has been changed, unless a part refuses what looked right, and then no part after it has been.
func (r *run) take(model, state []ckpt.Tensor, workers int) error {
	base := newSampleSet(r.c.Train.Len())
	booked := ckpt.Under(booksPrefix, state)
	if err := ckpt.Match(booked, base.tensors()); err != nil {
		return err
	}
	var own []ckpt.Tensor
	for _, t := range state {
		if strings.HasPrefix(t.Name, booksPrefix) {
			continue
		}
		t, err := deal(t, workers, r.w.Tree, r.g.Rank())
		if err != nil {
			return err
		}
		own = append(own, t)
	}
	if err := r.load(model, own); err != nil {
		return err
	}
	r.books.base = base
	return ckpt.Restore(booked, base.tensors())
}

// load gives this worker parameters and its own part of the rest of the state. Errors are as for take.
func (r *run) load(model, state []ckpt.Tensor) error {
	params := r.blank()
	if err := ckpt.Match(model, params); err != nil {
		return err
	}
	r.expect(state)
	parts := r.parts()
	dealt := make([][]ckpt.Tensor, len(parts))
	known := 0
	for i, p := range parts {
		dealt[i] = ckpt.Under(p.prefix, state)
		known += len(dealt[i])
		var err error
		if dealt[i], err = fits(dealt[i], p.holder.State()); err != nil {
			return fmt.Errorf("the state of the %s: %w", strings.TrimSuffix(p.prefix, "/"), err)
		}
	}
	if known < len(state) {
		for _, t := range state {
			if !slices.ContainsFunc(parts, func(p part) bool { return strings.HasPrefix(t.Name, p.prefix) }) {
				return fmt.Errorf("tensor %q (%s %v) belongs to nothing that this run has", t.Name, t.Type, t.Shape)
			}
		}
	}
	for i, p := range parts {
		if err := p.holder.Load(dealt[i]); err != nil {
			return err
		}
	}
	if err := ckpt.Restore(model, params); err != nil || r.keeper == nil || r.large() != nil {
		return err
	}
	return r.keeper.SetTables(params[len(r.c.Model.Layout()):])
}

// Dropped lists the tensors of a run's state that its checkpoint does not keep; none for one that is not of a run.
func Dropped(m ckpt.Manifest) []string {
	var p progress
	if m.Get("progress", &p) != nil {
		return nil
	}
	return p.Dropped
}

// told says what workers, ranks and shards made of a checkpoint's state, for people: what did not come back as it was.
func told(state []ckpt.Tensor, dropped []string, workers int, tree comm.Tree) []string {
	var out, shared []string
	for _, t := range state {
		if t.Shard == ckpt.Summed && workers != tree.Ranks() {
			shared = append(shared, t.Name)
		}
	}
	if len(shared) > 0 {
		out = append(out, fmt.Sprintf("%s of %d workers: the sum is shared out evenly among %d", some(shared), workers, owners(tree)))
	}
	if len(dropped) > 0 {
		out = append(out, fmt.Sprintf("%s: not in the checkpoint, begins anew", some(dropped)))
	}
	return out
}

// some lists the first few names.
func some(names []string) string {
	const most = 4
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}
