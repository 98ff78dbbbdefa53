package linear_test

import (
	"fmt"
	"log"

	"github.com/covey-ml/covey/data"
	"github.com/covey-ml/covey/model/linear"
)

// A straight line through four points, at once: statistics of all samples, which workers could have added up, and the
// solution they have in common.
func ExampleNewLinear() {
	points := data.DenseTargets("points", 1, []float32{0, 1, 2, 3}, []float32{1, 3, 5, 7}, 1)
	m, err := linear.NewLinear(linear.Config{Dim: 1, Outputs: 1, N: points.Len(), Train: points})
	if err != nil {
		log.Fatal(err)
	}
	var all data.Batch
	points.Gather(&all, []int{0, 1, 2, 3})
	s := make([]float64, m.StatLen())
	if err := m.Stats(s, &all); err != nil {
		log.Fatal(err)
	}
	x := make([]float32, m.Layout().Len())
	if err := m.Solve(x, s, points.Len()); err != nil {
		log.Fatal(err)
	}
	for _, seg := range m.Layout() {
		fmt.Println(seg.Name, seg.Shape, x[seg.Off:seg.Off+seg.Len])
	}
	// Output:
	// weight [1 1] [2]
	// bias [1] [1]
}
