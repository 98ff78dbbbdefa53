package job

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/comm/shm"
	"github.com/covey-ml/covey/data"
	"github.com/covey-ml/covey/model"
	"github.com/covey-ml/covey/model/zoo"
	"github.com/covey-ml/covey/optim"
	"github.com/covey-ml/covey/spec"
	"github.com/covey-ml/covey/strategy"
	"github.com/covey-ml/covey/strategy/allreduce"
	"github.com/covey-ml/covey/strategy/direct"
	"github.com/covey-ml/covey/strategy/hogwild"
	"github.com/covey-ml/covey/strategy/local"
	"github.com/covey-ml/covey/train"
)

// The transports and strategies by name.
const (
	Inproc = "inproc"
	Shm    = "shm"
	MPI    = "mpi"
	TCP    = "tcp"

	AllReduce = "allreduce"
	Direct    = "direct"
	Newton    = "newton"
	LBFGS     = "lbfgs"
)

// Fill checks all that can be checked without the data and fills in the defaults that do not depend on it.
func (j *Job) Fill() error {
	for _, k := range Keys() {
		f, _ := j.field(k.Name)
		if k.Default != "" && j.where[k.Name] == "" && f.IsZero() {
			if err := put(f, k.Default); err != nil {
				panic(fmt.Sprintf("job: the default %q of %s: %v", k.Default, k.Name, err))
			}
		}
	}
	for _, k := range Keys() {
		if err := j.checkRange(k); err != nil {
			return err
		}
	}
	switch {
	case j.Data == "":
		return j.Errorf("data", "names nothing: a file, a folder, or digits")
	case j.Workers > mostWorkers && !j.simulated:
		return j.Errorf("workers", "%d is too many: at most %d (covey sim takes more)", j.Workers, mostWorkers)
	case j.LR < 0 || j.LR > 1e30 || j.LR > 0 && float32(j.LR) == 0:
		return j.Errorf("lr", "%v is not a learning rate", j.LR)
	case j.Timeout < time.Second:
		return j.Errorf("timeout", "%v is too short: at least 1s", j.Timeout)
	case j.Given("bucket") && j.Bucket < 4:
		return j.Errorf("bucket", "%v is less than one number", j.Bucket)
	case !(j.Split > 0 && j.Split < 1):
		return j.Errorf("split", "%v is not between 0 and 1 (to test on nothing, give test: none)", j.Split)
	}
	for _, key := range []string{"model", "optimizer", "schedule", "strategy"} {
		if v := j.Get(key); v != "" {
			if _, err := spec.Parse(v); err != nil {
				return j.Errorf(key, "%w", err)
			}
		}
	}
	if err := spec.OneOf("model", j.Model.Name(), zoo.Names()...); err != nil {
		return j.Errorf("model", "%w", err)
	}
	if _, err := comm.ParseAlgorithm(string(j.Algorithm)); err != nil {
		return j.Errorf("algorithm", "%w", err)
	}
	if err := j.fillStrategy(); err != nil {
		return err
	}
	if err := j.fillCompress(); err != nil {
		return err
	}
	if err := j.fillClients(); err != nil {
		return err
	}
	if err := j.checkRescale(); err != nil {
		return err
	}
	if err := j.fillTransport(); err != nil {
		return err
	}
	if j.Transport == TCP && string(j.Algorithm) == comm.Shared.String() {
		return j.Errorf("algorithm", "shared needs workers that share memory, and over tcp they do not: use auto")
	}
	if string(j.Algorithm) == comm.Native.String() && j.Transport != MPI {
		return j.Errorf("algorithm", "native needs a transport that sums by itself, and %s does not: use auto", j.Transport)
	}
	return nil
}

// checkRange holds one key to its choices and bounds.
func (j *Job) checkRange(k Key) error {
	f, _ := j.field(k.Name)
	switch v := f.Interface().(type) {
	case string:
		if v != "" && len(k.Choices) > 0 {
			if err := spec.OneOf(k.Name, v, k.Choices...); err != nil {
				return j.Errorf(k.Name, "%w", err)
			}
		}
	case int:
		switch {
		case v < k.Least:
			return j.Errorf(k.Name, "%d is too few: at least %d", v, k.Least)
		case k.Most > 0 && v > k.Most:
			return j.Errorf(k.Name, "%d is too many: at most %d", v, k.Most)
		}
	}
	return nil
}

