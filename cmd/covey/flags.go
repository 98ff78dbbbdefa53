package main

import (
	"errors"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/covey-ml/covey/job"
	"github.com/covey-ml/covey/spec"
)

// keyFlags are keys of a job that a command takes as flags: job.Keys is the one place that defines them.
type keyFlags map[string]*keyValue

// keyValue is the text given for one key; job.Set reads it later, so that flags and files have the same errors.
type keyValue struct{ text, kind string }

func (v *keyValue) String() string        { return v.text }
func (v *keyValue) Set(text string) error { v.text = text; return nil }
func (v *keyValue) Type() string          { return v.kind }

// addKeyFlags gives c flags for the named keys, or for all.
func addKeyFlags(c *cobra.Command, names ...string) keyFlags {
	keys := keyFlags{}
	for _, k := range job.Keys() {
		if len(names) > 0 && !slices.Contains(names, k.Name) {
			continue
		}
		help := k.Help
		if k.Default != "" {
			help += " (default " + k.Default + ")"
		}
		v := &keyValue{kind: k.Kind}
		c.Flags().Var(v, k.Flag(), help)
		if k.Kind == "yes/no" {
			c.Flags().Lookup(k.Flag()).NoOptDefVal = "true"
		}
		keys[k.Name] = v
	}
	return keys
}

// set gives j the keys that were given as flags.
func (keys keyFlags) set(c *cobra.Command, j *job.Job) error {
	for _, name := range keys.given(c) {
		if err := j.Set(name, keys[name].text, "--"+job.Key{Name: name}.Flag()); err != nil {
			return err
		}
	}
	return nil
}

// given lists the keys that were given as flags, in the order of the job file.
func (keys keyFlags) given(c *cobra.Command) []string {
	var names []string
	for _, k := range job.Keys() {
		if _, ok := keys[k.Name]; ok && c.Flags().Changed(k.Flag()) {
			names = append(names, k.Name)
		}
	}
	return names
}

// verb is the RunE of a command that has verbs and does nothing itself: help, or the verb that was meant.
func verb(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return c.Help()
	}
	var names []string
	for _, s := range c.Commands() {
		if s.Hidden {
			continue
		}
		names = append(names, s.Name())
	}
	return &usageError{spec.OneOf("command of "+c.CommandPath(), args[0], names...)}
}

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

// oneJob takes a job file, or none.
func oneJob(_ *cobra.Command, args []string) error {
	if len(args) > 1 {
		return usagef("expected one job file, got %s", strings.Join(args, " "))
	}
	return nil
}

// readJob puts file and flags together.
func readJob(c *cobra.Command, keys keyFlags, args []string) (j *job.Job, err error) {
	j = &job.Job{}
	if len(args) > 0 {
		if j, err = job.Load(args[0]); err != nil {
			return nil, err
		}
	}
	return j, keys.set(c, j)
}
