package main

import (
	"context"
	"fmt"
	"math"

	"github.com/spf13/cobra"

	"github.com/covey-ml/covey/data"
)

// described is what describe shows.
type described struct {
	Train    *data.Description `json:"train"`
	Test     *data.Description `json:"test,omitempty"`
	Features []featureView     `json:"features,omitempty"` // tables: of the training samples
}

// featureView is one column of a table: numbers, or texts.
type featureView struct {
	Name  string   `json:"name"`
	Min   *float64 `json:"min,omitempty"`
	Mean  *float64 `json:"mean,omitempty"`
	Max   *float64 `json:"max,omitempty"`
	Texts []string `json:"texts,omitempty"`
}

// featuresShown is how many columns are listed for people.
const featuresShown = 40

func dataDescribeCommand() *cobra.Command {
	var asJSON, all bool
	var keys keyFlags
	c := &cobra.Command{
		Use:   "describe PATH",
		Short: "Show what a data set holds: samples, classes, features and their ranges",
		Args:  exactly("the path of the data, as in covey data describe iris.csv", 1),
		RunE: func(c *cobra.Command, args []string) error {
			tr, test, err := openWhole(c, keys, args[0])
			if err != nil {
				return err
			}
			var d described
			if d.Train, err = data.Describe(c.Context(), tr); err != nil {
				return err
			}
			if test != nil {
				if d.Test, err = data.Describe(c.Context(), test); err != nil {
					return err
				}
			}
			if d.Features, err = describeFeatures(c.Context(), tr); err != nil {
				return err
			}
			out := c.OutOrStdout()
			if asJSON {
				return printJSON(out, d)
			}
			fmt.Fprintf(out, "training: %s", d.Train)
			if d.Test != nil {
				fmt.Fprintf(out, "test: %s", d.Test)
			} else {
				fmt.Fprintln(out, "no test set stands beside it: covey train sets one sample in ten apart (--split, --test)")
			}
			return featureTable(out, d.Features, all)
		},
	}
	keys = addKeyFlags(c, readingKeys...)
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	c.Flags().BoolVar(&all, "all", false, fmt.Sprintf("list all features, not only the first %d", featuresShown))
	return c
}

// describeFeatures finds the range of each column of a dense table; none for images and sparse samples.
func describeFeatures(ctx context.Context, ds data.Dataset) ([]featureView, error) {
	s := data.SchemaOf(ds)
	if s == nil || len(s.Features) == 0 || s.Sparse {
		return nil, nil
	}
	out := make([]featureView, len(s.Features))
	low, high, sum := make([]float64, s.Dim), make([]float64, s.Dim), make([]float64, s.Dim)
	for j := range low {
		low[j], high[j] = math.Inf(1), math.Inf(-1)
	}
	var b data.Batch
	ids := make([]int, 0, predictBlock)
	for at := 0; at < ds.Len(); at += predictBlock {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		ids = ids[:0]
		for i := at; i < min(at+predictBlock, ds.Len()); i++ {
			ids = append(ids, i)
		}
		ds.Gather(&b, ids)
		for i, v := range b.X {
			j, x := i%s.Dim, float64(v)
			low[j], high[j] = min(low[j], x), max(high[j], x)
			sum[j] += x
		}
	}
	off := 0
	for k, f := range s.Features {
		out[k] = featureView{Name: f.Name, Texts: f.Texts}
		if f.Texts == nil {
			mean := sum[off] / float64(ds.Len())
			out[k].Min, out[k].Mean, out[k].Max = &low[off], &mean, &high[off]
		}
		off += max(len(f.Texts), 1)
	}
	return out, nil
}
