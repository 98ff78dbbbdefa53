package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/covey-ml/covey/cluster/spot"
	"github.com/covey-ml/covey/worker"
)

// spotFlag says who knows when a worker's host is about to be taken.
type spotFlag struct{ text string }

func (o *spotFlag) addFlags(c *cobra.Command) {
	c.Flags().StringVar(&o.text, "spot", os.Getenv(worker.EnvSpot), "who says when a worker's host is about to be taken, so that it leaves before, as if told to end: aws, gcp, azure, a URL, or a file that is there then, as in ./taken (default: $"+worker.EnvSpot+", or nobody)")
	c.Flags().Lookup("spot").DefValue = ""
}

// source is who it is, nil when it is nobody.
func (o *spotFlag) source() (*spot.Source, error) {
	s, err := spot.Parse(o.text)
	if err != nil {
		return nil, &usageError{fmt.Errorf("--spot: %w", err)}
	}
	return s, nil
}

// args are the flags by which a worker that this process starts asks the same.
func (o *spotFlag) args() []string {
	if o.text == "" {
		return nil
	}
	return []string{"--spot", o.text}
}
