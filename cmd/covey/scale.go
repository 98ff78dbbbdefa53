package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/covey-ml/covey/cluster"
	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/job"
)

func scaleCommand() *cobra.Command {
	var r reach
	c := &cobra.Command{
		Use:   "scale RUN WORKERS",
		Short: "Change how many workers a run has while it runs",
		Long: `Say how many workers the run of a folder should have from now on. Its launcher starts those that are
missing on its host; of too many, the last leave after a step. The run must have been started with
--min-workers or --max-workers.` + "\n" + exitHelp,
		Example: "  covey scale runs/mnist-mlp-1 6",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 2 {
				return usagef("expected a run folder and how many workers it should have, as in covey scale runs/mnist-mlp-1 6")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			n, err := strconv.Atoi(args[1])
			if err != nil {
				return usagef("%q is not a number of workers", args[1])
			}
			return r.scale(c, args[0], n)
		},
	}
	r.addFlags(c)
	c.Flags().MarkHidden("nats") // the folder says where
	return c
}

func (r *reach) scale(c *cobra.Command, folder string, n int) error {
	coord, run, end, err := r.attend(c.Context(), folder, func(cluster.News) {})
	if err != nil {
		return err
	}
	defer end()
	servers := 0
	if j, err := job.Parse(jobFile, run.Job); err == nil { // it may be a program's own run
		servers = j.Servers()
	}
	if least, most := run.Limits.Min-servers, run.Limits.Max-servers; n < least || n > most {
		return usagef("%s takes %d to %d workers, not %d", folder, least, most, n)
	}
	before := coord.Want() - servers
	if err := coord.Scale(c.Context(), n+servers); err != nil {
		return err
	}
	fmt.Fprintf(c.OutOrStdout(), "%s: %d workers are wanted, %d were\n", folder, n, before)
	return nil
}

// attend reaches the run of a folder while it runs.
func (r *reach) attend(ctx context.Context, folder string, hear func(cluster.News)) (coord *cluster.Coordinator, run *cluster.Run, end func(), err error) {
	at, err := loadMeeting(folder)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil, nil, usagef("%s is not the folder of a run that is under way and was started with --min-workers or --max-workers", folder)
	}
	if err != nil {
		return nil, nil, nil, err
	}
	a, err := r.access(at.Servers, at.Token)
	if err != nil {
		return nil, nil, nil, err
	}
	clock := comm.RealClock()
	ctx, cancel := clock.WithTimeout(ctx, lookFor)
	defer cancel()
	store, err := cluster.Open(ctx, a, at.Run, clock)
	if err != nil {
		return nil, nil, nil, &usageError{err}
	}
	if coord, err = cluster.Coordinate(context.WithoutCancel(ctx), store, clock, hear); err != nil {
		store.Close()
		return nil, nil, nil, err
	}
	end = func() {
		coord.Close()
		store.Close()
	}
	if run, err = coord.Run(ctx); err != nil {
		end()
		return nil, nil, nil, &usageError{fmt.Errorf("%s: %w", folder, err)}
	}
	return coord, run, end, nil
}
