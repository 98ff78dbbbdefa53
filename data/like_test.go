package data

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// schemaOf reads a training text and returns how it was read.
func schemaOf(t *testing.T, text string, o Options) *Schema {
	t.Helper()
	o.Test = "none"
	ds, err := Read(context.Background(), strings.NewReader(text), "train", o)
	if err != nil {
		t.Fatal(err)
	}
	return SchemaOf(ds)
}

func TestLikeWithoutLabels(t *testing.T) {
	svm := "-1 1:1 3:0.5\n+1 2:1\n"
	table := "a,b,kind\n1,2,x\n3,4,y\n5,6,x\n"
	scikit := "3,2,setosa,virginica\n1,2,0\n3,4,1\n5,6,0\n"
	for _, c := range []struct {
		name, train, text string
		class             int // of sample 0
		x                 float32
	}{
		{"libsvm with labels", svm, "+1 1:7\n", 1, 7},
		{"libsvm without", svm, "1:7 3:1\n2:1\n", -1, 7},
		{"csv without header", table, "7,8\n", -1, 7},
		{"csv without column", table, "b,a\n8,7\n", -1, 7},
		{"csv with empty targets", table, "a,b,kind\n7,8,\n9,9,\n", -1, 7},
		{"csv with labels", table, "kind,b,a\ny,8,7\n", 1, 7},
		{"scikit-learn's", scikit, "2,2,setosa,virginica\n7,8,1\n1,1,0\n", 1, 7},
		{"scikit-learn's, bare", scikit, "7,8\n", -1, 7},
	} {
		t.Run(c.name, func(t *testing.T) {
			ds, err := Read(context.Background(), strings.NewReader(c.text), "text", Options{Like: schemaOf(t, c.train, Options{})})
			if err != nil {
				t.Fatal(err)
			}
			var b Batch
			ds.Gather(&b, []int{0})
			x := append(b.X, b.Val...)
			if ds.Label(0) != c.class || int(b.Class[0]) != c.class || x[0] != c.x {
				t.Errorf("label %d, batch %+v", ds.Label(0), b)
			}
		})
	}
	ds, err := Read(context.Background(), strings.NewReader("7,\n8,\n"), "text", Options{Like: schemaOf(t, "1,1.5\n2,2.5\n", Options{})})
	if err != nil {
		t.Fatal(err)
	}
	var b Batch
	if ds.Gather(&b, []int{1}); len(b.Y) != 1 || !math.IsNaN(float64(b.Y[0])) || b.X[0] != 8 {
		t.Errorf("%+v", b)
	}
}

func TestLikeMixed(t *testing.T) {
	for _, c := range []struct{ train, text, want string }{
		{"-1 1:1\n+1 2:1\n", "1:7\n+1 2:1\n", `text, line 2: "+1" is not index:value, and the lines before have no label`},
		{"-1 1:1\n+1 2:1\n", "+1 1:7\n2:1\n", `text, line 2: label "2:1": is not a number`},
		{"a,k\n1,x\n2,y\n", "a,k\n1,\n2,y\n", `text, line 3, column "k": holds a target, and the 1 samples before do not`},
		{"a,k\n1,x\n2,y\n", "a,k\n1,x\n2,\n", `text, line 3, column "k": the target is missing`},
	} {
		like := schemaOf(t, c.train, Options{})
		_, err := Read(context.Background(), strings.NewReader(c.text), "text", Options{Like: like, Format: like.Format})
		if err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%q\n got %v\nwant %s", c.text, err, c.want)
		}
	}
}

func TestBesideDoesNotSplit(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x.svm")
	if err := os.WriteFile(path, []byte("0 1:1\n1 2:1\n0 1:2\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	tr, test, err := Open(context.Background(), path, Options{Test: "beside"})
	if err != nil || tr.Len() != 3 || test != nil {
		t.Fatal(tr, test, err)
	}
	if err := os.WriteFile(path+".t", []byte("1 1:1\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	tr, test, err = Open(context.Background(), path, Options{Test: "beside"})
	if err != nil || tr.Len() != 3 || test == nil || test.Len() != 1 {
		t.Fatal(tr, test, err)
	}
}
