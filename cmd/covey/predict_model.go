package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"

	"github.com/covey-ml/covey/ckpt"
	"github.com/covey-ml/covey/data"
	"github.com/covey-ml/covey/job"
	"github.com/covey-ml/covey/model"
	"github.com/covey-ml/covey/model/zoo"
	"github.com/covey-ml/covey/spec"
	"github.com/covey-ml/covey/strategy/ps"
	"github.com/covey-ml/covey/train"
)

// learned is a model with the parameters of a checkpoint, and all else that inference needs.
type learned struct {
	dir     string // checkpoint folder
	run     string // run folder, or ""
	step    int
	choice  job.Choice
	schema  *data.Schema // how the training data was read
	trained string       // SHA-256 of the training data
	weights string       // SHA-256 of the parameters
	model   model.Model
	predict model.Predictor
	x       []float32
}

// load puts the model of a run's last whole checkpoint, or of a given one, together. It says which damaged ones it
// passed over.
func load(p target, warn func(format string, args ...any)) (*learned, error) {
	if p.file != "" {
		return nil, usagef("%s holds tensors alone: name the checkpoint folder %s, which says what they are of", p.file, filepath.Dir(p.file))
	}
	dir := p.checkpoint
	if dir == "" {
		latest, passed, err := ckpt.Latest(savedAt(p.run))
		for _, e := range passed {
			warn("passed over a damaged checkpoint: %v", e)
		}
		switch {
		case errors.Is(err, ckpt.ErrNone) && !hasCheckpoints(p.run):
			return nil, usagef("%s has no checkpoint yet: the run saves one an epoch, or every --save steps", p.run)
		case err != nil:
			return nil, corrupt(err)
		}
		dir = latest
	}
	c, err := ckpt.Load(dir)
	if err != nil {
		return nil, corrupt(err)
	}
	l := &learned{dir: dir, run: p.run, step: c.Step, weights: c.WeightsSHA256}
	var n int
	err = errors.Join(c.Get("model", &l.choice), c.Get("data", &l.schema), c.Get("samples", &n))
	if err != nil || l.schema == nil {
		return nil, usagef("checkpoint %s does not say what model and data it is of: it was not made by covey train", dir)
	}
	var progress struct {
		Setting struct {
			Data      string `json:"data_sha256"`
			Optimizer string `json:"optimizer"`
		} `json:"setting"`
	}
	if json.Unmarshal(c.Extra["progress"], &progress) == nil {
		l.trained = progress.Setting.Data
	}
	s, err := l.choice.Spec()
	if err == nil {
		l.model, err = zoo.New(s, l.schema.Info("the training data"), n, nil)
	}
	if err != nil {
		return nil, fmt.Errorf("checkpoint %s: this program cannot build its model %s: %w", dir, l.choice, err)
	}
	if c.Version >= ckpt.VersionStreams {
		if err := l.tables(c.Manifest, progress.Setting.Optimizer); err != nil {
			return nil, corruptf("checkpoint %s: %w", dir, err)
		}
	}
	var ok bool
	if l.predict, ok = l.model.(model.Predictor); !ok {
		return nil, fmt.Errorf("checkpoint %s: the model %s cannot predict", dir, l.choice)
	}
	layout := l.model.Layout()
	l.x = make([]float32, layout.Len())
	if err := ckpt.Restore(c.Model, train.Tensors(layout, l.x)); err != nil {
		return nil, corruptf("checkpoint %s does not fit its model %s: %w", dir, l.choice, err)
	}
	return l, nil
}

// tables reads the tables of a model whose servers have saved them.
func (l *learned) tables(m ckpt.Manifest, optimizer string) error {
	whole, ok := l.model.(*model.Whole)
	if !ok {
		return fmt.Errorf("it has rows of tables, and the model %s has none", l.choice)
	}
	rule, err := spec.Parse(optimizer)
	if err != nil {
		return err
	}
	stored, err := ps.NewStored(whole, rule, m.Seed, l.dir)
	if err == nil {
		l.model, l.weights = stored, ""
	}
	return err
}

func hasCheckpoints(run string) bool {
	all, err := ckpt.List(savedAt(run))
	return err == nil && len(all) > 0
}

// class is a class's name.
func (l *learned) class(c int) string {
	if c >= 0 && c < len(l.schema.Labels) {
		return l.schema.Labels[c]
	}
	return strconv.Itoa(c)
}

// target is a name for the number to predict.
func (l *learned) target(t int) string {
	if l.schema.Named && t < len(l.schema.TargetNames) {
		return l.schema.TargetNames[t]
	}
	if l.schema.Targets == 1 {
		return "value"
	}
	return "value " + strconv.Itoa(t+1)
}

// predictBlock is the number of samples that are predicted in one go.
const predictBlock = 500

// each predicts all samples in order and hands each one to f: its number, the batch it is in, its place there, and its
// outputs (class probabilities or values).
func (l *learned) each(ctx context.Context, ds data.Dataset, f func(i int, b *data.Batch, k int, out []float32) error) error {
	width := l.predict.Outputs()
	out := make([]float32, predictBlock*width)
	ids := make([]int, 0, predictBlock)
	var b data.Batch
	for lo := 0; lo < ds.Len(); lo += predictBlock {
		ids = ids[:0]
		for i := lo; i < min(lo+predictBlock, ds.Len()); i++ {
			ids = append(ids, i)
		}
		ds.Gather(&b, ids)
		if err := l.predict.Predict(ctx, l.x, &b, out[:len(ids)*width]); err != nil {
			return err
		}
		for k, i := range ids {
			if err := f(i, &b, k, out[k*width:(k+1)*width]); err != nil {
				return err
			}
		}
	}
	return nil
}

// labelled tells whether the samples come with what is to be predicted.
func labelled(ds data.Dataset) bool {
	if ds.Info().Task == data.Classification {
		return ds.Label(0) >= 0
	}
	var b data.Batch
	ds.Gather(&b, []int{0})
	return len(b.Y) > 0 && b.Y[0] == b.Y[0]
}
