package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/spf13/cobra"

	"github.com/covey-ml/covey/ckpt"
	"github.com/covey-ml/covey/cluster/place"
	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/fault"
	"github.com/covey-ml/covey/job"
	"github.com/covey-ml/covey/model/zoo"
	"github.com/covey-ml/covey/optim"
	"github.com/covey-ml/covey/reduce"
	"github.com/covey-ml/covey/strategy/ps"
	"github.com/covey-ml/covey/train"
	"github.com/covey-ml/covey/worker"
)

// trainOptions is one call of covey train.
type trainOptions struct {
	keys   keyFlags
	resume string
	json   bool
	quiet  bool
	listen string
	join   int
	reach  reach
	ops    opsFlags
	spot   spotFlag
	elasticity

	place     *place.Place // that a launcher of another kind gave this process; nil: there is none
	faults    string
	script    fault.Script
	done      int  // the step of the checkpoint to go on from
	made      bool // the run folder was not there before
	restarted bool // resume was not asked for: the folder held a run
}

func trainCommand() *cobra.Command {
	o := &trainOptions{}
	c := &cobra.Command{
		Use:   "train [job.yaml]",
		Short: "Train a model",
		Long: `Train the model of a job file, of flags, or of both: a flag wins over the file. Without either it
trains a digit classifier, on data that it makes itself, with two worker processes.

A choice with parameters is written name:value or name:key=value,key=value.

--faults makes workers die, stand still, compute slowly or wrongly, and their messages come late, as a
script says that drives covey sim, too. Links are named by ranks: 0-3, or 3-* for all of rank 3.
` + choicesHelp() + exitHelp,
		Example: `  covey train
  covey train --data mnist/ --model mlp:128 --workers 2 --epochs 5 --optimizer adam --lr 0.001
  covey train job.yaml --workers 4 --microshards 12 --transport tcp --json
  covey train --resume runs/mnist-mlp-1 --workers 3
  covey train job.yaml --workers 4 --join 2 --listen 10.0.0.1:7000 --tls certs/
  covey train job.yaml --workers 4 --transport tcp --faults f.txt`,
		Args: oneJob,
		RunE: func(c *cobra.Command, args []string) error { return o.run(c, args) },
	}
	c.Flags().SortFlags = false
	o.keys = addKeyFlags(c)
	c.Flags().StringVar(&o.resume, "resume", "", "run folder to go on with, from its last whole checkpoint")
	c.Flags().BoolVar(&o.json, "json", false, "print the result as one JSON object on standard output")
	c.Flags().BoolVar(&o.quiet, "quiet", false, "no progress")
	c.Flags().StringVar(&o.listen, "listen", "127.0.0.1:0", "address at which workers join the run")
	c.Flags().IntVar(&o.join, "join", 0, "of the workers, how many somebody starts elsewhere with covey join")
	o.elasticity.addFlags(c)
	o.reach.addFlags(c)
	o.ops.addFlags(c)
	o.spot.addFlags(c)
	c.Flags().StringVar(&o.faults, "faults", "", "file of faults that are to happen: a line each, as in kill 3 at step 120")
	return c
}

func choicesHelp() string {
	var b strings.Builder
	section := func(title string) { fmt.Fprintf(&b, "\n%s\n", title) }
	section("Models:")
	for _, n := range zoo.Names() {
		fmt.Fprintf(&b, "  %s\n", zoo.Help(n))
	}
	section("Optimizers (all take weight_decay= and clip=):")
	for _, c := range optim.Names() {
		fmt.Fprintf(&b, "  %-9s %s\n", c.Name, c.Help)
	}
	section("Parameter servers (for --strategy ps:mode=..., by what a worker waits for; all take servers=1, copies=, pull=COMPRESSOR, budget= and spill=):")
	for _, c := range ps.Choices() {
		fmt.Fprintf(&b, "  %-9s %s\n", c.Name, c.Help)
	}
	section("Compressors (for --compress; +ef, +ef21 and +hosts may follow):")
	for _, c := range reduce.Names() {
		fmt.Fprintf(&b, "  %-9s %s\n", c.Name, c.Help)
	}
	for _, c := range reduce.Wrappers() {
		fmt.Fprintf(&b, "  +%-8s %s\n", c.Name, c.Help)
	}
	section("Schedules (all take warmup=STEPS and scale=linear|sqrt,base=256):")
	for _, c := range optim.Schedules() {
		fmt.Fprintf(&b, "  %-9s %s\n", c.Name, c.Help)
	}
	return b.String()
}

// mayChange are the keys that a resumed run may give anew: none of them is part of what is computed, but for the length.
var mayChange = []string{"workers", "transport", "threads", "timeout", "bucket", "shard", "algorithm", "costs", "epochs", "steps", "save", "save_together", "keep", "data", "test"}

