package plan_test

import (
	"context"
	"fmt"
	"time"

	"github.com/covey-ml/covey/job"
	"github.com/covey-ml/covey/plan"
)

// What three workers send in ten steps, worked out and then counted.
func Example() {
	ctx := context.Background()
	j := &job.Job{Data: "digits:train=240,test=10", Test: "none", Model: "mlp:16", Batch: 24, Steps: 10, Workers: 3, Transport: job.TCP}
	if err := j.Fill(); err != nil {
		fmt.Println(err)
		return
	}
	tr, _, err := j.Open(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	c, err := j.Build(tr, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	k, err := plan.Of(c, plan.TCP(3))
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, l := range k.Lines {
		if l.Phase == plan.Exchanges {
			fmt.Printf("%s, %s: %d messages, %d bytes and %d of headers in %d rounds\n", l.What, l.When, l.Messages, l.Payload, l.Header, l.Rounds)
		}
	}
	checked, err := plan.Verify(ctx, c, 3, nil, 10, plan.Loopback(time.Minute))
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, r := range checked.Rows {
		if r.Phase == plan.Exchanges {
			fmt.Printf("the ledger of %d steps: %d messages, %d bytes, which %s\n", checked.Steps, r.Ledger.Messages, r.Ledger.Bytes(), r.Words)
		}
	}
	// Output:
	// gradient, each step: 6 messages, 305904 bytes and 288 of headers in 1 rounds
	// the ledger of 10 steps: 60 messages, 3061920 bytes, which agrees exactly
}
