package train

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/covey-ml/covey/ckpt"
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
		Seed: c.Seed, Optimizer: c.Optimizer, Strategy: fmt.Sprint(r.strategy), Compress: c.Compress, Clients: c.clients()}
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

// save writes a checkpoint, once a step at most. Only rank 0 writes; the others give it their sample books and the
// state that is theirs alone. Not being able to write is told as an event and does not end the run: the checkpoint
// before it stays whole, and the next one may find room. The last failure is in the report.
func (r *run) save(ctx context.Context) error {
	if r.saved == r.step {
		return nil
	}
	if err := r.finite(); err != nil {
		return err
	}
	if _, _, _, err := r.audit(ctx); err != nil {
		return err
	}
	if g, ok := r.strategy.(strategy.Gatherer); ok {
		if err := g.Gather(ctx, r.w); err != nil {
			return err
		}
	}
	if !r.c.saving {
		r.saved = r.step
		return nil
	}
	state, dropped, err := r.assemble(ctx)
	if err != nil {
		return err
	}
	if r.g.Rank() != 0 {
		r.saved = r.step
		return nil
	}
	dir := ckpt.StepDir(r.c.Dir, r.step)
	c := ckpt.Checkpoint{
		Manifest: ckpt.Manifest{Step: r.step, Epoch: r.epoch, Seed: r.c.Seed, World: r.g.Size(), Microshards: r.c.Microshards},
		Model:    Tensors(r.c.Model.Layout(), r.w.X),
		State:    state,
	}
	err = c.Manifest.Set("progress", progress{Setting: r.setting(), LossSum: r.lossSum, LossOf: r.lossOf, Loss: r.loss, Rounds: r.rounds, Dropped: dropped})
	for k, v := range r.c.Extra {
		err = errors.Join(err, c.Manifest.Set(k, v))
	}
	if err == nil {
		err = ckpt.Save(dir, c)
	}
	if err == nil {
		r.saved, r.lastSave = r.step, dir
		_, err = ckpt.Prune(r.c.Dir, r.c.Keep)
	}
	r.saveErr = err
	if r.c.Events.Checkpoint != nil {
		r.c.Events.Checkpoint(CheckpointInfo{Step: r.step, Path: dir, Err: err})
	}
	return nil
}

// restored is what rank 0 tells the others of the checkpoint it read.
type restored struct {
	Step     int
	Epoch    int
	Workers  int // that saved it
	Bytes    int // of its tensors, which follow
	Progress progress
	Key      string // of a ConfigError
	Err      string
}

// refused is why rank 0 cannot resume, in the same words on every worker.
func (h restored) refused() error {
	switch {
	case h.Key != "":
		return &ConfigError{Key: h.Key, Err: errors.New(h.Err)}
	case h.Err != "":
		return errors.New(h.Err)
	}
	return nil
}

// restore loads the checkpoint, when there is one, on rank 0, and hands its state to all: the others need not see the
// folder.
func (r *run) restore(ctx context.Context) error {
	if !r.c.resuming {
		return nil
	}
	var head restored
	var tensors []byte
	var cause error
	if r.g.Rank() == 0 {
		head, tensors, cause = r.read()
	}
	heads, err := gatherJSON(ctx, r.g, head)
	if err != nil {
		return err
	}
	head = heads[0]
	if cause != nil {
		return cause
	}
	if err := head.refused(); err != nil {
		return err
	}
	if tensors, err = spread(ctx, r.g, tensors, head.Bytes); err != nil {
		return err
	}
	ts, _, err := ckpt.Read(bytes.NewReader(tensors), int64(len(tensors)))
	if err != nil {
		return err
	}
	state := ckpt.Under("state/", ts)
	if err := r.take(ckpt.Under("model/", ts), state, head.Workers); err != nil {
		return fmt.Errorf("the checkpoint of step %d: %w", head.Step, err)
	}
	r.notes = told(state, head.Progress.Dropped, head.Workers, r.w.Tree)
	p := head.Progress
	r.step, r.lossSum, r.lossOf, r.loss, r.rounds = head.Step, p.LossSum, p.LossOf, p.Loss, p.Rounds
	r.saved, r.lastSave = r.step, r.c.Resume
	return nil
}

// read loads the checkpoint from disk and checks that it is one of this run.
func (r *run) read() (head restored, tensors []byte, err error) {
	defer func() {
		var config *ConfigError
		if errors.As(err, &config) {
			head.Key, head.Err = config.Key, config.Err.Error()
		} else if err != nil {
			head.Err = err.Error()
		}
	}()
	c, err := ckpt.Load(r.c.Resume)
	if err != nil {
		return head, nil, err
	}
	if err := ckpt.Match(c.Model, Tensors(r.c.Model.Layout(), r.w.X)); err != nil {
		return head, nil, &ConfigError{Key: "model", Err: fmt.Errorf("%s is a checkpoint of another model: %w", r.c.Resume, err)}
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
	Resume  bool
	Save    bool
}

// agree checks that all workers are about to do the same.
func (r *run) agree(ctx context.Context) error {
	if r.g.Size() == 1 {
		r.c.resuming, r.c.saving = r.c.Resume != "", r.c.Dir != ""
		return nil
	}
	me := who{Setting: r.shape(), Model: fmt.Sprint(r.c.Model.Layout()), Steps: r.total, Rate: r.c.Rate,
		Sched: r.c.Schedule, Resume: r.c.Resume != "", Save: r.c.Dir != ""}
	if !r.c.sameData {
		me.Setting = r.setting()
		if r.c.Test != nil {
			me.Test = r.c.Test.Info().SHA256
		}
	}
	all, err := gatherJSON(ctx, r.g, me)
	if err != nil {
		return err
	}
	r.c.resuming, r.c.saving = all[0].Resume, all[0].Save
	for rank, o := range all {
		o.Resume, o.Save = me.Resume, me.Save // rank 0's count
		switch {
		case o == me:
		case o.Setting != me.Setting:
			return fmt.Errorf("worker %d and worker %d do not train the same: %w", rank, r.g.Rank(), o.Setting.differs(me.Setting))
		case o.Test != me.Test:
			return fmt.Errorf("worker %d has other test data than worker %d", rank, r.g.Rank())
		case o.Model != me.Model:
			return fmt.Errorf("worker %d has another model than worker %d", rank, r.g.Rank())
		default:
			return fmt.Errorf("worker %d has other steps, rate or schedule than worker %d", rank, r.g.Rank())
		}
	}
	return nil
}
