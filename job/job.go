// Package job reads, checks and writes jobs: what to train and how.
//
// A job is a YAML file of flat keys; the same keys are the flags of covey train, and a flag wins over the file.
// Load reads a file, Set takes one key as text, Fill checks everything that can be checked without the data
// and fills in the defaults, and Build turns the job and its data into a train.Config.
package job

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/covey-ml/covey/spec"
)

// Job is what to train and how. The zero value of a field means its default, which Fill writes down.
type Job struct {
	Data        string  `help:"training data: a file or folder (MNIST, LIBSVM, CSV), or digits, which makes its own" default:"digits"`
	Test        string  `help:"test data; by default what stands beside the training data, else a part of it; none: do not test"`
	Split       float64 `help:"part of the data kept for testing when there is no test set" default:"0.1"`
	Format      string  `help:"format of the data, when its content does not tell: idx, libsvm or csv" choices:"idx libsvm csv"`
	Task        string  `help:"classification or regression, when the targets do not tell" choices:"classification regression"`
	Target      string  `help:"CSV column to predict, by name or number from 1; several with commas (default: the last)"`
	TargetFile  string  `help:"file of the targets, when they are not in the data file"`
	Drop        string  `help:"CSV columns to leave out, with commas"`
	Text        string  `help:"CSV columns of text that look like numbers, with commas"`
	Header      string  `help:"whether the first CSV line holds names: yes, no or auto" default:"auto" choices:"auto yes no"`
	Delimiter   string  `help:"what separates CSV fields: comma, tab, blank or a character (default: found)"`
	Missing     string  `help:"empty CSV fields: error, mean (of the column), drop (the row) or, with hash, keep (as a text of its own)" default:"error" choices:"error mean drop keep"`
	Hash        int     `help:"hash the features of CSV or LIBSVM into 2 to this power, so that texts and indices may be any; samples are then sparse (default: not)" least:"0" most:"28"`
	Numbers     string  `help:"CSV numbers with hash: log (a feature for each half octave) or value (as they are) (default: log)" choices:"log value"`
	Classes     int     `help:"how many classes the labels count, from 0: another label is an error (default: found)" least:"0" most:"1000000"`
	ZeroBased   bool    `help:"LIBSVM indices count from 0, not from 1"`
	Standardize bool    `help:"bring every number to mean 0 and deviation 1 over the training data"`

	Model       Choice  `help:"what is learned, as in mlp:128,64 or logistic:C=1" default:"mlp:128"`
	Optimizer   Choice  `help:"update rule, as in adam or sgd:momentum=0.9"`
	LR          float64 `help:"learning rate (default: the optimizer's)"`
	Schedule    Choice  `help:"how the rate changes, as in cosine:warmup=100" default:"constant"`
	Batch       int     `help:"samples of one step, over all workers (default: 256, or all there are when they are fewer)" least:"0"`
	Microshards int     `help:"slices of a batch, the unit of summation: fix it and the worker count changes no bit (default: one a worker)" least:"0"`
	Rescale     string  `help:"what the batch does when the number of workers changes: none (it stays), linear (batch and learning rate follow it) or sqrt (the rate by its square root)" default:"none" choices:"none linear sqrt"`
	Partition   Choice  `help:"how the data belongs to clients, each a microshard that draws from its own: iid, contiguous, label:k, dirichlet:alpha, size:exponent or sizes:n,n,... (default: batches are of all data)"`
	Clients     int     `help:"how many clients there are: the same as microshards" least:"0" most:"65536"`
	Epochs      int     `help:"passes over the data" default:"10" least:"1" most:"1000000000"`
	Steps       int     `help:"stop after so many steps, whatever the epochs" least:"0"`
	Seed        uint64  `help:"seed of everything random" default:"1"`

	Strategy  Choice        `help:"when workers talk: allreduce (every step), ps:servers=1,mode=bsp (by way of parameter servers; covey train --help lists the modes), hogwild (workers of one process share a vector without locks, for linear models of sparse data), local:K=16 and its relatives postlocal, hierarchical, fedprox, scaffold, easgd, bmuf and diloco (replicas train by themselves for K steps), direct (closed form, for linear and ridge), or newton or lbfgs (solvers, for the smooth linear models), as in newton:tol=1e-6"`
	Compress  Rules         `help:"how sums are compressed, as in topk:0.01+ef or powersgd:2+ef, for all segments or by their names, as in \"bias: none; *: powersgd:4+ef\" (default: not; covey train --help lists the choices)"`
	Adapt     string        `help:"choose how to compress, in buckets of what size and, with --strategy local, how often to talk from measured times, while training: auto, or arms such as \"none; bf16; topk:0.01+ef price=1.2 bucket=256KiB K=4\" (default: not)"`
	Workers   int           `help:"workers" default:"2" least:"1" most:"1000000"`
	Transport string        `help:"how workers talk: inproc (goroutines of one process, which all end when one crashes), shm (processes, shared memory), tcp or mpi (processes that mpirun starts) (default: shm; inproc for one worker, newton and lbfgs)" choices:"inproc shm tcp mpi"`
	Algorithm Choice        `help:"all-reduce algorithm: auto, direct, doubling, gather, tree, ring, torus:rows=R, hierarchical:hosts=H, shared or native (the transport's own, where it has one)" default:"auto"`
	Costs     string        `help:"what messages cost, by which algorithms are chosen: a file that covey probe wrote (default: what the transport costs on a typical machine)"`
	Bucket    spec.Bytes    `help:"bytes of gradient that are reduced in one go while the backward pass still runs (default: by what the transport costs)"`
	Shard     string        `help:"each worker updates its own part of the parameters and sends that out (ZeRO stage 1), where the optimizer allows it; no bit changes: yes or no" default:"yes" choices:"yes no"`
	Threads   int           `help:"compute threads a worker (default: the cores divided by the workers on this host)" least:"0" most:"1024"`
	Timeout   time.Duration `help:"longest wait for another worker" default:"30s"`

	Run          string     `help:"folder for what the run leaves (default: a new one under runs/)"`
	Save         int        `help:"steps between checkpoints (default: one an epoch)" least:"0"`
	Keep         int        `help:"checkpoints to keep" default:"3" least:"1"`
	Checkpoints  string     `help:"where checkpoints go: a folder, or s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or azblob://CONTAINER/PREFIX of a covey that was built with -tags s3, gs or azblob (default: the run's folder)"`
	SaveTogether spec.Bytes `help:"size of the parameters from which on each worker writes its part of a checkpoint, where all reach the place, and not one worker all" default:"256MiB"`

	where     map[string]string // key -> who set it, for errors
	simulated bool
}

