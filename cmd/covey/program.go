package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/covey-ml/covey/cluster"
	"github.com/covey-ml/covey/cluster/hosts"
	"github.com/covey-ml/covey/comm/shm"
	"github.com/covey-ml/covey/job"
	"github.com/covey-ml/covey/spec"
	"github.com/covey-ml/covey/worker"
)

// programOptions is one call of covey launch.
type programOptions struct {
	workers   int
	join      int // of the workers, how many somebody starts elsewhere
	timeout   time.Duration
	transport string
	listen    string
	hosts     string
	ssh       []string
	chdir     string
	quiet     bool
	reach     reach
	spot      spotFlag
	elasticity

	args    []string
	places  []hosts.Host // of the workers; none: they run here
	outputs *outputs
}

func launchCommand() *cobra.Command {
	o := &programOptions{}
	c := &cobra.Command{
		Use:   "launch [-n WORKERS] [--hosts FILE] -- PROGRAM [ARGS...]",
		Short: "Run a program of yours that trains with covey's library, as so many workers",
		Long: `Start a program as workers that train together: as processes of this host or, with --hosts, over ssh on
others. The program is one that calls worker.Run. What its rank 0 prints is printed; what the others print
goes to standard error, behind the number that they were started as.

A file of hosts has a line each, as in
  node1 slots=4
  alice@node2 slots=2 port=2222
Beyond loopback the workers show each other certificates (see covey ca), which --tls names on every host. Who
is at a host is as ssh's own configuration says; nothing is asked. The workers' token goes over the
connection and stands on no command line, and when the connection ends so does the worker.` + "\n" + exitHelp,
		Example: `  covey launch -n 4 -- ./my-trainer --epochs 3
  covey launch -n 4 --min-workers 2 --restarts 3 -- ./my-trainer
  covey launch --hosts hosts --listen 10.0.0.1:7000 --tls certs/ -- /opt/my-trainer`,
		RunE: func(c *cobra.Command, args []string) error { return o.run(c, args) },
	}
	f := c.Flags()
	f.SortFlags = false
	f.SetInterspersed(false)
	f.IntVarP(&o.workers, "workers", "n", 0, "workers (default: as many as --hosts has slots, or 2)")
	f.IntVar(&o.join, "join", 0, "of the workers, how many somebody starts elsewhere, as it says then")
	o.elasticity.addFlags(c)
	f.DurationVar(&o.timeout, "timeout", time.Minute, "how long a worker that takes no part in a new generation is waited for")
	f.StringVar(&o.transport, "transport", "", "shm or tcp (default: shm where all workers are here and stay)")
	f.StringVar(&o.hosts, "hosts", "", "file of hosts to start workers on, over ssh")
	f.StringArrayVar(&o.ssh, "ssh-option", nil, "one more argument for ssh, as in -oPort=2222; may be given again")
	f.StringVar(&o.chdir, "chdir", "", "folder to run the program in (default: this one, or over ssh the home folder)")
	f.StringVar(&o.listen, "listen", "127.0.0.1:0", "address at which the workers reach this launcher")
	f.BoolVar(&o.quiet, "quiet", false, "no progress, and nothing of what workers but rank 0 print")
	o.reach.addFlags(c)
	o.spot.addFlags(c)
	return c
}

// check completes the options.
func (o *programOptions) check(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return usagef("expected a program, as in covey launch -n 4 -- ./my-trainer")
	}
	o.args = args
	if _, err := o.spot.source(); err != nil { // before workers find out
		return err
	}
	given := c.Flags().Changed
	slots := 2
	var all []hosts.Host
	if o.hosts != "" {
		var err error
		if all, err = hosts.Load(o.hosts); err != nil {
			return &usageError{err}
		}
		slots = 0
		for _, h := range all {
			slots += h.Slots
		}
	}
	if !given("workers") {
		o.workers = slots
	}
	switch {
	case o.workers < 1:
		return usagef("-n %d: expected one worker or more", o.workers)
	case o.join < 0 || o.join >= o.workers:
		return usagef("--join %d of %d workers: at least one is started by this command", o.join, o.workers)
	case o.timeout <= 0:
		return usagef("--timeout %v: expected a time, as in 1m", o.timeout)
	}
	if err := o.fill(o.workers); err != nil {
		return err
	}
	if o.restarts < 0 || o.restarts > 0 && !o.elastic {
		return usagef("--restarts %d needs --min-workers below -n: else the run ends with the first worker that is lost", o.restarts)
	}
	if all != nil {
		var err error
		if o.places, err = hosts.Spread(all, o.workers-o.join); err != nil {
			return &usageError{err}
		}
		if err := o.checkHosts(given); err != nil {
			return err
		}
	}
	fixed := all == nil && !o.elastic && o.join == 0
	switch {
	case o.transport == "" && fixed && shm.Available() == nil:
		o.transport = job.Shm
	case o.transport == "":
		o.transport = job.TCP
	case o.transport == job.Shm && !fixed:
		return usagef("--transport shm is for workers that are all here and stay: leave it out, or give tcp")
	}
	if err := spec.OneOf("transport", o.transport, job.Shm, job.TCP); err != nil {
		return &usageError{err}
	}
	return nil
}

