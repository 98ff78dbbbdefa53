package job

import (
	"github.com/covey-ml/covey/reduce"
	"github.com/covey-ml/covey/strategy"
	"github.com/covey-ml/covey/strategy/ps"
)

// ParameterServer is the strategy of package ps, by name.
const ParameterServer = "ps"

// IsServed tells whether the strategy has servers.
func (j *Job) IsServed() bool { return j.Strategy.Name() == ParameterServer }

// Servers is how many ranks serve the workers.
func (j *Job) Servers() int {
	if !j.IsServed() {
		return 0
	}
	c, _ := j.served()
	return c.Servers
}

// Ranks is how many processes, or goroutines, the job has: workers and servers.
func (j *Job) Ranks() int { return j.Workers + j.Servers() }

func (j *Job) served() (ps.Config, error) {
	s, err := j.Strategy.Spec()
	if err != nil {
		return ps.Config{}, err
	}
	return ps.Parse(s)
}

// fillServed checks what goes with servers.
func (j *Job) fillServed() error {
	c, err := j.served()
	if err == nil {
		err = c.Fits(j.Workers)
	}
	switch {
	case err != nil:
		return j.Errorf("strategy", "%w", err)
	case j.chosen("bucket"):
		return j.Errorf("bucket", "a push goes to each server at once: leave it out, or use allreduce")
	case j.chosen("algorithm"):
		return j.Errorf("algorithm", "servers add up what workers push, no collective does: leave it out, or use allreduce")
	case j.chosen("shard"):
		return j.Errorf("shard", "each server has its range of the optimizer's state: leave it out, or use allreduce")
	case j.Adapt != "":
		return j.Errorf("adapt", "it chooses how workers sum with each other, and here servers do: leave it out, or use allreduce")
	case j.Compress == "":
		return nil
	}
	r, err := reduce.ParseRules(string(j.Compress))
	if err == nil {
		err = c.CheckCodes(r)
	}
	if err != nil {
		return j.Errorf("compress", "%w", err)
	}
	return nil
}

// servedStrategy makes a rank's strategy.
func (j *Job) servedStrategy() (func() strategy.Strategy, error) {
	c, err := j.served()
	if err != nil {
		return nil, j.Errorf("strategy", "%w", err)
	}
	return func() strategy.Strategy { return ps.New(c) }, nil
}

// Outlives says why a run of this job cannot go on when workers or servers are lost; nil: it can.
func (j *Job) Outlives() error {
	if !j.IsServed() {
		return nil
	}
	c, err := j.served()
	if err != nil {
		return j.Errorf("strategy", "%w", err)
	}
	if err := c.Outlives(); err != nil {
		return j.Errorf("strategy", "%w", err)
	}
	if j.compresses() {
		return j.Errorf("compress", "with compressed pushes a run cannot go on when workers or servers are lost: leave it out, or use allreduce")
	}
	if j.Rescales() {
		return j.Errorf("rescale", "servers that go on where others were lost know what each microshard of a batch has done, and the batch would change: leave it out, or use allreduce")
	}
	return nil
}
