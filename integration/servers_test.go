//go:build integration

package integration

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/covey-ml/covey/internal/realdata"
)

const (
	serversWorkers     = 3
	serversMicroshards = 6
	serversEpochs      = 8
)

// serversDie are the modes in which servers and workers are killed.
var serversDie = []struct {
	model string // wide-deep and ctr-logistic have tables
	mode  string
	rate  float64
	exact bool // the weights are those of the calm run
}{{"logistic", "bsp", 0.1, true}, {"logistic", "ssp,staleness=4", 0.1, false}, {"logistic", "async", 0.03, false}, {"wide-deep:16", "bsp", 0.02, true}, {"ctr-logistic", "async", 0.03, false}}

func serversArgs(a9a, folder string, mode int, more ...string) []string {
	m := serversDie[mode]
	args := []string{"train", "--data", a9a, "--model", m.model, "--optimizer", "adagrad", "--lr", strconv.FormatFloat(m.rate, 'g', -1, 64),
		"--strategy", "ps:servers=2,mode=" + m.mode, "--workers", strconv.Itoa(serversWorkers), "--microshards", strconv.Itoa(serversMicroshards),
		"--epochs", strconv.Itoa(serversEpochs), "--transport", "tcp", "--run", folder}
	return append(args, more...)
}

// A server, a worker, or both are killed at a random step of a run on a9a, and started anew. Each run ends, with the objective, or of models
// with tables the loss on test data, within 1 % of the calm run's (with pushes held: with its weights); each sample was used once in each epoch; and each server has the steps of all
// microshards, each once: nothing that was acknowledged is missing, and nothing that was pushed again counts twice. COVEY_KILLS is how
// many runs there are (5), and COVEY_KILLS_SEED the seed of the first (1).
func TestServersDie(t *testing.T) {
	n, first := countOf(t, "COVEY_KILLS", 5), seedFrom(t, "COVEY_KILLS_SEED")
	a9a := filepath.Join(realdata.Need(t, "a9a"), "a9a.gz")
	calm := map[int]served{}
	fmt.Printf("\n`COVEY_KILLS=%d COVEY_KILLS_SEED=%d`, %s\n\n| seed | model | mode | killed | after step | generations | objective or loss: calm | and here | steps of microshards at each server |\n|---|---|---|---|---|---|---|---|---|\n", n, first, setting())
	for i := range n {
		seed := first + uint64(i)
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			draw := rand.New(rand.NewPCG(seed, 0))
			mode := int(seed) % len(serversDie)
			if _, ok := calm[mode]; !ok {
				r := newRig(t, chaosWorlds[0](t))
				r.begin(serversArgs(a9a, r.folder, mode)...)
				calm[mode] = r.served()
			}
			what := [][]int{{serversWorkers + draw.IntN(2)}, {draw.IntN(serversWorkers)}, {serversWorkers + draw.IntN(2), draw.IntN(serversWorkers)}}[draw.IntN(3)]
			step := 20 + draw.IntN(calm[mode].Steps-200)
			r := newRig(t, chaosWorlds[0](t))
			t.Cleanup(func() {
				if t.Failed() {
					t.Logf("seed %d, %s, ranks %v killed after step %d", seed, serversDie[mode].mode, what, step)
					t.Log(r.all())
				}
			})
			r.begin(serversArgs(a9a, r.folder, mode, "--min-workers", "1", "--restarts", "2")...)
			if !r.until(time.Now().Add(chaosLimit), func() bool { return r.step() >= step }) {
				t.Fatalf("stuck at step %d", r.step())
			}
			for _, rank := range what {
				syscall.Kill(r.processOf(rank), syscall.SIGKILL)
			}
			got, want := r.served(), calm[mode]
			generations, err := r.generations()
			if err != nil {
				t.Error(err)
			}
			fmt.Printf("| %d | %s | %s | ranks %v | %d | %d | %.6g | %.6g | %v |\n", seed, serversDie[mode].model, serversDie[mode].mode, what, step, generations, want.loss(), got.loss(), got.steps())
			if generations < 2 {
				t.Errorf("%d generations: nobody was missed", generations)
			}
			if !(math.Abs(got.loss()-want.loss()) <= 0.01*want.loss()) || serversDie[mode].exact && got.Weights != want.Weights {
				t.Errorf("objective or loss %v and weights %.12s, the calm run's are %v and %.12s", got.loss(), got.Weights, want.loss(), want.Weights)
			}
			for _, l := range linesOf(t, r.folder) {
				if exactly := fmt.Sprintf("epoch %d: each sample used exactly once", l.Epoch); l.Epoch > 0 && l.Samples != exactly {
					t.Errorf("the ledger of epoch %d says %q", l.Epoch, l.Samples)
				}
			}
			for _, n := range got.steps() {
				if n != serversMicroshards*want.Steps || len(got.Serving) != 2 {
					t.Errorf("%d steps of microshards at %d servers, expected %d", n, len(got.Serving), serversMicroshards*want.Steps)
				}
			}
			if left := r.leftovers(); left != "" {
				t.Errorf("left behind: %s", left)
			}
		})
	}
}

// served is the report of a run by way of servers.
type served struct {
	result
	TestLoss float64 `json:"test_loss"`
	Serving  []struct{ Microsteps int }
}

// steps are what each server has.
func (s served) steps() (all []int) {
	for _, one := range s.Serving {
		all = append(all, one.Microsteps)
	}
	return all
}

// loss is what it has come to: the objective, of models that have one.
func (s served) loss() float64 {
	if s.Objective > 0 {
		return s.Objective
	}
	return s.TestLoss
}

// served waits for the end of a run, and reads its report.
func (r *rig) served() (s served) {
	r.t.Helper()
	if !r.until(time.Now().Add(chaosLimit), func() bool { return !r.launcher.alive() }) {
		r.stacks()
		r.t.Fatalf("not over after %v, at step %d", chaosLimit, r.step())
	}
	b, err := os.ReadFile(filepath.Join(r.folder, "report.json"))
	if err == nil {
		err = json.Unmarshal(b, &s)
	}
	if code := r.launcher.ProcessState.ExitCode(); err != nil || code != 0 {
		r.t.Fatalf("the run ended with exit code %d: %v\n%s", code, err, r.said(0))
	}
	return s
}

var asProcess = regexp.MustCompile(`worker (\d+) is process (\d+)`)

// processOf is the process that was started as a rank at first.
func (r *rig) processOf(rank int) int {
	for _, m := range asProcess.FindAllStringSubmatch(r.said(0), -1) {
		if m[1] == strconv.Itoa(rank) {
			pid, _ := strconv.Atoi(m[2])
			return pid
		}
	}
	r.t.Fatalf("nobody was started as rank %d:\n%s", rank, r.said(0))
	return 0
}