func (j *Job) fillStrategy() error {
	closed := slices.Contains([]string{"linear", "ridge"}, j.Model.Name())
	if j.Strategy == "" {
		j.Strategy = AllReduce
		if closed && !j.Given("optimizer") && !j.Given("lr") {
			j.Strategy = Direct
		}
	}
	if err := spec.OneOf("strategy", j.Strategy.Name(), slices.Concat([]string{AllReduce, ParameterServer, Hogwild, Direct, Newton, LBFGS}, local.Names())...); err != nil {
		return j.Errorf("strategy", "%w", err)
	}
	if j.Solves() {
		return j.fillSolver()
	}
	if s, _ := j.Strategy.Spec(); !j.IsLocal() && !j.IsServed() {
		if err := s.Done(); err != nil {
			return j.Errorf("strategy", "%w", err)
		}
	}
	if j.Strategy == Direct {
		switch {
		case !closed:
			return j.Errorf("strategy", "%s has no closed form: use allreduce, or the models linear or ridge", j.Model.Name())
		case j.Given("optimizer"):
			return j.Errorf("optimizer", "the closed form needs none: leave it out, or give --strategy allreduce")
		case j.Given("batch"):
			return j.Errorf("batch", "the closed form takes the whole training set at once: leave it out, or give --strategy allreduce")
		}
		j.Epochs = 1
		return nil
	}
	if j.Optimizer == "" {
		j.Optimizer = "adam"
		if j.Model.Name() == "lasso" || j.Strategy == Hogwild {
			j.Optimizer = "sgd"
		}
	}
	if j.Model.Name() == "lasso" && !slices.Contains([]string{"sgd"}, j.Optimizer.Name()) {
		return j.Errorf("optimizer", "the lasso's proximal step goes with sgd, not with %s", j.Optimizer.Name())
	}
	probe, err := j.Optimizer.Spec()
	if err == nil {
		_, err = optim.New(probe, model.Layout{}.Add("probe", 1))
	}
	if err != nil {
		return j.Errorf("optimizer", "%w", err)
	}
	if j.LR == 0 {
		if j.where["lr"] != "" {
			return j.Errorf("lr", "with a rate of 0 nothing is learned")
		}
		j.LR = optim.DefaultRate(j.Optimizer.Name())
	}
	rates, err := j.Schedule.Spec()
	if err == nil {
		_, err = optim.NewSchedule(rates, j.LR, 1<<30, 1) // the length is not known yet, and is checked again when it is
	}
	if err != nil {
		return j.Errorf("schedule", "%w", err)
	}
	switch {
	case j.IsLocal():
		return j.fillLocal()
	case j.IsServed():
		return j.fillServed()
	case j.Strategy == Hogwild:
		return j.fillHogwild()
	}
	return nil
}

// checkRescale refuses a batch that is to follow the workers where it is not theirs.
func (j *Job) checkRescale() error {
	switch {
	case !j.Rescales():
	case j.Strategy == Direct || j.Solves():
		return j.Errorf("rescale", "%s takes all samples in every step: leave it out, or give --strategy allreduce", j.Strategy.Name())
	case j.Partition != "":
		return j.Errorf("rescale", "a client draws from data of its own, however many workers there are: leave it out, or the partition")
	}
	return nil
}

// Rescales tells whether the batch follows the number of workers.
func (j *Job) Rescales() bool { return j.Rescale != "" && j.Rescale != "none" }

func (j *Job) fillTransport() error {
	switch {
	case j.Transport == "" && (j.Workers == 1 || j.Solves()): // what starts processes takes as long as many a solver
		j.Transport = Inproc
	case j.Transport == "" && shm.Available() == nil:
		j.Transport = Shm
	case j.Transport == "":
		j.Transport = TCP
	case j.Transport == Shm:
		if err := shm.Available(); err != nil {
			return j.Errorf("transport", "%w", err)
		}
	}
	switch {
	case j.Microshards > 0 || j.Strategy == Direct:
	case j.Solves():
		j.Microshards = max(solverShards, j.Workers)
	default:
		j.Microshards = j.Workers
	}
	if j.Given("batch") && j.Microshards > j.Batch {
		return j.Errorf("batch", "%d samples cannot be cut into %d microshards (there is one a worker at least): a batch of at least %d, or fewer workers", j.Batch, j.Microshards, j.Microshards)
	}
	return nil
}

