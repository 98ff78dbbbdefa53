package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/covey-ml/covey/bench"
	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/compress"
	"github.com/covey-ml/covey/vec"
)

// benchCompress is one call of covey bench compress.
type benchCompress struct {
	benchOptions
	elements string
}

func benchCompressCommand() *cobra.Command {
	o := &benchCompress{}
	var names []string
	for _, n := range compress.Names() {
		names = append(names, fmt.Sprintf("  %-12s %s", n.Name, n.Help))
	}
	c := &cobra.Command{
		Use:   "compress [CHOICE...]",
		Short: "Time compressors",
		Long: `Time compressors on a vector with few large elements, as gradients have: coding, decoding, both one after the
other, and adding what a code says to a vector, in bytes of float32. The first row copies memory. Beside the times
stand the bits that an element takes, the error |x-C(x)|/|x|, and what the compressor claims: omega, by which
E|C(x)-x|^2 is at most omega |x|^2 where E C(x) = x, or delta, by which it is at most (1-delta) |x|^2. Claims are
checked first. Without a CHOICE all are timed:

` + strings.Join(names, "\n") + "\n" + exitHelp,
		Example: `  covey bench compress
  covey bench compress topk:0.01 topk:0.001,values=fp16 --elements 1048576,16777216 --json`,
		RunE: func(c *cobra.Command, args []string) error { return o.run(c, args) },
	}
	c.Flags().StringVar(&o.elements, "elements", "1048576", "lengths of the vector, with commas")
	o.addFlags(c)
	return c
}

// mostElements is what one vector of covey bench compress may have: four of them and a code take 5 GiB.
const mostElements = 1 << 28

func (o *benchCompress) run(c *cobra.Command, args []string) error {
	if err := o.check(); err != nil {
		return err
	}
	var lengths []int
	for w := range strings.SplitSeq(o.elements, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(w))
		if err != nil || n < 1 || n > mostElements {
			return usagef("--elements %s: expected numbers from 1 to %d with commas, such as 1048576", o.elements, mostElements)
		}
		lengths = append(lengths, n)
	}
	var codecs []compress.Compressor
	for _, a := range args {
		codec, err := bench.Codec(a)
		if err != nil {
			return usagef("%w", err)
		}
		codecs = append(codecs, codec)
	}
	if len(args) == 0 {
		all, err := bench.CodecChoices()
		if err != nil {
			return err
		}
		codecs = all
	}
	codecs = slices.Insert(codecs, 0, compress.Compressor(bench.Copy{}))
	vec.SetThreads(1)
	t := o.table(c, len(lengths)*len(codecs), benchColumn{"compressor", "", -27}, benchColumn{"elements", "", 11},
		benchColumn{"code", "bits each", 10}, benchColumn{"error", "of |x|", 9}, benchColumn{"claim", "", 17}, benchColumn{"encode", "GB/s", 8},
		benchColumn{"decode", "GB/s", 8}, benchColumn{"both", "GB/s", 8}, benchColumn{"add", "GB/s", 8}, benchColumn{"objects", "a call", 8})
	for _, n := range lengths {
		x := bench.Gradient(n)
		for _, codec := range codecs {
			if c.Context().Err() != nil {
				return c.Context().Err()
			}
			t.measuring("%v of %s", codec, count(n, "element"))
			r, err := bench.MeasureCodec(comm.RealClock(), codec, x, o.effort)
			if err != nil {
				t.wipe()
				return err
			}
			t.add(r, r.Compressor, thousands(n), us(r.Bits), fmt.Sprintf("%.3g", r.Error), claim(r), us(r.EncodeGBps), us(r.DecodeGBps),
				us(r.BothGBps), us(r.AddGBps), us(r.Allocs))
		}
	}
	return t.end()
}

// claim is what a compressor says about its error.
func claim(r bench.CodecRow) string {
	switch {
	case r.Omega != nil && *r.Omega > 0:
		return fmt.Sprintf("omega %.3g", *r.Omega)
	case r.Delta != nil && *r.Delta > 0.999 && *r.Delta < 1:
		return fmt.Sprintf("delta 1-%.1e", 1-*r.Delta)
	case r.Delta != nil:
		return fmt.Sprintf("delta %.3g", *r.Delta)
	}
	return "none"
}
