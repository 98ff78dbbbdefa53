// Package train is the loop: data, gradient, strategy, checkpoint, events.
//
// Run trains on one worker of a group; every worker of the group calls it with the same Config. Local makes a group of
// goroutines and calls it on each. What a run does at a step depends on the Config and the step's number alone, so
// that a run that was stopped and resumed, with as many workers or others, ends with the same parameters as one that
// was not.
package train

import (
	"errors"
	"fmt"
	"time"

	"github.com/covey-ml/covey/ckpt"
	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/data"
	"github.com/covey-ml/covey/model"
	"github.com/covey-ml/covey/optim"
	"github.com/covey-ml/covey/spec"
	"github.com/covey-ml/covey/strategy"
	"github.com/covey-ml/covey/strategy/allreduce"
)

// Config is what to train and how. The zero value of a field means what its comment says.
type Config struct {
	Model model.Model  // required
	Train data.Dataset // required
	Test  data.Dataset // nil: no accuracy in the report

	Optimizer   string  // as optim.New reads it; empty: adam
	Rate        float64 // learning rate; 0: 0.001
	Schedule    string  // as optim.NewSchedule reads it; empty: constant
	Batch       int     // samples of a step over all workers; 0: 256, or all there are when they are fewer
	Microshards int     // slices of a batch; 0: one a worker, but then the bits depend on the worker count
	// Rescale has the batch follow the number of workers, where that changes: with n workers that have a microshard it is Batch*n/Workers
	// samples, at least one a microshard and at most all. linear scales the rate by the same (Goyal et al. 2017, arXiv 1706.02677,
	// section 2.1), sqrt by its square root (Krizhevsky 2014, arXiv 1404.5997, section 5). Empty: batch and rate stay. It
	// holds from the step on at which workers came or went; the schedule goes by epochs then, unless Steps counts steps.
	Rescale  string
	Workers  int     // that Batch and Rate are meant for, where Rescale is; 0: as many as begin
	Clients  [][]int // by microshard, the samples that are its own, as data.Partition makes them; nil: a batch is of all samples
	Epochs   int     // passes over the data; 0: 1
	Steps    int     // when positive, the number of steps whatever Epochs says
	Seed     uint64  // of everything random
	Compress string  // as reduce.ParseRules reads it; empty: none
	Adapt    string  // in its place, as adapt.ParseArms reads it: the compressor and more are chosen while training; empty: they are not

	// Strategy makes a worker's own; nil: allreduce.
	Strategy  func() strategy.Strategy
	Algorithm comm.Algorithm // of the exact sum; zero: chosen by size
	Hosts     comm.Hosts     // where the ranks are; nil: on one host
	Costs     string         // what messages were measured to cost, as comm.Costs.With reads it, equal on all workers; empty: the transport's own costs
	Bucket    int            // bytes of gradient reduced in one go; 0: by what the transport costs
	Replicate bool           // every worker updates all parameters, rather than its part of them (and sends those out)
	Ahead     bool           // prepare batches on a goroutine of their own: pays when there is a core to spare for it

	Dir string // run folder for metrics and, unless Checkpoints says another place, checkpoints, written by rank 0; empty: none is written
	// Checkpoints is where a run that has a Dir puts its checkpoints, when not there: another folder, or the URL of an object
	// store (ckpt.StepDir).
	Checkpoints string
	SaveEvery   int // steps between checkpoints; 0: one an epoch
	// SaveTogether is the size of the parameters, in bytes, from which on all workers write a checkpoint, each its part, where
	// they reach the place; else rank 0 writes it. 0: 256 MiB.
	SaveTogether int
	// TestAtSaves leaves the test set alone but for the epochs that end with a checkpoint, the last one among them.
	TestAtSaves bool
	Keep        int            // checkpoints to keep; 0: 3
	Extra       map[string]any // kept in every checkpoint's manifest, as JSON: what inference will need to know
	Resume      string         // checkpoint folder to go on from, read by rank 0; empty: start afresh

	Events Events // what a watcher wants to hear; rank 0's are enough
	// Stop, when not nil, is asked once a step. When that of any worker that owns a microshard says true, all stop
	// after that step, with a checkpoint, and Run returns ErrStopped with the report so far. It must be fast.
	Stop func() bool

	// Regroup, when not nil, is asked along with Stop by a run whose workers change (Elastic): when that of any worker says true,
	// all end this generation after the step.
	Regroup func() bool

	// Around, when not nil, goes around the group of each worker that Local makes: faults do.
	Around func(comm.Group) comm.Group

	sameData bool    // as all workers have it, they need not tell each other what it is
	shared   *shared // with the other workers of this process; nil: there are none
	resuming bool    // rank 0 has a checkpoint
	saving   bool    // rank 0 has a run folder
	together bool    // all write checkpoints, while they can
	kept     *kept   // of a run whose workers change: what this one keeps from group to group; nil in others
}

