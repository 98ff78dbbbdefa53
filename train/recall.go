package train

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/covey-ml/covey/ckpt"
	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/data"
	"github.com/covey-ml/covey/strategy"
)

// kept is what a worker keeps of a run from one group to the next.
type kept struct {
	// shots of its state, the newest first; none: it knows nothing of the run. Those of the generation before are kept until a
	// step is done in this one: only then is it sure that all have come as far as this worker.
	shots      []*shot
	generation Generation
	ledger     *comm.Ledger
	began      time.Duration
	first      int // steps done when it joined
	samples    int
	times      strategy.Times
	joined     bool // it has been in a group that trained
}

// newest lets a later generation go on from the run's newest checkpoint, should nobody in it know anything of the run.
func (k *kept) newest(c *Config) error {
	if k == nil || k.generation.Number <= 1 || c.Checkpoints == "" {
		return nil
	}
	path, _, err := ckpt.Latest(c.Checkpoints)
	if errors.Is(err, ckpt.ErrNone) {
		return nil
	}
	c.Resume = path
	return err
}

// shot is a worker's state between two steps.
type shot struct {
	Step     int
	Unended  bool // what is due after the step is not done
	Closed   int  // epochs whose books are closed
	Saved    int  // step of the newest checkpoint
	Progress progress
	Last     *EpochInfo
	LastSave string // its folder
	Sliced   bool   // steps use all samples, in slices
	rank     int
	size     int // of the group
	x        []float32
	state    []ckpt.Tensor // without parameters and sample books
	epoch    int           // of the books
	base     *sampleSet
	own      *sampleSet
	gen      uint64
	since    int // the generation's first step
}

// fresh tells whether no step was done in the shot's generation.
func (s *shot) fresh() bool { return s.Step == s.since }

// shoot makes a shot of the run as it is, that shares its memory.
func (r *run) shoot() *shot {
	s := &shot{Step: r.step, Unended: r.unended, Closed: r.closed, Saved: r.saved, Last: r.last, LastSave: r.lastSave, Sliced: r.books.sliced,
		Progress: progress{LossSum: r.lossSum, LossOf: r.lossOf, Loss: r.loss, Rounds: r.rounds},
		rank:     int(r.g.Rank()), size: r.g.Size(), x: r.w.X, epoch: r.books.epoch, base: r.books.base, own: r.books.own, gen: r.kept.generation.Number, since: r.since}
	for _, p := range r.parts() {
		s.state = append(s.state, ckpt.Prefixed(p.prefix, p.holder.State())...)
	}
	return s
}

// snapshot keeps a copy of the state after a step in which workers talked, unless a step that fails undoes itself. Two are
// kept: workers are at most one exchange apart.
func (r *run) snapshot(ctx context.Context, quiet bool) error {
	if r.kept == nil {
		return nil
	}
	if r.undo {
		r.kept.shots = nil // of the generation before
		return nil
	}
	if quiet {
		return nil
	}
	if err := r.settle(ctx); err != nil {
		return atStep(r.step, err)
	}
	s := r.shoot()
	keep := r.kept.shots
	if r.step > r.since { // all have come here: two of this generation are enough
		keep = slices.DeleteFunc(keep, func(o *shot) bool { return o.gen != s.gen })
	}
	old := &shot{own: newSampleSet(r.books.own.n)} // whose memory is free
	if len(keep) > 1 && r.step > r.since {
		old = keep[1]
		keep = keep[:1]
	}
	s.x = append(old.x[:0], s.x...)
	for i := range s.state {
		var room []byte
		if i < len(old.state) {
			room = old.state[i].Data[:0]
		}
		s.state[i].Data = append(room, s.state[i].Data...)
	}
	own := old.own
	own.clear()
	own.add(s.own)
	s.own = own
	r.kept.shots = append([]*shot{s}, keep...)
	return nil
}

// remember keeps what the run has come to when its group ends.
func (r *run) remember() {
	k := r.kept
	if k == nil || !r.held {
		return
	}
	k.began, k.first, k.samples, k.times, k.joined = r.began, r.first, r.samples, r.times, true
	if r.undo {
		k.shots = append([]*shot{r.shoot()}, k.shots...)
		return
	}
	for _, s := range k.shots { // what was done since
		if s.Step == r.step && s.gen == k.generation.Number {
			s.Unended, s.Closed, s.Saved, s.Last, s.LastSave = r.unended, r.closed, r.saved, r.last, r.lastSave
			s.Progress.LossSum, s.Progress.LossOf, s.Progress.Loss = r.lossSum, r.lossOf, r.loss
		}
	}
}

// standing is what a worker says of itself when a group begins: the states that it could go on from, the newest first.
type standing []stand

// stand is a shot, in short.
type stand struct {
	Gen     uint64
	Step    int
	Fresh   bool // no step was done in that generation
	Rank    int  // in it
	Size    int  // of it
	Since   int  // its first step
	Unended bool
	Saved   bool
}

