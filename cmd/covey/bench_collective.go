package main

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/covey-ml/covey/bench"
	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/spec"
)

// benchCollective is one call of covey bench allreduce, broadcast or alltoall.
type benchCollective struct {
	benchOptions
	op        string
	sizes     string
	algorithm string
	explain   bool
}

func benchCollectiveCommand(op string) *cobra.Command {
	o := &benchCollective{op: op}
	what := map[string]string{
		"allreduce": "the sum of a float32 vector over all workers, in place",
		"broadcast": "a copy of worker 0's bytes to all workers",
		"alltoall":  "bytes from every worker to every worker; the size is what one of them sends to all",
	}[op]
	c := &cobra.Command{
		Use:   op,
		Short: "Time " + what,
		Long: "Time " + what + `. The sums or copies are compared with what a formula
says before and after. algbw is the size by the time of a call; busbw what a worker must at least send and
receive by that time, which shows how near a link is to its limit whatever the number of workers.` + "\n" + exitHelp,
		Example: fmt.Sprintf(`  covey bench %[1]s
  covey bench %[1]s --workers 2,4 --transport shm --sizes 1KiB,64KiB,4MiB
  covey bench %[1]s --workers 2 --transport tcp --sizes 1024,4194304 --json`, op),
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error { return o.run(c) },
	}
	c.Flags().StringVar(&o.sizes, "sizes", "1KiB,16KiB,256KiB,4MiB,64MiB", "sizes in bytes")
	if op == "allreduce" {
		c.Flags().StringVar(&o.algorithm, "algorithm", "auto", "how to move the bytes: "+strings.Join(comm.AlgorithmNames(), ", "))
		c.Flags().BoolVar(&o.explain, "explain", false, "time nothing: print what each algorithm is expected to cost, which is chosen and why")
	}
	o.addWorkerFlags(c, "2")
	o.addFlags(c)
	return c
}

func noArguments(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("%s takes flags alone, not %q (%s --help lists them)", c.CommandPath(), strings.Join(args, " "), c.CommandPath())
	}
	return nil
}

func (o *benchCollective) run(c *cobra.Command) error {
	if err := o.check(); err != nil {
		return err
	}
	groups, err := o.groups()
	if err != nil {
		return err
	}
	what := bench.Collective{Op: o.op, Effort: o.effort}
	if what.Sizes, err = parseSizes(o.sizes, o.op); err != nil {
		return err
	}
	if o.op == "allreduce" {
		if what.Algorithm, err = comm.ParseAlgorithm(o.algorithm); err != nil {
			return usagef("--algorithm: %w", err)
		}
		for _, n := range groups {
			if err := what.Algorithm.Check(comm.NewTree(n, n)); err != nil {
				return usagef("--algorithm: %w", err)
			}
		}
	}
	if o.explain {
		return o.explained(c, groups, what)
	}
	t := o.table(c, len(groups)*len(what.Sizes), benchColumn{"workers", "", 7}, benchColumn{"size", "", 10},
		benchColumn{"time", "us", 10}, benchColumn{"fastest", "us", 10}, benchColumn{"slowest", "us", 10},
		benchColumn{"algbw", "GB/s", 8}, benchColumn{"busbw", "GB/s", 8}, benchColumn{"objects", "a call", 9}, benchColumn{"", "", 11})
	for _, n := range groups {
		done := 0
		next := func() {
			if done < len(what.Sizes) {
				t.measuring("%s of %s with %s over %s", o.op, spec.Bytes(what.Sizes[done]), count(n, "worker"), o.transport)
			}
		}
		next()
		err := o.launch(c, n, benchTask{Collective: &what}, func(m json.RawMessage) {
			var r bench.Row
			if json.Unmarshal(m, &r) != nil {
				return
			}
			r.Transport = o.transport
			t.add(r, itoa(r.Workers), spec.Bytes(r.Bytes).String(), us(r.Us), us(r.Min), us(r.Max), us(r.AlgBW), us(r.BusBW),
				fmt.Sprintf("%.2f", r.Allocs), "  "+r.Algorithm)
			done++
			next()
		})
		if err != nil {
			t.wipe()
			return err
		}
	}
	return t.end()
}

// parseSizes reads sizes with commas.
func parseSizes(text, op string) ([]int, error) {
	var all []int
	for w := range strings.SplitSeq(text, ",") {
		n, err := spec.ParseBytes(strings.TrimSpace(w))
		switch {
		case err != nil:
			return nil, usagef("--sizes: %w", err)
		case n < 4 || n > 1<<32:
			return nil, usagef("--sizes: %d bytes: choose 4 to 4GiB", n)
		case op == "allreduce" && n%4 != 0:
			return nil, usagef("--sizes: %d bytes are no whole number of float32s of 4 bytes: take %d", n, n&^3)
		}
		all = append(all, int(n))
	}
	return all, nil
}
