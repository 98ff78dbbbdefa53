package main

import (
	"errors"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/covey-ml/covey/spec"
)

// flagError names the nearest valid flag.
func flagError(c *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) {
		return &usageError{err}
	}
	var names []string
	c.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			names = append(names, "--"+f.Name)
		}
	})
	word := "--" + strings.TrimLeft(unknown.GetSpecifiedName(), "-")
	if near := spec.Nearest(word, names); near != "" {
		return usagef("unknown flag %s: did you mean %s? (%s --help lists them)", word, near, c.CommandPath())
	}
	return usagef("unknown flag %s (%s --help lists them)", word, c.CommandPath())
}
