package table_test

import (
	"fmt"
	"log"

	"github.com/covey-ml/covey/spec"
	"github.com/covey-ml/covey/strategy/ps/table"
)

func Example() {
	t, err := table.New(table.Config{Name: "words", Width: 2, Rule: &spec.Spec{Name: "sgd"}})
	if err != nil {
		log.Fatal(err)
	}
	defer t.Close()
	// Rows are any numbers: two of 2^64 are updated here.
	if err := t.Apply([]uint64{7, 1 << 60}, []float32{1, 2, 3, 4}, 1, 0.5, 1); err != nil {
		log.Fatal(err)
	}
	rows := []uint64{7, 8, 1 << 60}
	x := make([]float32, 2*len(rows))
	if err := t.Get(rows, x); err != nil {
		log.Fatal(err)
	}
	fmt.Println(x, t.Len())
	// Output: [-0.5 -1 0 0 -1.5 -2] 2
}
