package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/covey-ml/covey/bench"
	"github.com/covey-ml/covey/cluster"
	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/comm/shm"
	"github.com/covey-ml/covey/comm/tcp"
	"github.com/covey-ml/covey/job"
	"github.com/covey-ml/covey/plan"
	"github.com/covey-ml/covey/vec"
)

// benchTask is what the workers of a measurement are told: a collective, a job whose steps are timed, or messages.
type benchTask struct {
	Collective *bench.Collective `json:",omitempty"`
	Job        []byte            `json:",omitempty"` // as YAML
	Places     map[string]string `json:",omitempty"`
	Explain    bool              `json:",omitempty"` // say how the collective's algorithm is chosen, and time nothing
	Probe      *plan.Effort      `json:",omitempty"` // measure what messages cost
	Effort     bench.Effort
	Timeout    time.Duration
}

// run does the task as a rank of g. local is the workers on this host, and here those in this process; tell hears of
// each row.
func (t benchTask) run(ctx context.Context, meet func() (comm.Group, error), local, here int, tell func(any)) error {
	if t.Probe != nil {
		g, err := meet()
		if err != nil {
			return err
		}
		defer g.Close()
		cpu := processorTime
		if here > 1 { // whose time it was cannot be told
			cpu = nil
		}
		m, err := t.Probe.Messages(ctx, g, cpu)
		if err == nil {
			tell(m)
		}
		return err
	}
	if t.Collective != nil {
		what := *t.Collective
		what.Effort.Here = here
		g, err := meet()
		if err != nil {
			return err
		}
		defer g.Close()
		if t.Explain {
			return explain(ctx, g, what.Sizes, tell)
		}
		_, err = what.Run(ctx, g, func(r bench.Row) { tell(r) })
		return err
	}
	j, err := job.Parse(jobFile, t.Job)
	if err != nil {
		return err
	}
	j.SetPlaces(t.Places)
	if err := j.Fill(); err != nil {
		return err
	}
	threads := j.ComputeThreads(local)
	vec.SetThreads(threads)
	tr, _, err := j.Open(ctx)
	if err != nil {
		return err
	}
	conf, err := j.Build(tr, nil)
	if err != nil {
		return err
	}
	conf.Ahead = j.Ahead(local)
	g, err := meet()
	if err != nil {
		return err
	}
	defer g.Close()
	t.Effort.Here = here
	row, err := bench.Step{Config: conf, Effort: t.Effort}.Run(ctx, g)
	if err != nil {
		return placed(j, err)
	}
	row.Threads = threads
	tell(row)
	return nil
}

// launch has n workers do a task: goroutines, or processes of their own. tell hears of each row that worker 0 has.
func (o *benchOptions) launch(c *cobra.Command, n int, task benchTask, tell func(json.RawMessage)) error {
	ctx, cancel := context.WithCancelCause(c.Context())
	defer cancel(nil)
	task.Timeout = o.timeout
	if o.transport == job.Inproc {
		defer onSignals(func(again bool) {
			cancel(&saidError{errors.New("interrupted"), exitInterrupted})
			if again {
				os.Exit(exitInterrupted)
			}
		})()
		_, err := bench.Local(n, o.timeout, func(g comm.Group) (none struct{}, err error) {
			return none, task.run(ctx, func() (comm.Group, error) { return g, nil }, n, n, func(row any) {
				if b, err := json.Marshal(row); err == nil && g.Rank() == 0 {
					tell(b)
				}
			})
		})
		if cause := context.Cause(ctx); err != nil && cause != nil {
			return cause
		}
		return err
	}
	return o.processes(ctx, cancel, c, n, task, tell)
}

func (o *benchOptions) processes(ctx context.Context, cancel context.CancelCauseFunc, c *cobra.Command, n int, task benchTask, tell func(json.RawMessage)) error {
	clock := comm.RealClock()
	creds, err := o.creds.load()
	if err != nil {
		return err
	}
	text, err := json.Marshal(task)
	if err != nil {
		return err
	}
	token := os.Getenv(cluster.EnvToken)
	if token == "" {
		token = cluster.NewToken()
	}
	door, err := cluster.Listen(o.listen, token, creds, clock)
	if err != nil {
		return &usageError{err}
	}
	defer door.Close()
	local, wait := n-o.join, startUp
	var memory *os.File
	if o.transport == job.Shm {
		if memory, err = shm.Create(n, shm.Options{}); err != nil {
			return usagef("--transport: %w", err)
		}
		defer memory.Close()
	}
	args := []string{"bench", "worker", door.Addr()}
	if o.creds.dir != "" {
		args = append(args, "--tls", o.creds.dir, "--node", o.creds.node)
	}
	procs, err := cluster.Start(local, args, token, memory, clock)
	if err != nil {
		return err
	}
	defer cluster.Reap(procs, grace, clock)
	defer onSignals(func(bool) {
		cancel(&saidError{errors.New("interrupted"), exitInterrupted})
		cluster.Kill(procs)
	})()
	if o.join > 0 {
		wait = joinWait
		fmt.Fprintf(c.ErrOrStderr(), "waiting for %s to join: %s\n", count(o.join, "worker"), o.invitation(door.Addr(), token))
	}
	met, done := clock.WithTimeout(ctx, wait)
	defer done()
	met, abort := context.WithCancelCause(met)
	defer abort(nil)
	for _, p := range procs {
		clock.Go(func() {
			<-p.Ended()
			how, _ := p.End()
			abort(fmt.Errorf("worker %d ended before the start: %s", p.Rank, how))
		})
	}
	if err := door.Gather(met, n, cluster.Welcome{Generation: 1, Job: text, Local: local}, nil); err != nil {
		cluster.Kill(procs)
		return err
	}
	return o.hear(ctx, door, procs, clock, tell)
}