func (o *trainOptions) run(c *cobra.Command, args []string) error {
	at, err := startedAs()
	if err != nil {
		return err
	}
	if at != nil && at.Rank == 0 {
		o.again(c, args)
	}
	j, from, err := o.job(c, args)
	if err != nil {
		return err
	}
	if at != nil {
		if err := o.placed(j, at); err != nil {
			return err
		}
		if at.Rank > 0 && j.Transport != job.MPI {
			return o.joinPlaced(c, at)
		}
	}
	o.place = at
	if err := j.Fill(); err != nil {
		return err
	}
	if at == nil && j.Transport == job.MPI {
		return usagef("--transport mpi is for processes that mpirun starts, as in mpirun -n 4 covey train")
	}
	if o.join < 0 || o.join >= j.Ranks() {
		return usagef("--join %d of %d workers: at least one runs here, as rank 0", o.join, j.Ranks())
	}
	if o.join > 0 && j.Transport != job.TCP {
		if j.Given("transport") {
			return usagef("--join needs --transport tcp: workers elsewhere share no memory with those here")
		}
		j.Transport = job.TCP
	}
	if err := o.changing(j); err != nil {
		return err
	}
	if _, err := o.spot.source(); err != nil { // before workers find out
		return err
	}
	if err := readCosts(j); err != nil {
		return err
	}
	if err := o.checkFaults(j, from); err != nil {
		return err
	}
	silent := at != nil && at.Rank > 0 // the first says it all
	if silent {
		j.Run = ""
	} else if err := o.folder(j); err != nil {
		return err
	}
	watch := newWatcher(c.ErrOrStderr(), o.quiet || silent)
	launch := o.launch
	switch j.Transport {
	case job.Inproc:
		launch = o.goroutines
	case job.MPI:
		launch = o.overMPI
	}
	end, err := launch(c.Context(), j, from, watch)
	watch.end()
	if err != nil {
		if !watch.started() {
			o.clear(j)
		} else if exitCode(err) == exitLost {
			if all, _ := ckpt.List(j.SavedAt()); len(all) > 0 {
				err = fmt.Errorf("%w\ngo on after step %d with: covey train --resume %s", err, all[len(all)-1].Step, j.Run)
			}
		}
		return err
	}
	if silent {
		return nil
	}
	if err := end.save(filepath.Join(j.Run, reportFile)); err != nil {
		watch.say("the report could not be saved: %v", err)
	}
	if o.json {
		err = end.printJSON(c.OutOrStdout())
	} else {
		err = end.print(c.OutOrStdout())
	}
	switch {
	case err != nil:
		return err
	case end.Stopped:
		fmt.Fprintf(c.ErrOrStderr(), "interrupted at step %d; go on with: covey train --resume %s\n", end.Steps, j.Run)
		return &saidError{train.ErrStopped, exitInterrupted}
	case end.SaveError != "":
		return fmt.Errorf("the last checkpoint could not be saved: %s", end.SaveError)
	}
	return nil
}

// changing says between how many workers the run has, and refuses what an elastic one cannot do.
func (o *trainOptions) changing(j *job.Job) error {
	err := o.fill(j.Workers)
	o.min, o.max = o.min+j.Servers(), o.max+j.Servers()
	switch {
	case err != nil || !o.elastic:
		return err
	case j.Outlives() != nil:
		return usagef("--min-workers or --max-workers: %w", j.Outlives())
	case j.Strategy == job.Hogwild:
		return usagef("--min-workers or --max-workers with --strategy hogwild: its workers are one process; leave them out, or use allreduce or local")
	case o.faults != "":
		return usagef("--faults with --min-workers or --max-workers: the ranks of a script are those of workers that stay; leave one of them out")
	case j.Transport == job.TCP:
		return nil
	case j.Given("transport"):
		return usagef("--min-workers and --max-workers need --transport tcp: workers that share memory cannot meet anew in another")
	}
	j.Transport = job.TCP
	return nil
}

// again goes on with the run folder that is named, if it holds a run: what starts processes anew starts them with the same words.
func (o *trainOptions) again(c *cobra.Command, args []string) {
	folder := ""
	if len(args) == 1 {
		if j, err := job.Load(args[0]); err == nil {
			folder = j.Run
		}
	}
	if c.Flags().Changed("run") {
		folder = o.keys["run"].text
	}
	if folder == "" || o.resume != "" {
		return
	}
	if _, err := os.Stat(filepath.Join(folder, jobFile)); err == nil {
		o.resume, o.restarted = folder, true
		fmt.Fprintf(c.ErrOrStderr(), "%s holds a run: going on with it\n", folder)
	}
}

