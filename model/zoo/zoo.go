// Package zoo builds a model by the name that a job gives it: mlp:128,64, logistic:C=1, ridge:alpha=0.5.
//
// New checks that the model fits the data and, when it does not, names one that does.
package zoo

import (
	"fmt"
	"strings"

	"github.com/covey-ml/covey/data"
	"github.com/covey-ml/covey/model"
	"github.com/covey-ml/covey/model/ctr"
	"github.com/covey-ml/covey/model/linear"
	"github.com/covey-ml/covey/model/nn"
	"github.com/covey-ml/covey/model/profile"
	"github.com/covey-ml/covey/spec"
)

// entry is one kind of model.
type entry struct {
	name, help string
	task       data.Task // the only one it does; "" for both
	build      func(s *spec.Spec, c linear.Config, info data.Info) (model.Model, error)
}

var entries = []entry{
	{"mlp", "mlp:128,64[,activation=relu|tanh|gelu][,dropout=0] - layers of these widths, softmax or least squares on top", "", mlp},
	{"softmax", "softmax[:l2=0][,bias=true] - multinomial logistic regression, l2/2 |W|^2 against the sum of losses", data.Classification,
		func(s *spec.Spec, c linear.Config, info data.Info) (model.Model, error) {
			l2 := s.Float("l2", 0)
			return finish(s, c, func(c linear.Config) (model.Model, error) { return linear.NewSoftmax(c, l2) })
		}},
	{"logistic", "logistic[:C=1][,bias=true] - two classes, |w|^2/2 + C sum log(1+exp(-s (x.w+b))), bias not penalised", data.Classification, logistic},
	{"linear", "linear[:bias=true] - least squares", data.Regression,
		func(s *spec.Spec, c linear.Config, _ data.Info) (model.Model, error) {
			return finish(s, c, func(c linear.Config) (model.Model, error) { return linear.NewLinear(c) })
		}},
	{"ridge", "ridge[:alpha=1][,bias=true] - least squares, alpha |w|^2 against the sum of squared errors", data.Regression,
		func(s *spec.Spec, c linear.Config, _ data.Info) (model.Model, error) {
			alpha := s.Float("alpha", 1)
			return finish(s, c, func(c linear.Config) (model.Model, error) { return linear.NewRidge(c, alpha) })
		}},
	{"lasso", "lasso[:alpha=1][,bias=true] - least squares, alpha |w|_1 against half the mean squared error", data.Regression,
		func(s *spec.Spec, c linear.Config, _ data.Info) (model.Model, error) {
			alpha := s.Float("alpha", 1)
			return finish(s, c, func(c linear.Config) (model.Model, error) { return linear.NewLasso(c, alpha) })
		}},
	{"ctr-logistic", "ctr-logistic - click-through: two classes of sparse samples, a table of one weight a feature and a bias, without a regulariser (ftrl has its own)", data.Classification, clicks},
	{"wide-deep", "wide-deep:128,64[,embedding=8][,activation=relu|tanh|gelu][,dropout=0] - ctr-logistic plus layers of these widths on embeddings of the features, summed by CSV column", data.Classification, clicks},
	{"profile", "profile:resnet50|...|FILE[,sequence=128] - sizes and costs alone, for covey sim --timing: " + strings.Join(profile.Names(), ", ") + ", or a file of segments", "", profiled},
}

// Names lists the models.
func Names() []string {
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.name
	}
	return names
}

// Help is one line on a model: how to write it, its defaults and what it is. It is "" for a name that is not in Names.
func Help(name string) string {
	for _, e := range entries {
		if e.name == name {
			return e.help
		}
	}
	return ""
}

// New builds the model s for data described by info. n is the number of samples of the whole training set, which a
// regulariser's strength is relative to. train is that set, or nil: linear and ridge look at it once when they are solved
// in closed form (see linear.Config).
func New(s *spec.Spec, info data.Info, n int, train data.Dataset) (model.Model, error) {
	if err := spec.OneOf("model", s.Name, Names()...); err != nil {
		return nil, err
	}
	var e entry
	for _, e = range entries {
		if e.name == s.Name {
			break
		}
	}
	c := linear.Config{Dim: info.Dim, N: n, Train: train}
	switch {
	case info.Dim < 1:
		return nil, fmt.Errorf("%s: the data %q has no features to learn from", s.Name, info.Name)
	case n < 1:
		return nil, fmt.Errorf("%s: the training set has %d samples: at least 1 is needed", s.Name, n)
	case info.Task == data.Classification:
		c.Outputs = info.Classes
		if info.Classes < 2 {
			return nil, fmt.Errorf("%s: the data %q has %d class: classification needs at least 2", s.Name, info.Name, info.Classes)
		}
		if e.task == data.Regression {
			fit := "softmax"
			if info.Classes == 2 {
				fit = "logistic"
			}
			return nil, fmt.Errorf("%s predicts numbers, and the data %q has %d classes: use %s or mlp:128", s.Name, info.Name, info.Classes, fit)
		}
	case info.Task == data.Regression:
		c.Outputs = info.Targets
		if info.Targets < 1 {
			return nil, fmt.Errorf("%s: the data %q has no targets to predict", s.Name, info.Name)
		}
		if e.task == data.Classification {
			return nil, fmt.Errorf("%s predicts classes, and the data %q has numbers to predict: use linear, ridge or mlp:128", s.Name, info.Name)
		}
	default:
		return nil, fmt.Errorf("%s: the data %q has the task %q: expected %s or %s", s.Name, info.Name, info.Task, data.Classification, data.Regression)
	}
	return e.build(s, c, info)
}