// checkHosts refuses what would have workers elsewhere look for this launcher where it is not.
func (o *programOptions) checkHosts(given func(string) bool) error {
	if len(o.reach.servers()) > 0 {
		return nil
	}
	host, _, err := net.SplitHostPort(o.listen)
	ip := net.ParseIP(host)
	if err != nil || host == "" || ip != nil && ip.IsUnspecified() || !given("listen") {
		return usagef("--hosts needs the address at which they reach this launcher, as in --listen 10.0.0.1:7000, and beyond loopback --tls DIR")
	}
	return nil
}

func (o *programOptions) run(c *cobra.Command, args []string) error {
	if err := o.check(c, args); err != nil {
		return err
	}
	if o.places == nil {
		path, err := exec.LookPath(o.args[0])
		if err == nil {
			path, err = filepath.Abs(path)
		}
		if err != nil {
			return usagef("%w: expected a program, as in covey launch -n 4 -- ./my-trainer", err)
		}
		o.args = append([]string{path}, o.args[1:]...)
	}
	over, end := context.WithCancel(context.Background())
	defer end()
	w := newWatcher(c.ErrOrStderr(), o.quiet)
	f := newFollower(over, w)
	f.elastic, f.restarts, f.alien, f.local = o.elastic, o.restarts, true, o.workers-o.join
	o.outputs = &outputs{first: c.OutOrStdout(), others: c.ErrOrStderr(), quiet: o.quiet}
	defer f.close()
	if err := o.begin(c.Context(), f); err != nil {
		return err
	}
	defer worker.OnSignals(f.interrupt)()
	for r := range f.local {
		if err := f.spawn(r); err != nil {
			return &usageError{err}
		}
	}
	if err := f.await(c.Context()); err != nil {
		return err
	}
	o.outputs.flush()
	return o.result(f)
}

// begin makes the run's meeting place and writes down what the run is.
func (o *programOptions) begin(ctx context.Context, f *follower) (err error) {
	name := strings.TrimSuffix(filepath.Base(o.args[0]), ".exe")
	warn := func(text string) { f.w.say("%s", text) }
	if f.base, err = o.reach.meetingPlace(ctx, o.listen, os.Getenv(cluster.EnvToken), runName(name), "", warn); err != nil {
		return err
	}
	if o.transport == job.Shm {
		if f.memory, err = shm.Create(o.workers, shm.Options{}); err != nil {
			return usagef("--transport shm: %w", err)
		}
	}
	if err = f.coordinate(ctx, f.base.store); err != nil {
		return err
	}
	f.start = func(rank int) (*child, error) { return o.start(f, rank) }
	here := f.local
	if o.places != nil {
		here = 0
		for _, h := range o.places { // what a host shares out: hosts with other numbers of slots say so with Threads
			if h == o.places[0] {
				here++
			}
		}
	}
	wait := startUp
	switch {
	case o.join > 0:
		wait = joinWait
		f.w.say("waiting for %s to join: %s", count(o.join, "worker"), o.invitation(f.base))
	case o.max > o.workers:
		f.w.say("others may join: %s", o.invitation(f.base))
	}
	return f.c.Start(ctx, cluster.Run{Job: worker.Program, Local: here, Elastic: o.elastic, Orphan: o.orphan,
		Limits: o.limits(wait, o.timeout)}, o.workers)
}

