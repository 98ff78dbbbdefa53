package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
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
	clock := comm.RealClock()
	text, err := json.Marshal(task)
	if err != nil {
		return err
	}
	b, err := o.reach.meetingPlace(ctx, o.listen, os.Getenv(cluster.EnvToken), runName("bench"), "", func(text string) { fmt.Fprintln(c.ErrOrStderr(), text) })
	if err != nil {
		return err
	}
	defer b.close()
	local, wait := n-o.join, startUp
	if o.join > 0 {
		wait = joinWait
	}
	var memory *os.File
	if o.transport == job.Shm {
		if memory, err = shm.Create(n, shm.Options{}); err != nil {
			return usagef("--transport: %w", err)
		}
		defer memory.Close()
	}
	follow := &benchFollower{tell: tell, local: local, clock: clock, done: make(chan struct{})}
	if follow.c, err = cluster.Coordinate(ctx, b.store, clock, follow.hear); err != nil {
		return err
	}
	defer follow.c.Close()
	run := cluster.Run{Job: text, Local: local, Limits: cluster.Limits{Min: n, Max: n, Meet: wait, Wait: wait, Patience: o.timeout + startUp}, Orphan: startUp}
	if err := follow.c.Start(ctx, run, n); err != nil {
		return err
	}
	args := append([]string{"bench", "worker", b.address(), "--run", b.Run}, o.reach.args()...)
	procs, err := cluster.Start(local, args, b.Token, memory, clock)
	if err != nil {
		return err
	}
	defer cluster.Reap(procs, grace, clock)
	defer worker.OnSignals(func(bool) {
		cancel(&saidError{errors.New("interrupted"), exitInterrupted})
		cluster.Kill(procs)
	})()
	follow.watch(procs)
	if o.join > 0 {
		with := fmt.Sprintf("covey bench worker %s --run %s --tls DIR", b.address(), b.Run)
		if b.Token != "" {
			with = fmt.Sprintf("%s=%s covey bench worker %s --run %s", cluster.EnvToken, b.Token, b.address(), b.Run)
		}
		fmt.Fprintf(c.ErrOrStderr(), "waiting for %s to join: %s\n", count(o.join, "worker"), with)
	}
	select {
	case <-follow.done:
	case <-ctx.Done():
	}
	cluster.Reap(procs, grace, clock)
	if err := context.Cause(ctx); err != nil {
		return err
	}
	return follow.result()
}

// benchFollower follows the workers of a measurement to their end. Once one has failed, the others hear of it from their group,
// and those that do not end by themselves are ended.
type benchFollower struct {
	c     *cluster.Coordinator
	tell  func(json.RawMessage)
	local int
	clock comm.Clock
	done  chan struct{}

	mu      sync.Mutex
	procs   []*cluster.Process
	members map[string]bool // that have joined and not ended
	rank    map[string]int
	worst   *codedError
	closing bool
	over    bool
}

func (f *benchFollower) watch(procs []*cluster.Process) {
	f.mu.Lock()
	f.procs = procs
	f.mu.Unlock()
	for _, p := range procs {
		f.clock.Go(func() {
			<-p.Ended()
			f.mu.Lock()
			defer f.mu.Unlock()
			how, well := p.End()
			if p.Died() {
				f.fail(fmt.Sprintf("worker %d was lost: %s", p.Rank, how), exitLost)
				delete(f.members, p.ID)
				f.clock.Go(func() { f.c.Dead(p.ID, how, diedCode) })
			} else if !well && f.rank == nil && f.worst == nil {
				f.fail(fmt.Sprintf("worker %d ended before the start: %s", p.Rank, how), exitFailed)
			}
			f.close()
			f.check()
		})
	}
}

func (f *benchFollower) fail(text string, code int) {
	if f.worst == nil || weight(code) > weight(f.worst.code) {
		f.worst = &codedError{errors.New(text), code}
	}
	f.clock.Go(func() { f.c.Stop() })
}

func (f *benchFollower) hear(n cluster.News) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case n.Event != nil:
		f.tell(n.Event.Event)
	case n.Joined != nil:
		if f.members == nil {
			f.members = map[string]bool{}
		}
		f.members[n.Joined.ID] = true
	case n.Formed != nil:
		f.rank = map[string]int{}
		for r, s := range n.Formed.Seats {
			f.rank[s.ID] = r
		}
	case n.Ended != nil:
		delete(f.members, n.Ended.ID)
		if m := n.Ended; m.Code != exitDone && m.Code != diedCode {
			text := m.Error
			if m.Code != exitUsage && m.Code != exitData {
				text = fmt.Sprintf("worker %d: %s", f.rank[m.ID], text)
			}
			f.fail(text, m.Code)
		}
		f.close()
	}
	f.check()
}

// close gives the others a time of grace, once one has ended. f.mu is held.
func (f *benchFollower) close() {
	if f.closing {
		return
	}
	f.closing = true
	f.clock.Go(func() {
		f.clock.Sleep(context.Background(), grace)
		f.mu.Lock()
		defer f.mu.Unlock()
		cluster.Kill(f.procs)
		f.members = nil
		f.check()
	})
}

// check closes done when all have ended. f.mu is held.
func (f *benchFollower) check() {
	if f.over || len(f.members) > 0 || !f.closing {
		return
	}
	for _, p := range f.procs {
		select {
		case <-p.Ended():
		default:
			return
		}
	}
	f.over = true
	close(f.done)
}

func (f *benchFollower) result() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.worst != nil {
		return f.worst
	}
	return nil
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
