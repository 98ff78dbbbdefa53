package job

import (
	"strings"
	"testing"

	"github.com/covey-ml/covey/comm"
)

func TestParseRoundTrip(t *testing.T) {
	j, err := Parse("job.yaml", []byte(`
# a comment
data: ../shared/data/mnist   # more
model: {mlp: [128, 64]}
optimizer:
  sgd:
    momentum: 0.9
    nesterov: true
lr: 1e-3
bucket: 64KiB
timeout: 2m
target: "no"
`))
	if err != nil {
		t.Fatal(err)
	}
	if j.Model != "mlp:128,64" || j.Optimizer != "sgd:momentum=0.9,nesterov=true" || j.LR != 1e-3 || j.Bucket != 64<<10 || j.Target != "no" {
		t.Fatalf("%+v", j)
	}
	k, err := Parse("again", j.YAML())
	if err != nil {
		t.Fatalf("%v\n%s", err, j.YAML())
	}
	if string(k.YAML()) != string(j.YAML()) {
		t.Fatalf("%s\n\n%s", j.YAML(), k.YAML())
	}
}

func TestParseErrors(t *testing.T) {
	for text, want := range map[string]string{
		"data: x\nmodle: mlp":         `job.yaml:2: unknown key "modle": did you mean "model"?`,
		"workers: two":                `job.yaml:1: workers: "two" is not a whole number`,
		"lr: [1, 2]":                  `job.yaml:1: lr: takes one value`,
		"\n\nworkers: 2\nworkers: 3":  `job.yaml:4: `,
		"- a\n- b":                    `job.yaml:1: expected keys`,
		"data: [":                     `job.yaml:1: `,
		"timeout: 5":                  `job.yaml:1: timeout: "5" is not a duration such as 30s`,
		"model: {mlp: [1], linear: }": `job.yaml:1: model: expected a name`,
		"model: mlp\n---\nlr: 1\n":    `job.yaml:3: a second document begins here`,
		"data: &a digits\nrun: *a\n":  `job.yaml:1: data: anchors, aliases and tags are not read here`,
		"model:\n\tmlp: 8\n":          `job.yaml:2: the line begins with a tab: YAML is indented with spaces`,
		"\x00\x01":                    `job.yaml: not a job file: not text in UTF-8`,
		"lr: \xff":                    `job.yaml: not a job file: not text in UTF-8`,
		"\ufeffmodle: mlp":            `job.yaml:1: unknown key "modle": did you mean "model"?`,
	} {
		_, err := Parse("job.yaml", []byte(text))
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q\n got %v\nwant %s", text, err, want)
		}
	}
}

// What a job file could hold by accident or by malice gives an error, or a job that prints and parses back.
func FuzzParse(f *testing.F) {
	f.Add([]byte("data: x\nmodel: {mlp: [1, 2]}\nlr: 1e-3\n"))
	f.Add([]byte("optimizer: {sgd: {momentum: 0.9}}\n"))
	f.Add([]byte("a: &a [*a]\n"))
	f.Add([]byte("- x\n---\nmodel: |\n  mlp\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		j, err := Parse("job.yaml", text)
		if err != nil {
			return
		}
		k, err := Parse("job.yaml", j.YAML())
		if err != nil {
			t.Fatalf("%v in\n%s", err, j.YAML())
		}
		if string(k.YAML()) != string(j.YAML()) {
			t.Fatalf("%s\n\n%s", j.YAML(), k.YAML())
		}
	})
}