// Choice is a name with parameters, in the notation of package spec.
type Choice string

// Spec parses the choice.
func (c Choice) Spec() (*spec.Spec, error) { return spec.Parse(string(c)) }

// Name is the choice without its parameters.
func (c Choice) Name() string {
	name, _, _ := strings.Cut(string(c), ":")
	return name
}

// Rules say how each segment is compressed, in the notation of reduce.ParseRules. In YAML a mapping from patterns to
// choices says the same.
type Rules string

// Key is one key of a job.
type Key struct {
	Name    string // as YAML writes it, with underscores
	Kind    string // of value, in a word: text, choice, number, whole, yes/no, duration or size
	Help    string
	Default string
	Choices []string // the words that a text may be, when it may not be any
	Least   int      // of a whole number
	Most    int      // 0 is no bound
}

// Flag is the key's name on the command line.
func (k Key) Flag() string { return strings.ReplaceAll(k.Name, "_", "-") }

// Keys lists all keys in the order of the file.
func Keys() []Key {
	t := reflect.TypeFor[Job]()
	var keys []Key
	for i := range t.NumField() {
		if f := t.Field(i); f.IsExported() {
			least, _ := strconv.Atoi(f.Tag.Get("least"))
			most, _ := strconv.Atoi(f.Tag.Get("most"))
			keys = append(keys, Key{Name: keyName(f.Name), Kind: kinds[f.Type], Help: f.Tag.Get("help"), Default: f.Tag.Get("default"),
				Choices: strings.Fields(f.Tag.Get("choices")), Least: least, Most: most})
		}
	}
	return keys
}

var kinds = map[reflect.Type]string{
	reflect.TypeFor[string](): "text", reflect.TypeFor[Choice](): "choice", reflect.TypeFor[Rules](): "choice", reflect.TypeFor[float64](): "number",
	reflect.TypeFor[int](): "whole", reflect.TypeFor[uint64](): "whole", reflect.TypeFor[bool](): "yes/no",
	reflect.TypeFor[time.Duration](): "duration", reflect.TypeFor[spec.Bytes](): "size",
}

