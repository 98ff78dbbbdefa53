package main

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/covey-ml/covey/pki"
)

func caCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "ca",
		Short: "Make the certificates by which workers on several hosts know each other",
		Long: `Workers beyond loopback talk TLS 1.3 and both sides show certificates of one cluster CA.

  covey ca init certs/                      once, on a machine that you trust
  covey ca issue certs/ node1 10.0.0.1      for each host: its name and its addresses
  covey train --tls certs/ --node node1 --listen 10.0.0.1:7000 --workers 2 --join 1
  covey join 10.0.0.1:7000 --tls certs/     on the other host, which has ca.pem, node2.pem and node2-key.pem

ca-key.pem stays where it was made: who has it can make workers.`,
		RunE: verb,
	}
	c.AddCommand(&cobra.Command{
		Use:   "init DIR",
		Short: "Make a new cluster CA",
		Args:  exactly("the folder to make it in", 1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := pki.Init(args[0], time.Now()); err != nil {
				return &usageError{err}
			}
			fmt.Fprintf(c.OutOrStdout(), "made %s; make a certificate for each host with: covey ca issue %s NAME ADDRESS...\n",
				filepath.Join(args[0], "ca.pem"), args[0])
			return nil
		},
	}, &cobra.Command{
		Use:   "issue DIR NAME ADDRESS...",
		Short: "Make a certificate for one host",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) < 3 {
				return usagef("expected the CA's folder, a name and the host's addresses, as in covey ca issue certs/ node1 10.0.0.1")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			if err := pki.Issue(args[0], args[1], time.Now(), args[2:]...); err != nil {
				return &usageError{err}
			}
			cert := filepath.Join(args[0], args[1])
			fmt.Fprintf(c.OutOrStdout(), "made %s.pem and %s-key.pem; copy them and %s to the host\n", cert, cert, filepath.Join(args[0], "ca.pem"))
			return nil
		},
	})
	return c
}

// exactly asks for n arguments and says what they are.
func exactly(what string, n int) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) != n {
			return usagef("expected %s", what)
		}
		return nil
	}
}
