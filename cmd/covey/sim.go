package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/covey-ml/covey/comm/sim"
	"github.com/covey-ml/covey/fault"
	"github.com/covey-ml/covey/job"
	"github.com/covey-ml/covey/network"
	"github.com/covey-ml/covey/train"
	"github.com/covey-ml/covey/vec"
	"github.com/covey-ml/covey/worker"
)

// simOptions is one call of covey sim.
type simOptions struct {
	keys    keyFlags
	network string
	probe   string
	faults  string
	trace   string
	cores   int
	timing  bool
	chaos   int
	each    int
	json    bool
	quiet   bool
}

func simCommand() *cobra.Command {
	o := &simOptions{}
	c := &cobra.Command{
		Use:   "sim [job.yaml]",
		Short: "Train on a simulated network of any size, on virtual time",
		Long: `Train the model of a job on workers that live in a simulated network: the same program, the same
bits as covey train computes, at the times that the network and the machines of its description would
take. Nothing depends on this machine's speed: a simulation that is run again gives the same report and
the same trace.

The job's flags are those of covey train. No run folder is made unless --run names one.
` + networksHelp() + choicesHelp() + exitHelp,
		Example: `  covey sim --workers 64 --network 10gigabit
  covey sim job.yaml --workers 1000 --network wan.yaml --faults f.txt --trace trace.json
  covey sim --data mnist/ --model mlp:128 --workers 16 --network home --strategy local:K=16
  covey sim --timing --data synthetic:32768 --model profile:resnet50 --batch 32768 --workers 512 --algorithm ring --network 10gigabit:workers=4
  covey sim --model mlp:16 --workers 8 --epochs 1 --chaos 100`,
		Args: oneJob,
		RunE: func(c *cobra.Command, args []string) error { return o.run(c, args) },
	}
	c.Flags().SortFlags = false
	o.keys = addKeyFlags(c)
	c.Flags().StringVar(&o.network, "network", "gigabit", "the network: a file, or one of the networks below, as in gigabit:workers=4")
	c.Flags().StringVar(&o.probe, "probe", "", "file of covey probe: what machines are that the network does not describe")
	c.Flags().StringVar(&o.faults, "faults", "", "file of faults: a line each, as in kill 3 at step 120")
	c.Flags().StringVar(&o.trace, "trace", "", "file for what every worker did when, to be opened in Perfetto (ui.perfetto.dev)")
	c.Flags().BoolVar(&o.timing, "timing", false, "compute no numbers: times, messages and bytes alone, for many more workers")
	c.Flags().IntVar(&o.chaos, "chaos", 0, "draw so many schedules of faults, run each, and stop at the first that goes wrong, shrunk")
	c.Flags().IntVar(&o.each, "chaos-faults", 5, "faults of a drawn schedule, at most")
	c.Flags().IntVar(&o.cores, "cores", 0, "cores of this machine that compute (default: all); no result depends on it")
	c.Flags().BoolVar(&o.json, "json", false, "print the result as one JSON object on standard output")
	c.Flags().BoolVar(&o.quiet, "quiet", false, "no progress")
	return c
}

func networksHelp() string {
	var b strings.Builder
	b.WriteString("\nNetworks (with parameters, as in gigabit:workers=4,latency=1ms):\n")
	for _, p := range network.Presets() {
		fmt.Fprintf(&b, "  %-12s %s\n", p.Name, p.Text)
		words := make([]string, len(p.Parameters))
		for i, x := range p.Parameters {
			words[i] = x.Name + "=" + x.Default
		}
		fmt.Fprintf(&b, "  %12s %s\n", "", strings.Join(words, " "))
	}
	return b.String()
}

func (o *simOptions) run(c *cobra.Command, args []string) error {
	j, err := readJob(c, o.keys, args)
	if err != nil {
		return err
	}
	if j.Given("transport") && j.Transport != "sim" {
		fmt.Fprintf(c.ErrOrStderr(), "covey sim: transport %s is left aside: workers talk over the simulated network\n", j.Transport)
	}
	j.Transport = job.Inproc // every worker is in this process
	j.Simulate()
	if err := j.Fill(); err != nil {
		return err
	}
	j.Costs = "" // the network has its own
	net, err := newNetwork(o.network, o.probe, j.Ranks())
	if err != nil {
		return err
	}
	script, err := loadFaults(o.faults)
	if err != nil {
		return err
	}
	watch := newWatcher(c.ErrOrStderr(), o.quiet)
	if o.chaos > 0 {
		if o.faults != "" || o.trace != "" || o.timing {
			return usagef("--chaos draws its own faults and makes many runs: leave out --faults, --trace and --timing")
		}
		return o.runChaos(c, j, net, watch)
	}
	end, err := o.simulate(c.Context(), j, net, script, watch)
	watch.end()
	if err != nil {
		return err
	}
	if j.Run != "" {
		if err := end.save(filepath.Join(j.Run, reportFile)); err != nil {
			watch.say("the report could not be saved: %v", err)
		}
	}
	if o.json {
		return end.printJSON(c.OutOrStdout())
	}
	return end.print(c.OutOrStdout())
}

