//go:build integration

package integration

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Chaos: runs on real processes, to each of which a few things happen at random moments. A moment is a step, read off the run's
// metrics, so that a busy machine changes how long a run takes and nothing else. COVEY_CHAOS is how many runs there are (10), and
// COVEY_CHAOS_SEED the seed of the first (random, printed).

// The things that happen.
const (
	kill     = "kill -9 of a worker"
	freeze   = "SIGSTOP of a worker, longer than the deadline"
	enter    = "a worker joins"
	leave    = "a worker is told to leave"
	relaunch = "the launcher is killed, and another takes its place"
)

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
	chaosSteps    = 1600
	chaosEpochs   = 200 // of 8 steps
	chaosDeadline = 2 * time.Second
	chaosLimit    = 3 * time.Minute // for a run to end
)

func chaosArgs(j chaosJob, folder string, more ...string) []string {
	args := []string{"train", "--data", "digits:train=2000,test=100", "--model", "mlp:64", "--workers", "4", "--microshards", "8",
		"--epochs", strconv.Itoa(chaosEpochs), "--timeout", chaosDeadline.String(), "--run", folder, "--transport", "tcp"}
	return append(append(args, j.args...), more...)
}

// event is something that happens after a step.
type chaosEvent struct {
	step int
	what string
}

func (e chaosEvent) String() string { return fmt.Sprintf("after step %d: %s", e.step, e.what) }

// chaosRun is a run under way, with everything that was started for it.
type chaosRun struct {
	t      *testing.T
	folder string
	draw   *rand.Rand

	mu       sync.Mutex
	launcher *exec.Cmd
	said     bytes.Buffer   // standard error of all launchers
	joined   []*exec.Cmd    // by hand
	frozen   map[int]bool   // process numbers
	size     int            // of the newest generation
	pids     map[int]string // of workers, and how they came
}