// finish takes the parameter that all of the linear family have and builds, once s has nothing unknown left.
func finish(s *spec.Spec, c linear.Config, build func(linear.Config) (model.Model, error)) (model.Model, error) {
	c.NoBias = !s.Bool("bias", true)
	if err := s.Done(); err != nil {
		return nil, err
	}
	m, err := build(c)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.Name, err)
	}
	return m, nil
}

func logistic(s *spec.Spec, c linear.Config, info data.Info) (model.Model, error) {
	if info.Classes != 2 {
		return nil, fmt.Errorf("logistic tells two classes apart, and the data %q has %d: use softmax or mlp:128", info.Name, info.Classes)
	}
	strength := s.Float("C", 1)
	return finish(s, c, func(c linear.Config) (model.Model, error) { return linear.NewLogistic(c, strength) })
}

// hidden makes layers of these widths, as the rest of s, which it takes, says.
func hidden(s *spec.Spec, widths []int) ([]nn.Layer, error) {
	activation := s.Word("activation", "relu", "relu", "tanh", "gelu")
	dropout := s.Float("dropout", 0)
	if err := s.Done(); err != nil {
		return nil, err
	}
	if !(dropout >= 0 && dropout < 1) {
		return nil, fmt.Errorf("%s: dropout is %g, expected a probability: at least 0 and below 1", s.Name, dropout)
	}
	var layers []nn.Layer
	for _, w := range widths {
		layers = append(layers, nn.Dense{Out: w})
		switch activation {
		case "relu":
			layers = append(layers, nn.ReLU{})
		case "tanh":
			layers = append(layers, nn.Tanh{})
		case "gelu":
			layers = append(layers, nn.GELU{})
		}
		if dropout > 0 {
			layers = append(layers, nn.Dropout{P: dropout})
		}
	}
	return layers, nil
}

func mlp(s *spec.Spec, c linear.Config, info data.Info) (model.Model, error) {
	layers, err := hidden(s, s.Ints("width"))
	if err != nil {
		return nil, err
	}
	if len(layers) == 0 {
		plain := "linear"
		if info.Task == data.Classification {
			plain = "softmax"
		}
		return nil, fmt.Errorf("mlp needs the widths of its hidden layers, as in mlp:128 or mlp:128,64; without hidden layers it is %s", plain)
	}
	var head nn.Head = nn.MeanSquared{}
	if info.Task == data.Classification {
		head = nn.CrossEntropy{}
	}
	layers = append(layers, nn.Dense{Out: c.Outputs})
	m, err := nn.New(nn.Config{In: c.Dim, Layers: layers, Head: head})
	if err != nil {
		return nil, fmt.Errorf("mlp: %w", err)
	}
	return m, nil
}

// clicks makes the models of package ctr, with their tables in the flat vector.
func clicks(s *spec.Spec, _ linear.Config, info data.Info) (model.Model, error) {
	switch {
	case info.Classes != 2:
		return nil, fmt.Errorf("%s tells two classes apart, and the data %q has %d: use softmax or mlp:128", s.Name, info.Name, info.Classes)
	case !info.Sparse:
		return nil, fmt.Errorf("%s needs sparse samples, and those of the data %q are dense: use LIBSVM, CSV with --hash 20, or mlp:128", s.Name, info.Name)
	}
	var m *ctr.Model
	var err error
	if s.Name == "ctr-logistic" {
		if err := s.Done(); err != nil {
			return nil, err
		}
		m, err = ctr.NewLogistic(info.Dim)
	} else {
		widths := s.Ints("width") // before what could be given without a name
		c := ctr.Config{Dim: info.Dim, Fields: info.Fields, Width: s.Int("embedding", 8)}
		if c.Layers, err = hidden(s, widths); err != nil {
			return nil, err
		}
		if len(c.Layers) == 0 {
			return nil, fmt.Errorf("wide-deep needs the widths of its hidden layers, as in wide-deep:128,64; without a deep part it is ctr-logistic")
		}
		m, err = ctr.NewWideDeep(c)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.Name, err)
	}
	return model.NewWhole(m), nil
}

// profiled does not look at the data, which a profile never reads.
func profiled(s *spec.Spec, _ linear.Config, _ data.Info) (model.Model, error) {
	name, tokens := s.Text("name", ""), s.Int("sequence", 0)
	if err := s.Done(); err != nil {
		return nil, err
	}
	switch {
	case name == "":
		return nil, fmt.Errorf("profile: expected a name (%s) or a file, as in profile:%s", strings.Join(profile.Names(), ", "), profile.Names()[0])
	case !profile.IsFile(name):
		return profile.New(name, tokens)
	case tokens != 0:
		return nil, fmt.Errorf("profile:%s: a file says what its samples cost, and takes no sequence", name)
	}
	return profile.Load(name)
}
