package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/covey-ml/covey/comm/sim"
	"github.com/covey-ml/covey/fault"
	"github.com/covey-ml/covey/job"
	"github.com/covey-ml/covey/network"
	"github.com/covey-ml/covey/train"
	"github.com/covey-ml/covey/vec"
)

// chaosReport is what covey sim --chaos prints.
type chaosReport struct {
	Schedules int    `json:"schedules"` // simulated
	Asked     int    `json:"faults_asked"`
	Fired     int    `json:"faults_fired"`
	Well      int    `json:"ended_well"`
	Lost      int    `json:"ended_lost"` // with an error that names who failed
	Wrong     string `json:"wrong,omitempty"`
	Seed      uint64 `json:"seed,omitempty"`
	Script    string `json:"script,omitempty"` // the shortest that still goes wrong
	File      string `json:"file,omitempty"`   // that holds it
}

// shrinkTries bounds the runs that shrinking a schedule takes.
const shrinkTries = 300

// chaos simulates a job under drawn schedules until one goes wrong.
func (o *simOptions) runChaos(c *cobra.Command, j *job.Job, net *network.Network, w *watcher) error {
	ctx := c.Context()
	vec.SetThreads(1)
	tr, test, err := j.Open(ctx)
	if err != nil {
		return err
	}
	conf, err := j.Build(tr, test)
	if err != nil {
		return err
	}
	if err := roomFor(j, &conf); err != nil {
		return err
	}
	links := make([]string, 0, 64)
	for _, l := range net.Links[:min(len(net.Links), cap(links))] {
		links = append(links, l.Name)
	}
	ch := &train.Chaos{Config: conf, Faults: fault.Chaos{Faults: o.each, Links: links, Kinds: []fault.Kind{fault.Kill, fault.Stop, fault.Slow, fault.Partition, fault.Drop, fault.Delay, fault.Limit}},
		World: func(s fault.Script) (*sim.World, error) {
			return sim.New(sim.Config{Network: net, Workers: j.Ranks(), Timeout: j.Timeout, Seed: j.Seed, Faults: s, Cores: o.cores})
		}}
	calm, err := ch.Begin(ctx, j.Timeout)
	if err != nil {
		return placed(j, err)
	}
	w.say("without faults: %d steps, weights %.12s", calm.Steps, calm.Weights)
	rep := &chaosReport{}
	for i := range o.chaos {
		seed := j.Seed + uint64(i)
		v, err := ch.Try(ctx, seed)
		if err != nil {
			return err
		}
		rep.add(v)
		if v.Wrong != "" {
			w.say("schedule %d goes wrong: %s\nshrinking its %s", seed, v.Wrong, count(len(v.Script), "fault"))
			if err := rep.shrink(ctx, ch, v, seed); err != nil {
				return err
			}
			break
		}
		if (i+1)%max(1, o.chaos/10) == 0 {
			w.say("%d of %d schedules as promised", i+1, o.chaos)
		}
	}
	return rep.print(c, o.json, strings.Join(os.Args[1:], " "))
}

func (r *chaosReport) add(v train.Verdict) {
	r.Schedules++
	r.Asked += len(v.Script)
	r.Fired += v.Fired
	switch {
	case v.Wrong != "":
	case v.Ended == "well":
		r.Well++
	default:
		r.Lost++
	}
}

// shrink finds the shortest schedule that goes wrong and saves it.
func (r *chaosReport) shrink(ctx context.Context, ch *train.Chaos, v train.Verdict, seed uint64) error {
	v, err := ch.Shrink(ctx, v, shrinkTries)
	if err != nil {
		return err
	}
	r.Wrong, r.Seed, r.Script = v.Wrong, seed, v.Script.String()
	r.File = fmt.Sprintf("chaos-%d.txt", seed)
	text := "# " + strings.ReplaceAll(v.Wrong, "\n", "\n# ") + "\n" + r.Script
	return os.WriteFile(r.File, []byte(text), 0o666)
}

func (r *chaosReport) print(c *cobra.Command, asJSON bool, call string) error {
	out := c.OutOrStdout()
	if asJSON {
		b, err := json.Marshal(r)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "%s\n", b)
	} else {
		fmt.Fprintf(out, "%s simulated: %d of %d faults fired; %d runs ended well, %d with an error that names who failed\n",
			count(r.Schedules, "schedule"), r.Fired, r.Asked, r.Well, r.Lost)
	}
	if r.Wrong == "" {
		return nil
	}
	if !asJSON {
		fmt.Fprintf(out, "\nThe schedule of seed %d goes wrong: %s\nThe shortest that still does:\n\n%s\nReplay it: covey sim ... --faults %s\n", r.Seed, r.Wrong, r.Script, r.File)
	}
	return &saidError{fmt.Errorf("a schedule of %s goes wrong", call), exitFailed}
}
