package train_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/covey-ml/covey/data"
	"github.com/covey-ml/covey/model/nn"
	"github.com/covey-ml/covey/train"
)

// A network on three goroutines. With the microshards given, any number of workers has the same weights.
func ExampleLocal() {
	digits, test, err := data.Open(context.Background(), "digits:train=2000,test=500", data.Options{})
	if err != nil {
		log.Fatal(err)
	}
	net, err := nn.New(nn.Config{In: 784, Layers: []nn.Layer{nn.Dense{Out: 64}, nn.ReLU{}, nn.Dense{Out: 10}}, Head: nn.CrossEntropy{}})
	if err != nil {
		log.Fatal(err)
	}
	c := train.Config{Model: net, Train: digits, Test: test, Optimizer: "adam", Rate: 0.003, Batch: 100, Microshards: 6, Epochs: 5, Seed: 1}
	three, err := train.Local(context.Background(), 3, time.Minute, c)
	if err != nil {
		log.Fatal(err)
	}
	one, err := train.Local(context.Background(), 1, time.Minute, c)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("test accuracy %.3f after %d steps; %s\n", *three.Accuracy, three.Steps, three.SamplesBooked)
	fmt.Println("same bits as one worker:", three.Weights == one.Weights)
	// Output:
	// test accuracy 0.932 after 100 steps; epoch 5: each sample used exactly once
	// same bits as one worker: true
}
