package data

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/covey-ml/covey/internal/realdata"
)

func TestOpenRealData(t *testing.T) {
	dir := realdata.Path(t, ".")
	for _, c := range []struct {
		path        string
		o           Options
		train, test int
		task        Task
		dim, out    int
		sparse      bool
	}{
		{path: "mnist", train: 60000, test: 10000, task: Classification, dim: 784, out: 10},
		{path: "mnist/train-images-idx3-ubyte.gz", train: 60000, test: 10000, task: Classification, dim: 784, out: 10},
		{path: "a9a", train: 32561, test: 16281, task: Classification, dim: 123, out: 2, sparse: true},
		{path: "a9a/a9a.gz", train: 32561, test: 16281, task: Classification, dim: 123, out: 2, sparse: true},
		{path: "planetoid/cora/features.svm.gz", train: 2438, test: 270, task: Classification, dim: 1433, out: 7, sparse: true},
		{path: "uci-small/iris.csv", train: 135, test: 15, task: Classification, dim: 4, out: 3},
		{path: "uci-small/wine_data.csv", train: 161, test: 17, task: Classification, dim: 13, out: 3},
		{path: "uci-small/breast_cancer.csv.gz", train: 513, test: 56, task: Classification, dim: 30, out: 2},
		{path: "uci-small/diabetes_data.csv.gz", train: 398, test: 44, task: Regression, dim: 10, out: 1},
		{path: "california-housing", o: Options{Target: []string{"median_house_value"}, Missing: "mean", Test: "none"},
			train: 20640, task: Regression, dim: 13, out: 1},
		{path: "california-housing", o: Options{Target: []string{"9"}, Missing: "drop", Test: "none"},
			train: 20433, task: Regression, dim: 13, out: 1},
		{path: "kddcup99", o: Options{Test: "none"}, train: 494021, task: Classification, dim: 118, out: 23},
		{path: "movielens-small/ratings.csv.gz", o: Options{Target: []string{"rating"}, Drop: []string{"timestamp"}},
			train: 90753, test: 10083, task: Regression, dim: 2, out: 1},
		{path: "open-bandit/bts/men/men.csv.gz", o: Options{Target: []string{"click"}, Drop: []string{"1", "timestamp"}},
			train: 9000, test: 1000, task: Classification, dim: 63, out: 2},
	} {
		t.Run(c.path, func(t *testing.T) {
			train, test, err := Open(context.Background(), dir+"/"+c.path, c.o)
			if err != nil {
				t.Fatal(err)
			}
			in := train.Info()
			if train.Len() != c.train || in.Task != c.task || in.Dim != c.dim || max(in.Classes, in.Targets) != c.out || in.Sparse != c.sparse {
				t.Errorf("train: %d samples, %+v", train.Len(), in)
			}
			n := 0
			if test != nil {
				n = test.Len()
			}
			if n != c.test {
				t.Errorf("test: %d samples, expected %d", n, c.test)
			}
		})
	}
}