func (o *benchOptions) invitation(addr, token string) string {
	if o.creds.dir != "" {
		return fmt.Sprintf("covey bench worker %s --tls DIR", addr)
	}
	return fmt.Sprintf("%s=%s covey bench worker %s", cluster.EnvToken, token, addr)
}

// hear follows the workers to their end. Once one has failed, the others hear of it from their group, and those that do
// not end by themselves are ended.
func (o *benchOptions) hear(ctx context.Context, door *cluster.Coordinator, procs []*cluster.Process, clock comm.Clock, tell func(json.RawMessage)) error {
	var worst *codedError
	over, end := context.WithCancel(ctx)
	defer end()
	closing := false
	door.Hear(func(rank int, m cluster.Message) {
		switch m.Kind {
		case cluster.KindEvent:
			tell(m.Event)
			return
		case cluster.KindError:
			text := m.Error
			if m.Code != exitUsage && m.Code != exitData {
				text = fmt.Sprintf("worker %d: %s", rank, text)
			}
			if worst == nil || weight(m.Code) > weight(worst.code) {
				worst = &codedError{errors.New(text), m.Code}
			}
		case "":
		default:
			return
		}
		if closing {
			return
		}
		closing = true
		clock.Go(func() {
			if clock.Sleep(over, grace) == nil {
				cluster.Kill(procs)
				door.Close()
			}
		})
	})
	cluster.Reap(procs, grace, clock)
	if err := context.Cause(ctx); err != nil {
		return err
	}
	var lost []string
	for _, p := range procs {
		if how, _ := p.End(); p.Died() {
			lost = append(lost, fmt.Sprintf("worker %d was lost: %s", p.Rank, how))
		}
	}
	if len(lost) > 0 && (worst == nil || worst.code == exitLost) {
		slices.Sort(lost)
		return &codedError{errors.New(strings.Join(lost, "\n  ")), exitLost}
	}
	if worst != nil {
		return worst
	}
	return nil
}

// benchWorker is one process of a measurement.
type benchWorker struct {
	creds credentials
	wait  time.Duration
}

func benchWorkerCommand() *cobra.Command {
	o := &benchWorker{}
	c := &cobra.Command{
		Use:    "worker HOST:PORT",
		Short:  "Be a worker of a measurement that was started elsewhere",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE:   func(c *cobra.Command, args []string) error { return o.run(c, args[0]) },
	}
	c.Flags().DurationVar(&o.wait, "wait", time.Minute, "how long to try to reach the measurement")
	o.creds.addFlags(c)
	return c
}

func (o *benchWorker) run(c *cobra.Command, addr string) error {
	ctx, cancel := context.WithCancelCause(c.Context())
	defer cancel(nil)
	clock := comm.RealClock()
	creds, err := o.creds.load()
	if err != nil {
		return err
	}
	want, started := -1, false
	if r := os.Getenv(cluster.EnvRank); r != "" {
		if want, err = strconv.Atoi(r); err != nil {
			return usagef("%s is %q, expected a number", cluster.EnvRank, r)
		}
		started = true
	}
	who := &joinOptions{token: os.Getenv(cluster.EnvToken), wait: o.wait}
	nc, err := dial(ctx, addr, who, creds == nil, func(ctx context.Context) (net.Conn, error) { return cluster.Dial(ctx, addr, creds, clock) })
	if err != nil {
		return err
	}
	var peers *tcp.Listener
	listens := ""
	if os.Getenv(cluster.EnvShm) == "" {
		if peers, err = tcp.Listen(ctx, net.JoinHostPort(cluster.Host(nc), "0"), creds); err != nil {
			return err
		}
		defer peers.Close()
		listens = peers.Addr()
	}
	met, done := clock.WithTimeout(ctx, joinWait)
	m, err := cluster.Join(met, nc, who.token, listens, want, clock)
	done()
	if err != nil {
		if started && errors.Is(err, cluster.ErrCalledOff) {
			return &saidError{err, exitUsage} // the launcher knows why
		}
		return &usageError{err}
	}
	defer m.Close()
	m.Watch(func(cause error) { cancel(&saidError{cause, exitInterrupted}) })
	var task benchTask
	if err = json.Unmarshal(m.Welcome.Job, &task); err == nil {
		local := m.Welcome.Local
		if m.Welcome.Rank >= local {
			local = 1
		}
		err = task.run(ctx, func() (comm.Group, error) { return meet(ctx, m.Welcome, peers, task.Timeout) }, local, 1, func(row any) {
			if m.Welcome.Rank == 0 {
				m.Event(row)
			}
		})
	}
	if err == nil {
		return nil
	}
	if told := m.Fail(err, exitCode(err)) == nil; told && started {
		return &saidError{err, exitCode(err)}
	}
	return err
}
