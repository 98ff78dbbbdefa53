package job

import (
	"slices"

	"github.com/covey-ml/covey/data"
	"github.com/covey-ml/covey/reduce"
	"github.com/covey-ml/covey/strategy"
	"github.com/covey-ml/covey/strategy/adapt"
	"github.com/covey-ml/covey/strategy/local"
	"github.com/covey-ml/covey/train"
)

// IsLocal tells whether the strategy is one of package local.
func (j *Job) IsLocal() bool { return slices.Contains(local.Names(), j.Strategy.Name()) }

// fillLocal checks what goes with replicas that train by themselves, after the optimizer is known.
func (j *Job) fillLocal() error {
	s, _ := j.Strategy.Spec()
	c, err := local.Parse(s)
	if err != nil {
		return j.Errorf("strategy", "%w", err)
	}
	inner, err := j.Optimizer.Spec()
	if err == nil {
		err = c.Inner(inner)
	}
	if err != nil {
		return j.Errorf("optimizer", "%w", err)
	}
	switch {
	case c.Method == local.Scaffold && j.Model.Name() == "lasso":
		return j.Errorf("strategy", "scaffold reads gradients off how far replicas moved, and the lasso's proximal step moves them too: use local or fedprox")
	case j.Given("bucket"):
		return j.Errorf("bucket", "%s sends parameters, not the gradients of a backward pass that still runs: leave it out, or cut them with fragments=, as in diloco:fragments=4", c.Method)
	}
	return nil
}

// fillLocalCompress checks what goes with compressed moves of replicas.
func (j *Job) fillLocalCompress(r reduce.Rules) error {
	name := j.Strategy.Name()
	switch {
	case r.Signs() != "":
		return j.Errorf("compress", "%s says which way each parameter goes and not how far, and the sums of %s are moves, taken as they are: use onebit+ef", r.Signs(), name)
	case r.Momentum() != "":
		return j.Errorf("compress", "%s has the momentum of gradients, and what %s sums are moves: use topk+ef", r.Momentum(), name)
	}
	return nil
}

// fillLocalAdapt checks arms that choose a period.
func (j *Job) fillLocalAdapt(arms []adapt.Arm) error {
	s, _ := j.Strategy.Spec()
	c, err := local.Parse(s)
	if err != nil {
		return j.Errorf("strategy", "%w", err)
	}
	for _, a := range arms {
		if a.Period > 0 && c.Period != "" {
			return j.Errorf("adapt", "%s: the strategy chooses its period itself (period=%s): leave one of them out", a, c.Period)
		}
	}
	return nil
}

// localStrategy makes a worker's strategy.
func (j *Job) localStrategy() (func() strategy.Strategy, error) {
	s, err := j.Strategy.Spec()
	if err != nil {
		return nil, j.Errorf("strategy", "%w", err)
	}
	c, err := local.Parse(s)
	if err == nil {
		err = c.Fits(j.Microshards)
	}
	if err != nil {
		return nil, j.Errorf("strategy", "%w", err)
	}
	return func() strategy.Strategy { return local.New(c) }, nil
}

// fillClients checks how data is divided, and makes clients and microshards the same number.
func (j *Job) fillClients() error {
	switch {
	case j.Clients > 0 && j.Microshards > 0 && j.Clients != j.Microshards:
		return j.Errorf("clients", "%d clients and %d microshards: a client is a microshard, give one of them", j.Clients, j.Microshards)
	case j.Partition != "" && (j.Solves() || j.Strategy == Direct):
		return j.Errorf("partition", "%s sums over all samples, whose they are makes no difference: leave it out", j.Strategy.Name())
	case j.Clients > 0 && (j.Solves() || j.Strategy == Direct):
		return j.Errorf("clients", "%s has none: leave it out, or give --strategy local or allreduce", j.Strategy.Name())
	}
	if j.Clients > 0 {
		j.Microshards = j.Clients
	}
	if j.Partition == "" {
		return nil
	}
	s, err := j.Partition.Spec()
	if err == nil {
		err = data.KnownPartition(s.Name)
	}
	if err != nil {
		return j.Errorf("partition", "%w", err)
	}
	return nil
}

// divide gives each client its samples, when the job says how.
func (j *Job) divide(c *train.Config) error {
	if j.Partition == "" {
		return nil
	}
	var err error
	if c.Clients, err = data.Partition(c.Train, j.Microshards, string(j.Partition), j.Seed); err != nil {
		return j.Errorf("partition", "%w", err)
	}
	return nil
}
