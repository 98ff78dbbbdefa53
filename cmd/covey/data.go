package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/covey-ml/covey/data"
	"github.com/covey-ml/covey/spec"
)

func dataCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "data",
		Short: "List, describe, check, make, get and divide data",
		Long: `What training data is, and whether it is sound. Data is a file (IDX as MNIST has it, LIBSVM or CSV, packed by gzip
or not), a folder with one data set, or digits, which Covey makes itself.` + "\n" + exitHelp,
		Example: `  covey data describe iris.csv
  covey data verify mnist/
  covey data make digits mydigits/ --train 60000
  covey data download mnist mnist/
  covey data partition mnist/ --clients 10 --partition dirichlet:0.1`,
		RunE: verb,
	}
	c.AddCommand(dataListCommand(), dataDescribeCommand(), dataVerifyCommand(), dataMakeCommand(), dataDownloadCommand(), dataPartitionCommand())
	return c
}

func dataListCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "list",
		Short: "List the data sets that Covey knows by name, and the formats that it reads",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if asJSON {
				return printJSON(c.OutOrStdout(), data.Sources())
			}
			return listSources(c.OutOrStdout())
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON array")
	return c
}

func listSources(out io.Writer) error {
	for _, s := range data.Sources() {
		w := newTable(out)
		w.row(s.Name, "%s", s.What)
		w.row("", "%s for training, %s to test; %s", thousands(s.Train), thousands(s.Test), s.Licence)
		if len(s.Mirrors) > 0 {
			size := int64(0)
			for _, f := range s.Files {
				size += f.Size
			}
			w.row("", "get it with: covey data download %s DIR (%s)", s.Name, bytes(size))
		} else {
			w.row("", "use it with: covey train --data %s", s.Name)
		}
		if err := w.flush(); err != nil {
			return err
		}
		fmt.Fprintln(out)
	}
	w := newTable(out)
	fmt.Fprintln(out, "formats, found by content and packed by gzip or not:")
	w.row("  idx", "images as MNIST's files have them; name the folder, or the file of images")
	w.row("  libsvm", "sparse samples, a line each: label index:value index:value ...")
	w.row("  csv", "a table, a sample a line, with or without column names; the target is the last column, or --target")
	return w.flush()
}

// openWhole reads data with the test set that stands beside it, and sets no samples apart.
func openWhole(c *cobra.Command, keys keyFlags, path string) (train, test data.Dataset, err error) {
	j, err := keys.readingJob(c, path)
	if err != nil {
		return nil, nil, err
	}
	if j.Test == "" {
		j.Test = "beside"
	}
	return j.Open(c.Context())
}

func dataVerifyCommand() *cobra.Command {
	var asJSON bool
	var keys keyFlags
	c := &cobra.Command{
		Use:   "verify PATH",
		Short: "Read every sample, and say where the data is not sound",
		Long: `Read all of a data set, with the test set that stands beside it, and check every value. Bad data is named by
file, line (or byte) and column, with exit code 3.` + "\n" + exitHelp,
		Args: exactly("the path of the data, as in covey data verify mnist/", 1),
		RunE: func(c *cobra.Command, args []string) error {
			j, err := keys.readingJob(c, args[0])
			if err != nil {
				return err
			}
			if j.Test == "" {
				j.Test = "beside"
			}
			v, err := data.Verify(c.Context(), args[0], j.Reading())
			if err != nil {
				return readError(err)
			}
			if asJSON {
				return printJSON(c.OutOrStdout(), v)
			}
			if err := v.Print(c.OutOrStdout()); err != nil {
				return err
			}
			_, err = fmt.Fprintln(c.OutOrStdout(), "sound: every sample was read")
			return err
		},
	}
	keys = addKeyFlags(c, readingKeys...)
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}

func dataMakeCommand() *cobra.Command {
	var train, test int
	var seed uint64
	c := &cobra.Command{
		Use:   "make digits DIR",
		Short: "Write images of handwritten-like digits, as the four files of MNIST",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 2 {
				return usagef("expected what to make and a folder, as in covey data make digits mydigits/")
			}
			if err := spec.OneOf("data to make", args[0], "digits"); err != nil {
				return &usageError{err}
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			return makeDigits(c.Context(), c.OutOrStdout(), args[1], train, test, seed)
		},
	}
	c.Flags().IntVar(&train, "train", 12000, "training images")
	c.Flags().IntVar(&test, "test", 2000, "test images; 0: no test set")
	c.Flags().Uint64Var(&seed, "seed", 1, "seed: other seeds give other images")
	return c
}