// Reading is how the job says to read data.
func (j *Job) Reading() data.Options {
	return data.Options{Format: j.Format, Test: j.Test, TestFraction: j.Split, Seed: j.Seed, Task: data.Task(j.Task),
		Standardize: j.Standardize, Target: list(j.Target), TargetFile: j.TargetFile, Drop: list(j.Drop), Text: list(j.Text),
		Classes: j.Classes, ZeroBased: j.ZeroBased,
		Delimiter: j.Delimiter, Header: j.Header, Missing: j.Missing, Hash: j.Hash, Numbers: j.Numbers}
}

// Open reads the job's data.
func (j *Job) Open(ctx context.Context) (tr, test data.Dataset, err error) {
	tr, test, err = data.Open(ctx, j.Data, j.Reading())
	var bad *data.Error
	if err != nil && !errors.As(err, &bad) && ctx.Err() == nil {
		err = j.Errorf("data", "%w", err)
	}
	return tr, test, err
}

func list(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, ",")
}

// directShards is the number of slices of the data for a closed form: sums of statistics are exact, so it changes no bit.
const directShards = 64

const defaultBatch = 256

// mostWorkers bounds the processes of a run.
const mostWorkers = 4096

// Build turns a filled job and its data into what the workers run, and writes the defaults that depend on the data into
// the job.
func (j *Job) Build(tr, test data.Dataset) (train.Config, error) {
	ms, err := j.Model.Spec()
	if err != nil {
		return train.Config{}, j.Errorf("model", "%w", err)
	}
	m, err := zoo.New(ms, data.Shape(tr), tr.Len(), tr)
	if err != nil {
		return train.Config{}, j.Errorf("model", "%w", err)
	}
	if !j.simulated {
		parameters := m.Layout().Len()
		if w, ok := m.(*model.Whole); ok && j.IsServed() { // its tables are the servers'
			parameters = w.Sparse().Layout().Len()
		}
		if err := j.fits(parameters, memory()); err != nil {
			return train.Config{}, err
		}
	}
	n := tr.Len()
	if j.Strategy == Direct {
		c := j.config(m, tr, test)
		c.Optimizer, c.Batch, c.Microshards, c.Epochs = "sgd", n, min(n, max(directShards, j.Workers)), 1
		c.Strategy = func() strategy.Strategy { return direct.New() }
		return c, nil
	}
	if j.Solves() {
		return j.solverConfig(m, tr, test)
	}
	if j.Batch == 0 {
		j.Batch = min(defaultBatch, n)
	}
	switch {
	case j.Batch > n:
		return train.Config{}, j.Errorf("batch", "%d samples a step, but the training data has %d", j.Batch, n)
	case j.Workers > j.Batch:
		return train.Config{}, j.Errorf("workers", "%d workers cannot share a batch of %d samples: a larger --batch or fewer workers", j.Workers, j.Batch)
	case j.Microshards > j.Batch:
		return train.Config{}, j.Errorf("microshards", "%d slices of a batch of %d samples: at most one a sample", j.Microshards, j.Batch)
	}
	alg, err := comm.ParseAlgorithm(string(j.Algorithm))
	if err != nil {
		return train.Config{}, j.Errorf("algorithm", "%w", err)
	}
	if err := alg.Check(comm.NewTree(j.Microshards, j.Workers)); err != nil {
		return train.Config{}, j.Errorf("algorithm", "%w", err)
	}
	if j.Costs != "" {
		if _, err := comm.TCPCosts.With(j.Costs); err != nil {
			return train.Config{}, j.Errorf("costs", "%w", err)
		}
	}
	made := func() strategy.Strategy { return allreduce.New() }
	switch {
	case j.IsLocal():
		made, err = j.localStrategy()
	case j.IsServed():
		made, err = j.servedStrategy()
	case j.Strategy == Hogwild:
		shared := hogwild.NewShared(tr)
		made = func() strategy.Strategy { return hogwild.New(shared) }
	}
	if err != nil {
		return train.Config{}, err
	}
	c := j.config(m, tr, test)
	c.Optimizer, c.Rate, c.Schedule = string(j.Optimizer), j.LR, string(j.Schedule)
	c.Batch, c.Microshards, c.Epochs, c.Steps, c.SaveEvery = j.Batch, j.Microshards, j.Epochs, j.Steps, j.Save
	c.Compress, c.Adapt, c.Algorithm, c.Costs, c.Bucket, c.Replicate = string(j.Compress), j.Adapt, alg, j.Costs, int(j.Bucket), j.Shard == "no"
	c.Strategy = made
	if j.Rescales() {
		c.Rescale, c.Workers = j.Rescale, j.Workers
	}
	return c, j.divide(&c)
}

