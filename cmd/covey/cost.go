package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/comm/shm"
	"github.com/covey-ml/covey/job"
	"github.com/covey-ml/covey/network"
	"github.com/covey-ml/covey/plan"
	"github.com/covey-ml/covey/train"
	"github.com/covey-ml/covey/vec"
)

// costOptions is one call of covey cost.
type costOptions struct {
	keys    keyFlags
	network string
	probe   string
	check   int
	json    bool
}

func costCommand() *cobra.Command {
	o := &costOptions{}
	c := &cobra.Command{
		Use:   "cost [job.yaml]",
		Short: "Say what a job will send, before it runs",
		Long: `Say in closed form what the workers of a job send each other: for each operation of a step or round how many
messages and bytes, in how many rounds, and what that takes where a round costs alpha and a byte beta. Then train a few
steps of the same job on goroutines that send real messages, count, and compare.

The job and its flags are those of covey train. The transport is tcp unless the job names one. With --network it is
a network's messages that are costed, and steps run on the simulated network.
` + networksHelp() + exitHelp,
		Example: `  covey cost job.yaml --workers 8
  covey cost --model mlp:1024,1024 --workers 4 --compress powersgd:4+ef
  covey cost job.yaml --strategy local:K=16 --workers 64 --network regions --json`,
		Args: oneJob,
		RunE: func(c *cobra.Command, args []string) error { return o.run(c, args) },
	}
	c.Flags().SortFlags = false
	o.keys = addKeyFlags(c)
	c.Flags().StringVar(&o.network, "network", "", "network to cost the messages of: a file or a preset")
	c.Flags().StringVar(&o.probe, "probe", "", "file of covey probe: what machines are that the network does not describe")
	c.Flags().IntVar(&o.check, "check", -1, "steps to run and count, at most an epoch; 0: none (default: 32, or fewer with many workers)")
	c.Flags().BoolVar(&o.json, "json", false, "print the result as one JSON object on standard output")
	return c
}

// newNetwork is a network whose hosts, where it says nothing of them, are what a file of covey probe says; "" is none.
func newNetwork(choice, probe string, workers int) (*network.Network, error) {
	n, err := network.New(choice, workers)
	if err != nil {
		return nil, usagef("--network: %w", err)
	}
	if probe != "" {
		p, err := plan.LoadProbe(probe)
		if err != nil {
			return nil, usagef("--probe: %w", err)
		}
		p.Calibrate(n)
	}
	return n, nil
}

// readCosts puts what a file of covey probe says of the job's transport in the file's place: so it travels with the job, and all
// workers choose by the same.
func readCosts(j *job.Job) error {
	if j.Costs == "" || strings.HasPrefix(j.Costs, "measured:") {
		return nil
	}
	p, err := plan.LoadProbe(j.Costs)
	if err != nil {
		return j.Errorf("costs", "%w", err)
	}
	costs, ok := p.Costs(j.Transport)
	if !ok {
		return j.Errorf("costs", "%s says nothing of transport %s: measure again with covey probe", j.Costs, j.Transport)
	}
	j.Costs = costs.Text()
	return nil
}

// mostChecked bounds the workers that run when nobody asks for a check: as many goroutines share this machine's cores.
const mostChecked = 16

func (o *costOptions) run(c *cobra.Command, args []string) error {
	j, err := readJob(c, o.keys, args)
	if err != nil {
		return err
	}
	if !j.Given("transport") {
		j.Transport = job.TCP
	}
	if err := j.Fill(); err != nil {
		return err
	}
	if o.network != "" {
		j.Costs = "" // the network has its own
	}
	if err := readCosts(j); err != nil {
		return err
	}
	vec.SetThreads(j.ComputeThreads(j.Workers))
	tr, test, err := j.Open(c.Context())
	if err != nil {
		return err
	}
	conf, err := j.Build(tr, test)
	if err != nil {
		return err
	}
	conf.Dir = cmp.Or(j.Run, "runs") // it will have one
	scene, run, err := o.scene(c.Context(), j)
	if err != nil {
		return err
	}
	k, err := plan.Of(conf, scene)
	if err != nil {
		return placed(j, err)
	}
	if err := o.count(c.Context(), k, conf, scene, run); err != nil {
		return placed(j, err)
	}
	if o.json {
		b, err := json.Marshal(k)
		if err == nil {
			_, err = fmt.Fprintf(c.OutOrStdout(), "%s\n", b)
		}
		return err
	}
	return k.Print(c.OutOrStdout())
}

// scene is where the job runs, and what runs a part of it there.
func (o *costOptions) scene(ctx context.Context, j *job.Job) (plan.Scene, plan.Run, error) {
	switch {
	case o.network != "":
		n, err := newNetwork(o.network, o.probe, j.Ranks())
		if err != nil {
			return plan.Scene{}, nil, err
		}
		s, err := plan.On(ctx, n, j.Ranks())
		if err != nil {
			return s, nil, usagef("--network: %w", err)
		}
		return s, plan.Simulated(n), nil
	case j.Transport == job.TCP:
		return plan.TCP(j.Ranks()), plan.Loopback(j.Timeout), nil
	case j.Transport == job.Shm && shm.Available() == nil: // goroutines sum as processes with shared memory do
		return plan.Scene{Name: job.Shm, Workers: j.Ranks(), Costs: comm.ShmCosts, Framer: plan.ShmFrames{}}, plan.Goroutines(j.Timeout), nil
	}
	return plan.Scene{Name: job.Inproc, Workers: j.Ranks(), Costs: comm.InprocCosts}, plan.Goroutines(j.Timeout), nil
}

// count runs some steps and compares.
func (o *costOptions) count(ctx context.Context, k *plan.Cost, conf train.Config, s plan.Scene, run plan.Run) error {
	steps := o.check
	if steps < 0 {
		if steps = plan.CheckSteps; s.Workers > mostChecked {
			return nil
		}
	}
	if steps == 0 || s.Workers == 1 {
		return nil
	}
	var err error
	k.Check, err = plan.Verify(ctx, conf, s.Workers, s.Hosts, steps, run)
	return err
}