// job puts file and flags together. from is the checkpoint to go on with, or "".
func (o *trainOptions) job(c *cobra.Command, args []string) (j *job.Job, from string, err error) {
	switch {
	case o.resume == "" && c.Flags().Changed("resume"):
		return nil, "", usagef("--resume names no run folder")
	case o.resume != "" && len(args) > 0 && !o.restarted:
		return nil, "", usagef("--resume goes on with the run folder's own job: leave out %s", args[0])
	case o.resume != "":
		if j, err = job.Load(filepath.Join(o.resume, jobFile)); err != nil {
			return nil, "", usagef("--resume %s: not a run folder: %w", o.resume, err)
		}
		j.Run = o.resume
		var passed []error
		from, passed, err = ckpt.Latest(j.SavedAt())
		for _, p := range passed {
			fmt.Fprintf(c.ErrOrStderr(), "covey train: passed over a checkpoint: %v\n", p)
		}
		all, _ := ckpt.List(j.SavedAt())
		switch {
		case errors.Is(err, ckpt.ErrNone) && len(all) == 0:
			fmt.Fprintf(c.ErrOrStderr(), "%s has no checkpoint yet: starting at step 1\n", o.resume)
		case errors.Is(err, ckpt.ErrNone):
			return nil, "", &codedError{fmt.Errorf("--resume: %w", err), exitData}
		case err != nil:
			return nil, "", err
		}
	case len(args) > 0:
		if j, err = job.Load(args[0]); err != nil {
			return nil, "", err
		}
	default:
		j = &job.Job{}
	}
	if o.restarted { // what it was started with is in the folder
		return j, from, nil
	}
	if o.resume != "" {
		for _, name := range o.keys.given(c) {
			if !slices.Contains(mayChange, name) {
				return nil, "", usagef("--%s cannot change when a run is resumed (what can: --%s)", job.Key{Name: name}.Flag(), strings.ReplaceAll(strings.Join(mayChange, ", --"), "_", "-"))
			}
		}
		if c.Flags().Changed("epochs") && !c.Flags().Changed("steps") {
			j.Steps = 0 // the new length counts, not the old
		}
	}
	if err := o.keys.set(c, j); err != nil {
		return nil, "", err
	}
	return j, from, nil
}

// The files of a run folder beside those of package train.
const (
	jobFile    = "job.yaml"
	reportFile = "report.json" // what --json prints, of the last process that trained
)

// folder finds a new run folder, or checks that the given one holds no run.
func (o *trainOptions) folder(j *job.Job) error {
	for _, file := range []*string{&j.Data, &j.Test, &j.TargetFile} {
		if p, err := filepath.Abs(*file); err == nil && *file != "" {
			if _, err := os.Stat(p); err == nil {
				*file = p // so that the run can be resumed from anywhere
			}
		}
	}
	if o.resume != "" {
		return nil
	}
	if err := o.checkpoints(j); err != nil {
		return err
	}
	if j.Run != "" {
		for _, file := range []string{jobFile, "checkpoints"} {
			if _, err := os.Stat(filepath.Join(j.Run, file)); err == nil {
				return usagef("--run %s holds a run already: go on with it with --resume %s, or name another folder", j.Run, j.Run)
			}
		}
		_, err := os.Stat(j.Run)
		o.made = errors.Is(err, os.ErrNotExist)
		if err := os.MkdirAll(j.Run, 0o777); err != nil {
			return j.Errorf("run", "%w", err)
		}
		return nil
	}
	if err := os.MkdirAll("runs", 0o777); err != nil {
		return &usageError{err}
	}
	base := strings.TrimSuffix(filepath.Base(j.Data), filepath.Ext(j.Data))
	name, _, _ := strings.Cut(base, ":")
	if name = strings.ToValidUTF8(name[:min(len(name), longestName)], ""); name == "" {
		name = "run"
	}
	for n := 1; ; n++ {
		j.Run = filepath.Join("runs", fmt.Sprintf("%s-%s-%d", name, j.Model.Name(), n))
		err := os.Mkdir(j.Run, 0o777)
		if err == nil {
			o.made = true
			return nil
		}
		if !errors.Is(err, os.ErrExist) {
			return &usageError{err}
		}
	}
}

// checkpoints checks a place of their own for a new run's checkpoints.
func (o *trainOptions) checkpoints(j *job.Job) error {
	if j.Checkpoints == "" {
		return nil
	}
	if p, err := filepath.Abs(j.Checkpoints); err == nil && !ckpt.Remote(j.Checkpoints) {
		j.Checkpoints = p
	}
	all, err := ckpt.List(j.Checkpoints)
	switch {
	case err != nil && !errors.Is(err, os.ErrNotExist):
		return j.Errorf("checkpoints", "%w", err)
	case len(all) > 0:
		return usagef("--checkpoints %s holds those of a run already: go on with that with --resume and its run folder, or name another place", j.Checkpoints)
	}
	return nil
}

