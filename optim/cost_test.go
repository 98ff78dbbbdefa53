package optim

import (
	"testing"

	"github.com/covey-ml/covey/model"
	"github.com/covey-ml/covey/spec"
)

// An update reads the gradient and reads and writes the parameters and each moment, once; rules with norms and clipping
// pass over the gradient before.
func TestBytes(t *testing.T) {
	layout := model.Layout{}.Add("w", 3, 4)
	for text, want := range map[string]int{
		"sgd": 12, "momentum": 20, "nesterov": 20, "adagrad": 20, "adam": 28, "adamw": 28, "adam:amsgrad=true": 36,
		"rmsprop": 20, "ftrl": 28, "rmsprop:momentum=0.9,centered=true": 36, "sgd:weight_decay=0.1": 12,
		"lars": 48, "lamb": 56, "sgd:clip=1": 24,
	} {
		s, err := spec.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		o, err := New(s, layout)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := o.(Costed); !ok {
			t.Errorf("%s does not know its cost", text)
		}
		if got := BytesOf(o); got != want {
			t.Errorf("%s: %d bytes a parameter, expected %d", text, got, want)
		}
		if own := len(o.State()); want < 4*(3+2*own) {
			t.Errorf("%s: %d bytes a parameter are too few for %d moments", text, want, own)
		}
	}
	if got := BytesOf(struct{ Optimizer }{}); got != 12 {
		t.Errorf("a rule that does not know: %d bytes", got)
	}
}