// start runs a launcher and reads what it says.
func (r *chaosRun) start(args ...string) {
	r.t.Helper()
	cmd := exec.Command(covey, args...)
	cmd.Dir = filepath.Dir(r.folder)
	pipe, err := cmd.StderrPipe()
	if err != nil {
		r.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.mu.Lock()
	r.launcher = cmd
	r.mu.Unlock()
	started := regexp.MustCompile(`^worker (\d+) is process (\d+)$`)
	formed := regexp.MustCompile(`^generation \d+: (\d+) worker`)
	go func() {
		for in := bufio.NewScanner(pipe); in.Scan(); {
			r.mu.Lock()
			if r.said.Len() < 1<<20 && !strings.HasPrefix(in.Text(), "epoch") {
				r.said.WriteString(in.Text() + "\n")
			}
			if m := started.FindStringSubmatch(in.Text()); m != nil {
				pid, _ := strconv.Atoi(m[2])
				r.pids[pid] = "launched"
			}
			if m := formed.FindStringSubmatch(in.Text()); m != nil {
				r.size, _ = strconv.Atoi(m[1])
			}
			r.mu.Unlock()
		}
	}()
}

// living lists the workers that are there and not frozen.
func (r *chaosRun) living() (all []int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for pid := range r.pids {
		if runs(pid) && !r.frozen[pid] {
			all = append(all, pid)
		}
	}
	slices.Sort(all)
	return all
}

// runs tells whether a process is there and no zombie.
func runs(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := bytes.Cut(b, []byte(") "))
	return len(rest) > 0 && rest[0] != 'Z'
}

// step is how far the run has come, by its metrics.
func (r *chaosRun) step() int {
	f, err := os.Open(filepath.Join(r.folder, "metrics.jsonl"))
	if err != nil {
		return 0
	}
	defer f.Close()
	if st, err := f.Stat(); err == nil && st.Size() > 4096 {
		f.Seek(-4096, 2)
	}
	last := 0
	for in := bufio.NewScanner(f); in.Scan(); {
		var line struct{ Step int }
		if json.Unmarshal(in.Bytes(), &line) == nil {
			last = max(last, line.Step)
		}
	}
	return last
}

// happen makes an event come true. It returns what did happen, which is another one where that would have left no worker with the
// run's state.
func (r *chaosRun) happen(what string) string {
	r.t.Helper()
	all := r.living()
	r.mu.Lock()
	size := r.size
	r.mu.Unlock()
	if (what == kill || what == freeze || what == leave) && (len(all) < 3 || size < 3) {
		what = enter
	}
	switch what {
	case kill:
		syscall.Kill(all[r.draw.IntN(len(all))], syscall.SIGKILL)
	case freeze:
		pid := all[r.draw.IntN(len(all))]
		syscall.Kill(pid, syscall.SIGSTOP)
		r.mu.Lock()
		r.frozen[pid] = true
		r.mu.Unlock()
		time.AfterFunc(2*chaosDeadline, func() { // it finds itself left behind, and comes back as a newcomer
			syscall.Kill(pid, syscall.SIGCONT)
			r.mu.Lock()
			delete(r.frozen, pid)
			r.mu.Unlock()
		})
	case leave:
		syscall.Kill(all[r.draw.IntN(len(all))], syscall.SIGTERM)
	case enter:
		r.join()
	case relaunch:
		r.mu.Lock()
		old := r.launcher
		r.mu.Unlock()
		old.Process.Kill()
		old.Wait()
		r.start("train", "--resume", r.folder)
	}
	return what
}

// sayer adds to what was said.
type sayer struct{ r *chaosRun }

func (s *sayer) Write(p []byte) (int, error) {
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	return s.r.said.Write(p)
}

// join starts a worker as somebody with a shell on the host would.
func (r *chaosRun) join() {
	r.t.Helper()
	var at struct {
		Servers    []string
		Run, Token string
	}
	b, err := os.ReadFile(filepath.Join(r.folder, "meeting.json"))
	if err == nil {
		err = json.Unmarshal(b, &at)
	}
	if err != nil {
		r.t.Logf("nobody can join: %v", err) // the run is over
		return
	}
	cmd := exec.Command(covey, "join", strings.Join(at.Servers, ","), "--run", at.Run)
	cmd.Env = append(os.Environ(), "COVEY_TOKEN="+at.Token)
	cmd.Stderr = &sayer{r}
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.mu.Lock()
	r.joined = append(r.joined, cmd)
	r.pids[cmd.Process.Pid] = "joined"
	r.mu.Unlock()
}

// recovers waits for a step after the one that was seen last, and returns how long that took.
func (r *chaosRun) recovers(step int, end time.Time) time.Duration {
	from := time.Now()
	for r.step() <= step+1 && time.Now().Before(end) { // one may have been under way
		time.Sleep(2 * time.Millisecond)
	}
	return time.Since(from)
}

// chaosSum is what all runs come to.
type chaosSum struct {
	events    map[string]int
	recovered []time.Duration // from the kill of a worker to the next step but one, as it is seen on disk
}

// stacks has the workers that are there say where they stand.
func (r *chaosRun) stacks() {
	for _, pid := range r.living() {
		syscall.Kill(pid, syscall.SIGQUIT)
	}
	time.Sleep(time.Second)
}

// chaos trains while things happen, and checks what must be true in the end.
func chaos(t *testing.T, seed uint64, calm map[string]result, sum *chaosSum) {
	draw := rand.New(rand.NewPCG(seed, 0))
	j := chaosJobs[draw.IntN(len(chaosJobs))]
	var events []chaosEvent
	for range 3 + draw.IntN(4) {
		events = append(events, chaosEvent{50 + draw.IntN(chaosSteps-400), []string{kill, kill, freeze, enter, leave, relaunch}[draw.IntN(6)]})
	}
	slices.SortFunc(events, func(a, b chaosEvent) int { return a.step - b.step })
	r := &chaosRun{t: t, folder: filepath.Join(t.TempDir(), "run"), draw: draw, frozen: map[int]bool{}, pids: map[int]string{}, size: 4}
	defer func() {
		for pid := range r.pids {
			syscall.Kill(pid, syscall.SIGKILL)
		}
		if r.launcher != nil {
			r.launcher.Process.Kill()
		}
		for _, c := range r.joined {
			c.Wait()
		}
	}()
	var happened []string
	say := func(format string, args ...any) {
		t.Helper()
		r.mu.Lock()
		defer r.mu.Unlock()
		t.Errorf("seed %d, %s, %v: %s\n%s", seed, j.name, happened, fmt.Sprintf(format, args...), r.said.String())
	}
	r.start(chaosArgs(j, r.folder, "--min-workers", "1", "--max-workers", "8")...)
	end := time.Now().Add(chaosLimit)
	for len(events) > 0 {
		if time.Now().After(end) || r.launcher.ProcessState != nil {
			say("stuck at step %d", r.step())
			return
		}
		if step := r.step(); step >= events[0].step {
			what := r.happen(events[0].what)
			happened = append(happened, fmt.Sprintf("after step %d: %s", step, what))
			sum.events[what]++
			events = events[1:]
			if what == kill {
				sum.recovered = append(sum.recovered, r.recovers(step, end))
			}
			continue
		}
		time.Sleep(10 * time.Millisecond)
	}
	done := make(chan error, 1)
	go func() { done <- r.launcher.Wait() }()
	select {
	case err := <-done:
		if err != nil {
			say("the run ended with %v", err)
			return
		}
	case <-time.After(time.Until(end)):
		r.stacks()
		say("not over after %v, at step %d", chaosLimit, r.step())
		return
	}
	var got result
	b, err := os.ReadFile(filepath.Join(r.folder, "report.json"))
	if err == nil {
		err = json.Unmarshal(b, &got)
	}
	want := calm[j.name]
	switch {
	case err != nil:
		say("%v", err)
	case got.Steps != chaosSteps:
		say("%d steps, expected %d", got.Steps, chaosSteps)
	case j.exact && got.Weights != want.Weights:
		say("weights %.12s, the calm run's are %.12s", got.Weights, want.Weights)
	case !j.exact && math.Abs(got.Loss-want.Loss) > 0.01*want.Loss:
		say("loss %v, the calm run's is %v", got.Loss, want.Loss)
	}
	if err := ledgerOf(r.folder); err != nil {
		say("%v", err)
	}
	// Nothing is left. Those who joined by hand have seconds to notice the end.
	for until := time.Now().Add(15 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		for _, c := range r.joined {
			if c.ProcessState == nil {
				var status syscall.WaitStatus
				syscall.Wait4(c.Process.Pid, &status, syscall.WNOHANG, nil)
			}
		}
		var left []string
		for pid, how := range r.pids {
			if runs(pid) {
				left = append(left, fmt.Sprintf("process %d (%s)", pid, how))
			}
		}
		if len(left) == 0 {
			break
		}
		if time.Now().After(until) {
			say("left behind: %v", left)
			break
		}
	}
	for _, name := range []string{"meeting.json", "cluster"} {
		if _, err := os.Stat(filepath.Join(r.folder, name)); err == nil {
			say("%s is still there", name)
		}
	}
	if left, _ := filepath.Glob("/dev/shm/covey*"); len(left) > 0 {
		say("shared memory is left: %v", left)
	}
	if !t.Failed() {
		t.Logf("seed %d, %s: %v", seed, j.name, happened)
	}
}

// ledgerOf tells whether the metrics of a run have every epoch, with each sample used exactly once in it.
func ledgerOf(folder string) error {
	f, err := os.Open(filepath.Join(folder, "metrics.jsonl"))
	if err != nil {
		return err
	}
	defer f.Close()
	seen := map[int]string{}
	for in := bufio.NewScanner(f); in.Scan(); {
		var line struct {
			Epoch   int    `json:"epoch_end"`
			Samples string `json:"sample_ledger"`
		}
		if json.Unmarshal(in.Bytes(), &line) == nil && line.Epoch > 0 {
			seen[line.Epoch] = line.Samples
		}
	}
	for e := 1; e <= chaosEpochs; e++ {
		if want := fmt.Sprintf("epoch %d: each sample used exactly once", e); seen[e] != want {
			return fmt.Errorf("the ledger of epoch %d says %q", e, seen[e])
		}
	}
	return nil
}

// Whatever happens to a run, it ends; with an exact method and microshards fixed, with the weights of the run that nothing happened
// to; its sample ledger is exact, and it leaves nothing behind.
func TestChaos(t *testing.T) {
	n := 10
	if text := os.Getenv("COVEY_CHAOS"); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil || n < 1 {
			t.Fatalf("COVEY_CHAOS is %q, expected how many runs there are to be", text)
		}
	}
	first := rand.Uint64()
	if text := os.Getenv("COVEY_CHAOS_SEED"); text != "" {
		var err error
		if first, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("COVEY_CHAOS_SEED is %q, expected a number", text)
		}
	}
	calm := map[string]result{}
	for _, j := range chaosJobs {
		folder := filepath.Join(t.TempDir(), "calm")
		calm[j.name] = train(t, append(chaosArgs(j, folder)[1:], "--transport", "inproc", "--timeout", "1m")...)
	}
	sum := &chaosSum{events: map[string]int{}}
	for i := range n {
		seed := first + uint64(i)
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) { chaos(t, seed, calm, sum) })
	}
	slices.Sort(sum.recovered)
	t.Logf("%d runs from seed %d; %v", n, first, sum.events)
	if k := len(sum.recovered); k > 0 {
		t.Logf("from a kill to the next step but one: median %v, longest %v", sum.recovered[k/2], sum.recovered[k-1])
	}
}
