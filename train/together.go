package train

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/covey-ml/covey/ckpt"
	"github.com/covey-ml/covey/comm"
)

// Of a large model all workers write a checkpoint together, each its part, where all reach the place: a worker then copies
// and writes a share of what all have alike, and what is its own goes nowhere else. A part of the state that each has its own
// of is a piece of the tensor that rank 0 alone would have made of all.

// begun is what rank 0 tells of a checkpoint that all are to write.
type begun struct {
	Draft  ckpt.Draft
	Failed bool // it could not begin it, and has told so
}

// ready is what a worker says before it writes its part.
type ready struct {
	Brings  brings
	Alike   string // SHA-256 of samples of what all must have alike
	Outside string // why it cannot write there
}

// division is how all write a checkpoint.
type division struct {
	Kinds []kind // of what each has its own part of
	Alone string // why rank 0 is to write it
}

// divide decides whether all workers write a checkpoint.
func divide(all []ready) (division, error) {
	each := make([]brings, len(all))
	for rank, w := range all {
		each[rank] = w.Brings
	}
	d := division{Kinds: all[0].Brings.Kinds}
	for rank, w := range all {
		switch {
		case d.Alone != "":
		case w.Outside != "":
			d.Alone = fmt.Sprintf("worker %d cannot write there: %s", rank, w.Outside)
		case w.Alike != all[0].Alike:
			d.Alone = fmt.Sprintf("worker %d does not have what worker 0 has", rank)
		}
	}
	return d, alike(each)
}

// samples is the SHA-256 of the names, types and shapes of tensors, and of some of their bytes: where a strategy leaves workers with
// other parameters or state than rank 0's, which alone count, these differ.
func samples(ts []ckpt.Tensor) string {
	h := sha256.New()
	for _, t := range ts {
		fmt.Fprintf(h, "%q %s %v\n", t.Name, t.Type, t.Shape)
		for at := 0; at < len(t.Data); at += 8 + len(t.Data)/256 {
			h.Write(t.Data[at:min(at+8, len(t.Data))])
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

// draft has rank 0 begin a checkpoint that all are to write, and tells all of it; nil: it could not, and has told so. It is a collective.
func (r *run) draft(ctx context.Context) (*ckpt.Writer, ckpt.Draft, error) {
	var b begun
	w, err := r.saver()
	if r.g.Rank() == 0 {
		if err == nil {
			b.Draft, err = w.Begin(ctx, r.step)
			r.tellSaved()
		}
		if err != nil {
			b.Failed = true
			r.notSaved(err)
		}
	}
	b, e := tell(ctx, r.g, b, nil)
	switch {
	case e != nil:
		return nil, b.Draft, e
	case b.Failed:
		return nil, b.Draft, nil
	}
	return w, b.Draft, err
}

// saveTogether begins to write a checkpoint of all workers. done is false when rank 0 has to write it, as it then does from now
// on. It is a collective.
func (r *run) saveTogether(ctx context.Context) (done bool, err error) {
	w, draft, err := r.draft(ctx)
	if err != nil || w == nil {
		return true, err
	}
	var same, own, books []ckpt.Tensor
	var dropped []string
	for _, t := range r.state() {
		switch way(t) {
		case ckpt.Dropped:
			dropped = append(dropped, t.Name)
		case ckpt.Replicated:
			if strings.HasPrefix(t.Name, booksPrefix) {
				books = append(books, t)
			} else {
				same = append(same, t)
			}
		default:
			own = append(own, t)
		}
	}
	model := Tensors(r.c.Model.Layout(), r.w.X)
	rank := int(r.g.Rank())
	lo, hi := r.w.Tree.Run(r.g.Rank())
	me := ready{Brings: kinds(own, hi-lo), Alike: samples(slices.Concat(model, same))}
	if err := draft.Reach(rank); err != nil {
		me.Outside = err.Error()
	}
	d, err := decide(ctx, r.g, me, divide)
	if err != nil {
		return true, err
	}
	if d.Alone != "" {
		if r.c.together = false; rank == 0 {
			_ = draft.Abandon() // what stays, the next one takes
		}
		return false, nil
	}
	p := ckpt.Divide(model, same, rank, r.g.Size())
	for _, k := range d.Kinds {
		for _, t := range own {
			if t.Name == k.Name {
				p.State = append(p.State, k.piece(t, r.w.Tree, r.g.Rank())...)
			}
		}
	}
	var m *ckpt.Manifest
	if rank == 0 { // who knows the samples of all
		p.State = append(p.State, books...)
		m, err = r.manifest(dropped)
	}
	if err == nil {
		err = w.SavePart(ctx, draft, p, m)
	}
	if r.tellSaved(); err != nil {
		r.notSaved(err)
	}
	return true, nil
}

// piece is a rank's part of the tensor that is saved of what each has its own part of, none when it has no part.
func (k kind) piece(t ckpt.Tensor, tree comm.Tree, rank comm.Rank) []ckpt.Tensor {
	first, rows := int(rank), 1
	if k.Shard == ckpt.PerClient {
		lo, hi := tree.Run(rank)
		first, rows = lo, hi-lo
	}
	row := ckpt.Tensor{Shape: k.Row}.Len()
	whole := append([]int{k.rows(tree)}, k.Row...)
	switch {
	case row == 0 && rank == 0: // there are no pieces of nothing
		t.Shape = whole
		return []ckpt.Tensor{t}
	case row == 0 || rows == 0:
		return nil
	}
	t.Shape, t.Piece = []int{rows * row}, &ckpt.Piece{From: first * row, Whole: whole}
	return []ckpt.Tensor{t}
}
