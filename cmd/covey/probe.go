package main

import (
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/covey-ml/covey/comm/shm"
	"github.com/covey-ml/covey/job"
	"github.com/covey-ml/covey/plan"
)

// probeOptions is one call of covey probe.
type probeOptions struct {
	bench benchOptions
	keys  keyFlags
	out   string
	fast  bool
}

// probeFile is where the measurement goes unless somebody says otherwise: it is of this machine, and the user looks at it.
const probeFile = "probe.json"

func probeCommand() *cobra.Command {
	o := &probeOptions{}
	c := &cobra.Command{
		Use:   "probe [job.yaml]",
		Short: "Measure this machine for the planner and the simulator",
		Long: `Measure in about ten seconds what this machine is: floating-point operations a second on the gradients of the job's
own model, on one core and on all at once; memory bandwidth in and beyond the caches; and what messages cost over each
transport, between two workers: alpha, a round; message, each message more; beta, a byte; gamma, a byte that is added.

The numbers go to a file. covey sim --probe FILE takes it as its machine, and covey train --costs FILE chooses by it
how sums are made (the numbers travel with the job, so that all workers choose alike).` + "\n" + exitHelp,
		Example: `  covey probe
  covey probe job.yaml --out node7.json
  covey probe --model mlp:1024,1024 --batch 512 --quick --json`,
		Args: oneJob,
		RunE: func(c *cobra.Command, args []string) error { return o.run(c, args) },
	}
	c.Flags().SortFlags = false
	o.keys = addKeyFlags(c, "data", "format", "model", "batch", "workers", "microshards", "timeout")
	c.Flags().StringVar(&o.out, "out", probeFile, "file for the numbers; none: do not write them")
	c.Flags().BoolVar(&o.fast, "quick", false, "a glance of under a second, whose numbers are rough")
	c.Flags().BoolVar(&o.bench.json, "json", false, "print the numbers as one JSON object on standard output")
	c.Flags().BoolVar(&o.bench.quiet, "quiet", false, "no progress")
	c.Flags().Lookup("data").Usage = "training data (default " + benchData + ", which it makes itself)"
	return c
}

func (o *probeOptions) run(c *cobra.Command, args []string) error {
	j, err := readJob(c, o.keys, args)
	if err != nil {
		return err
	}
	if !j.Given("data") {
		j.Data = benchData
	}
	j.Test = "none"
	if err := j.Fill(); err != nil {
		return err
	}
	tr, _, err := j.Open(c.Context())
	if err != nil {
		return err
	}
	conf, err := j.Build(tr, nil)
	if err != nil {
		return err
	}
	effort := plan.Careful
	if o.fast {
		effort = plan.Quick
	}
	t := o.bench.table(c, 1)
	shard := max(1, conf.Batch/max(1, conf.Microshards))
	t.measuring("gradients of %s on %s, and memory", j.Model, count(shard, "sample"))
	p, err := effort.Machine(c.Context(), conf.Model, conf.Train, shard)
	if err != nil {
		t.wipe()
		return err
	}
	p.Model, p.Made = string(j.Model), time.Now().UTC().Format(time.RFC3339)
	o.bench.timeout, o.bench.listen = j.Timeout, "127.0.0.1:0"
	for _, name := range []string{job.Inproc, job.Shm, job.TCP} {
		if name == job.Shm && shm.Available() != nil {
			continue
		}
		t.measuring("messages over %s", name)
		o.bench.transport = name
		e := effort
		e.Repeats = min(e.Repeats, 5) // each is of many turns already
		if o.fast {
			e.Repeats = 1
		}
		err := o.bench.launch(c, 2, benchTask{Probe: &e}, func(m json.RawMessage) {
			var got plan.Transport
			if json.Unmarshal(m, &got) == nil {
				p.Transports[name] = got
			}
		})
		if err != nil {
			t.wipe()
			return fmt.Errorf("messages over %s: %w", name, err)
		}
	}
	t.wipe()
	if o.out != "none" {
		if err := p.Save(o.out); err != nil {
			return usagef("--out: %w", err)
		}
	}
	if o.bench.json {
		b, err := json.Marshal(p)
		if err == nil {
			_, err = fmt.Fprintf(c.OutOrStdout(), "%s\n", b)
		}
		return err
	}
	return o.print(c.OutOrStdout(), p)
}

// print writes the numbers for people.
func (o *probeOptions) print(out io.Writer, p *plan.Probe) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	rate := func(r plan.Reading, unit string) string {
		return fmt.Sprintf("%.3g G%s\t+- %.0f %%", r.Median/1e9, unit, 100*r.Spread())
	}
	fmt.Fprintf(w, "machine\t%s, %s, last cache %s, memory %s\n", p.System, count(p.Cores, "core"), bytes(int64(p.Cache)), bytes(p.RAM))
	fmt.Fprintf(w, "gradients of %s, %s\n", p.Model, count(p.Batch, "sample"))
	fmt.Fprintf(w, "  one core\t%s\n", rate(p.FLOPS, "FLOP/s"))
	fmt.Fprintf(w, "  all at once\t%s\t%.2f times one core\n", rate(p.FLOPSAll, "FLOP/s"), p.FLOPSAll.Median/p.FLOPS.Median)
	fmt.Fprintf(w, "memory, adding vectors\n")
	fmt.Fprintf(w, "  in a core's cache\t%s\n", rate(p.InCache, "B/s"))
	fmt.Fprintf(w, "  one core\t%s\n", rate(p.Memory, "B/s"))
	fmt.Fprintf(w, "  all at once\t%s\t%.2f times one core\n", rate(p.MemoryAll, "B/s"), p.MemoryAll.Median/p.Memory.Median)
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(out, "\nmessages between two workers\n")
	w = tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "\talpha\tmessage\tbeta\tgamma\tprocessor time: send\treceive\n")
	fmt.Fprintf(w, "\tus\tus\tns a KiB\tns a KiB\tus and ns a KiB\tus and ns a KiB\n")
	for _, name := range []string{job.Inproc, job.Shm, job.TCP} {
		t, ok := p.Transports[name]
		if !ok {
			continue
		}
		ns := func(r plan.Reading) string {
			return fmt.Sprintf("%.3g +- %.0f %%", 1e9*1024*r.Median, 100*r.Spread())
		}
		micro := func(r plan.Reading) string { return fmt.Sprintf("%.3g +- %.0f %%", 1e6*r.Median, 100*r.Spread()) }
		ends := func(message, byByte float64) string {
			if message == 0 {
				return "-"
			}
			return fmt.Sprintf("%.3g and %.3g", 1e6*message, 1e9*1024*byByte)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", name, micro(t.Alpha), micro(t.Message), ns(t.Beta), ns(t.Gamma), ends(t.Send, t.SendByte), ends(t.Receive, t.ReceiveByte))
	}
	w.Flush()
	if o.out == "none" {
		return nil
	}
	path := o.out
	if abs, err := filepath.Abs(path); err == nil && len(abs) < 60 {
		path = abs
	}
	_, err := fmt.Fprintf(out, "\nwritten to %s: covey sim --probe and covey train --costs read it\n", path)
	return err
}
