//go:build integration

package integration

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// Chaos: runs on real processes, to each of which a few things happen at random moments. A moment is a step, read off the run's
// metrics, so that a busy machine changes how long a run takes and nothing else. COVEY_CHAOS is how many runs there are (9), and
// COVEY_CHAOS_SEED the seed of the first (1). docs/chaos.md says what is promised, and what came of it.

// job is what chaos runs train: a kind of method, and how near the calm run it has to come.
type chaosJob struct {
	name  string
	args  []string
	exact bool
}

var chaosJobs = []chaosJob{
	{"all-reduce", []string{"--optimizer", "momentum", "--lr", "0.02"}, true},
	{"all-reduce, adam", []string{"--optimizer", "adam", "--lr", "0.001"}, true},
	{"all-reduce, clipped", []string{"--optimizer", "momentum:clip=1", "--lr", "0.02"}, true},
	{"top-k with residuals", []string{"--optimizer", "momentum", "--lr", "0.02", "--compress", "topk:0.1+ef"}, false},
	{"local SGD", []string{"--optimizer", "momentum", "--lr", "0.02", "--strategy", "local:K=4"}, false},
}

const (
	chaosWorkers  = 4 // at the start
	chaosSteps    = 1600
	chaosEpochs   = 200 // of 8 steps
	chaosDeadline = 2 * time.Second
	chaosLimit    = 3 * time.Minute // for a run to end
)

func chaosArgs(j chaosJob, folder string, workers int, more ...string) []string {
	args := []string{"train", "--data", "digits:train=2000,test=100", "--model", "mlp:64", "--workers", strconv.Itoa(workers), "--microshards", "8",
		"--epochs", strconv.Itoa(chaosEpochs), "--timeout", chaosDeadline.String(), "--run", folder, "--transport", "tcp"}
	return append(append(args, j.args...), more...)
}

// calmRun is a run of a job to which nothing happened.
type calmRun struct {
	result
	losses map[int]float64 // by step
}

// calmRuns are those that have been asked for, by job.
var calmRuns = map[string]calmRun{}

// calm trains a job on goroutines.
func (j chaosJob) calm(t *testing.T) calmRun {
	t.Helper()
	if done, ok := calmRuns[j.name]; ok {
		return done
	}
	folder := filepath.Join(t.TempDir(), "calm")
	args := append(chaosArgs(j, folder, chaosWorkers)[1:], "--transport", "inproc", "--timeout", "1m", "--save", strconv.Itoa(chaosSteps))
	calm := calmRun{train(t, args...), map[int]float64{}}
	for _, l := range linesOf(t, folder) {
		if l.Epoch == 0 {
			calm.losses[l.Step] = l.Loss
		}
	}
	calmRuns[j.name] = calm
	return calm
}

// stepLine is a line of a run's metrics: of a step, or of the end of an epoch.
type stepLine struct {
	Step    int
	Loss    float64
	Epoch   int    `json:"epoch_end"`
	Samples string `json:"sample_ledger"`
}

// linesOf reads a run's metrics.
func linesOf(t *testing.T, folder string) (all []stepLine) {
	t.Helper()
	f, err := os.Open(filepath.Join(folder, "metrics.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for in := bufio.NewScanner(f); in.Scan(); {
		var line stepLine
		if err := json.Unmarshal(in.Bytes(), &line); err != nil {
			t.Fatalf("%v in the metrics' line %q", err, in.Text())
		}
		all = append(all, line)
	}
	return all
}

// chaos trains while things happen, and checks what must be true in the end.
func chaos(t *testing.T, seed uint64, got *chaosOutcome) {
	draw := rand.New(rand.NewPCG(seed, 0))
	w := chaosWorlds[seed%uint64(len(chaosWorlds))](t)
	j := chaosJobs[draw.IntN(len(chaosJobs))]
	got.world, got.job = w.name, j.name
	events := drawEvents(draw, w.events)
	r := newRig(t, w)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("seed %d, %s, %s: %v\n%s", seed, w.name, j.name, got.events, r.all())
		} else {
			t.Logf("seed %d, %s, %s: %v", seed, w.name, j.name, got.events)
		}
	})
	r.begin(chaosArgs(j, r.folder, chaosWorkers, "--min-workers", "1", "--max-workers", "8")...)
	end := time.Now().Add(chaosLimit)
	for _, e := range events {
		if !r.until(end, func() bool { return r.step() >= e.step || !r.launcher.alive() }) || !r.launcher.alive() {
			r.stacks()
			t.Fatalf("stuck at step %d", r.step())
		}
		step := r.step()
		what := r.happen(draw, e.what)
		got.events = append(got.events, chaosEvent{step, what})
		if what == kill {
			from := time.Now()
			r.until(end, func() bool { return r.step() > step+1 }) // one may have been under way
			got.recovered = append(got.recovered, time.Since(from))
		}
	}
	if !r.until(end, func() bool { return !r.launcher.alive() }) {
		r.stacks()
		t.Fatalf("not over after %v, at step %d", chaosLimit, r.step())
	}
	r.verdict(j, true)
}