// invitation is what somebody types who joins.
func (o *programOptions) invitation(b *base) string {
	words := []string{worker.EnvJoin + "=" + b.address(), worker.EnvRun + "=" + b.Run}
	if b.Token != "" {
		words = append(words, cluster.EnvToken+"="+b.Token)
	} else if o.reach.creds.dir != "" {
		words = append(words, worker.EnvTLS+"=DIR")
	}
	return strings.Join(append(words, o.args...), " ")
}

// start runs the program as a worker, here or on its host.
func (o *programOptions) start(f *follower, rank int) (*child, error) {
	id := cluster.NewID()
	var first func() bool
	if o.elastic {
		first = func() bool { return f.isFirst(id) }
	}
	stdout, stderr := o.outputs.of(rank, first)
	env := map[string]string{worker.EnvJoin: f.base.address(), worker.EnvRun: f.base.Run, worker.EnvTLS: o.reach.creds.dir, worker.EnvNode: o.reach.creds.node,
		worker.EnvSeed: o.reach.seed, worker.EnvCreds: o.reach.user, worker.EnvSpot: o.spot.text}
	for _, name := range []string{worker.EnvTLS, worker.EnvSeed, worker.EnvCreds} {
		if path, err := filepath.Abs(env[name]); err == nil && env[name] != "" {
			env[name] = path
		}
	}
	if o.places == nil {
		p := cluster.Program{Args: o.args, Stdout: stdout, Stderr: stderr, Token: f.base.Token, Shm: f.memory, Dir: o.chdir, ID: id}
		for name, value := range env {
			p.Env = append(p.Env, name+"="+value)
		}
		return here(p.Start(rank, f.clock))
	}
	h := o.places[rank%len(o.places)]
	c := &child{Rank: rank, ID: id, What: "on " + h.Name}
	for name, value := range map[string]string{cluster.EnvToken: f.base.Token, cluster.EnvRank: itoa(rank), cluster.EnvID: c.ID, worker.EnvElsewhere: "1"} {
		env[name] = value
	}
	delete(env, worker.EnvNode) // it is this host's
	args := o.args
	if o.chdir != "" {
		args = append([]string{"sh", "-c", `cd "$1" && shift && exec "$@"`, "sh", o.chdir}, args...)
	}
	p, err := h.Start(hosts.Command{Args: args, Env: env, Stdout: stdout, Stderr: stderr, Grace: grace, Options: o.ssh}, f.clock)
	c.process = far{p}
	return c, err
}

// far is a process of another host.
type far struct{ *hosts.Process }

// Died implements process: the connection failed, or the shell there says that a signal ended it.
func (p far) Died() bool {
	code := p.Code()
	return code < 0 || code > 128 && code != exitInterrupted
}

// result is what the run came to. The programs say themselves what they have learned.
func (o *programOptions) result(f *follower) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.end == nil {
		if f.interrupted {
			return &saidError{errors.New("interrupted"), exitInterrupted}
		}
		return o.withLast(f, f.unreported(o.workers))
	}
	if f.end.Stopped {
		fmt.Fprintf(f.w.out, "stopped after step %d\n", f.end.Steps)
		return &saidError{errors.New("stopped"), exitInterrupted}
	}
	var lines []string
	for _, p := range f.procs {
		if how, well := p.End(); !well && f.fine[p.ID] {
			lines = append(lines, fmt.Sprintf("worker %d (%s) has trained, and then failed: %s", p.Rank, p.What, how))
		}
	}
	if lines == nil {
		return nil
	}
	return o.withLast(f, &codedError{errors.New(strings.Join(lines, "\n  ")), exitFailed})
}

// withLast adds to an error the last lines of those who failed.
func (o *programOptions) withLast(f *follower, err error) error {
	var b strings.Builder
	for _, p := range f.procs {
		_, well := p.End()
		if fine, said := f.fine[p.ID]; said && !fine || well && !f.vanished[p.ID] {
			continue // nothing to add
		}
		if last := o.outputs.last(p.Rank); last != "" {
			fmt.Fprintf(&b, "\nthe last lines of worker %d:\n%s", p.Rank, last)
		}
	}
	if b.Len() == 0 {
		return err
	}
	return fmt.Errorf("%w%s", err, strings.TrimSuffix(b.String(), "\n"))
}
