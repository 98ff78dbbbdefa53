package main

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/covey-ml/covey/bench"
)

// benchServed is one call of covey bench ps.
type benchServed struct {
	benchOptions
	what bench.Served
	size string
}

func benchServedCommand() *cobra.Command {
	o := &benchServed{}
	c := &cobra.Command{
		Use:   "ps",
		Short: "Time a parameter server's pushes and pulls",
		Long: `Time what workers push to parameter servers and pull from them: all of a dense vector, whose parts are the
servers', and some rows of a table, which are drawn by lot. Servers add each push as it comes. What is pulled is
compared with the exact sum of all pushes, before and after. A row of the result is the values (float32, ids not
counted) of all workers a second.` + "\n" + exitHelp,
		Example: `  covey bench ps
  covey bench ps --workers 2 --servers 2 --transport tcp --size 4MiB --rows 1000000 --width 16 --sparse 0.01 --json`,
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error { return o.run(c) },
	}
	c.Flags().IntVar(&o.what.Servers, "servers", 2, "servers, beside the workers")
	c.Flags().StringVar(&o.size, "size", "4MiB", "size of the dense vector in bytes")
	c.Flags().IntVar(&o.what.Rows, "rows", 1_000_000, "rows of the table")
	c.Flags().IntVar(&o.what.Width, "width", 16, "float32 values of a row")
	c.Flags().Float64Var(&o.what.Share, "sparse", 0.01, "share of the rows that a call has")
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
