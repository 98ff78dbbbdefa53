package train

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/covey-ml/covey/ckpt"
	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/data"
)

// common is what all workers have alike, told by one that has it.
type common struct {
	Shot  shot
	Kinds []kind // of what each has its own part of
	Bytes int    // of the tensors that follow; 0: everybody has them
}

// goOn takes the state of a step from the memories of those who have it.
func (r *run) goOn(ctx context.Context, c recollection) error {
	me := int(r.g.Rank())
	var mine, behind *shot // its state of that step, or if it was in the midst of it of the one before
	for _, s := range r.kept.shots {
		switch {
		case s.gen != c.Gen:
		case s.Step == c.Step:
			mine = s
		case c.Was[me] >= 0 && r.undo:
			behind = s
		}
	}
	before := comm.NewTree(r.c.Microshards, c.Size)
	var told common
	var tensors []byte
	if me == c.From {
		lo, hi := before.Run(comm.Rank(mine.rank))
		b := kinds(mine.state, hi-lo)
		told.Shot, told.Kinds = *mine, b.Kinds
		if slices.Contains(c.Whole, false) {
			alike := ckpt.Prefixed("model/", Tensors(r.c.Model.Layout(), mine.x))
			for _, t := range mine.state {
				if way(t) == ckpt.Replicated {
					t.Name = "state/" + t.Name
					alike = append(alike, t)
				}
			}
			var buf bytes.Buffer
			if err := ckpt.Write(&buf, alike, nil); err != nil {
				return err
			}
			tensors = buf.Bytes()
			told.Bytes = len(tensors)
		}
	}
	head, err := hearFrom(ctx, r.g, c.From, told)
	if err != nil {
		return err
	}
	if err := r.keepPace(head.Shot.Progress.Pace, c.Step); err != nil {
		return err
	}
	model, state, err := r.alike(ctx, c, head, mine, tensors)
	if err != nil {
		return err
	}
	lost, source := sources(c, before, r.w.Tree)
	own, err := r.ownParts(ctx, head.Kinds, mine, before, source)
	if err != nil {
		return err
	}
	base, err := r.booksOf(ctx, c, head.Shot, mine, behind, lost)
	if err != nil {
		return err
	}
	if err := r.load(model, append(state, own...)); err != nil {
		return fmt.Errorf("the state of step %d, from worker %d's memory: %w", c.Step, c.From, err)
	}
	p := head.Shot.Progress
	r.lossSum, r.lossOf, r.loss, r.rounds = p.LossSum, p.LossOf, p.Loss, p.Rounds
	r.at(c.Step)
	switch r.unended = c.Unended; {
	case r.used > 0:
		r.books.base = base
	case c.Unended && r.step > 0: // the books of the epoch before are not closed yet
		r.books.base = base
		r.closed, r.books.epoch = r.epoch-1, r.epoch-1
	}
	r.last, r.lastSave, r.books.sliced = head.Shot.Last, head.Shot.LastSave, head.Shot.Sliced
	r.saved = -1
	if c.Saved {
		r.saved = r.step
	}
	r.notes = append(r.notes, losses(head.Kinds, lost)...)
	return nil
}

// losses says in words what was lost with the workers of some microshards.
func losses(kinds []kind, lost []int) []string {
	if len(lost) == 0 {
		return nil
	}
	var rows, sums, leaves, out []string
	for _, k := range kinds {
		if k.Shard == ckpt.PerClient {
			rows = append(rows, k.Name)
		} else {
			sums = append(sums, k.Name)
		}
	}
	for _, leaf := range lost {
		leaves = append(leaves, fmt.Sprint(leaf))
	}
	if len(rows) > 0 {
		out = append(out, fmt.Sprintf("lost with their worker: %s of microshards %s, which go on with their neighbours'", some(rows), some(leaves)))
	}
	if len(sums) > 0 {
		out = append(out, fmt.Sprintf("lost with their worker: its part of %s", some(sums)))
	}
	return out
}

// hearFrom gives every worker the value of one of them.
func hearFrom[T any](ctx context.Context, g comm.Group, from int, v T) (T, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return v, err
	}
	b, err = tellBytes(ctx, g, comm.Rank(from), b)
	if err != nil {
		return v, err
	}
	var out T
	return out, json.Unmarshal(b, &out)
}

// alike returns the parameters and the rest of what all have alike: this worker's own, or what it is given.
func (r *run) alike(ctx context.Context, c recollection, head common, mine *shot, p []byte) (model, state []ckpt.Tensor, err error) {
	if head.Bytes > 0 {
		if p, err = spread(ctx, r.g, comm.Rank(c.From), p, head.Bytes); err != nil {
			return nil, nil, err
		}
	}
	if c.Whole[r.g.Rank()] {
		for _, t := range mine.state {
			if way(t) == ckpt.Replicated {
				state = append(state, t)
			}
		}
		return Tensors(r.c.Model.Layout(), mine.x), state, nil
	}
	ts, _, err := ckpt.Read(bytes.NewReader(p), int64(len(p)))
	if err != nil {
		return nil, nil, err
	}
	return ckpt.Under("model/", ts), ckpt.Under("state/", ts), nil
}

