package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/covey-ml/covey/cluster/k8s"
	"github.com/covey-ml/covey/job"
)

// k8sOptions is one call of covey k8s.
type k8sOptions struct {
	job        k8s.Job
	data, runs string
	dockerfile bool
}

func k8sCommand() *cobra.Command {
	o := &k8sOptions{}
	c := &cobra.Command{
		Use:   "k8s job.yaml --image IMAGE [-- FLAGS...]",
		Short: "Write what runs a job on Kubernetes, for kubectl apply",
		Long: `Print an Indexed Job of a pod a worker, the Service by which the pods find each other, a ConfigMap with the
job file and a Secret with certificates. Nothing needs to be installed on the cluster, which is asked for
Kubernetes 1.29 or later. Flags after -- are for covey train in the pods.

--data and --runs take claim:NAME, a PersistentVolumeClaim; host:/PATH, a folder of each node; or empty.
Paths in the job file are those in a pod: what --data names is at /data.`,
		Example: `  covey k8s --dockerfile > Dockerfile
  covey ca init certs/ && covey ca issue certs/ mnist '*.mnist'
  covey k8s job.yaml --name mnist --image registry.example/covey:1 --tls certs/ --data claim:datasets | kubectl apply -f -`,
		RunE: func(c *cobra.Command, args []string) error { return o.write(c, args) },
	}
	f, j := c.Flags(), &o.job
	f.SortFlags = false
	f.StringVar(&j.Image, "image", "", "the image that the pods run (see --dockerfile)")
	f.StringVar(&j.Name, "name", "", "of all that is written, and of the run (default: the job file's)")
	f.StringVar(&j.Namespace, "namespace", "", "where it goes (default: kubectl's)")
	f.IntVar(&j.Workers, "workers", 0, "pods (default: as the job says)")
	f.StringVar(&j.Certs, "tls", "", "folder with certificates, made with covey ca, for a Secret")
	f.StringVar(&j.Node, "node", "", "name of the pods' certificate in that folder (default: --name)")
	f.StringVar(&j.Secret, "secret", "", "a Secret with certificates that is on the cluster, in place of --tls")
	f.StringVar(&o.data, "data", "", "volume with the data, at /data")
	f.StringVar(&o.runs, "runs", "", "volume for the run folder, at /runs (default: it ends with the pod)")
	f.StringVar(&j.CPU, "cpu", "", "processors of a pod, as in 4 or 500m (default: no limit)")
	f.StringVar(&j.Memory, "memory", "", "memory of a pod, as in 8Gi (default: no limit)")
	f.StringSliceVar(&j.NATS, "nats", nil, "servers of your own that keep the run (default: pod 0 does)")
	f.DurationVar(&j.Grace, "grace", time.Minute, "for a pod that is asked to end")
	f.DurationVar(&j.Deadline, "deadline", 0, "after which the Job is ended (default: none)")
	f.IntVar(&j.Retries, "retries", 6, "how often a pod that failed is replaced")
	f.BoolVar(&o.dockerfile, "dockerfile", false, "print a Dockerfile that builds the image from covey's sources, and nothing else")
	return c
}

func (o *k8sOptions) write(c *cobra.Command, args []string) error {
	if o.dockerfile {
		if len(args) > 0 {
			return usagef("--dockerfile needs no job: leave out %s", args[0])
		}
		_, err := c.OutOrStdout().Write(k8s.Dockerfile)
		return err
	}
	before := len(args)
	if at := c.ArgsLenAtDash(); at >= 0 {
		before = at
	}
	if before != 1 {
		return usagef("expected one job file, as in covey k8s job.yaml --image registry.example/covey:1")
	}
	j, more := o.job, args[before:]
	parsed, err := job.Load(args[0])
	if err != nil {
		return err
	}
	if j.File, err = os.ReadFile(args[0]); err != nil {
		return &usageError{err}
	}
	switch {
	case !c.Flags().Changed("workers"):
		if err := parsed.Fill(); err != nil {
			return err
		}
		j.Workers = parsed.Workers
	case parsed.Given("workers") && parsed.Workers != j.Workers:
		more = append([]string{"--workers", itoa(j.Workers)}, more...) // the pods would not believe a file that says otherwise
	}
	if !c.Flags().Changed("name") {
		base := filepath.Base(args[0])
		j.Name = strings.ToLower(strings.TrimSuffix(base, filepath.Ext(base)))
	}
	if j.Data, err = k8s.ParseVolume(o.data); err != nil {
		return usagef("--data: %w", err)
	}
	if j.Runs, err = k8s.ParseVolume(o.runs); err != nil {
		return usagef("--runs: %w", err)
	}
	if j.Retries == 0 {
		j.Retries = -1 // none, as the flag says
	}
	j.Args, j.Now = more, time.Now()
	all, err := k8s.Write(j)
	if err != nil {
		var field *k8s.Error
		if errors.As(err, &field) {
			return usagef("--%s: %w", field.Field, field.Err)
		}
		return err
	}
	_, err = c.OutOrStdout().Write(k8s.YAML(all))
	return err
}