// verdict holds what must be true of a run that is over. written says that somebody could write the run folder all the time.
func (r *rig) verdict(j chaosJob, written bool) {
	t := r.t
	t.Helper()
	calm := j.calm(t)
	if code := r.launcher.ProcessState.ExitCode(); code != 0 {
		t.Errorf("the run ended with exit code %d", code)
		return
	}
	var got result
	b, err := os.ReadFile(filepath.Join(r.folder, "report.json"))
	if err == nil {
		err = json.Unmarshal(b, &got)
	}
	switch {
	case err != nil:
		t.Error(err)
	case got.Steps != chaosSteps:
		t.Errorf("%d steps, expected %d", got.Steps, chaosSteps)
	case j.exact && got.Weights != calm.Weights:
		t.Errorf("weights %.12s, the calm run's are %.12s", got.Weights, calm.Weights)
	case !j.exact && math.Abs(got.Loss-calm.Loss) > 0.01*calm.Loss:
		t.Errorf("loss %v, the calm run's is %v", got.Loss, calm.Loss)
	}
	generations, err := r.generations()
	if err != nil {
		t.Error(err)
	}
	lines := linesOf(t, r.folder)
	missing, err := committed(lines, j, calm)
	if err != nil {
		t.Error(err)
	}
	if !written {
		missing = 0
	}
	// The line of the step at whose end a generation broke may be missing: who was to write it is gone.
	if missing >= max(1, generations) {
		t.Errorf("of %d steps in %d generations, %d are not in the metrics", chaosSteps, generations, missing)
	}
	if err := ledgerOf(lines); err != nil && written {
		t.Error(err)
	}
	if left := r.leftovers(); left != "" {
		t.Errorf("left behind: %s", left)
	}
}

// ledgerOf tells whether the metrics of a run have every epoch, with each sample used exactly once in it.
func ledgerOf(lines []stepLine) error {
	seen := map[int]string{}
	for _, l := range lines {
		if l.Epoch > 0 {
			seen[l.Epoch] = l.Samples
		}
	}
	for e := 1; e <= chaosEpochs; e++ {
		if want := fmt.Sprintf("epoch %d: each sample used exactly once", e); seen[e] != want {
			return fmt.Errorf("the ledger of epoch %d says %q", e, seen[e])
		}
	}
	return nil
}

// committed counts the steps that are not in the metrics of a run. None may be there twice, and each of an exact method has the calm
// run's loss.
func committed(lines []stepLine, j chaosJob, calm calmRun) (missing int, err error) {
	last := 0
	for _, l := range lines {
		if l.Epoch > 0 {
			continue
		}
		if l.Step <= last {
			return 0, fmt.Errorf("the metrics have step %d after step %d", l.Step, last)
		}
		if want := calm.losses[l.Step]; j.exact && l.Loss != want {
			return 0, fmt.Errorf("step %d has the loss %v, the calm run's is %v", l.Step, l.Loss, want)
		}
		missing += l.Step - last - 1
		last = l.Step
	}
	return missing + chaosSteps - last, nil
}

// generations are how many the workers trained in. There is one of each number: all who were in it say the same of it, each rank once.
func (r *rig) generations() (count int, err error) {
	type place struct {
		generation uint64
		rank       int
	}
	what, who := map[uint64]string{}, map[place]bool{}
	for h := range r.w.hosts() {
		for _, s := range seatsOf(r.said(h)) {
			says := fmt.Sprintf("%d workers, %s", s.Workers, s.Why)
			if first, ok := what[s.Generation]; ok && first != says {
				return 0, fmt.Errorf("there are two generations %d: of %s; and of %s", s.Generation, first, says)
			}
			if at := (place{s.Generation, s.Rank}); who[at] {
				return 0, fmt.Errorf("in generation %d there are two of rank %d", s.Generation, s.Rank)
			} else {
				who[at] = true
			}
			what[s.Generation] = says
		}
	}
	if len(what) == 0 {
		return 0, fmt.Errorf("no worker says that a generation began")
	}
	return len(what), nil
}

// Whatever happens to a run, it ends; with an exact method and microshards fixed, with the weights of the run that nothing happened
// to; its sample ledger is exact, no step is done twice, and it leaves nothing behind.
func TestChaos(t *testing.T) {
	n, first := countOf(t, "COVEY_CHAOS", 9), seedFrom(t, "COVEY_CHAOS_SEED")
	var all []*chaosOutcome
	began := time.Now()
	for i := range n {
		seed, got := first+uint64(i), &chaosOutcome{}
		from := time.Now()
		got.failed = !t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) { chaos(t, seed, got) })
		got.took = time.Since(from)
		all = append(all, got)
	}
	fmt.Print(chaosTable(all, fmt.Sprintf("COVEY_CHAOS=%d COVEY_CHAOS_SEED=%d make chaos", n, first), time.Since(began)))
}