// ErrStopped says that the run was asked to stop, and did, between two steps.
var ErrStopped = errors.New("train: stopped before the end, as asked")

// DivergedError says that the loss or the parameters are no longer finite numbers.
type DivergedError struct {
	Step int
	Loss float64
	Last string // the last good checkpoint, empty when there is none
}

func (e *DivergedError) Error() string {
	s := fmt.Sprintf("the loss is %v at step %d: training has diverged; try a smaller --lr, or clip=1 on the optimizer", e.Loss, e.Step)
	if e.Last != "" {
		s += fmt.Sprintf(" (the last good checkpoint is %s)", e.Last)
	}
	return s
}

// ConfigError says which field is wrong, by the name of its key in a job.
type ConfigError struct {
	Key string
	Err error
}

func (e *ConfigError) Error() string { return e.Key + ": " + e.Err.Error() }

// Unwrap returns what is wrong.
func (e *ConfigError) Unwrap() error { return e.Err }

// fill checks c for a group of so many ranks and writes the defaults down.
func (c *Config) fill(ranks int) error {
	bad := func(key, format string, args ...any) error {
		return &ConfigError{Key: key, Err: fmt.Errorf(format, args...)}
	}
	if c.Model == nil || c.Train == nil {
		return bad("model", "a Config needs a Model and Train data")
	}
	n := c.Train.Len()
	if c.Batch == 0 {
		c.Batch = min(256, n)
	}
	if c.Microshards == 0 && c.Clients != nil {
		c.Microshards = len(c.Clients)
	}
	if c.Strategy == nil {
		c.Strategy = func() strategy.Strategy { return allreduce.New() }
	}
	servers := c.servers()
	workers := ranks - servers
	if workers < 1 {
		return bad("strategy", "%d servers in a group of %d leave no worker", servers, ranks)
	}
	if c.Microshards == 0 {
		c.Microshards = workers
	}
	setDefault(&c.Optimizer, "adam")
	setDefault(&c.Schedule, "constant")
	setDefault(&c.Rate, 0.001)
	setDefault(&c.Epochs, 1)
	setDefault(&c.Keep, 3)
	setDefault(&c.SaveTogether, 256<<20)
	if setDefault(&c.Checkpoints, c.Dir); c.Dir == "" {
		c.Checkpoints = ""
	}
	if err := ckpt.CheckPlace(c.Checkpoints); err != nil {
		return &ConfigError{Key: "checkpoints", Err: err}
	}
	switch {
	case n == 0:
		return bad("data", "the training set is empty")
	case c.Batch < 0 || c.Batch > n:
		return bad("batch", "%d samples a step, but the training set has %d", c.Batch, n)
	case c.Microshards < 1 || c.Microshards > c.Batch:
		return bad("microshards", "%d slices of a batch of %d samples: choose 1 to %d (there is at least one a worker)", c.Microshards, c.Batch, c.Batch)
	case c.Clients != nil && len(c.Clients) != c.Microshards:
		return bad("partition", "the data of %d clients and %d microshards: each client is one", len(c.Clients), c.Microshards)
	case c.Rescale != "" && spec.OneOf("rule", c.Rescale, rescales...) != nil:
		return &ConfigError{Key: "rescale", Err: spec.OneOf("rule", c.Rescale, rescales...)}
	case c.Rescale != "" && c.Clients != nil:
		return bad("rescale", "a client draws from data of its own, however many workers there are: leave out rescale, or the partition")
	case c.Workers < 0:
		return bad("workers", "%d is negative", c.Workers)
	case c.Epochs < 0:
		return bad("epochs", "%d is negative", c.Epochs)
	case c.Steps < 0:
		return bad("steps", "%d is negative", c.Steps)
	case c.SaveEvery < 0:
		return bad("save", "%d is negative", c.SaveEvery)
	case c.Keep < 0:
		return bad("keep", "%d is negative", c.Keep)
	case c.SaveTogether < 0:
		return bad("save_together", "%d bytes", c.SaveTogether)
	case c.Hosts.Check(ranks) != nil:
		return &ConfigError{Key: "workers", Err: c.Hosts.Check(ranks)}
	case c.Bucket < 0:
		return bad("bucket", "%d bytes", c.Bucket)
	case !(c.Rate > 0):
		return bad("lr", "%v is not a positive number", c.Rate)
	}
	return nil
}

