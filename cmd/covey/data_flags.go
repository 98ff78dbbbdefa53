package main

import (
	"slices"

	"github.com/spf13/cobra"

	"github.com/covey-ml/covey/job"
)

// readingKeys are the keys of a job that say how data is read.
var readingKeys = []string{"test", "split", "format", "task", "target", "target_file", "drop", "text",
	"header", "delimiter", "missing", "hash", "numbers", "classes", "zero_based", "standardize", "seed"}

// readingJob is a job of data alone: path, and how the flags say to read it.
func (keys keyFlags) readingJob(c *cobra.Command, path string) (*job.Job, error) {
	j := &job.Job{}
	for _, k := range job.Keys() {
		if slices.Contains(readingKeys, k.Name) && k.Default != "" {
			if err := j.Set(k.Name, k.Default, "the default of "+k.Name); err != nil {
				return nil, err
			}
		}
	}
	if err := j.Set("data", path, ""); err != nil {
		return nil, err
	}
	return j, keys.set(c, j)
}
