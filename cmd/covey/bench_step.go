package main

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/covey-ml/covey/bench"
	"github.com/covey-ml/covey/job"
)

// benchStep is one call of covey bench step.
type benchStep struct {
	benchOptions
	keys keyFlags
}

// benchKeys are the keys of a job that covey bench step takes.
var benchKeys = []string{"data", "format", "model", "optimizer", "lr", "schedule", "batch", "microshards", "steps", "seed", "algorithm", "bucket", "threads"}

// benchData is what is trained on when nothing is named: 784 features, 10 classes, as many samples as 40 batches of 256.
const benchData = "digits:train=10240,test=10"

func benchStepCommand() *cobra.Command {
	o := &benchStep{}
	c := &cobra.Command{
		Use:   "step",
		Short: "Time training steps",
		Long: `Time whole steps of training: batch, gradient, sum over the workers, update. Before, the weights after a few
steps are compared with those that one worker comes to, bit for bit. The time of a step is that of the slowest
worker; the split into computing, communicating and waiting is worker 0's.` + "\n" + exitHelp,
		Example: `  covey bench step --model mlp:128 --batch 256 --optimizer adam --workers 1,2
  covey bench step --data mnist/ --model mlp:1024,1024 --workers 2 --transport tcp --json`,
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error { return o.run(c) },
	}
	o.addWorkerFlags(c, "1,2")
	o.keys = addKeyFlags(c, benchKeys...)
	o.addFlags(c)
	c.Flags().Lookup("data").Usage = "training data (default " + benchData + ", which it makes itself)"
	c.Flags().Lookup("steps").Usage = "steps in all, those that warm up included (default: as many as fill the time)"
	return c
}

// job is what one number of workers trains.
func (o *benchStep) job(c *cobra.Command, workers int) (*job.Job, error) {
	j := &job.Job{}
	if err := o.keys.set(c, j); err != nil {
		return nil, err
	}
	if !j.Given("data") {
		j.Data = benchData
	}
	j.Workers, j.Transport, j.Timeout, j.Test = workers, o.transport, o.timeout, "none"
	if err := j.Fill(); err != nil {
		return nil, err
	}
	if j.Strategy == job.Direct {
		return nil, usagef("--model: %s is solved at once, without steps: name an --optimizer, or another model", j.Model)
	}
	return j, nil
}

func (o *benchStep) run(c *cobra.Command) error {
	if err := o.check(); err != nil {
		return err
	}
	groups, err := o.groups()
	if err != nil {
		return err
	}
	t := o.table(c, len(groups), benchColumn{"workers", "", 7}, benchColumn{"step", "ms", 9}, benchColumn{"fastest", "ms", 9},
		benchColumn{"slowest", "ms", 9}, benchColumn{"samples", "a second", 12}, benchColumn{"compute", "ms", 9},
		benchColumn{"comm", "ms", 9}, benchColumn{"wait", "ms", 9}, benchColumn{"objects", "a step", 9})
	for _, n := range groups {
		j, err := o.job(c, n)
		if err != nil {
			return err
		}
		t.measuring("steps of %s with %s over %s", j.Model, count(n, "worker"), o.transport)
		err = o.launch(c, n, benchTask{Job: j.YAML(), Places: j.Places(), Effort: o.effort}, func(m json.RawMessage) {
			var r bench.StepRow
			if json.Unmarshal(m, &r) != nil {
				return
			}
			r.Transport, r.Model, r.Optimizer = o.transport, string(j.Model), string(j.Optimizer)
			t.add(r, itoa(n), us(r.Ms), us(r.Min/1e3), us(r.Max/1e3), thousands(int(r.PerSec)), us(r.Compute), us(r.Comm), us(r.Wait),
				fmt.Sprintf("%.2f", r.Allocs))
		})
		if err != nil {
			t.wipe()
			return err
		}
	}
	return t.end()
}
