package train

import (
	"crypto/sha256"
	"encoding/json"
	"strings"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/optim"
	"github.com/covey-ml/covey/strategy"
)

// Outline is what a run comes to, before anything is computed.
type Outline struct {
	Config        Config // with its defaults written down
	Tree          comm.Tree
	Servers       int        // of the ranks, the last ones
	Costs         comm.Costs // by which algorithms are chosen
	Steps         int        // in all
	StepsPerEpoch int
	Bucket        int // bytes of gradient that are reduced in one go; 0: all at once
	Epochs        int // ends of epochs, where the sample books are closed: the end of the run is one
	Tests         int // of them, those where the model is tested
	TestBlocks    int // that workers share when it is, and tell each other of
	Saves         int // times that a checkpoint is due
	TrainBlocks   int // the same, of the training set
	Hello         int // bytes of what each worker but rank 0 says when they meet
	Answer        int // bytes of what rank 0 tells them then
	// Optimizer is one of the kind that updates the parameters, and Strategy one of the kind that each worker has.
	Optimizer optim.Optimizer
	Strategy  strategy.Strategy
}

// Outline says what a run of c by so many ranks, servers among them, comes to, when messages cost what costs says. Errors are
// Run's.
func (c Config) Outline(ranks int, costs comm.Costs) (*Outline, error) {
	if err := c.fill(ranks); err != nil {
		return nil, err
	}
	costs, err := c.costs(costs)
	if err != nil {
		return nil, err
	}
	sampler, err := c.batches()
	if err != nil {
		return nil, err
	}
	o := &Outline{Servers: c.servers(), Costs: costs, StepsPerEpoch: sampler.Steps(1), Steps: c.Steps, Tree: comm.NewTree(c.Microshards, ranks-c.servers()).Spare(c.servers()).On(c.Hosts)}
	if o.Steps == 0 {
		o.Steps = sampler.Steps(c.Epochs)
	}
	if o.Optimizer, err = c.optimizer(); err != nil {
		return nil, err
	}
	o.Strategy = c.Strategy()
	o.Bucket = c.bucket(costs, o.Tree)
	o.Epochs = ends(o.Steps, o.StepsPerEpoch)
	every := o.StepsPerEpoch
	if c.SaveEvery > 0 {
		every = c.SaveEvery
	}
	o.Saves = ends(o.Steps, every)
	switch {
	case c.Test == nil:
	case c.TestAtSaves:
		o.Tests = ends(o.Steps, lcm(every, o.StepsPerEpoch))
	default:
		o.Tests = o.Epochs
	}
	o.Config, o.TrainBlocks = c, (c.Train.Len()+evalBlock-1)/evalBlock
	r := &run{c: c, strategy: o.Strategy, total: o.Steps}
	first := r.who()
	first.Setting.Data = strings.Repeat("0", 2*sha256.Size)
	if c.Test != nil {
		first.Test, o.TestBlocks = first.Setting.Data, (c.Test.Len()+evalBlock-1)/evalBlock
	}
	other := first
	other.Resume, other.Save = false, false // rank 0's to do
	said, err := json.Marshal(other)
	if err != nil {
		return nil, err
	}
	told, err := json.Marshal(word[who]{Value: first})
	o.Hello, o.Answer = len(said), len(told)
	return o, err
}

// ends is how often in so many steps something happens that happens every so many, and at the end.
func ends(steps, every int) int { return (steps + every - 1) / every }

func lcm(a, b int) int {
	x, y := a, b
	for y > 0 {
		x, y = y, x%y
	}
	return a / x * b
}

// costs are those of messages, when a transport's are such.
func (c *Config) costs(own comm.Costs) (comm.Costs, error) {
	if c.Costs == "" {
		return own, nil
	}
	costs, err := own.With(c.Costs)
	if err != nil {
		return own, &ConfigError{Key: "costs", Err: err}
	}
	return costs, nil
}

// bucket is the bytes of a bucket: what was asked for, or, where nothing was, what costs least at these costs: all at once
// when little is left to send. A worker by itself waits for nobody and updates each segment while its gradient is in
// cache.
func (c *Config) bucket(costs comm.Costs, tree comm.Tree) int {
	switch {
	case c.Bucket > 0:
		return c.Bucket
	case c.Compress != "" || c.Adapt != "":
		return 0
	case tree.Ranks() == 1:
		return 1
	}
	return comm.BucketBytes(costs, tree, 4*(strategy.Head+c.Model.Layout().Len()))
}
