package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/covey-ml/covey/bench"
	"github.com/covey-ml/covey/cluster"
	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/comm/shm"
	"github.com/covey-ml/covey/job"
	"github.com/covey-ml/covey/plan"
	"github.com/covey-ml/covey/vec"
	"github.com/covey-ml/covey/worker"
)

// benchTask is what the workers of a measurement are told: a collective, a parameter server, a job whose steps are timed, or messages.
type benchTask struct {
	Collective *bench.Collective `json:",omitempty"`
	Served     *bench.Served     `json:",omitempty"`
	Fill       *bench.Fill       `json:",omitempty"`
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
	if t.Fill != nil {
		return t.fill(ctx, meet, here, tell)
	}
	if t.Served != nil {
		what := *t.Served
		what.Effort.Here = here
		g, err := meet()
		if err != nil {
			return err
		}
		defer g.Close()
		return what.Run(ctx, g, func(r bench.ServedRow) { tell(r) })
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

// fill fills a table.
func (t benchTask) fill(ctx context.Context, meet func() (comm.Group, error), here int, tell func(any)) error {
	ballast = nil // a server's memory is what is looked at
	g, err := meet()
	if err != nil {
		return err
	}
	defer g.Close()
	peak := peakMemory
	if here > 1 { // whose it was cannot be told
		peak = nil
	}
	row, err := t.Fill.Run(ctx, g, peak)
	if err == nil {
		tell(row)
	}
	return err
}

// launch has n workers do a task: goroutines, or processes of their own. tell hears of each row that worker 0 has.
func (o *benchOptions) launch(c *cobra.Command, n int, task benchTask, tell func(json.RawMessage)) error {
	ctx, cancel := context.WithCancelCause(c.Context())
	defer cancel(nil)
	task.Timeout = o.timeout
	if o.transport == job.Inproc {
		defer worker.OnSignals(func(again bool) {
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
	text, err := json.Marshal(task)
	if err != nil {
		return err
	}
	over, end := context.WithCancel(context.Background())
	defer end()
	f := newFollower(over, newWatcher(c.ErrOrStderr(), true))
	f.local, f.rows = n-o.join, tell
	defer f.close()
	warn := func(text string) { f.w.say("%s", text) }
	if f.base, err = o.reach.meetingPlace(ctx, o.listen, os.Getenv(cluster.EnvToken), runName("bench"), "", warn); err != nil {
		return err
	}
	b, wait := f.base, startUp
	if o.join > 0 {
		wait = joinWait
	}
	if o.transport == job.Shm {
		if f.memory, err = shm.Create(n, shm.Options{}); err != nil {
			return usagef("--transport: %w", err)
		}
	}
	f.start = f.own(append([]string{"bench", "worker", b.address(), "--run", b.Run}, o.reach.args()...))
	if err := f.coordinate(ctx, b.store); err != nil {
		return err
	}
	run := cluster.Run{Job: text, Local: f.local, Limits: cluster.Limits{Min: n, Max: n, Meet: wait, Wait: wait, Patience: o.timeout + startUp}, Orphan: startUp}
	if err := f.c.Start(ctx, run, n); err != nil {
		return err
	}
	defer worker.OnSignals(func(bool) { // there is nothing to save
		cancel(&saidError{errors.New("interrupted"), exitInterrupted})
		f.kill()
	})()
	for r := range f.local {
		if err := f.spawn(r); err != nil {
			return err
		}
	}
	if o.join > 0 {
		with := fmt.Sprintf("covey bench worker %s --run %s --tls DIR", b.address(), b.Run)
		if b.Token != "" {
			with = fmt.Sprintf("%s=%s covey bench worker %s --run %s", cluster.EnvToken, b.Token, b.address(), b.Run)
		}
		f.w.say("waiting for %s to join: %s", count(o.join, "worker"), with)
	}
	if err := f.await(ctx); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failure(n)
}

// benchWorker is one process of a measurement.
type benchWorker struct{ joinOptions }

func benchWorkerCommand() *cobra.Command {
	o := &benchWorker{}
	c := &cobra.Command{
		Use:    "worker HOST:PORT",
		Short:  "Be a worker of a measurement that was started elsewhere",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE:   func(c *cobra.Command, args []string) error { return o.work(c, args[0]) },
	}
	c.Flags().DurationVar(&o.wait, "wait", time.Minute, "how long to try to reach the measurement")
	c.Flags().StringVar(&o.run, "run", "", "which one of that server (default: the only one)")
	o.reach.addFlags(c)
	return c
}

func (o *benchWorker) work(c *cobra.Command, addr string) error {
	o.token = os.Getenv(cluster.EnvToken)
	j, err := o.joining()
	if err != nil {
		return err
	}
	launched := j.Rank >= 0
	m, end, err := o.member(c.Context(), addr, j, launched)
	if err != nil {
		return err
	}
	defer end()
	ctx, off := m.Watch(c.Context(), false)
	defer off()
	var task benchTask
	if err = json.Unmarshal(m.Worker.Run.Job, &task); err == nil {
		local := m.Worker.Run.Local
		if !launched {
			local = 1
		}
		m.Timeout = task.Timeout
		err = task.run(ctx, func() (comm.Group, error) { return m.Meet(ctx) }, local, 1, func(row any) {
			if m.First() {
				m.Sure(row)
			}
		})
	}
	if err != nil && ctx.Err() != nil {
		err = &saidError{context.Cause(ctx), exitInterrupted}
	}
	if told := m.Fail(err, exitCode(err)) == nil; told && err != nil && launched {
		return &saidError{err, exitCode(err)}
	}
	return err
}
