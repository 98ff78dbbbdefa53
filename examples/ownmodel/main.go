// A model of your own on four workers: linear regression with Huber's loss, where one target of ten is nonsense.
package main

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/covey-ml/covey/data"
	"github.com/covey-ml/covey/model"
	"github.com/covey-ml/covey/rng"
	"github.com/covey-ml/covey/train"
	"github.com/covey-ml/covey/vec"
)

type huber struct{ dim int }

func (h huber) Layout() model.Layout          { return model.Layout{}.Add("weight", h.dim) }
func (h huber) Init(x []float32, seed uint64) { clear(x) }

func (h huber) Grad(_ context.Context, x, g []float32, b *data.Batch, done func(model.Segment)) (model.Loss, error) {
	clear(g)
	l := model.Loss{N: b.N}
	for i := range b.N {
		row := b.X[i*h.dim : (i+1)*h.dim]
		miss := vec.Dot(row, x) - b.Y[i]
		slope := min(1, max(-1, miss)) // quadratic within 1, linear beyond
		l.Sum += float32(slope*miss) - float32(slope*slope)/2
		vec.Axpy(slope, row, g)
	}
	if done != nil {
		done(h.Layout()[0])
	}
	return l, nil
}

func (h huber) Eval(ctx context.Context, x []float32, b *data.Batch) (model.Metrics, error) {
	l, err := h.Grad(ctx, x, make([]float32, len(x)), b, nil)
	return model.Metrics{N: b.N, Loss: float64(l.Sum)}, err
}

func main() {
	x, y, r := make([]float32, 4000*3), make([]float32, 4000), rng.New(1, "example")
	for i := range x {
		x[i] = r.Float32() - 0.5
	}
	for i := range y {
		if y[i] = vec.Dot(x[3*i:3*i+3], []float32{1, -2, 3}); r.IntN(10) == 0 {
			y[i] = 100 * r.Float32()
		}
	}
	report, err := train.Local(context.Background(), 4, time.Minute, train.Config{Model: huber{3},
		Train: data.DenseTargets("robust", 3, x, y, 1), Optimizer: "adam", Rate: 0.01, Batch: 200, Microshards: 4, Epochs: 100})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%d steps on %d workers, loss %.4f, weights %.12s\n", report.Steps, report.Workers, report.Loss, report.Weights)
}