func TestTestSetBesideTheFile(t *testing.T) {
	a, b := "1,2,0\n3,4,1\n5,6,1\n", "7,8,1\n"
	for _, c := range []struct {
		files []string
		path  string
		o     Options
		test  int
	}{
		{[]string{"x", a, "x.t", b}, "/x", Options{}, 1},
		{[]string{"x.gz", pack(t, a), "x.t.gz", pack(t, b)}, "/x.gz", Options{}, 1},
		{[]string{"x.gz", pack(t, a), "x.t", b}, "/x.gz", Options{}, 1},
		{[]string{"x", a, "x.t.gz", pack(t, b)}, "/x", Options{}, 1},
		{[]string{"x", a, "x.t", b}, "", Options{}, 1},
		{[]string{"x", a, "x.t", b, "README.md", "words"}, "", Options{}, 1},
		{[]string{"my_train.csv", a, "my_test.csv", b}, "/my_train.csv", Options{}, 1},
		{[]string{"my_train.csv", a, "my_test.csv", b}, "", Options{}, 1},
		{[]string{"x", a, "x.t", b}, "/x", Options{Test: "none"}, 0},
		{[]string{"x", a, "y", b + b}, "/x", Options{Test: "y"}, 2},
		{[]string{"x", a, "x.t", b, "y", b + b}, "/x", Options{Test: "y"}, 2},
		{[]string{"x", a}, "/x", Options{TestFraction: 0.5}, 1},
	} {
		dir := put(t, c.files...)
		if c.o.Test == "y" {
			c.o.Test = dir + "/y"
		}
		train, test, err := Open(ctx, dir+c.path, c.o)
		if err != nil {
			t.Errorf("%v: %v", c.files, err)
			continue
		}
		n := 0
		if test != nil {
			n = test.Len()
		}
		if n != c.test || c.o.TestFraction == 0 && train.Len() != 3 {
			t.Errorf("%v %s: %d training and %d test samples, expected 3 and %d", c.files, c.path, train.Len(), n, c.test)
		}
	}
	dir := put(t, "x.csv", "a,b,y\n1,2,0\n3,4,1\n", "x.csv.t", "a,b\n1,2\n")
	_, _, err := Open(ctx, dir+"/x.csv", Options{})
	says(t, err, "x.csv.t", "has no labels, so it is no test set")
}

func TestFoldersAndMissingFiles(t *testing.T) {
	dir := put(t, "b.csv", "1,2\n", "a.svm", "1 1:1\n", "a.svm.t", "1 1:1\n", "LICENSE", "free", ".hidden", "x")
	_, _, err := Open(ctx, dir, Options{})
	says(t, err, "holds 2 data sets, name one of them: a.svm, b.csv")
	_, _, err = Open(ctx, dir+"/a.swm", Options{})
	says(t, err, "not found, did you mean "+dir+"/a.svm?")
	if strings.Contains(err.Error(), "no such file") {
		t.Errorf("%q says twice that there is no file", err)
	}
	_, _, err = Open(ctx, dir+"/something-else", Options{})
	says(t, err, "not found (data is a file, a folder, or digits)")
	_, _, err = Open(ctx, put(t, "README.md", "words"), Options{})
	says(t, err, "holds no data file")
	_, _, err = Open(ctx, dir+"/b.csv", Options{Test: dir})
	says(t, err, "is a folder without t10k-images")
	_, _, err = Open(ctx, dir+"/b.csv", Options{TargetFile: dir})
	says(t, err, "is a folder, expected a file")
	if _, _, err = Open(ctx, dir+"/b.csv", Options{}); err == nil || !strings.Contains(err.Error(), "one sample cannot be split") {
		t.Errorf("one sample: %v", err)
	}
}

func TestSplitIsSeededAndWhole(t *testing.T) {
	var text strings.Builder
	for i := range 95 {
		fmt.Fprintf(&text, "%d,%d\n", i, i%5)
	}
	dir := put(t, "d.csv", text.String())
	seen := map[string]bool{}
	for seed := range uint64(4) {
		train, test, err := Open(ctx, dir+"/d.csv", Options{Seed: seed})
		if err != nil {
			t.Fatal(err)
		}
		if train.Len() != 86 || test.Len() != 9 {
			t.Errorf("seed %d: %d and %d samples, expected 86 and 9", seed, train.Len(), test.Len())
		}
		x := gather(train).X
		if !slices.IsSorted(x) || !slices.IsSorted(gather(test).X) {
			t.Errorf("seed %d: the split does not keep the order of the data", seed)
		}
		x = append(slices.Clone(x), gather(test).X...)
		slices.Sort(x)
		for i, v := range x {
			if int(v) != i {
				t.Fatalf("seed %d: the parts hold %v", seed, x)
			}
		}
		seen[test.Info().SHA256] = true
		_, again, _ := Open(ctx, dir+"/d.csv", Options{Seed: seed})
		if again.Info().SHA256 != test.Info().SHA256 {
			t.Errorf("seed %d splits otherwise the second time", seed)
		}
	}
	if len(seen) != 4 {
		t.Errorf("4 seeds made %d splits", len(seen))
	}
}

