package zoo

import (
	"fmt"
	"strings"
	"testing"

	"github.com/covey-ml/covey/data"
	"github.com/covey-ml/covey/model"
	"github.com/covey-ml/covey/model/nn"
	"github.com/covey-ml/covey/spec"
)

var (
	digits  = data.Info{Name: "digits", Task: data.Classification, Dim: 6, Classes: 10}
	spam    = data.Info{Name: "spam", Task: data.Classification, Dim: 6, Classes: 2}
	houses  = data.Info{Name: "houses", Task: data.Regression, Dim: 6, Targets: 3}
	nothing = data.Info{Name: "nothing", Task: data.Classification, Classes: 2}
	oneKind = data.Info{Name: "one kind", Task: data.Classification, Dim: 6, Classes: 1}
	ads     = data.Info{Name: "ads", Task: data.Classification, Dim: 6, Classes: 2, Sparse: true, Fields: []int{0, 4}}
	riddle  = data.Info{Name: "riddle", Dim: 6}
)

func make1(t *testing.T, s string, info data.Info) (model.Model, error) {
	t.Helper()
	sp, err := spec.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return New(sp, info, 100, nil)
}

func TestNew(t *testing.T) {
	for _, c := range []struct {
		spec string
		info data.Info
		want string // type, network and segments
	}{
		{"mlp:4", digits, "*nn.Network 6, dense 4, relu, dense 10, cross-entropy 0.weight[4 6] 0.bias[4] 2.weight[10 4] 2.bias[10]"},
		{"mlp:4,3,activation=gelu,dropout=0.5", houses, "*nn.Network 6, dense 4, gelu, dropout 0.5, dense 3, gelu, dropout 0.5, dense 3, mean-squared 0.weight[4 6] 0.bias[4] 3.weight[3 4] 3.bias[3] 6.weight[3 3] 6.bias[3]"},
		{"mlp:4,activation=tanh", spam, "*nn.Network 6, dense 4, tanh, dense 2, cross-entropy 0.weight[4 6] 0.bias[4] 2.weight[2 4] 2.bias[2]"},
		{"softmax", digits, "*linear.Softmax 6, dense 10, cross-entropy weight[10 6] bias[10]"},
		{"softmax:l2=0.1,bias=false", spam, "*linear.Softmax 6, dense 2 without bias, cross-entropy weight[2 6]"},
		{"logistic", spam, "*linear.Logistic 6, dense 1, logistic weight[1 6] bias[1]"},
		{"logistic:C=2,bias=false", spam, "*linear.Logistic 6, dense 1 without bias, logistic weight[1 6]"},
		{"linear", houses, "*linear.Linear 6, dense 3, half-squared weight[3 6] bias[3]"},
		{"ridge:alpha=0.5", houses, "*linear.Ridge 6, dense 3, half-squared weight[3 6] bias[3]"},
		{"ridge:0.5", houses, "*linear.Ridge 6, dense 3, half-squared weight[3 6] bias[3]"},
		{"lasso:alpha=0.1", houses, "*linear.Lasso 6, dense 3, half-squared weight[3 6] bias[3]"},
	} {
		m, err := make1(t, c.spec, c.info)
		if err != nil {
			t.Errorf("%s: %v", c.spec, err)
			continue
		}
		got := fmt.Sprintf("%T %v", m, m)
		for _, s := range m.Layout() {
			got += fmt.Sprint(" ", s.Name, s.Shape)
		}
		if got != c.want {
			t.Errorf("%s is\n\t%s, expected\n\t%s", c.spec, got, c.want)
		}
	}
}

