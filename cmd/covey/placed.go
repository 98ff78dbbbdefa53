package main

import (
	"context"
	"os"

	"github.com/spf13/cobra"

	"github.com/covey-ml/covey/cluster"
	"github.com/covey-ml/covey/cluster/place"
	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/comm/mpi"
	"github.com/covey-ml/covey/job"
	"github.com/covey-ml/covey/train"
	"github.com/covey-ml/covey/vec"
	"github.com/covey-ml/covey/worker"
)

// A launcher of another kind (srun, mpirun, torchrun, Kubernetes) starts covey train as often as there are to be workers. Its
// environment says which of them a process is: the first has the server and the run folder, and a worker as its child; the
// others join it.

// startedAs reads the environment. It returns nil for a process that nobody but a user started.
func startedAs() (*place.Place, error) {
	p, err := place.Detect(os.Getenv)
	if err != nil {
		return nil, &usageError{err}
	}
	if p == nil || p.Size == 1 {
		return nil, nil
	}
	return p, nil
}

// placed fits the job and the options to the place that this process was given.
func (o *trainOptions) placed(j *job.Job, p *place.Place) error {
	switch {
	case j.Given("workers") && j.Ranks() != p.Size:
		return usagef("%s started %d processes, and the job has %d workers%s: leave out workers, or start as many", p.Launcher, p.Size, j.Workers, also(j.Servers()))
	case j.Servers() >= p.Size:
		return usagef("%s started %d processes, and the job has %d servers beside its workers: start more", p.Launcher, p.Size, j.Servers())
	}
	if o.join > 0 {
		return usagef("--join goes with covey train as you start it yourself: %s started %d processes, all of which take part", p.Launcher, p.Size)
	}
	j.Workers = p.Size - j.Servers()
	if j.Transport == job.MPI {
		return nil
	}
	if j.Given("transport") && j.Transport != job.TCP {
		return usagef("--transport %s with processes that %s started: they talk over %s, or %s", j.Transport, p.Launcher, job.TCP, job.MPI)
	}
	j.Transport = job.TCP
	o.join = p.Size - 1
	if o.reach.nats == "" {
		o.listen, o.reach.told = worker.Listen(p), worker.Address(p)
	}
	return nil
}

// joinPlaced takes part as one of the others.
func (o *trainOptions) joinPlaced(c *cobra.Command, p *place.Place) error {
	token := os.Getenv(cluster.EnvToken)
	if token == "" && o.reach.creds.dir == "" { // else certificates say who may
		var err error
		if token, err = worker.Token(p); err != nil {
			return &usageError{err}
		}
	}
	at, run := worker.Address(p), ""
	if o.reach.nats != "" {
		at, run = o.reach.nats, worker.PlacedRun(p)
	}
	join := &joinOptions{token: token, wait: startUp, run: run, reach: o.reach, place: p, ops: o.ops, spot: o.spot}
	return join.join(c, at)
}

// overMPI trains as one of the processes that mpirun started, which talk over its library. Only the first has a report.
func (o *trainOptions) overMPI(ctx context.Context, j *job.Job, from string, w *watcher) (*ending, error) {
	if o.elastic {
		return nil, usagef("--min-workers and --max-workers need --transport tcp: MPI ends all processes when one is lost")
	}
	g, err := mpi.Init(j.Timeout)
	if err != nil {
		return nil, &usageError{err}
	}
	end, err := o.inMPI(ctx, j, from, w, g)
	g.Close()
	if err != nil { // the others hear it from the group; mpirun ends them if not
		return nil, err
	}
	return end, mpi.Finalize()
}

func (o *trainOptions) inMPI(ctx context.Context, j *job.Job, from string, w *watcher, g comm.Group) (*ending, error) {
	hosts := mpi.Hosts(g)
	here := 0
	for _, h := range hosts {
		if h == hosts[g.Rank()] {
			here++
		}
	}
	return o.inProcess(ctx, j, from, w, here, func(ctx context.Context, conf train.Config) (*train.Report, error) {
		conf.Hosts = comm.HostsOf(hosts)
		if g.Rank() > 0 {
			conf.Events = train.Events{}
		}
		return train.Run(ctx, g, conf)
	})
}

// threads says how many threads each of so many workers of this host computes on.
func threads(j *job.Job, here int) { vec.SetThreads(j.ComputeThreads(max(1, here))) }

// also says how many servers there are besides.
func also(servers int) string {
	if servers == 0 {
		return ""
	}
	return " and " + count(servers, "server")
}
