package data

import (
	"context"
	"os"
	"testing"
)

// shared returns the folder of real data sets, $COVEY_DATA, or skips; in CI it must be there.
func shared(t testing.TB) string {
	dir := os.Getenv("COVEY_DATA")
	if dir == "" {
		if os.Getenv("CI") == "true" {
			t.Fatal("COVEY_DATA is not set: CI must have the real data")
		}
		t.Skip("COVEY_DATA is not set: no real data to read")
	}
	return dir
}

func TestOpenRealData(t *testing.T) {
	dir := shared(t)
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