// TestTables: models for clicks come whole, their tables after all else, with a part of the network's input for each field.
func TestTables(t *testing.T) {
	for s, want := range map[string]string{
		"ctr-logistic":            " bias[1] weight[6 1]",
		"wide-deep:3":             " deep.0.weight[3 16] deep.0.bias[3] deep.2.weight[1 3] deep.2.bias[1] wide.bias[1] wide.weight[6 1] deep.embedding[6 8]",
		"wide-deep:3,embedding=2": " deep.0.weight[3 4] deep.0.bias[3] deep.2.weight[1 3] deep.2.bias[1] wide.bias[1] wide.weight[6 1] deep.embedding[6 2]",
	} {
		m, err := make1(t, s, ads)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, s := range m.Layout() {
			got += fmt.Sprint(" ", s.Name, s.Shape)
		}
		if got != want {
			t.Errorf("%s is%s, expected%s", s, got, want)
		}
		if _, ok := m.(*model.Whole); !ok {
			t.Errorf("%s is a %T", s, m)
		}
	}
}

// TestProfile: a profile asks nothing of the data.
func TestProfile(t *testing.T) {
	for s, want := range map[string]int{"profile:resnet50": 25_557_032, "profile:bert-base,sequence=64": 109_482_240} {
		for _, info := range []data.Info{digits, spam, houses} {
			m, err := make1(t, s, info)
			if err != nil {
				t.Fatal(err)
			}
			if got := m.Layout().Len(); got != want {
				t.Errorf("%s for %s has %d parameters, expected %d", s, info.Name, got, want)
			}
		}
	}
}

// TestStrength: parameters arrive where they belong, relative to the 100 samples.
func TestStrength(t *testing.T) {
	x := make([]float32, 21)
	x[0], x[1] = 3, -4
	for s, want := range map[string]float64{
		"ridge": 25.0 / 200, "ridge:alpha=8": 1, "lasso": 7, "lasso:alpha=0.5": 3.5,
	} {
		m, err := make1(t, s, houses)
		if err != nil {
			t.Fatal(err)
		}
		if got := m.(interface{ Penalty([]float32) float64 }).Penalty(x); got != want {
			t.Errorf("%s has penalty %v, expected %v", s, got, want)
		}
	}
	for s, want := range map[string]float64{
		"logistic": 25.0 / 200, "logistic:C=0.125": 1, "softmax": 0, "softmax:l2=8": 1,
	} {
		m, err := make1(t, s, spam)
		if err != nil {
			t.Fatal(err)
		}
		if got := m.(model.Penalised).Penalty(x); got != want {
			t.Errorf("%s has penalty %v, expected %v", s, got, want)
		}
	}
}

