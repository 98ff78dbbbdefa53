package main

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/covey-ml/covey/bench"
	"github.com/covey-ml/covey/spec"
)

// benchServed is one call of covey bench ps.
type benchServed struct {
	benchOptions
	what   bench.Served
	size   string
	rows   string // of the table to be filled, and its width
	fill   bench.Fill
	budget string
}

func benchServedCommand() *cobra.Command {
	o := &benchServed{}
	c := &cobra.Command{
		Use:   "ps",
		Short: "Time a parameter server's pushes and pulls",
		Long: `Time what workers push to parameter servers and pull from them: all of a dense vector, whose parts are the
servers', and some rows of a table, which are drawn by lot. Servers add each push as it comes. What is pulled is
compared with the exact sum of all pushes, before and after. A row of the result is the values (float32, ids not
counted) of all workers a second.

With --table ROWSxWIDTH all rows of such a table are updated twice instead, and the result is how many a second, and
what each server took of memory and disk.` + "\n" + exitHelp,
		Example: `  covey bench ps
  covey bench ps --workers 2 --servers 2 --transport tcp --size 4MiB --rows 1000000 --width 16 --sparse 0.01 --json
  covey bench ps --table 50000000x16 --servers 4 --transport tcp --optimizer adagrad --budget 2GiB --spill /tmp`,
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error { return o.run(c) },
	}
	c.Flags().IntVar(&o.what.Servers, "servers", 2, "servers, beside the workers")
	c.Flags().StringVar(&o.size, "size", "4MiB", "size of the dense vector in bytes")
	c.Flags().IntVar(&o.what.Rows, "rows", 1_000_000, "rows of the table")
	c.Flags().IntVar(&o.what.Width, "width", 16, "float32 values of a row")
	c.Flags().Float64Var(&o.what.Share, "sparse", 0.01, "share of the rows that a call has")
	c.Flags().StringVar(&o.rows, "table", "", "fill a table of so many rows and values a row, such as 50000000x16")
	c.Flags().StringVar(&o.fill.Optimizer, "optimizer", "adagrad", "how the table's rows are updated")
	c.Flags().StringVar(&o.budget, "budget", "", "memory that a server may take for the table (default: no bound)")
	c.Flags().IntVar(&o.fill.Copies, "copies", 1, "servers on which each row of the table is")
	c.Flags().StringVar(&o.fill.Spill, "spill", "", "folder for what is over the budget")
	o.addWorkerFlags(c, "2")
	o.addFlags(c)
	return c
}

