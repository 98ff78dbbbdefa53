// A network on the processes that mpirun starts, or, with -local, on goroutines, with the same weights to the bit:
//
//	CC=mpicc CGO_ENABLED=1 go build -tags mpi ./examples/mpi
//	mpirun -n 4 ./mpi
//	./mpi -local 4
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/comm/mpi"
	"github.com/covey-ml/covey/data"
	"github.com/covey-ml/covey/model/nn"
	"github.com/covey-ml/covey/spec"
	"github.com/covey-ml/covey/strategy"
	"github.com/covey-ml/covey/strategy/local"
	"github.com/covey-ml/covey/train"
)

const patience = time.Minute

func main() {
	workers := flag.Int("local", 0, "train on so many goroutines, without MPI")
	every := flag.Int("every", 1, "exchange every so many steps")
	algorithm := flag.String("algorithm", "auto", "how to sum: native is MPI_Allreduce")
	flag.Parse()
	text, err := run(context.Background(), *workers, *every, *algorithm)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Print(text)
}

// run returns what this process has to say: rank 0 the result, the others nothing.
func run(ctx context.Context, workers, every int, algorithm string) (string, error) {
	c, err := config(ctx, every, algorithm)
	if err != nil {
		return "", err
	}
	if workers > 0 {
		r, err := train.Local(ctx, workers, patience, c)
		return said(r), err
	}
	g, err := mpi.Init(patience)
	if err != nil {
		return "", err
	}
	r, err := train.Run(ctx, g, c)
	if err == nil && g.Rank() > 0 {
		r = nil
	}
	return said(r), errors.Join(err, g.Close(), mpi.Finalize())
}

func config(ctx context.Context, every int, algorithm string) (train.Config, error) {
	digits, test, err := data.Open(ctx, "digits:train=2000,test=500", data.Options{})
	if err != nil {
		return train.Config{}, err
	}
	net, err := nn.New(nn.Config{In: 784, Layers: []nn.Layer{nn.Dense{Out: 64}, nn.ReLU{}, nn.Dense{Out: 10}}, Head: nn.CrossEntropy{}})
	if err != nil {
		return train.Config{}, err
	}
	c := train.Config{Model: net, Train: digits, Test: test, Optimizer: "adam", Rate: 0.003, Batch: 80, Microshards: 8, Epochs: 3, Seed: 1}
	if c.Algorithm, err = comm.ParseAlgorithm(algorithm); err != nil || every < 2 {
		return c, err
	}
	s, err := spec.Parse(fmt.Sprintf("local:K=%d", every))
	if err != nil {
		return c, err
	}
	method, err := local.Parse(s)
	c.Strategy = func() strategy.Strategy { return local.New(method) }
	return c, err
}

func said(r *train.Report) string {
	if r == nil {
		return ""
	}
	return fmt.Sprintf("%d workers, %d steps, test accuracy %.3f\nweights %s\n", r.Workers, r.Steps, *r.Accuracy, r.Weights)
}
