package main

import (
	"slices"

	"github.com/spf13/cobra"

	"github.com/covey-ml/covey/job"
)

// readingKeys are the keys of a job that say how data is read.
var readingKeys = []string{"test", "split", "format", "task", "target", "target_file", "drop", "header", "delimiter",
	"missing", "standardize", "seed"}

// keyFlags are keys of a job that a command takes as flags: job.Keys is the one place that defines them.
type keyFlags map[string]*string

func addKeyFlags(c *cobra.Command, names ...string) keyFlags {
	keys := keyFlags{}
	for _, k := range job.Keys() {
		if !slices.Contains(names, k.Name) {
			continue
		}
		keys[k.Name] = c.Flags().String(k.Flag(), "", k.Help+defaultHelp(k.Default))
		if k.Name == "standardize" {
			c.Flags().Lookup(k.Flag()).NoOptDefVal = "true"
		}
	}
	return keys
}

// set gives j the keys that were given as flags.
func (keys keyFlags) set(c *cobra.Command, j *job.Job) error {
	for _, k := range job.Keys() {
		v, ok := keys[k.Name]
		if !ok || !c.Flags().Changed(k.Flag()) {
			continue
		}
		if err := j.Set(k.Name, *v, "--"+k.Flag()); err != nil {
			return err
		}
	}
	return nil
}

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