func (o *benchServed) run(c *cobra.Command) error {
	if err := o.check(); err != nil {
		return err
	}
	groups, err := o.groups()
	if err != nil {
		return err
	}
	if o.rows != "" {
		return o.runFill(c, groups)
	}
	size, err := parseSizes(o.size, "allreduce")
	switch {
	case err != nil:
		return err
	case len(groups) > 1 || len(size) > 1:
		return usagef("--workers %s --size %s: one number of each", o.workers, o.size)
	case o.what.Servers < 1 || groups[0]+o.what.Servers > bench.MaxWorkers:
		return usagef("--servers %d: choose 1 to %d, workers and servers together being at most %d", o.what.Servers, bench.MaxWorkers-groups[0], bench.MaxWorkers)
	case o.what.Rows < 1 || o.what.Rows > 1<<28:
		return usagef("--rows %d: choose 1 to %d", o.what.Rows, 1<<28)
	case o.what.Width < 1 || o.what.Width > 1<<16:
		return usagef("--width %d: choose 1 to %d", o.what.Width, 1<<16)
	case !(o.what.Share > 0 && o.what.Share <= 1):
		return usagef("--sparse %v: choose a share of the rows, such as 0.01", o.what.Share)
	}
	o.what.Bytes, o.what.Effort = size[0], o.effort
	t := o.table(c, 4, benchColumn{"pattern", "", 8}, benchColumn{"", "", 5}, benchColumn{"values", "a call", 10}, benchColumn{"time", "us", 10},
		benchColumn{"fastest", "us", 10}, benchColumn{"slowest", "us", 10}, benchColumn{"values", "M/s", 9}, benchColumn{"", "GB/s", 8}, benchColumn{"objects", "a call", 9})
	t.measuring("%s with %s over %s", count(o.what.Servers, "server"), count(groups[0], "worker"), o.transport)
	found := map[string]map[string]any{}
	err = o.launch(c, groups[0]+o.what.Servers, benchTask{Served: &o.what}, func(m json.RawMessage) {
		var r bench.ServedRow
		if json.Unmarshal(m, &r) != nil {
			return
		}
		if found[r.Pattern] == nil {
			found[r.Pattern] = map[string]any{"values": r.Values, "servers": r.Servers, "workers": r.Workers}
		}
		found[r.Pattern][r.Way+"_values_per_s"], found[r.Pattern][r.Way+"_us"] = r.PerSec, r.Us
		t.add(r, r.Pattern, r.Way, itoa(r.Values), us(r.Us), us(r.Min), us(r.Max), us(r.PerSec/1e6), fmt.Sprintf("%.2f", r.GBps), fmt.Sprintf("%.2f", r.Allocs))
	})
	t.wipe()
	if err != nil || !o.json {
		return err
	}
	return json.NewEncoder(c.OutOrStdout()).Encode(found)
}

// fillBatch is how many rows a push has while a table is filled.
const fillBatch = 10_000

func (o *benchServed) runFill(c *cobra.Command, groups []int) error {
	f := &o.fill
	f.Servers, f.Batch = o.what.Servers, fillBatch
	if n, err := fmt.Sscanf(o.rows+"\n", "%dx%d\n", &f.Rows, &f.Width); n != 2 || err != nil || f.Rows < 1 || f.Width < 1 || f.Width > 1<<16 {
		return usagef("--table %s: expected rows and values of a row, such as 1000000x16", o.rows)
	}
	if len(groups) > 1 || f.Servers < 1 || groups[0]+f.Servers > bench.MaxWorkers {
		return usagef("--workers %s --servers %d: one number of workers, and at most %d with the servers", o.workers, f.Servers, bench.MaxWorkers)
	}
	if f.Copies < 1 || f.Copies > f.Servers {
		return usagef("--copies %d: choose 1 to %d, each on a server of its own", f.Copies, f.Servers)
	}
	if o.budget != "" {
		var err error
		if f.Budget, err = spec.ParseBytes(o.budget); err != nil {
			return usagef("--budget: %w", err)
		}
	}
	if _, err := spec.Parse(f.Optimizer); err != nil {
		return usagef("--optimizer: %w", err)
	}
	t := o.table(c, 1, benchColumn{"server", "", 6}, benchColumn{"rows", "", 12}, benchColumn{"memory", "of rows", 12}, benchColumn{"disk", "of rows", 12}, benchColumn{"memory", "at most", 12})
	t.measuring("a table of %s with %s and %s over %s", o.rows, count(f.Servers, "server"), count(groups[0], "worker"), o.transport)
	var r bench.FillRow
	err := o.launch(c, groups[0]+f.Servers, benchTask{Fill: f}, func(m json.RawMessage) { _ = json.Unmarshal(m, &r) })
	t.wipe()
	if err != nil {
		return err
	}
	r.Transport = o.transport
	if o.json {
		return json.NewEncoder(c.OutOrStdout()).Encode(r)
	}
	for i, s := range r.Servers {
		t.add(s, itoa(i), thousands(s.Rows), bytes(s.Resident), bytes(s.Spilled), bytes(s.Peak))
	}
	fmt.Fprintf(c.OutOrStdout(), "%s rows a second were made, and %s updated again\n", thousands(int(r.First)), thousands(int(r.Second)))
	return nil
}