// sources lists the microshards whose worker is gone, and says of each microshard which rank has its rows, or those of the nearest
// one before it, or after it, whose worker is not gone.
func sources(c recollection, before, now comm.Tree) (lost []int, source []int) {
	source = make([]int, now.Leaves())
	for leaf := range source {
		source[leaf] = -1
	}
	for rank, was := range c.Was {
		if was < 0 {
			continue
		}
		lo, hi := before.Run(comm.Rank(was))
		for leaf := lo; leaf < hi; leaf++ {
			source[leaf] = rank
		}
	}
	for leaf, s := range source {
		if s < 0 {
			lost = append(lost, leaf)
		}
	}
	return lost, source
}

// nearest is the leaf whose row takes the place of one that is lost.
func nearest(source []int, leaf int) int {
	for d := range source {
		for _, at := range [...]int{leaf - d, leaf + d} {
			if at >= 0 && at < len(source) && source[at] >= 0 {
				return at
			}
		}
	}
	return leaf
}

// ownParts gives this worker its part of what each has its own of: its share of sums stays with it, rows go where their microshard
// is now.
func (r *run) ownParts(ctx context.Context, kinds []kind, mine *shot, before comm.Tree, source []int) (own []ckpt.Tensor, err error) {
	me := r.g.Rank()
	have := map[string][]byte{}
	first := 0
	if mine != nil {
		for _, t := range mine.state {
			have[t.Name] = t.Data
		}
		first, _ = before.Run(comm.Rank(mine.rank))
	}
	owner := make([]comm.Rank, len(source))
	for rank := range r.g.Size() {
		lo, hi := r.w.Tree.Run(comm.Rank(rank))
		for leaf := lo; leaf < hi; leaf++ {
			owner[leaf] = comm.Rank(rank)
		}
	}
	lo, hi := r.w.Tree.Run(me)
	for _, k := range kinds {
		size := k.bytes()
		t := ckpt.Tensor{Name: k.Name, Type: k.Type, Shape: k.Row, Shard: k.Shard, Data: have[k.Name]}
		if k.Shard == ckpt.Summed {
			if t.Data == nil {
				t.Data = make([]byte, size)
			}
			own = append(own, t)
			continue
		}
		send, recv := make([][]byte, r.g.Size()), make([][]byte, r.g.Size())
		count := make([]int, r.g.Size())
		for leaf := range source {
			at := nearest(source, leaf)
			from := comm.Rank(source[at])
			if from == me {
				send[owner[leaf]] = append(send[owner[leaf]], have[k.Name][(at-first)*size:(at-first+1)*size]...)
			}
			if owner[leaf] == me {
				count[from] += size
			}
		}
		for rank, n := range count {
			recv[rank] = make([]byte, n)
		}
		if err := comm.AllToAll(ctx, r.g, send, recv); err != nil {
			return nil, err
		}
		t.Shape = append([]int{hi - lo}, k.Row...)
		t.Data = make([]byte, 0, (hi-lo)*size)
		for leaf := lo; leaf < hi; leaf++ {
			from := source[nearest(source, leaf)]
			t.Data = append(t.Data, recv[from][:size]...)
			recv[from] = recv[from][size:]
		}
		own = append(own, t)
	}
	return own, nil
}

// booksOf makes one of the sample books of all before this group: what those who are here used, and what those who are gone did,
// in the steps up to the one that all go on from, which the sampler knows.
func (r *run) booksOf(ctx context.Context, c recollection, from shot, mine, behind *shot, lost []int) (*sampleSet, error) {
	epoch, used := r.sampler.At(c.Step)
	if used == 0 && epoch > 0 {
		epoch-- // that of the step that was done last
	}
	now := newSampleSet(r.c.Train.Len())
	switch {
	case mine != nil && mine.epoch == epoch:
		now.add(mine.own)
	case behind != nil: // others have done the step that it was in the midst of, with its part
		if behind.epoch == epoch {
			now.add(behind.own)
		}
		lo, hi := comm.NewTree(r.c.Microshards, c.Size).Run(comm.Rank(behind.rank))
		for leaf := lo; leaf < hi; leaf++ {
			r.usedBy(now, from, c.Step-1, leaf)
		}
	}
	if err := r.gatherBooks(ctx, now); err != nil {
		return nil, err
	}
	var b []byte
	if r.g.Rank() == 0 {
		for step := c.Since; step < c.Step; step++ {
			if of, _ := r.sampler.At(step); of != epoch {
				continue
			}
			for _, leaf := range lost {
				r.usedBy(now, from, step, leaf)
			}
		}
		b = now.encode()
	}
	b, err := tellBytes(ctx, r.g, 0, b)
	if err != nil {
		return nil, err
	}
	all := newSampleSet(r.c.Train.Len())
	if err := all.merge(b); err != nil {
		return nil, err
	}
	// And what was used before that group.
	var base []byte
	if int(r.g.Rank()) == c.From && mine.base != nil && mine.epoch == epoch {
		base = mine.base.encode()
	}
	if base, err = tellBytes(ctx, r.g, comm.Rank(c.From), base); err != nil || len(base) == 0 {
		return all, err
	}
	return all, all.merge(base)
}

// usedBy books what a microshard had in a step.
func (r *run) usedBy(set *sampleSet, from shot, step, leaf int) {
	if from.Sliced {
		set.useRun(data.Slice(leaf, r.c.Microshards, set.n))
		return
	}
	set.use(r.sampler.Shard(step, leaf))
}