func keyName(field string) string {
	switch field {
	case "LR":
		return "lr"
	case "TargetFile":
		return "target_file"
	case "ZeroBased":
		return "zero_based"
	case "SaveTogether":
		return "save_together"
	}
	return strings.ToLower(field)
}

func (j *Job) field(key string) (reflect.Value, bool) {
	v := reflect.ValueOf(j).Elem()
	for i := range v.NumField() {
		if f := v.Type().Field(i); f.IsExported() && keyName(f.Name) == key {
			return v.Field(i), true
		}
	}
	return reflect.Value{}, false
}

// Set gives a key its value as text. where says who did, for errors: a flag, or a file and line.
func (j *Job) Set(key, text, where string) error {
	key = strings.ReplaceAll(key, "-", "_")
	f, ok := j.field(key)
	if !ok {
		names := make([]string, 0, 32)
		for _, k := range Keys() {
			names = append(names, k.Name)
		}
		return &Error{Where: where, Err: spec.OneOf("key", key, names...)}
	}
	if j.where == nil {
		j.where = map[string]string{}
	}
	j.where[key] = where
	if err := put(f, text); err != nil {
		return j.Errorf(key, "%w", err)
	}
	return nil
}

// put parses text into a field.
func put(f reflect.Value, text string) error {
	var err error
	switch p := f.Addr().Interface().(type) {
	case *string:
		*p = text
	case *Choice:
		*p = Choice(text)
	case *Rules:
		*p = Rules(text)
	case *int:
		if *p, err = strconv.Atoi(text); err != nil {
			err = fmt.Errorf("%q is not a whole number", text)
		}
	case *bool:
		if *p, err = strconv.ParseBool(text); err != nil {
			err = fmt.Errorf("%q is not true or false", text)
		}
	case *uint64:
		if *p, err = strconv.ParseUint(text, 10, 64); err != nil {
			err = fmt.Errorf("%q is not a whole number from 0 up", text)
		}
	case *float64:
		if *p, err = strconv.ParseFloat(text, 64); err != nil || *p != *p {
			err = fmt.Errorf("%q is not a number", text)
		}
	case *time.Duration:
		if *p, err = time.ParseDuration(text); err != nil {
			err = fmt.Errorf("%q is not a duration such as 30s or 2m", text)
		}
	case *spec.Bytes:
		*p, err = spec.ParseBytes(text)
	default:
		panic(fmt.Sprintf("job: a key of type %T", p))
	}
	return err
}

// Get returns a key's value as Set takes it.
func (j *Job) Get(key string) string {
	f, ok := j.field(strings.ReplaceAll(key, "-", "_"))
	if !ok {
		return ""
	}
	return fmt.Sprint(f.Interface())
}

// Given tells whether somebody chose a value for the key: an empty one, or a 0, leaves the choice to Fill. In a Job that
// was written as a literal, every other value is chosen.
func (j *Job) Given(key string) bool {
	f, ok := j.field(key)
	return ok && !f.IsZero() && (j.where == nil || j.where[key] != "")
}

// chosen is Given of a value that is not the key's default, which a job file that was written from a job has for every key.
func (j *Job) chosen(key string) bool {
	i := slices.IndexFunc(Keys(), func(k Key) bool { return k.Name == key })
	return j.Given(key) && j.Get(key) != Keys()[i].Default
}

// Places says who set each key, by key. A job that is sent to a worker as YAML takes its places along, so that the worker's
// errors point at what the user wrote.
func (j *Job) Places() map[string]string { return maps.Clone(j.where) }

// SetPlaces is Places' inverse on a job that was parsed from its YAML. Keys without a place are nobody's choice.
func (j *Job) SetPlaces(p map[string]string) {
	if j.where = maps.Clone(p); p == nil {
		j.where = map[string]string{}
	}
}

// Error is a job that cannot run: where it says so, the key and what is wrong.
type Error struct {
	Where string // file:line or flag
	Key   string
	Err   error
}

func (e *Error) Error() string {
	s := e.Err.Error()
	if e.Key != "" && !strings.HasSuffix(e.Where, "--"+strings.ReplaceAll(e.Key, "_", "-")) {
		s = e.Key + ": " + s
	}
	if e.Where != "" {
		s = e.Where + ": " + s
	}
	return s
}

// Unwrap returns what is wrong.
func (e *Error) Unwrap() error { return e.Err }

// Errorf is an error about a key, at the place that set it.
func (j *Job) Errorf(key, format string, args ...any) error {
	return &Error{Where: j.where[key], Key: key, Err: fmt.Errorf(format, args...)}
}
