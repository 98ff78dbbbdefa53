package train

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/covey-ml/covey/ckpt"
	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/model"
	"github.com/covey-ml/covey/strategy"
)

// progress is what a checkpoint's manifest keeps beside the tensors: what must be the same when the run goes on, and
// where the running sums stood.
type progress struct {
	Setting setting `json:"setting"`
	LossSum float64 `json:"loss_sum"` // over those steps of the epoch under way whose loss is known
	LossOf  int     `json:"loss_of"`  // how many these are
	Loss    float64 `json:"loss"`     // of the last epoch that ended
	Rounds  int     `json:"rounds,omitempty"`
	Pace    *Pace   `json:"pace,omitempty"` // nil: the batch does not follow the workers

	Dropped []string `json:"dropped,omitempty"` // tensors of the state that were not saved
}

// setting is the part of a Config that decides the bits. A checkpoint of another setting cannot be gone on from.
type setting struct {
	Samples     int    `json:"samples"`
	Data        string `json:"data_sha256"`
	Batch       int    `json:"batch"`
	Microshards int    `json:"microshards"`
	Seed        uint64 `json:"seed"`
	Optimizer   string `json:"optimizer"`
	Strategy    string `json:"strategy"`
	Compress    string `json:"compress,omitempty"`
	Clients     string `json:"clients,omitempty"`
	Rescale     string `json:"rescale,omitempty"`
}

// progress is where the running sums stand, and the batch.
func (r *run) progress() progress {
	return progress{LossSum: r.lossSum, LossOf: r.lossOf, Loss: r.loss, Rounds: r.rounds, Pace: r.paceInForce()}
}

func (r *run) setting() setting {
	s := r.shape()
	s.Data = r.c.Train.Info().SHA256
	return s
}

// shape is the setting without the data's hash, which takes a pass over the data.
func (r *run) shape() setting {
	c := r.c
	return setting{Samples: c.Train.Len(), Batch: c.Batch, Microshards: c.Microshards,
		Seed: c.Seed, Optimizer: c.Optimizer, Strategy: fmt.Sprint(r.strategy), Compress: c.Compress, Clients: c.clients(), Rescale: c.Rescale}
}

// differs names the first field that is not the same.
func (s setting) differs(o setting) error {
	for _, f := range []struct {
		key       string
		have, now any
	}{
		{"data", fmt.Sprintf("%d samples, SHA-256 %.12s", s.Samples, s.Data), fmt.Sprintf("%d samples, SHA-256 %.12s", o.Samples, o.Data)},
		{"batch", s.Batch, o.Batch}, {"microshards", s.Microshards, o.Microshards}, {"seed", s.Seed, o.Seed},
		{"optimizer", s.Optimizer, o.Optimizer}, {"strategy", s.Strategy, o.Strategy},
		{"compress", cmp.Or(s.Compress, "none"), cmp.Or(o.Compress, "none")},
		{"partition", cmp.Or(s.Clients, "none"), cmp.Or(o.Clients, "none")},
		{"rescale", cmp.Or(s.Rescale, "none"), cmp.Or(o.Rescale, "none")},
	} {
		if f.have != f.now {
			return &ConfigError{Key: f.key, Err: fmt.Errorf("the checkpoint was made with %v, and this is %v", f.have, f.now)}
		}
	}
	return nil
}

// Tensors views a flat vector as the model's named tensors; their Data aliases x.
func Tensors(l model.Layout, x []float32) []ckpt.Tensor {
	ts := make([]ckpt.Tensor, len(l))
	for i, s := range l {
		ts[i] = ckpt.Float32s(s.Name, s.Shape, x[s.Off:s.Off+s.Len])
	}
	return ts
}

// state is all that this worker has and that is not a parameter; Data aliases live memory.
func (r *run) state() []ckpt.Tensor {
	var all []ckpt.Tensor
	for _, p := range r.parts() {
		all = append(all, ckpt.Prefixed(p.prefix, p.holder.State())...)
	}
	return append(all, ckpt.Prefixed(booksPrefix, r.books.tensors())...)
}