func makeDigits(ctx context.Context, out io.Writer, dir string, train, test int, seed uint64) error {
	if there, _ := filepath.Glob(filepath.Join(dir, "*-ubyte*")); len(there) > 0 {
		return usagef("%s holds %s already: name another folder", dir, filepath.Base(there[0]))
	}
	tr, te, err := data.Open(ctx, fmt.Sprintf("digits:train=%d,test=%d,seed=%d", train, test, seed), data.Options{})
	if err != nil {
		return readError(err)
	}
	paths, err := data.WriteIDX(dir, tr, te)
	if err != nil {
		return err
	}
	w := newTable(out)
	for _, p := range paths {
		st, err := os.Stat(p)
		if err != nil {
			return err
		}
		w.row(p, "%s", bytes(st.Size()))
	}
	if err := w.flush(); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "use them with: covey train --data %s\n", dir)
	return err
}

func dataPartitionCommand() *cobra.Command {
	var clients int
	var how string
	var keys keyFlags
	c := &cobra.Command{
		Use:   "partition PATH",
		Short: "Show how a partition divides the training samples among clients",
		Long: `Divide the training samples among clients and print how many of each class every client gets. Partitions:
  iid           a random equal part each
  contiguous    an equal run each, in the order of the data
  label:K       samples of only K classes each
  dirichlet:A   classes in proportions of its own each; A near 0: one class, A large: those of the data
  size:A        random parts whose sizes follow the power law 1, 2^-A, 3^-A, ...
  sizes:N,N,... random parts of these sizes` + "\n" + exitHelp,
		Args: exactly("the path of the data, as in covey data partition mnist/ --clients 10", 1),
		RunE: func(c *cobra.Command, args []string) error {
			j, err := keys.readingJob(c, args[0])
			if err != nil {
				return err
			}
			tr, test, err := j.Open(c.Context())
			if err != nil {
				return err
			}
			parts, err := data.Partition(tr, clients, how, j.Seed)
			if err != nil {
				return readError(err)
			}
			return printPartition(c.OutOrStdout(), tr, test, parts, how, j.Seed)
		},
	}
	c.Flags().IntVar(&clients, "clients", 10, "clients")
	c.Flags().StringVar(&how, "partition", "iid", "how to divide: "+strings.Join(data.Partitions, ", "))
	keys = addKeyFlags(c, readingKeys...)
	return c
}

func printPartition(out io.Writer, tr, test data.Dataset, parts [][]int, how string, seed uint64) error {
	fmt.Fprintf(out, "%s: %s for training", tr.Info().Name, count(tr.Len(), "sample"))
	if test != nil {
		fmt.Fprintf(out, " (and %s to test, which nobody owns)", thousands(test.Len()))
	}
	fmt.Fprintf(out, ", divided among %s by %s with seed %d\n\n", count(len(parts), "client"), how, seed)
	if err := data.Table(out, tr, parts); err != nil {
		return err
	}
	if tr.Info().Task != data.Classification {
		return nil
	}
	// How far the clients are from the data as a whole: half the sum of the differences between their class
	// proportions, 0 for the same and 1 for no class in common.
	classes := tr.Info().Classes
	all := make([]float64, classes)
	for i := range tr.Len() {
		all[tr.Label(i)] += 1 / float64(tr.Len())
	}
	mean := 0.0
	for _, ids := range parts {
		own := make([]float64, classes)
		for _, i := range ids {
			own[tr.Label(i)] += 1 / float64(len(ids))
		}
		d := 0.0
		for k := range own {
			d += max(own[k]-all[k], 0)
		}
		mean += d / float64(len(parts))
	}
	_, err := fmt.Fprintf(out, "\nskew %.3f: mean distance of a client's classes from those of all (0: the same, 1: nothing in common)\n", mean)
	return err
}

// featureTable lists the columns of a table and what is in them.
func featureTable(out io.Writer, features []featureView, all bool) error {
	if len(features) == 0 {
		return nil
	}
	shown := features
	if !all {
		shown = shown[:min(len(shown), featuresShown)]
	}
	fmt.Fprintln(out)
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprint(w, "feature\tmin\tmean\tmax\n")
	for _, f := range shown {
		if f.Texts != nil {
			fmt.Fprintf(w, "%s\t%s: %s\n", f.Name, count(len(f.Texts), "text"), brief(f.Texts))
			continue
		}
		fmt.Fprintf(w, "%s\t%.6g\t%.6g\t%.6g\n", f.Name, *f.Min, *f.Mean, *f.Max)
	}
	if n := len(features) - len(shown); n > 0 {
		fmt.Fprintf(w, "and %s more (--all shows them)\n", thousands(n))
	}
	return w.Flush()
}

// brief lists the first few of many.
func brief(texts []string) string {
	const most = 8
	s := strings.Join(texts[:min(len(texts), most)], ", ")
	if len(texts) > most {
		s += fmt.Sprintf(" and %s more", thousands(len(texts)-most))
	}
	return s
}
