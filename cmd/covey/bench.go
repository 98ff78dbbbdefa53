package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/covey-ml/covey/bench"
	"github.com/covey-ml/covey/comm/shm"
	"github.com/covey-ml/covey/job"
	"github.com/covey-ml/covey/spec"
)

func benchCommand() *cobra.Command {
	explain := false
	c := &cobra.Command{
		Use:   "bench",
		Short: "Measure this machine: collectives, matrix products, compressors, parameter servers, training steps",
		Long: `Measure how fast this machine does the work of training. Each measurement checks its results first. Times are
medians over blocks of calls, with the fastest and the slowest block beside them.` + "\n" + exitHelp,
		Example: `  covey bench allreduce --workers 2 --transport shm --sizes 1KiB,64KiB,4MiB
  covey bench --explain
  covey bench gemm --shapes 512,128x784x128 --form nn,nt,tn
  covey bench compress topk:0.01 --elements 1048576
  covey bench ps --workers 2 --servers 2 --size 4MiB
  covey bench step --model mlp:128 --batch 256 --workers 1,2 --json`,
		Args: cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error {
			if !explain || len(args) > 0 {
				return verb(c, args)
			}
			all, _, err := c.Find([]string{"allreduce"})
			if err == nil {
				all.SetContext(c.Context())
				err = all.Flags().Set("explain", "true")
			}
			if err != nil {
				return err
			}
			return all.RunE(all, nil)
		},
	}
	c.Flags().BoolVar(&explain, "explain", false, "the same as covey bench allreduce --explain")
	for _, op := range bench.Collectives {
		c.AddCommand(benchCollectiveCommand(op))
	}
	c.AddCommand(benchProductCommand(), benchCompressCommand(), benchStepCommand(), benchServedCommand(), benchWorkerCommand())
	return c
}

// benchOptions are what all measurements take.
type benchOptions struct {
	effort bench.Effort
	json   bool
	quiet  bool

	// Of those that need workers.
	workers   string
	transport string
	timeout   time.Duration
	listen    string
	join      int
	reach     reach
}

func (o *benchOptions) addFlags(c *cobra.Command) {
	c.Flags().SortFlags = false
	c.Flags().DurationVar(&o.effort.Time, "time", 500*time.Millisecond, "how long to measure each row, about")
	c.Flags().IntVar(&o.effort.Blocks, "repeat", 11, "blocks of calls that a row is the median of")
	c.Flags().IntVar(&o.effort.Calls, "calls", 0, "calls in a block (default: as many as fill the time)")
	c.Flags().BoolVar(&o.json, "json", false, "print the rows as a JSON list of objects on standard output")
	c.Flags().BoolVar(&o.quiet, "quiet", false, "no progress")
}

func (o *benchOptions) addWorkerFlags(c *cobra.Command, workers string) {
	c.Flags().StringVar(&o.workers, "workers", workers, "workers; several numbers with commas are measured one after the other")
	c.Flags().StringVar(&o.transport, "transport", "", "how workers talk: inproc (goroutines), shm or tcp (processes) (default: shm where there is one)")
	c.Flags().DurationVar(&o.timeout, "timeout", 30*time.Second, "longest wait for another worker")
	c.Flags().StringVar(&o.listen, "listen", "127.0.0.1:0", "address at which workers join")
	c.Flags().IntVar(&o.join, "join", 0, "of the workers, how many somebody starts elsewhere with covey bench worker")
	o.reach.addFlags(c)
}

// check refuses what no measurement can do.
func (o *benchOptions) check() error {
	switch {
	case o.effort.Time <= 0 || o.effort.Time > time.Hour:
		return usagef("--time %v: choose more than 0s, up to 1h", o.effort.Time)
	case o.effort.Blocks < 1 || o.effort.Blocks > 10000:
		return usagef("--repeat %d: choose 1 to 10000 blocks", o.effort.Blocks)
	case o.effort.Calls < 0 || o.effort.Calls > 1e9:
		return usagef("--calls %d: choose 1 to 1000000000, or 0 to fill the time", o.effort.Calls)
	}
	return nil
}

