package data_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/covey-ml/covey/data"
)

// Read a table, look at it, and draw the batches of an epoch.
func Example() {
	dir, err := os.MkdirTemp("", "data")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "trees.csv")
	os.WriteFile(path, []byte("height,leaf,kind\n12,oval,beech\n9,needle,fir\n30,needle,fir\n15,oval,beech\n"), 0o644)

	train, _, err := data.Open(context.Background(), path, data.Options{Test: "none"})
	if err != nil {
		panic(err)
	}
	in := train.Info()
	fmt.Println(train.Len(), in.Task, in.Columns, in.Labels)

	s, err := data.NewSampler(train.Len(), 3, 1)
	if err != nil {
		panic(err)
	}
	var b data.Batch
	for step := range s.Steps() {
		train.Gather(&b, s.Batch(0, step))
		fmt.Println(b.ID, b.X, b.Class)
	}
	// Output:
	// 4 classification [height leaf=needle leaf=oval] [beech fir]
	// [2 3 1] [30 1 0 15 0 1 9 1 0] [1 0 1]
	// [0] [12 0 1] [0]
}

func ExampleOpen_badData() {
	dir, _ := os.MkdirTemp("", "data")
	defer os.RemoveAll(dir)
	os.WriteFile(filepath.Join(dir, "a.svm"), []byte("+1 1:0.5 3:1\n-1 2:1 2:4\n"), 0o644)
	_, _, err := data.Open(context.Background(), filepath.Join(dir, "a.svm"), data.Options{})
	var bad *data.Error
	if errors.As(err, &bad) {
		fmt.Printf("%s, line %d: %s\n", filepath.Base(bad.File), bad.Line, bad.What)
	}
	// Output:
	// a.svm, line 2: index 2 is given twice
}

// A model that was trained on one file reads another one in the same way: by name, with the same texts and classes.
func ExampleRead() {
	ctx := context.Background()
	train, err := data.Read(ctx, strings.NewReader("height,leaf,kind\n12,oval,beech\n9,needle,fir\n"), "train", data.Options{})
	if err != nil {
		panic(err)
	}
	ask, err := data.Read(ctx, strings.NewReader("leaf,height\noval,17\n"), "question", data.Options{Like: data.SchemaOf(train)})
	if err != nil {
		panic(err)
	}
	var b data.Batch
	ask.Gather(&b, []int{0})
	fmt.Println(b.X, b.Class)
	// Output:
	// [17 0 1] [-1]
}

func ExamplePartition() {
	ctx := context.Background()
	train, _, err := data.Open(ctx, "digits:train=1000,test=0", data.Options{})
	if err != nil {
		panic(err)
	}
	clients, err := data.Partition(train, 5, "label:2", 1)
	if err != nil {
		panic(err)
	}
	data.Table(os.Stdout, train, clients)
	// Output:
	// client  samples    0    1    2    3    4    5    6    7    8    9
	//        0      200    0    0    0  100    0    0    0    0  100    0
	//        1      200    0    0  100    0    0    0    0    0    0  100
	//        2      200  100    0    0    0    0  100    0    0    0    0
	//        3      200    0  100    0    0    0    0  100    0    0    0
	//        4      200    0    0    0    0  100    0    0  100    0    0
}

func ExampleSlice() {
	for i := range 3 {
		lo, hi := data.Slice(i, 3, 256) // microshard i of 3 in a batch of 256
		fmt.Println(lo, hi)
	}
	// Output:
	// 0 85
	// 85 170
	// 170 256
}