// What fills and standardizes comes from the training samples, not from those of the test.
func TestMeansAreTrainingMeans(t *testing.T) {
	dir := put(t, "d.csv", "x,z,y\n1,5,0\n3,,1\n", "d.csv.t", "x,z,y\n100,7,1\n,,0\n")
	_, test, err := Open(ctx, dir+"/d.csv", Options{Missing: "mean", Standardize: true})
	if err != nil {
		t.Fatal(err)
	}
	if got := rows(test); got != "[98 2] 1; [0 0] 0" {
		t.Errorf("test samples %s, expected [98 2] 1; [0 0] 0", got)
	}
	train, test, err := Open(ctx, put(t, "d.csv", "x,y\n1,0\n2,1\n4,0\n9,1\n")+"/d.csv", Options{Standardize: true, TestFraction: 0.25})
	if err != nil {
		t.Fatal(err)
	}
	sum := float32(0)
	for _, v := range gather(train).X {
		sum += v
	}
	if sum > 1e-6 || sum < -1e-6 || test.Len() != 1 {
		t.Errorf("the 3 training samples %v do not have mean 0", gather(train).X)
	}
}

func TestDigits(t *testing.T) {
	train, test, err := Open(ctx, "digits", Options{})
	if err != nil {
		t.Fatal(err)
	}
	in := train.Info()
	if train.Len() != 12000 || test.Len() != 2000 || in.Dim != 784 || in.Classes != 10 || fmt.Sprint(in.Shape) != "[28 28]" || in.Name != "digits" {
		t.Errorf("%d and %d samples, %+v", train.Len(), test.Len(), in)
	}
	small, none, err := Open(ctx, "digits:train=100,test=0", Options{})
	if err != nil || none != nil {
		t.Fatalf("no test set wanted: %v, %v", none, err)
	}
	if a, b := Subset(train, all(100)).Info().SHA256, Subset(small, all(100)).Info().SHA256; a != b {
		t.Error("the first 100 digits depend on how many are made")
	}
	other, _, err := Open(ctx, "digits:train=100,test=0,seed=2", Options{})
	if err != nil || other.Info().SHA256 == small.Info().SHA256 {
		t.Errorf("seed 2 draws what seed 1 draws (%v)", err)
	}
	if _, _, err := Open(ctx, "digits", Options{Test: "a.csv"}); err == nil || !strings.Contains(err.Error(), "makes its own test set") {
		t.Errorf("digits with a test file: %v", err)
	}
	for path, want := range map[string]string{
		"digits:trian=5":  `did you mean "train"?`,
		"digits:train=0":  "expected 1 to 10000000 training samples",
		"digits:train=x":  `train is "x", expected a whole number`,
		"digits:seed=-1":  "a seed of at least 0",
		"digits:test=1e9": "expected a whole number",
	} {
		if _, _, err := Open(ctx, path, Options{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, expected %q", path, err, want)
		}
	}
}

// Half a million lines of 42 fields, 75 MB of text, must fit in a few times what their numbers take (81 MB).
func TestLargeTableFitsInMemory(t *testing.T) {
	path := realdata.Path(t, "kddcup99")
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	train, _, err := Open(ctx, path, Options{Test: "none"})
	if err != nil {
		t.Fatal(err)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if kept := int64(after.HeapAlloc) - int64(before.HeapAlloc); kept > 130<<20 {
		t.Errorf("the data set keeps %d MiB", kept>>20)
	}
	if made := int64(after.TotalAlloc) - int64(before.TotalAlloc); made > 2<<30 {
		t.Errorf("reading it allocates %d MiB in all", made>>20)
	}
	t.Logf("keeps %d MiB, allocates %d MiB in all, takes %d MiB from the system", (int64(after.HeapAlloc)-int64(before.HeapAlloc))>>20, (int64(after.TotalAlloc)-int64(before.TotalAlloc))>>20, after.Sys>>20)
	runtime.KeepAlive(train)
}