// longestName bounds what a run folder takes over of the data's name; file systems stop at 255 bytes.
const longestName = 64

// clear takes back what a run that did not come to its first step has put into its folder.
func (o *trainOptions) clear(j *job.Job) {
	if o.resume != "" {
		return
	}
	os.Remove(filepath.Join(j.Run, jobFile))
	if st, err := os.Stat(filepath.Join(j.Run, train.MetricsFile)); err == nil && st.Size() == 0 {
		os.Remove(filepath.Join(j.Run, train.MetricsFile))
	}
	writers, _ := filepath.Glob(filepath.Join(j.Run, train.WriterFile+"*"))
	for _, w := range writers {
		os.Remove(w)
	}
	if o.made {
		os.Remove(j.Run) // if it is empty
	}
}

// goroutines trains in this process, which has all workers.
func (o *trainOptions) goroutines(ctx context.Context, j *job.Job, from string, w *watcher) (*ending, error) {
	return o.inProcess(ctx, j, from, w, j.Ranks(), func(ctx context.Context, conf train.Config) (*train.Report, error) {
		return train.Local(ctx, j.Ranks(), j.Timeout, conf)
	})
}

// inProcess trains as f does, in this process. here is how many workers the host has.
func (o *trainOptions) inProcess(ctx context.Context, j *job.Job, from string, w *watcher, here int, f func(context.Context, train.Config) (*train.Report, error)) (*ending, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	source, err := o.spot.source()
	if err != nil {
		return nil, err
	}
	var stop atomic.Bool
	interrupt := func(more string) {
		stop.Store(true)
		if !w.started() {
			cancel(&saidError{errors.New("interrupted"), exitInterrupted})
		} else {
			w.say("interrupted: saving a checkpoint%s", more)
		}
	}
	defer worker.OnSignals(func(again bool) {
		if again {
			os.Exit(exitInterrupted) // whatever it waits for
		}
		interrupt(" (again to end at once)")
	})()
	if clock := comm.RealClock(); source != nil {
		clock.Go(func() {
			source.Watch(ctx, clock, func(why string) {
				w.say("%s", why)
				interrupt("")
			}, func(err error) { w.say("%v", err) })
		})
	}
	threads(j, here)
	tr, test, err := j.Open(ctx)
	if err != nil {
		return nil, cmp.Or(context.Cause(ctx), err)
	}
	hashed := comm.RealClock().Event()
	comm.RealClock().Go(func() { // it is asked for when the first checkpoint is saved
		tr.Info()
		hashed.Set()
	})
	defer hashed.Wait(context.Background())
	conf, err := j.Build(tr, test)
	if err != nil {
		return nil, err
	}
	conf.Ahead = j.Ahead(max(1, here))
	conf.Dir, conf.Resume, conf.Events, conf.Stop = j.Run, from, w.events(), stop.Load
	saveJob(&conf, j, cancel)
	books := newFaultBooks(o.script, o.done)
	o.around(&conf, j, books)
	w.job(summaryOf(j, tr, test))
	rep, err := f(ctx, conf)
	err = placed(j, err)
	stopped := errors.Is(err, train.ErrStopped)
	if err != nil && !stopped {
		return nil, faultsOf(cmp.Or(context.Cause(ctx), err), books.outcomes())
	}
	end := newEnding(j, rep, stopped)
	end.Faults = books.outcomes()
	return end, nil
}

// saveJob leaves the job in the run folder when the run starts: not before, so that a job that does not fit a run's
// checkpoint does not take the place of the one that does. When it cannot, abort ends the run.
func saveJob(conf *train.Config, j *job.Job, abort context.CancelCauseFunc) {
	start := conf.Events.Start
	conf.Events.Start = func(i train.StartInfo) {
		if err := writeJob(j); err != nil {
			abort(fmt.Errorf("the job could not be saved: %w", err))
			return
		}
		start(i)
	}
}

// placed lets an error about a key of the configuration point at what the user wrote.
func placed(j *job.Job, err error) error {
	var config *train.ConfigError
	if errors.As(err, &config) {
		return j.Errorf(config.Key, "%w", config.Err)
	}
	return err
}

// writeJob leaves the whole job in the run folder.
func writeJob(j *job.Job) error {
	path := filepath.Join(j.Run, jobFile)
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, j.YAML(), 0o666); err != nil {
		os.Remove(tmp)
		return err
	}
	return os.Rename(tmp, path)
}
