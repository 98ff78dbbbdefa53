package job_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/covey-ml/covey/job"
	"github.com/covey-ml/covey/train"
)

// From the text of a job to a trained model.
func Example() {
	j, err := job.Parse("job.yaml", []byte(`
data: digits:train=1000,test=200
model: {mlp: [32]}
optimizer: nesterov
lr: 0.05
batch: 50
workers: 2
microshards: 4
epochs: 4
transport: inproc
`))
	if err != nil {
		log.Fatal(err)
	}
	if err := j.Fill(); err != nil {
		log.Fatal(err)
	}
	digits, test, err := j.Open(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	c, err := j.Build(digits, test)
	if err != nil {
		log.Fatal(err)
	}
	r, err := train.Local(context.Background(), j.Workers, time.Minute, c)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s: test accuracy %.2f after %d steps\n", j.Model, *r.Accuracy, r.Steps)
	// Output: mlp:32: test accuracy 0.86 after 80 steps
}

// Errors say where, what is wrong and what is nearest to it.
func ExampleParse() {
	_, err := job.Parse("job.yaml", []byte("data: mnist\nmodle: mlp:128\n"))
	fmt.Println(err)
	// Output: job.yaml:2: unknown key "modle": did you mean "model"?
}
