package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/covey-ml/covey/cluster"
	"github.com/covey-ml/covey/worker"
)

// serveOptions is one call of covey serve.
type serveOptions struct {
	listen string
	dir    string
	name   string
	route  string
	peers  []string
	creds  credentials
}

func serveCommand() *cobra.Command {
	o := &serveOptions{}
	c := &cobra.Command{
		Use:   "serve",
		Short: "Keep the membership of runs, apart from any run",
		Long: `Run a NATS server that runs are kept on. covey train has one inside itself and needs no other; one apart
from it outlives the launcher, and three of them outlive each other: while two of three are there, workers
that are lost are replaced. Beyond loopback everybody who comes shows a certificate of the cluster's CA (see
covey ca); on loopback whoever comes holds the token, and so do the servers of a cluster among themselves:
it is $` + cluster.EnvToken + `, or drawn.

The servers of a cluster have each a name, a folder to keep what they know, and an address for each other:

  covey serve --name a --listen 10.0.0.1:4222 --route 10.0.0.1:6222 --peers 10.0.0.2:6222,10.0.0.3:6222 --tls certs/ --dir kept/
  covey train job.yaml --nats 10.0.0.1:4222,10.0.0.2:4222,10.0.0.3:4222 --tls certs/ --min-workers 2

It ends when it is interrupted or terminated. Any NATS server with JetStream will do instead.` + "\n" + exitHelp,
		Example: `  covey serve
  covey serve --listen 10.0.0.1:4222 --tls certs/ --dir kept/`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return o.run(c) },
	}
	c.Flags().SortFlags = false
	c.Flags().StringVar(&o.listen, "listen", "127.0.0.1:4222", "address at which runs reach it; port 0 is any free one")
	c.Flags().StringVar(&o.dir, "dir", "", "folder in which it keeps what it knows (default: forgotten at its end)")
	c.Flags().StringVar(&o.name, "name", "", "its name in a cluster of servers")
	c.Flags().StringVar(&o.route, "route", "", "address at which the cluster's other servers reach it")
	c.Flags().StringSliceVar(&o.peers, "peers", nil, "those servers' --route addresses")
	o.creds.addFlags(c)
	return c
}

func (o *serveOptions) run(c *cobra.Command) error {
	creds, err := o.creds.load()
	if err != nil {
		return err
	}
	token := os.Getenv(cluster.EnvToken)
	clustered := o.name != "" || o.route != "" || len(o.peers) > 0
	switch {
	case clustered && (o.name == "" || o.route == "" || len(o.peers) == 0 || o.dir == ""):
		return usagef("a server of a cluster needs all of --name, --route, --peers and --dir")
	case clustered && creds == nil && token == "":
		return usagef("servers of a cluster on loopback share a token: draw one and give it to each in %s", cluster.EnvToken)
	case token == "" && creds == nil:
		token = cluster.NewToken()
	}
	end := make(chan struct{}, 1)
	defer worker.OnSignals(func(bool) {
		select {
		case end <- struct{}{}:
		default:
		}
	})()
	s, err := serverOf(cluster.ServerConfig{Listen: o.listen, Token: token, TLS: creds, Dir: o.dir, Name: o.name, Route: o.route, Peers: o.peers,
		Warn: func(text string) { fmt.Fprintln(c.ErrOrStderr(), text) }})
	if err != nil {
		return &usageError{err}
	}
	defer s.Close()
	fmt.Fprintf(c.OutOrStdout(), "serving at %s\nuse it with: %s\n", s.Addr(), o.how(s.Addr(), token))
	select {
	case <-end:
	case <-c.Context().Done():
	}
	return nil
}

// how is what a user types to train with this server.
func (o *serveOptions) how(addr, token string) string {
	var b strings.Builder
	if token != "" {
		fmt.Fprintf(&b, "%s=%s ", cluster.EnvToken, token)
	}
	if len(o.peers) > 0 {
		addr += "," + strings.TrimSuffix(strings.Repeat("HOST:PORT,", len(o.peers)), ",")
	}
	fmt.Fprintf(&b, "covey train --nats %s", addr)
	if o.creds.dir != "" {
		fmt.Fprintf(&b, " --tls %s", o.creds.dir)
		if o.creds.node != "" {
			fmt.Fprintf(&b, " --node %s", o.creds.node)
		}
	}
	return b.String()
}
