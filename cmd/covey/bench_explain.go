package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/covey-ml/covey/bench"
	"github.com/covey-ml/covey/comm"
)

// explanation is how the all-reduce of one size is chosen.
type explanation struct {
	comm.Explanation
	// Measured is what messages and additions cost here and now. The choice does not depend on it, since all workers
	// must make the same; with it, MeasuredChoice would be made.
	Measured       comm.Costs `json:"measured"`
	MeasuredChoice string     `json:"measured_chosen"`
	Text           string     `json:"text,omitempty"`
}

// explain measures this group's costs and explains the choice for each size.
func explain(ctx context.Context, g comm.Group, sizes []int, tell func(any)) error {
	measured, err := comm.MeasureCosts(ctx, g)
	if err != nil {
		return err
	}
	tree := comm.NewTree(g.Size(), g.Size())
	for _, n := range sizes {
		e := comm.Explain(comm.CostsOf(g), tree, n)
		tell(explanation{Explanation: e, Measured: measured, MeasuredChoice: comm.Choose(measured, tree, n).String(), Text: e.String()})
	}
	return nil
}

func (o *benchCollective) explained(c *cobra.Command, groups []int, what bench.Collective) error {
	t := o.table(c, len(groups)*len(what.Sizes))
	for _, n := range groups {
		var last explanation
		err := o.launch(c, n, benchTask{Collective: &what, Explain: true}, func(m json.RawMessage) {
			var e explanation
			if json.Unmarshal(m, &e) != nil {
				return
			}
			text := e.Text
			e.Text = ""
			t.rows = append(t.rows, e)
			if !o.json {
				fmt.Fprintf(t.out, "%s\n\n", strings.TrimRight(text, "\n"))
			}
			last = e
		})
		if err != nil {
			return err
		}
		if !o.json {
			fmt.Fprintf(t.out, "measured here, with %s over %s:\n%v\n", count(n, "worker"), o.transport, last.Measured)
			for _, r := range t.rows {
				if e := r.(explanation); e.Ranks == n && e.MeasuredChoice != e.Chosen {
					fmt.Fprintf(t.out, "which would choose %s for %s\n", e.MeasuredChoice, bytes(int64(e.Bytes)))
				}
			}
			fmt.Fprintln(t.out)
		}
	}
	return t.end()
}
