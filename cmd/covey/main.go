// Command covey trains one model on many workers. See covey --help.
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"time"

	"github.com/spf13/cobra"

	"github.com/covey-ml/covey/cluster"
	"github.com/covey-ml/covey/data"
	"github.com/covey-ml/covey/job"
	"github.com/covey-ml/covey/pki"
	"github.com/covey-ml/covey/worker"
)

// The exit codes, as every help text lists them.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitData        = 3
	exitLost        = 4
	exitInterrupted = 130
)

const exitHelp = `
Exit codes: 0 done, 1 failed (such as a loss that is no number), 2 bad usage or job, 3 bad data,
4 a worker was lost and the run could not go on, 130 interrupted with a checkpoint saved.`

// ballast is memory that nobody touches. The collector looks at the heap each time that it has doubled, which while data comes in is
// all the time; this costs nothing, and lets the first 128 MiB go by.
var ballast []byte

func main() {
	ballast = make([]byte, 64<<20)
	os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// serverOf starts a server in this process, which then has no data come in: strangers who knock should not leave so much garbage.
func serverOf(c cluster.ServerConfig) (*cluster.Server, error) {
	ballast = nil
	runtime.GC()
	return cluster.Serve(c)
}

// run is the whole program: it returns the exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := &cobra.Command{
		Use:   "covey",
		Short: "Train one model on many workers, with the same bits everywhere",
		Long: `Covey trains one model on many workers: goroutines, processes of one machine, or processes of
many machines. With the same job and microshards they compute the same bits.

  covey train                     a first run: digits that it makes itself, two worker processes
  covey train --data DIR --json   your data; the result as JSON
  covey predict RUN --data FILE   use what a run has learned` + "\n" + exitHelp,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.ArbitraryArgs,
		RunE:          verb,
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(trainCommand(), simCommand(), joinCommand(), launchCommand(), serveCommand(), scaleCommand(), predictCommand(), inspectCommand(), dataCommand(), benchCommand(), costCommand(), probeCommand(), k8sCommand(), caCommand(), topCommand(), versionCommand())
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error { return flagError(c, err) })
	c, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitDone
	}
	var said *saidError
	if !errors.As(err, &said) {
		fmt.Fprintf(stderr, "%s: %v\n", c.CommandPath(), err)
	}
	return exitCode(err)
}

// usageError is a command line that cannot be carried out.
type usageError struct{ error }

func (e *usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

// saidError is an error that the user has been told already.
type saidError struct {
	error
	code int
}

func (e *saidError) Unwrap() error { return e.error }

func exitCode(err error) int {
	var (
		said  *saidError
		coded *codedError
		input *data.Error
		usage *usageError
		bad   *job.Error
	)
	switch {
	case errors.As(err, &coded):
		return coded.code
	case errors.As(err, &said):
		return said.code
	case errors.As(err, &input): // also where it comes as bad usage
		return exitData
	case errors.As(err, &usage), errors.As(err, &bad):
		return exitUsage
	}
	return worker.ExitCode(err)
}

// credentials are the flags by which a process shows who it is.
type credentials struct{ dir, node string }

func (k *credentials) addFlags(c *cobra.Command) {
	c.Flags().StringVar(&k.dir, "tls", "", "folder with this host's certificates, made with covey ca")
	c.Flags().StringVar(&k.node, "node", "", "name of this host's certificate in that folder (default: the only one there)")
}

// load returns nil without certificates.
func (k *credentials) load() (*tls.Config, error) {
	if k.dir == "" {
		return nil, nil
	}
	c, err := pki.Load(k.dir, k.node, time.Now())
	if err != nil {
		return nil, &usageError{err}
	}
	return c, nil
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version and what this build computes with",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			printVersion(c.OutOrStdout())
			return nil
		},
	}
}