// simulate makes the world and trains in it.
func (o *simOptions) simulate(ctx context.Context, j *job.Job, net *network.Network, script fault.Script, w *watcher) (*simEnding, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var stop atomic.Bool
	defer worker.OnSignals(func(again bool) {
		stop.Store(true)
		if again || !w.started() {
			cancel(&saidError{errors.New("interrupted"), exitInterrupted})
			return
		}
		w.say("interrupted: the simulation ends after a step (again to end at once)")
	})()
	vec.SetThreads(1)
	tr, test, err := j.Open(ctx)
	if err != nil {
		return nil, err
	}
	conf, err := j.Build(tr, test)
	if err != nil {
		return nil, err
	}
	if !o.timing {
		if err := roomFor(j, &conf); err != nil {
			return nil, err
		}
	}
	conf.Dir, conf.Events, conf.Stop = j.Run, w.events(), stop.Load
	if j.Run != "" {
		if err := os.MkdirAll(j.Run, 0o777); err != nil {
			return nil, j.Errorf("run", "%w", err)
		}
		saveJob(&conf, j, cancel)
	}
	s := summaryOf(j, tr, test)
	s.How = strings.Replace(s.How, "over inproc", "over a simulated network ("+net.Name+")", 1)
	w.job(s)
	var trace io.Writer
	if o.trace != "" {
		f, err := os.Create(o.trace)
		if err != nil {
			return nil, usagef("--trace: %w", err)
		}
		defer f.Close()
		trace = f
	}
	began := time.Now()
	world, err := sim.New(sim.Config{Network: net, Workers: j.Ranks(), Timeout: j.Timeout, Seed: j.Seed, Faults: script, Trace: trace, Cores: o.cores, Hollow: o.timing})
	if err != nil {
		return nil, &usageError{err}
	}
	rep, err := train.Simulate(ctx, world, conf)
	stopped := errors.Is(err, train.ErrStopped)
	if err != nil && !stopped {
		if cause := context.Cause(ctx); cause != nil {
			return nil, cause
		}
		return nil, faultsOf(placed(j, err), world.Outcomes())
	}
	e := &simEnding{ending: *newEnding(j, rep, stopped), Network: net.Name, Real: time.Since(began).Seconds()}
	e.Transport, e.Timing, e.Faults = "sim", o.timing, world.Outcomes()
	return e, nil
}

// simEnding is a simulated run's report.
type simEnding struct {
	ending
	Network string  `json:"network"`
	Real    float64 `json:"real_s"` // that the simulation took here
}

func (e *simEnding) printJSON(w io.Writer) error {
	b, err := json.Marshal(e)
	if err == nil {
		_, err = fmt.Fprintf(w, "%s\n", b)
	}
	return err
}

func (e *simEnding) print(out io.Writer) error {
	if err := e.ending.print(out); err != nil {
		return err
	}
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintf(w, "simulated\t%s; all times are the network's, and it took %.1f s here\n", e.Network, e.Real)
	return w.Flush()
}

// roomFor refuses more workers than this machine's memory holds.
func roomFor(j *job.Job, c *train.Config) error {
	free := freeMemory()
	each := train.WorkerBytes(c)
	if free == 0 || float64(each)*float64(j.Workers) <= free {
		return nil
	}
	const gib = 1 << 30
	return j.Errorf("workers", "%d workers with their own parameters need about %.1f GiB, and %.1f GiB of memory are free: %d fit; --timing computes no numbers and holds many more",
		j.Workers, float64(each)*float64(j.Workers)/gib, free/gib, int(free/float64(each)))
}

// freeMemory is the bytes of memory that this host has left, 0 where that cannot be told.
func freeMemory() float64 {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	for _, line := range strings.Split(string(text), "\n") {
		var kib float64
		if _, err := fmt.Sscanf(line, "MemAvailable: %f kB", &kib); err == nil {
			return kib * 1024
		}
	}
	return 0
}