// Simulate says that the workers will be simulated: how many this host's memory holds is then their world's to say, not
// Build's.
func (j *Job) Simulate() { j.simulated = true }

// fits refuses what cannot fit in a host's bytes of memory, 0 if they are not known: each worker holds a vector of
// parameters and one of gradients, at least.
func (j *Job) fits(parameters int, bytes float64) error {
	here := 1
	if j.Transport != TCP {
		here = j.Workers
	}
	need := 2 * 4 * float64(parameters) * float64(here)
	if bytes == 0 || need <= bytes {
		return nil
	}
	const gib = 1 << 30
	return j.Errorf("model", "%d parameters need at least %.0f GiB for %d of the workers, and this host has %.0f GiB", parameters, need/gib, here, bytes/gib)
}

// memory is the bytes of this host's memory, 0 where that cannot be told. Tests put a host of their own in its place.
var memory = func() float64 {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	var kib float64
	if _, err := fmt.Sscanf(string(text), "MemTotal: %f kB", &kib); err != nil {
		return 0
	}
	return kib * 1024
}

// config is what is alike of whatever j trains.
func (j *Job) config(m model.Model, tr, test data.Dataset) train.Config {
	return train.Config{Model: m, Train: tr, Test: test, Seed: j.Seed, Keep: j.Keep, Checkpoints: j.Checkpoints, SaveTogether: int(j.SaveTogether), Extra: j.extra(tr)}
}

// extra is what inference needs to know beside the tensors.
func (j *Job) extra(tr data.Dataset) map[string]any {
	return map[string]any{"model": j.Model, "data": data.SchemaOf(tr), "samples": tr.Len()}
}

// SavedAt is where the checkpoints of the job's run are.
func (j *Job) SavedAt() string { return cmp.Or(j.Checkpoints, j.Run) }

// ComputeThreads is how many threads a worker computes with when so many share this host.
func (j *Job) ComputeThreads(local int) int {
	if j.Threads > 0 {
		return j.Threads
	}
	return max(1, runtime.GOMAXPROCS(0)/max(1, local))
}

// Ahead tells whether a core is left to prepare batches ahead when so many workers share this host.
func (j *Job) Ahead(local int) bool {
	return runtime.GOMAXPROCS(0) > local*j.ComputeThreads(local)
}

// Reproducible says how far the run's bits can be had again, in words for the report.
func (j *Job) Reproducible() string {
	alg, err := comm.ParseAlgorithm(string(j.Algorithm))
	if err == nil && alg == comm.Native {
		return fmt.Sprintf("at %d workers at most: the transport adds in an order of its own", j.Workers)
	}
	if err == nil && !alg.Canonical() {
		return fmt.Sprintf("at %d workers only: the %v adds in an order that depends on their number", j.Workers, alg)
	}
	if j.Strategy == Direct {
		return "with any number of workers and any transport"
	}
	if j.Adapt != "" {
		return "not: what is chosen depends on measured times"
	}
	if c, err := j.served(); j.IsServed() && err == nil && !c.Held() {
		return "not: what a push does depends on when it comes"
	}
	if c, err := j.served(); j.IsServed() && err == nil && (c.Pull != "" || j.compresses()) {
		return fmt.Sprintf("at %d workers and %d servers only, with any transport: what is compressed is a worker's own sum, and a server's range", j.Workers, c.Servers)
	}
	if j.Strategy == Hogwild && j.Workers > 1 {
		return "not: workers write over each other's updates"
	}
	if j.Rescales() {
		return fmt.Sprintf("with as many workers at each step and any transport, at %d microshards: the batch follows them", j.Microshards)
	}
	if j.compresses() {
		return fmt.Sprintf("at %d workers only, with any transport: what is compressed is a worker's own sum", j.Workers)
	}
	return fmt.Sprintf("with any number of workers and any transport, at %d microshards", j.Microshards)
}