func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		spec string
		info data.Info
		want string
	}{
		{"mlpp:128", digits, `unknown model "mlpp": did you mean "mlp"? (mlp, softmax, logistic, linear, ridge, lasso, ctr-logistic, wide-deep, profile)`},
		{"logistc", spam, `unknown model "logistc": did you mean "logistic"? (mlp, softmax, logistic, linear, ridge, lasso, ctr-logistic, wide-deep, profile)`},
		{"transformer", spam, `unknown model "transformer" (mlp, softmax, logistic, linear, ridge, lasso, ctr-logistic, wide-deep, profile)`},
		{"mlp:128,activaton=relu", digits, `mlp: unknown parameter "activaton": did you mean "activation"? (activation, dropout)`},
		{"mlp:128,activation=rel", digits, `mlp: unknown activation "rel": did you mean "relu"? (relu, tanh, gelu)`},
		{"mlp:128,dropout=1", digits, "mlp: dropout is 1, expected a probability: at least 0 and below 1"},
		{"profile", digits, "profile: expected a name (vgg16, resnet50, resnet101, inceptionv3, bert-base, gpt2-small) or a file, as in profile:vgg16"},
		{"profile:resnet", digits, `unknown profile "resnet": did you mean "resnet50"? (vgg16, resnet50, resnet101, inceptionv3, bert-base, gpt2-small), or a file such as mine.yaml`},
		{"profile:vgg16,sequnce=3", digits, `profile: unknown parameter "sequnce": did you mean "sequence"? (name, sequence)`},
		{"profile:./mine.yaml,sequence=3", digits, "profile:./mine.yaml: a file says what its samples cost, and takes no sequence"},
		{"profile:./mine.yaml", digits, "./mine.yaml: there is no such profile"},
		{"mlp:0", digits, `mlp: width is "0", expected a positive whole number`},
		{"mlp", digits, "mlp needs the widths of its hidden layers, as in mlp:128 or mlp:128,64; without hidden layers it is softmax"},
		{"mlp", houses, "mlp needs the widths of its hidden layers, as in mlp:128 or mlp:128,64; without hidden layers it is linear"},
		{"logistic:c=1", spam, `logistic: unknown parameter "c": did you mean "C"? (C, bias)`},
		{"logistic:C=-1", spam, "logistic: C is -1: a number above 0 is needed"},
		{"ridge:alpha=-1", houses, "ridge: alpha is -1: at least 0 is needed"},
		{"lasso:alpha=much", houses, `lasso: alpha is "much", expected a number`},
		{"linear:bias=maybe", houses, `linear: bias is "maybe", expected true or false`},
		{"linear:alpha=1", houses, `linear: unknown parameter "alpha" (bias)`},
		{"logistic", digits, `logistic tells two classes apart, and the data "digits" has 10: use softmax or mlp:128`},
		{"ridge", digits, `ridge predicts numbers, and the data "digits" has 10 classes: use softmax or mlp:128`},
		{"linear", spam, `linear predicts numbers, and the data "spam" has 2 classes: use logistic or mlp:128`},
		{"softmax", houses, `softmax predicts classes, and the data "houses" has numbers to predict: use linear, ridge or mlp:128`},
		{"ctr-logistic", spam, `ctr-logistic needs sparse samples, and those of the data "spam" are dense: use LIBSVM, CSV with --hash 20, or mlp:128`},
		{"ctr-logistic", digits, `ctr-logistic tells two classes apart, and the data "digits" has 10: use softmax or mlp:128`},
		{"ctr-logistic:C=1", ads, `ctr-logistic: takes no parameter "C"`},
		{"wide-deep", ads, "wide-deep needs the widths of its hidden layers, as in wide-deep:128,64; without a deep part it is ctr-logistic"},
		{"wide-deep:4,embedding=0", ads, "wide-deep: embeddings of 0 numbers: at least 1 is needed"},
		{"wide-deep:4,embeding=3", ads, `wide-deep: unknown parameter "embeding": did you mean "embedding"? (activation, dropout, embedding)`},
		{"mlp:4", nothing, `mlp: the data "nothing" has no features to learn from`},
		{"mlp:4", oneKind, `mlp: the data "one kind" has 1 class: classification needs at least 2`},
		{"mlp:4", riddle, `mlp: the data "riddle" has the task "": expected classification or regression`},
	} {
		if _, err := make1(t, c.spec, c.info); err == nil || err.Error() != c.want {
			t.Errorf("%s:\n\t%v, expected\n\t%s", c.spec, err, c.want)
		}
	}
	if _, err := New(&spec.Spec{Name: "softmax"}, digits, 0, nil); err == nil || !strings.Contains(err.Error(), "the training set has 0 samples") {
		t.Error(err)
	}
}

// TestHelp: every name has one line that begins with it, and what the line shows as defaults parses.
func TestHelp(t *testing.T) {
	for _, n := range Names() {
		h := Help(n)
		if !strings.HasPrefix(h, n) || strings.Contains(h, "\n") || !strings.Contains(h, " - ") {
			t.Errorf("help of %s: %q", n, h)
		}
	}
	if h := Help("resnet"); h != "" {
		t.Errorf("help of an unknown model: %q", h)
	}
}

func ExampleNew() {
	s, _ := spec.Parse("mlp:128,64,activation=gelu,dropout=0.1")
	m, err := New(s, data.Info{Name: "digits", Task: data.Classification, Dim: 784, Classes: 10}, 60000, nil)
	fmt.Println(m.(*nn.Network), err)
	// Output:
	// 784, dense 128, gelu, dropout 0.1, dense 64, gelu, dropout 0.1, dense 10, cross-entropy <nil>
}
