package data

import (
	"context"
	"slices"
	"testing"
)

func TestSynthetic(t *testing.T) {
	d, test, err := Open(context.Background(), "synthetic:700", Options{})
	if err != nil || test != nil {
		t.Fatalf("%v, test set %v", err, test)
	}
	if in := d.Info(); d.Len() != 700 || in.Dim != 1 || in.Classes != 2 || in.Task != Classification || in.SHA256 == "" || SchemaOf(d) == nil {
		t.Errorf("%d samples, %+v", d.Len(), in)
	}
	b := Batch{X: []float32{1, 2, 3}, Col: []int32{1}}
	d.Gather(&b, []int{699, 0})
	if b.N != 2 || !slices.Equal(b.X, []float32{0, 0}) || !slices.Equal(b.Class, []int32{0, 0}) || !slices.Equal(b.ID, []int{699, 0}) || len(b.Col) > 0 || d.Label(699) != 0 {
		t.Errorf("%+v", b)
	}
	long, _, err := Open(context.Background(), "synthetic:701", Options{Test: "none"})
	if err != nil || long.Info().SHA256 == d.Info().SHA256 {
		t.Errorf("%v, and data of another length has the same hash", err)
	}
}

func TestSyntheticRefuses(t *testing.T) {
	for _, c := range []struct {
		path string
		o    Options
		want string
	}{
		{"synthetic:0", Options{}, "synthetic:0: expected 1 to 10000000 samples"},
		{"synthetic:10000001", Options{}, "synthetic:10000001: expected 1 to 10000000 samples"},
		{"synthetic:many", Options{}, `synthetic: train is "many", expected a whole number`},
		{"synthetic:5,test=3", Options{}, `synthetic: unknown parameter "test" (train)`},
		{"synthetic:5", Options{Test: "t.csv"}, "synthetic:5: there is nothing to test, so the test set cannot be t.csv"},
		{"synthetic:5", Options{Task: Regression}, "synthetic:5: has classes, and no numbers to predict"},
		{"synthetic:5", Options{Classes: 10}, "synthetic:5: has 2 classes, not 10"},
	} {
		if _, _, err := Open(context.Background(), c.path, c.o); err == nil || err.Error() != c.want {
			t.Errorf("%s:\n\t%v, expected\n\t%s", c.path, err, c.want)
		}
	}
}
