package data

import (
	"slices"
	"strings"
	"testing"

	"github.com/covey-ml/covey/internal/realdata"
)

func TestDescribe(t *testing.T) {
	for _, c := range []struct {
		text string
		o    Options
		want Description
		says []string
	}{
		{"1,5,a\n-3,5,b\n0,5,a\n", Options{},
			Description{Samples: 3, Min: -3, Max: 5, Mean: 13.0 / 6, NonZero: 5, Constant: 1, Counts: []int{2, 1}},
			[]string{"classification, 3 samples of 2 features, dense", "features -3 to 5, mean 2.16667, 83.33 % not zero, 1 constant", "2 classes: a 2, b 1"}},
		{"1 1:2 3:4\n0 1:2\n", Options{},
			Description{Samples: 2, Min: 0, Max: 4, Mean: 8.0 / 6, NonZero: 3, Constant: 2, Counts: []int{1, 1}},
			[]string{"2 samples of 3 features, sparse", "0 to 4"}},
		{"1,0.5\n2,2.5\n", Options{},
			Description{Samples: 2, Min: 1, Max: 2, Mean: 1.5, NonZero: 2, TargetMin: []float32{0.5}, TargetMax: []float32{2.5}, TargetMean: []float64{1.5}},
			[]string{"regression", "target 1: 0.5 to 2.5, mean 1.5"}},
	} {
		d, err := Describe(ctx, mustRead(t, c.text, c.o))
		if err != nil {
			t.Fatal(err)
		}
		if d.Samples != c.want.Samples || d.Min != c.want.Min || d.Max != c.want.Max || d.Mean != c.want.Mean || d.NonZero != c.want.NonZero ||
			d.Constant != c.want.Constant || !slices.Equal(d.Counts, c.want.Counts) || !slices.Equal(d.TargetMin, c.want.TargetMin) ||
			!slices.Equal(d.TargetMax, c.want.TargetMax) || !slices.Equal(d.TargetMean, c.want.TargetMean) {
			t.Errorf("%q: %+v", c.text, *d)
		}
		for _, w := range append(c.says, "sha256 "+d.Info.SHA256) {
			if !strings.Contains(d.String(), w) {
				t.Errorf("%q is described as\n%swithout %q", c.text, d, w)
			}
		}
	}
}

func TestVerify(t *testing.T) {
	dir := put(t, "x", "1,2,0\n3,2,1\n5,2,1\n", "x.t", "3,2,0\n9,9,1\n")
	v, err := Verify(ctx, dir, Options{Classes: 3})
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"class 2 does not occur in the training samples", "1 of 2 features have one value in all training samples", "1 of 2 test samples also occur in training"}; !slices.Equal(v.Notes, want) {
		t.Errorf("notes %q, expected %q", v.Notes, want)
	}
	if len(v.Files) != 2 || v.Files[0].Path != dir+"/x" || v.Files[0].Size != 18 || len(v.Files[1].SHA256) != 64 || v.Files[0].Published != "" {
		t.Errorf("files %+v", v.Files)
	}
	var b strings.Builder
	if err := v.Print(&b); err != nil {
		t.Fatal(err)
	}
	for _, w := range []string{"training: x: ", "test: x.t: ", v.Files[0].SHA256, "note: class 2"} {
		if !strings.Contains(b.String(), w) {
			t.Errorf("printed as\n%swithout %q", b.String(), w)
		}
	}
	pix, labels := pictures(5)
	dir = put(t, "train-images-idx3-ubyte.gz", pack(t, pix), "train-labels-idx1-ubyte.gz", pack(t, labels), "t10k-images-idx3-ubyte.gz", pack(t, pix), "t10k-labels-idx1-ubyte.gz", pack(t, labels))
	if v, err = Verify(ctx, dir, Options{}); err != nil || len(v.Files) != 4 || !strings.Contains(strings.Join(v.Notes, "\n"), "train-images-idx3-ubyte.gz is not the file that mnist publishes under this name") {
		t.Errorf("%v, %+v", err, v)
	}
	_, err = Verify(ctx, put(t, "x", "1,2\n3\n"), Options{})
	says(t, err, "line 2", "has 1 fields, line 1 has 2")
	if v, err = Verify(ctx, "digits:train=50,test=20", Options{}); err != nil || len(v.Files) != 0 || v.Test.Samples != 20 {
		t.Errorf("digits: %v, %+v", err, v)
	}
}

func TestVerifyPublishedFiles(t *testing.T) {
	v, err := Verify(ctx, realdata.Path(t, "mnist"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range v.Files {
		if f.Published != "mnist" {
			t.Errorf("%+v is not recognised", f)
		}
	}
	if want := []int{5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949}; !slices.Equal(v.Train.Counts, want) || len(v.Files) != 4 {
		t.Errorf("training labels %v, %d files", v.Train.Counts, len(v.Files))
	}
}