// servers is how many ranks serve the others.
func (c *Config) servers() int {
	if s, ok := c.Strategy().(strategy.Serving); ok {
		return s.Servers()
	}
	return 0
}

func setDefault[T comparable](p *T, def T) {
	var zero T
	if *p == zero {
		*p = def
	}
}

func (c *Config) optimizer() (optim.Optimizer, error) {
	s, err := spec.Parse(c.Optimizer)
	if err == nil {
		var o optim.Optimizer
		if o, err = optim.New(s, c.Model.Layout()); err == nil {
			return o, nil
		}
	}
	return nil, &ConfigError{Key: "optimizer", Err: err}
}

func (c *Config) schedule(total int) (*optim.Schedule, error) {
	s, err := spec.Parse(c.Schedule)
	if err == nil {
		var sc *optim.Schedule
		if sc, err = optim.NewSchedule(s, c.Rate, total, c.Batch); err == nil {
			return sc, nil
		}
	}
	return nil, &ConfigError{Key: "schedule", Err: err}
}

// Events are what a watcher wants to hear; nil ones are not called. They are called from the training goroutine, so
// they must be fast.
type Events struct {
	Start      func(StartInfo)
	Step       func(StepInfo)
	Epoch      func(EpochInfo)
	Checkpoint func(CheckpointInfo)
	Generation func(GenerationInfo)
}

// StartInfo is told once, when all workers have met.
type StartInfo struct {
	Step, Steps   int           // done, and to be done in all
	Epoch, Epochs int           // the same, the last perhaps in part
	At            time.Duration // since the start of the run
	Samples       int           // in the training set
	Parameters    int
	Pace          *Pace `json:",omitempty"` // batch and rate, of a run whose batch follows its workers
	// Notes say of a resumed run what state did not come back as it was saved: shared out anew, or not kept.
	Notes []string   `json:",omitempty"`
	Books comm.Books `json:"-"` // what this worker has sent so far
}

// StepInfo is told after each step. Steps count from 1.
type StepInfo struct {
	Step    int
	Epoch   int
	Samples int // in this step's batch
	Loss    float64
	Rate    float64
	Quiet   bool               `json:",omitempty"` // no exchange in this step: Loss is this worker's own
	Round   int                `json:",omitempty"` // exchanges so far, of a strategy that does not talk in every step; Loss is then the round's
	Solving *strategy.Solving  // of a solver; nil for others
	Decided *strategy.Decision `json:",omitempty"` // about the steps to come; nil when nothing was
	At      time.Duration      // since the start of the run
	Books   comm.Books         `json:"-"` // what this worker sent in the step
	strategy.Times
}

// EpochInfo is told after each pass over the data.
type EpochInfo struct {
	Epoch    int
	Step     int
	Loss     float64  // mean training loss over the epoch's steps, or over those of the rounds that ended in it
	Quiet    bool     `json:",omitempty"` // no round ended in it: Loss is the last that is known, 0 before the first
	Test     Tested   // zero when there is no test set
	Accuracy *float64 // on the test set; nil for regression, and without one
	At       time.Duration
	Books    comm.Books `json:"-"` // what this worker has sent so far
	Exactly  bool       // every sample was used exactly once
	Missing  []int      // samples that were not used (the first few)
	Repeated []int      // samples that were used more than once (the first few)
	Unbooked bool       `json:",omitempty"` // samples were neither handed out nor booked: the run is for times alone
}

// CheckpointInfo is told after each checkpoint that was tried. Err is why it was not saved.
type CheckpointInfo struct {
	Step int
	Path string
	Err  error
}