// save begins to write a checkpoint, once a step at most, and waits for it only when it is the last. Rank 0 writes, from a
// copy, while training goes on; the others give it their sample books and the state that is theirs alone. Or all write, each a
// part (saveTogether). Not being able to write is told as an event and does not end the run: the checkpoint before it stays
// whole, and the next one may find room. The last failure is in the report.
func (r *run) save(ctx context.Context, last bool) (err error) {
	if last {
		defer func() {
			if err == nil {
				_, err = r.awaitSaves(ctx)
			}
			r.endSaves(ctx, err)
		}()
	}
	if r.saved == r.step {
		return nil
	}
	if err := r.finite(); err != nil {
		return err
	}
	if !r.c.saving {
		r.saved = r.step
		return nil
	}
	switch idle, err := r.awaitSaves(ctx); {
	case err != nil:
		return err
	case !idle:
		r.saved = r.step
		r.notSaved(fmt.Errorf("the one before is not done after %v", saveGrace))
		return nil
	}
	r.underWay = true
	if _, _, _, err := r.audit(ctx); err != nil {
		return err
	}
	if r.closed == r.epoch && r.used == 0 && r.books.all != nil {
		r.books.all.clear() // of the epoch to come
	}
	if g, ok := r.strategy.(strategy.Gatherer); ok {
		if err := g.Gather(ctx, r.w); err != nil {
			return err
		}
	}
	if r.large() != nil {
		r.saved = r.step
		return r.saveApart(ctx)
	}
	if r.c.together {
		if done, err := r.saveTogether(ctx); done || err != nil {
			r.saved = r.step
			return err
		}
	}
	model, _, err := r.model(ctx)
	if err != nil {
		return err
	}
	state, dropped, err := r.assemble(ctx)
	if err != nil {
		return err
	}
	r.saved = r.step
	if r.g.Rank() != 0 {
		return nil
	}
	m, err := r.manifest(dropped)
	w, e := r.saver()
	err = errors.Join(err, e)
	if err == nil {
		err = w.Save(ctx, ckpt.Checkpoint{Manifest: *m, Model: model, State: state})
	}
	if r.tellSaved(); err != nil {
		r.notSaved(err)
	}
	return nil
}

// manifest is that of a checkpoint of now, but for its files.
func (r *run) manifest(dropped []string) (*ckpt.Manifest, error) {
	m := &ckpt.Manifest{Step: r.step, Epoch: r.epoch, Seed: r.c.Seed, World: r.g.Size(), Microshards: r.c.Microshards}
	p := r.progress()
	p.Setting, p.Dropped = r.setting(), dropped
	err := m.Set("progress", p)
	for k, v := range r.c.Extra {
		err = errors.Join(err, m.Set(k, v))
	}
	return m, err
}

// restored is what rank 0 tells the others of the checkpoint it read.
type restored struct {
	Step     int
	Epoch    int
	Workers  int    // that saved it
	Bytes    int    // of its tensors, which follow
	Apart    string // where ranks that have rows of large tables read them; empty: tables are among the tensors
	Progress progress
}

// restore loads the checkpoint, when there is one, on rank 0, and hands its state to all: the others need not see the
// folder.
func (r *run) restore(ctx context.Context) error {
	if !r.c.resuming {
		r.at(0)
		return nil
	}
	var head restored
	var tensors []byte
	var err error
	if r.g.Rank() == 0 {
		head, tensors, err = r.read()
	}
	if head, err = tell(ctx, r.g, head, err); err != nil {
		return err
	}
	if tensors, err = spread(ctx, r.g, 0, tensors, head.Bytes); err != nil {
		return err
	}
	ts, _, err := ckpt.Read(bytes.NewReader(tensors), int64(len(tensors)))
	if err != nil {
		return err
	}
	state := ckpt.Under("state/", ts)
	if err := r.keepPace(head.Progress.Pace, head.Step); err != nil {
		return err
	}
	if err := r.take(ckpt.Under("model/", ts), state, head.Workers); err != nil {
		return fmt.Errorf("the checkpoint of step %d: %w", head.Step, err)
	}
	if head.Apart != "" {
		if err := r.loadApart(ctx, head.Apart); err != nil {
			return err
		}
	}
	r.notes = told(state, head.Progress.Dropped, head.Workers, r.w.Tree)
	p := head.Progress
	r.lossSum, r.lossOf, r.loss, r.rounds = p.LossSum, p.LossOf, p.Loss, p.Rounds
	r.saved, r.lastSave = head.Step, r.c.Resume
	r.at(head.Step)
	return nil
}