// recollection is what a group goes on from.
type recollection struct {
	Gen     uint64
	Step    int    // -1: nobody knows anything
	Size    int    // of that generation
	Since   int    // its first step
	Was     []int  // by rank: its rank in that generation, -1: it was not there, or does not know
	Whole   []bool // by rank: it has the state of Step
	From    int    // the rank that gives the others what all have alike
	Unended bool
	Saved   bool
}

// recollect decides what a group goes on from: the newest generation in which a step was done, or if there was none the newest
// one; and of that, where steps are undone, the newest state that anybody has, else the newest that all have.
func recollect(all []standing, undo bool) (recollection, error) {
	c := recollection{Step: -1, Was: make([]int, len(all)), Whole: make([]bool, len(all)), From: -1}
	fresh := true
	for _, s := range all {
		for _, k := range s {
			if fresh && !k.Fresh || fresh == k.Fresh && k.Gen > c.Gen {
				c.Gen, c.Size, c.Since, fresh = k.Gen, k.Size, k.Since, k.Fresh
			}
		}
	}
	for r, s := range all {
		all[r] = slices.DeleteFunc(slices.Clone(s), func(k stand) bool { return k.Gen != c.Gen })
		if len(all[r]) == 0 {
			continue
		}
		if newest := all[r][0].Step; c.Step < 0 || undo && newest > c.Step || !undo && newest < c.Step {
			c.Step = newest
		}
	}
	for r, s := range all {
		c.Was[r] = -1
		if len(s) == 0 {
			continue
		}
		c.Was[r] = s[0].Rank
		i := slices.IndexFunc(s, func(k stand) bool { return k.Step == c.Step })
		switch {
		case i < 0 && undo: // it was in the midst of the last step
			c.Unended = true
			continue
		case i < 0:
			return c, fmt.Errorf("train: worker %d does not know step %d any more, to which others go back", r, c.Step)
		}
		c.Whole[r] = true
		c.Unended = c.Unended || s[i].Unended
		if c.From < 0 {
			c.From = r
		}
		if r == 0 {
			c.Saved = s[i].Saved
		}
	}
	return c, nil
}

// recall gives this worker the state that its group goes on from: from the memory of its workers, from a checkpoint, or none.
func (r *run) recall(ctx context.Context) error {
	k := r.kept
	if k == nil {
		return r.restore(ctx)
	}
	r.undo = r.undoable()
	me := standing{}
	for _, s := range k.shots {
		me = append(me, stand{s.gen, s.Step, s.fresh(), s.rank, s.size, s.since, s.Unended, s.Saved == s.Step})
	}
	c, err := decide(ctx, r.g, me, func(all []standing) (recollection, error) { return recollect(all, r.undo) })
	if err != nil {
		return err
	}
	if c.Step < 0 {
		err = r.restore(ctx)
	} else {
		err = r.goOn(ctx, c)
	}
	if err != nil {
		return err
	}
	if k.joined {
		r.began, r.first, r.samples, r.times = k.began, k.first, k.samples, k.times
	}
	r.held, r.since = true, r.step
	if !r.undo {
		return r.snapshot(ctx, false)
	}
	return nil
}

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
	case r.inEpoch > 0:
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
	if len(head.Kinds) > 0 && len(lost) > 0 {
		var rows, sums []string
		for _, k := range head.Kinds {
			if k.Shard == ckpt.PerClient {
				rows = append(rows, k.Name)
			} else {
				sums = append(sums, k.Name)
			}
		}
		if len(rows) > 0 {
			r.notes = append(r.notes, fmt.Sprintf("lost with its worker: %s of %s, which goes on with a neighbour's", some(rows), leaves(lost)))
		}
		if len(sums) > 0 {
			r.notes = append(r.notes, fmt.Sprintf("lost with its worker: its part of %s", some(sums)))
		}
	}
	return nil
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
	per := r.sampler.Steps()
	epoch := max(0, c.Step-1) / per // of the step that was done last
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
			r.used(now, from, c.Step-1, leaf)
		}
	}
	if _, err := comm.GatherBytes(ctx, r.g, now.encode(), func(_, came []byte) ([]byte, error) {
		err := now.merge(came)
		return now.encode(), err
	}); err != nil {
		return nil, err
	}
	var b []byte
	if r.g.Rank() == 0 {
		for step := max(c.Since, epoch*per); step < c.Step; step++ {
			for _, leaf := range lost {
				r.used(now, from, step, leaf)
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

// used books what a microshard had in a step.
func (r *run) used(set *sampleSet, from shot, step, leaf int) {
	if from.Sliced {
		set.useRun(data.Slice(leaf, r.c.Microshards, set.n))
		return
	}
	per := r.sampler.Steps()
	set.use(r.sampler.Shard(step/per, step%per, leaf))
}
