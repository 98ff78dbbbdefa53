package job

import (
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"github.com/covey-ml/covey/compress"
	"github.com/covey-ml/covey/optim"
	"github.com/covey-ml/covey/reduce"
	"github.com/covey-ml/covey/strategy/adapt"
)

// rules turns a mapping into the text of Rules: from patterns to choices, or one choice with its parameters, as in
// {powersgd: {rank: 4}}.
func rules(n ast.Node) (string, error) {
	pairs := mapping(n)
	if len(pairs) == 1 {
		name := pairs[0].Key.GetToken().Value
		if slices.ContainsFunc(reduce.Names(), func(c compress.Choice) bool { return c.Name == name }) {
			return choice(n)
		}
	}
	if len(pairs) == 0 {
		return "", fmt.Errorf("expected a choice such as topk:0.01+ef, or patterns with their choices such as {bias: none, \"*\": powersgd:4+ef}")
	}
	var parts []string
	for _, p := range pairs {
		text, ok := scalar(p.Value)
		if !ok {
			var err error
			if text, err = choice(p.Value); err != nil {
				return "", err
			}
		}
		parts = append(parts, p.Key.GetToken().Value+": "+text)
	}
	return strings.Join(parts, "; "), nil
}

// fillCompress checks what goes with compressed sums.
func (j *Job) fillCompress() error {
	if j.Adapt != "" {
		return j.fillAdapt()
	}
	if j.Compress == "" {
		return nil
	}
	r, err := reduce.ParseRules(string(j.Compress))
	switch {
	case err != nil:
		return j.Errorf("compress", "%w", err)
	case !r.Lossy():
		return nil
	case j.Solves() || j.Strategy == Direct:
		return j.Errorf("compress", "%s needs exact sums: leave it out, or give --strategy allreduce", j.Strategy.Name())
	case j.Algorithm != "auto":
		return j.Errorf("algorithm", "compressed sums choose how their bytes go: leave it out, or leave compress out")
	case j.IsLocal():
		return j.fillLocalCompress(r)
	}
	if o, err := j.Optimizer.Spec(); err == nil {
		own := r.Momentum()
		if own != "" && (o.Name != "sgd" || o.Float("momentum", 0) != 0) {
			return j.Errorf("optimizer", "%s has momentum of its own, which an optimizer other than plain sgd would take twice: use sgd", own)
		}
		if signs := r.Signs(); signs != "" && j.where["lr"] == "" && j.LR == optim.DefaultRate(o.Name) && o.Name == "sgd" {
			return j.Errorf("lr", "%s moves every parameter by the whole rate at each step: give a small one, such as --lr 0.001", signs)
		}
	}
	return nil
}

// fillAdapt checks what goes with a choice that is made while training.
func (j *Job) fillAdapt() error {
	arms, err := adapt.ParseArms(j.Adapt)
	switch {
	case err != nil:
		return j.Errorf("adapt", "%w", err)
	case j.Compress != "":
		return j.Errorf("adapt", "it chooses the compressor: leave compress out, or name it as one of the arms")
	case j.Bucket != 0:
		return j.Errorf("bucket", "adapt chooses it, arm by arm: leave it out")
	case j.Solves() || j.Strategy == Direct:
		return j.Errorf("adapt", "%s needs exact sums: leave it out, or give --strategy allreduce", j.Strategy.Name())
	case j.Algorithm != "auto":
		return j.Errorf("algorithm", "compressed sums choose how their bytes go: leave it out, or leave adapt out")
	}
	if j.IsLocal() {
		return j.fillLocalAdapt(arms)
	}
	for _, a := range arms {
		if a.Period > 1 && j.Strategy == AllReduce {
			return j.Errorf("adapt", "%s: allreduce talks in every step: leave the K out, or give --strategy local", a)
		}
	}
	return nil
}

// compresses tells whether sums are approximate.
func (j *Job) compresses() bool {
	r, err := reduce.ParseRules(string(j.Compress))
	return j.Compress != "" && err == nil && r.Lossy()
}