// at says how many steps are done, and all that is due after them.
func (r *run) at(step int) {
	r.step = step
	r.epoch, r.used = r.sampler.At(step)
	r.closed, r.books.epoch, r.unended = r.epoch, r.epoch, false
}

// read loads the checkpoint from disk and checks that it is one of this run.
func (r *run) read() (head restored, tensors []byte, err error) {
	c, err := ckpt.Load(r.c.Resume)
	if err != nil {
		return head, nil, err
	}
	if err := ckpt.Match(c.Model, r.blank()); err != nil {
		return head, nil, &ConfigError{Key: "model", Err: fmt.Errorf("%s is a checkpoint of another model: %w", r.c.Resume, err)}
	}
	if r.large() != nil {
		if c.Version < ckpt.VersionStreams {
			return head, nil, &ConfigError{Key: "model", Err: fmt.Errorf("%s has no rows of the model's tables", r.c.Resume)}
		}
		head.Apart = r.c.Resume
		if !ckpt.Remote(head.Apart) { // other ranks may be in another folder
			if head.Apart, err = filepath.Abs(head.Apart); err != nil {
				return head, nil, err
			}
		}
	}
	if err := c.Get("progress", &head.Progress); err != nil {
		return head, nil, err
	}
	if err := head.Progress.Setting.differs(r.setting()); err != nil {
		return head, nil, err
	}
	head.Step, head.Epoch, head.Workers = c.Step, c.Epoch, c.World
	var b bytes.Buffer
	err = ckpt.Write(&b, slices.Concat(ckpt.Prefixed("model/", c.Model), ckpt.Prefixed("state/", c.State)), nil)
	head.Bytes = b.Len()
	return head, b.Bytes(), err
}

// who is what the workers of a run must have in common.
type who struct {
	Setting setting
	Test    string
	Model   string
	Steps   int
	Rate    float64
	Sched   string
	Workers int `json:",omitempty"` // that the batch is meant for
	Resume  bool
	Save    bool
	Parts   bool // all write checkpoints
}

// who is what this worker says of itself, but for hashes of data.
func (r *run) who() who {
	c := &r.c
	return who{Setting: r.shape(), Model: fmt.Sprint(c.Model.Layout()), Steps: r.total, Rate: c.Rate, Sched: c.Schedule, Workers: c.Workers,
		Resume: c.Resume != "", Save: c.Checkpoints != "", Parts: 4*c.Model.Layout().Len() >= c.SaveTogether}
}

// agree checks that all workers are about to do the same.
func (r *run) agree(ctx context.Context) error {
	if comm.IsHollow(r.g) {
		switch {
		case r.c.Resume != "":
			return &ConfigError{Key: "resume", Err: errors.New("a run for times alone has no numbers to go on from")}
		case r.c.Adapt != "":
			return &ConfigError{Key: "adapt", Err: errors.New("in a run for times alone workers cannot tell each other what to choose by")}
		}
		return nil // and none to save
	}
	if r.g.Size() == 1 {
		r.c.resuming, r.c.saving = r.c.Resume != "", r.c.Checkpoints != ""
		return nil
	}
	me := r.who()
	if !r.c.sameData {
		me.Setting = r.setting()
		if r.c.Test != nil {
			me.Test = r.c.Test.Info().SHA256
		}
	}
	first, err := decide(ctx, r.g, me, agreed)
	r.c.resuming, r.c.saving, r.c.together = first.Resume, first.Save, first.Parts
	return err
}

// agreed returns what all are about to do; whether a run is resumed and saved, and by whom, is rank 0's to say.
func agreed(all []who) (who, error) {
	first := all[0]
	for rank, o := range all {
		o.Resume, o.Save, o.Parts = first.Resume, first.Save, first.Parts
		switch {
		case o == first:
		case o.Setting != first.Setting:
			return first, fmt.Errorf("worker %d and worker 0 do not train the same: %w", rank, o.Setting.differs(first.Setting))
		case o.Test != first.Test:
			return first, fmt.Errorf("worker %d has other test data than worker 0", rank)
		case o.Model != first.Model:
			return first, fmt.Errorf("worker %d has another model than worker 0", rank)
		default:
			return first, fmt.Errorf("worker %d has other steps, rate, schedule or workers to ask for than worker 0", rank)
		}
	}
	return first, nil
}
