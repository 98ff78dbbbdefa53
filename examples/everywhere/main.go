// One program for every world: a network on digits, by whoever was started to train it.
//
//	go build ./examples/everywhere
//	./everywhere                                      one process
//	covey launch -n 4 -- ./everywhere                 four of this host
//	covey launch --hosts FILE --tls DIR -- ./everywhere      as many as a file of hosts has slots
//	srun -n 4 ./everywhere, mpirun -n 4 ./everywhere  and so on
//
// All print the same weights.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/covey-ml/covey/data"
	"github.com/covey-ml/covey/model/nn"
	"github.com/covey-ml/covey/train"
	"github.com/covey-ml/covey/worker"
)

func main() {
	text, err := run(context.Background())
	fmt.Print(text)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(worker.ExitCode(err))
}

// run returns what this process has to say: rank 0 the result, the others nothing.
func run(ctx context.Context) (string, error) {
	digits, test, err := data.Open(ctx, "digits:train=2000,test=500", data.Options{})
	if err != nil {
		return "", err
	}
	net, err := nn.New(nn.Config{In: 784, Layers: []nn.Layer{nn.Dense{Out: 64}, nn.ReLU{}, nn.Dense{Out: 10}}, Head: nn.CrossEntropy{}})
	if err != nil {
		return "", err
	}
	r, err := worker.Run(ctx, train.Config{Model: net, Train: digits, Test: test, Optimizer: "adam", Rate: 0.003,
		Batch: 80, Microshards: 8, Epochs: 3, Seed: 1}, worker.Signals())
	if err != nil || r.Rank != 0 {
		return "", err
	}
	return fmt.Sprintf("%d steps, test accuracy %.3f\nweights %s\n", r.Steps, *r.Accuracy, r.Weights), nil
}
