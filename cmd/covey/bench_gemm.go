package main

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/covey-ml/covey/bench"
	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/spec"
	"github.com/covey-ml/covey/vec"
)

// benchProduct is one call of covey bench gemm.
type benchProduct struct {
	benchOptions
	shapes, forms string
	threads       int
}

func benchProductCommand() *cobra.Command {
	o := &benchProduct{}
	c := &cobra.Command{
		Use:   "gemm",
		Short: "Time matrix products",
		Long: `Time products of float32 matrices. A shape MxKxN is an M by K matrix times a K by N matrix, one number a
square. A form says how the two are stored: n as they stand, t transposed. Training uses nt going forward, nn for
the gradients of inputs, tn for those of weights.` + "\n" + exitHelp,
		Example: `  covey bench gemm
  covey bench gemm --shapes 128x784x128,256x784x128,128x128x10 --form nn,nt,tn --json`,
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error { return o.run(c) },
	}
	c.Flags().StringVar(&o.shapes, "shapes", "256,512,1024,128x784x128,256x784x128,128x128x10", "shapes with commas")
	c.Flags().StringVar(&o.forms, "form", strings.Join(bench.Forms, ","), "forms with commas")
	c.Flags().IntVar(&o.threads, "threads", 1, "threads to compute with")
	o.addFlags(c)
	return c
}

func (o *benchProduct) run(c *cobra.Command) error {
	if err := o.check(); err != nil {
		return err
	}
	if o.threads < 1 || o.threads > 1024 {
		return usagef("--threads %d: choose 1 to 1024", o.threads)
	}
	what := bench.Product{Effort: o.effort}
	for w := range strings.SplitSeq(o.shapes, ",") {
		s, err := bench.ParseShape(strings.TrimSpace(w))
		if err != nil {
			return usagef("--shapes: %w", err)
		}
		what.Shapes = append(what.Shapes, s)
	}
	for w := range strings.SplitSeq(o.forms, ",") {
		if err := spec.OneOf("form", w, bench.Forms...); err != nil {
			return usagef("--form: %w", err)
		}
		what.Forms = append(what.Forms, w)
	}
	vec.SetThreads(o.threads)
	t := o.table(c, len(what.Shapes)*len(what.Forms), benchColumn{"shape", "", 16}, benchColumn{"form", "", 6},
		benchColumn{"time", "us", 10}, benchColumn{"fastest", "us", 10}, benchColumn{"slowest", "us", 10},
		benchColumn{"speed", "GFLOP/s", 9}, benchColumn{"objects", "a call", 9})
	for _, s := range what.Shapes {
		for _, f := range what.Forms {
			if c.Context().Err() != nil {
				return c.Context().Err()
			}
			t.measuring("%v %s", s, f)
			one := bench.Product{Shapes: []bench.Shape{s}, Forms: []string{f}, Effort: what.Effort}
			rows, err := one.Run(comm.RealClock(), nil)
			if err != nil {
				t.wipe()
				return err
			}
			r := rows[0]
			t.add(r, s.String(), f, us(r.Us), us(r.Min), us(r.Max), us(r.GFLOPS), us(r.Allocs))
		}
	}
	return t.end()
}