// groups is the worker counts to measure with. It settles the transport, too.
func (o *benchOptions) groups() ([]int, error) {
	var all []int
	for w := range strings.SplitSeq(o.workers, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(w))
		if err != nil || n < 1 || n > bench.MaxWorkers {
			return nil, usagef("--workers %s: expected numbers from 1 to %d with commas, such as 2 or 1,2,4", o.workers, bench.MaxWorkers)
		}
		if o.join < 0 || o.join >= n {
			return nil, usagef("--join %d of %d workers: at least one runs here, as rank 0", o.join, n)
		}
		all = append(all, n)
	}
	if o.transport == "" {
		o.transport = job.TCP
		if o.join == 0 && shm.Available() == nil {
			o.transport = job.Shm
		}
	}
	if err := spec.OneOf("transport", o.transport, job.Inproc, job.Shm, job.TCP); err != nil {
		return nil, usagef("--transport: %w", err)
	}
	switch {
	case o.transport == job.Shm && shm.Available() != nil:
		return nil, usagef("--transport: %w", shm.Available())
	case o.join > 0 && o.transport != job.TCP:
		return nil, usagef("--join needs --transport tcp: workers elsewhere share no memory with those here")
	case o.join > 0 && len(all) > 1:
		return nil, usagef("--join goes with one number of workers, not with %s", o.workers)
	case o.timeout < time.Second:
		return nil, usagef("--timeout %v is too short: at least 1s", o.timeout)
	}
	return all, nil
}

// benchTable shows rows as they come: as aligned columns, or as JSON at the end. On a terminal a line says what is being
// measured.
type benchTable struct {
	out, errs io.Writer
	json      bool
	show      bool // the line
	columns   []benchColumn
	rows      []any
	width     int // of the line that is to be written over
	more      int // rows to come
}

// benchColumn is a title, its unit, and the width of both.
type benchColumn struct {
	title, unit string
	width       int
}

func (o *benchOptions) table(c *cobra.Command, rows int, columns ...benchColumn) *benchTable {
	t := &benchTable{out: c.OutOrStdout(), errs: c.ErrOrStderr(), json: o.json, columns: columns, more: rows}
	if f, ok := t.errs.(*os.File); ok {
		t.show = !o.quiet && term.IsTerminal(int(f.Fd()))
	}
	return t
}

// measuring says what is under way.
func (t *benchTable) measuring(format string, args ...any) {
	if !t.show {
		return
	}
	text := fmt.Sprintf("measuring "+format, args...)
	if len(t.rows) > 0 || t.more > 1 {
		text += fmt.Sprintf(" (%d of %d)", len(t.rows)+1, t.more)
	}
	fmt.Fprintf(t.errs, "\r%-*s", t.width, text)
	t.width = len(text)
}

func (t *benchTable) wipe() {
	if t.width > 0 {
		fmt.Fprintf(t.errs, "\r%s\r", strings.Repeat(" ", t.width))
		t.width = 0
	}
}

// add shows one row: v in JSON, cells for people.
func (t *benchTable) add(v any, cells ...string) {
	t.wipe()
	if !t.json {
		if len(t.rows) == 0 {
			t.head()
		}
		t.line(func(i int) string { return cells[i] })
	}
	t.rows = append(t.rows, v)
}

func (t *benchTable) head() {
	t.line(func(i int) string { return t.columns[i].title })
	t.line(func(i int) string { return t.columns[i].unit })
}

func (t *benchTable) line(cell func(i int) string) {
	var b strings.Builder
	for i, c := range t.columns {
		fmt.Fprintf(&b, "%*s", c.width, cell(i))
	}
	fmt.Fprintln(t.out, strings.TrimRight(b.String(), " "))
}

// end prints the JSON.
func (t *benchTable) end() error {
	t.wipe()
	if !t.json {
		return nil
	}
	for i, r := range t.rows {
		b, err := json.Marshal(r)
		if err != nil {
			return err
		}
		open := " "
		if i == 0 {
			open = "["
		}
		if _, err := fmt.Fprintf(t.out, "%s%s%s\n", open, b, map[bool]string{true: "]", false: ","}[i == len(t.rows)-1]); err != nil {
			return err
		}
	}
	return nil
}

// us is a time for people, in three digits.
func us(v float64) string { return strconv.FormatFloat(v, 'f', digits(v), 64) }

func digits(v float64) int {
	switch {
	case v < 10:
		return 2
	case v < 100:
		return 1
	}
	return 0
}