func TestFill(t *testing.T) {
	for text, want := range map[string]string{
		"model: mlpp":                              `job.yaml:1: model: unknown model "mlpp": did you mean "mlp"?`,
		"transport: tpc":                           `job.yaml:1: transport: unknown transport "tpc": did you mean "tcp"? (inproc, shm, tcp, mpi)`,
		"workers: 0":                               "job.yaml:1: workers: 0 is too few",
		"batch: -1":                                "job.yaml:1: batch: -1 is too few",
		"batch: 3\nworkers: 4":                     "job.yaml:1: batch: 3 samples cannot be cut into 4 microshards",
		"optimizer: adam:beta3=1":                  `job.yaml:1: optimizer: adam: unknown parameter "beta3": did you mean "beta1"?`,
		"model: lasso\noptimizer: adam":            "job.yaml:2: optimizer: the lasso's proximal step goes with sgd",
		"strategy: newton":                         "job.yaml:1: strategy: newton solves linear, ridge, logistic and softmax: for mlp use allreduce",
		"model: lasso\nstrategy: lbfgs":            "job.yaml:2: strategy: lbfgs needs second derivatives, and the lasso's absolute penalty has none: use allreduce",
		"model: logistic\nstrategy: newton\nlr: 1": "job.yaml:3: lr: newton finds its steps itself",
		"model: logistic\nstrategy: newton\noptimizer: adam":  "job.yaml:3: optimizer: newton needs none",
		"model: logistic\nstrategy: newton\nbatch: 9":         "job.yaml:3: batch: newton takes the whole training set",
		"model: logistic\nstrategy: newton\nschedule: cosine": "job.yaml:3: schedule: newton has no rate",
		"model: logistic\nstrategy: newton:memory=3":          "job.yaml:2: strategy: newton",
		"model: logistic\nstrategy: newton:tol=0":             "job.yaml:2: strategy: newton: tol and memory are above 0",
		"model: logistic\nstrategy: newton:solve=lu":          `job.yaml:2: strategy: newton: unknown solve "lu" (cholesky, cg)`,
		"model: logistic\nstrategy: lbfgs:iterations=0":       "job.yaml:2: strategy: lbfgs: iterations is 0",
		"strategy: direct":                         "job.yaml:1: strategy: mlp has no closed form",
		"model: ridge\nstrategy: direct\nbatch: 5": "job.yaml:3: batch: the closed form takes the whole training set",
		"timeout: 1ms":                             "job.yaml:1: timeout: 1ms is too short",
		"split: 1.5":                               "job.yaml:1: split: 1.5 is not between 0 and 1",
		"rescale: linaer":                          `job.yaml:1: rescale: unknown rescale "linaer": did you mean "linear"?`,
		"rescale: sqrt\npartition: iid":            "job.yaml:1: rescale: a client draws from data of its own",
		"model: ridge\nrescale: linear":            "job.yaml:2: rescale: direct takes all samples in every step",
		"algorithm: rign":                          `job.yaml:1: algorithm: unknown algorithm "rign": did you mean "ring"?`,
		"data: ''":                                 "job.yaml:1: data: names nothing",
		"lr: 0":                                    "job.yaml:1: lr: with a rate of 0 nothing is learned",
		"lr: 1e-320":                               "job.yaml:1: lr: 1e-320 is not a learning rate",
		"schedule: cosin":                          `job.yaml:1: schedule: unknown schedule "cosin": did you mean "cosine"?`,
		"schedule: step":                           "job.yaml:1: schedule: step: every is 0",
		"threads: 100000":                          "job.yaml:1: threads: 100000 is too many: at most 1024",
		"workers: 100000":                          "job.yaml:1: workers: 100000 is too many: at most 4096",
		"epochs: 9223372036854775807":              "job.yaml:1: epochs: 9223372036854775807 is too many",
	} {
		j, err := Parse("job.yaml", []byte(text))
		if err == nil {
			err = j.Fill()
		}
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q\n got %v\nwant %s", text, err, want)
		}
	}
	j := &Job{}
	if err := j.Fill(); err != nil {
		t.Fatal(err)
	}
	if j.Model != "mlp:128" || j.Optimizer != "adam" || j.LR != 0.001 || j.Workers != 2 || j.Microshards != 2 || j.Strategy != AllReduce || j.Timeout != 30e9 {
		t.Errorf("defaults: %s", j.YAML())
	}
	j = &Job{Model: "ridge"}
	if err := j.Fill(); err != nil {
		t.Fatal(err)
	}
	if j.Strategy != Direct || j.Optimizer != "" {
		t.Errorf("ridge: %s", j.YAML())
	}
}

// A model that no memory holds is refused before anything is allocated.
func TestFits(t *testing.T) {
	j := &Job{Workers: 2, Transport: Shm}
	if err := j.fits(1<<20, 16<<20); err != nil {
		t.Error(err)
	}
	if err := j.fits(1<<30, 8<<30); err == nil || !strings.Contains(err.Error(), "model: 1073741824 parameters need at least 16 GiB for 2 of the workers, and this host has 8 GiB") {
		t.Error(err)
	}
	if err := j.fits(1<<62, 0); err != nil {
		t.Errorf("with memory unknown: %v", err)
	}
}

// A job may name the algorithms of package comm, with their parameters, and is told what is wrong with another.
func TestAlgorithms(t *testing.T) {
	for _, name := range append(comm.AlgorithmNames(), "torus:rows=2", "hierarchical:hosts=3") {
		j := &Job{Algorithm: Choice(name)}
		if err := j.Fill(); name == "native" {
			if want := "native needs a transport that sums by itself"; err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %s", name, err, want)
			}
		} else if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, k := range Keys() {
			if word, _, _ := strings.Cut(name, ":"); k.Name == "algorithm" && !strings.Contains(k.Help, word) {
				t.Errorf("the help of algorithm does not have %s: %s", word, k.Help)
			}
		}
		if at := "at 2 workers only: the ring"; strings.HasPrefix(j.Reproducible(), at) != (name == "ring") {
			t.Errorf("%s is reproducible %s", name, j.Reproducible())
		}
	}
	for name, want := range map[string]string{
		"tours": `did you mean "torus"?`, "torus:row=2": `did you mean "rows"?`, "ring:2": `does not take the value "2"`,
	} {
		j := &Job{Algorithm: Choice(name)}
		if err := j.Fill(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", name, err, want)
		}
	}
}

// A run's folder has its job as it was filled, and the run goes on from there: whatever a job is of, it can be read and filled again.
func TestFilledJobsAreFilledAgain(t *testing.T) {
	for _, what := range []string{
		"strategy: ps:servers=2,mode=async", "strategy: ps:servers=2\ncompress: topk:0.1+ef", "strategy: hogwild\nmodel: logistic\noptimizer: sgd", "strategy: local:4",
		"strategy: diloco:fragments=4", "strategy: lbfgs\nmodel: logistic", "strategy: newton\nmodel: ridge", "model: ridge", "strategy: allreduce\nadapt: auto", "partition: iid\nclients: 8\nstrategy: scaffold\noptimizer: sgd",
	} {
		j, err := Parse("job.yaml", []byte("data: digits\n"+what+"\n"))
		if err == nil {
			err = j.Fill()
		}
		if err != nil {
			t.Errorf("%q: %v", what, err)
			continue
		}
		again, err := Parse("job.yaml", j.YAML())
		if err == nil {
			err = again.Fill()
		}
		if err != nil || string(again.YAML()) != string(j.YAML()) {
			t.Errorf("%q, filled again: %v", what, err)
		}
	}
}
