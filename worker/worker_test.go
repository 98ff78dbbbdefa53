package worker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/covey-ml/covey/cluster"
	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/data"
	"github.com/covey-ml/covey/model/linear"
	"github.com/covey-ml/covey/train"
)

// envProgram makes the test binary a program that calls Run, as a launcher would start it.
const envProgram = "COVEY_WORKER_TEST"

func TestMain(m *testing.M) {
	how := os.Getenv(envProgram)
	if how == "" {
		os.Exit(m.Run())
	}
	r, err := program(context.Background(), how)
	if err == nil {
		fmt.Printf("rank %d of %d %s\n", r.Rank, r.Workers, r.Weights)
	} else {
		fmt.Println("error:", err)
	}
	os.Exit(ExitCode(err))
}

// program trains a small model, in the way that a word says.
func program(ctx context.Context, how string, more ...Option) (*Report, error) {
	x, y := make([]float32, 240*4), make([]float32, 240)
	for i := range x {
		x[i] = float32(i%7) - 3
	}
	for i := range y {
		y[i] = x[4*i] - 2*x[4*i+1]
	}
	model, err := linear.NewLinear(linear.Config{Dim: 4, Outputs: 1})
	if err != nil {
		return nil, err
	}
	c := train.Config{Model: model, Train: data.DenseTargets("table", 4, x, y, 1), Batch: 24, Microshards: 6, Epochs: 3, Seed: 1}
	switch how {
	case "fails on 2":
		if os.Getenv("RANK") == "2" {
			c.Batch = 1000
		}
	case "goes on", "goes on without":
		if how == "goes on without" {
			more = append(more, Fewest(1))
		}
		c.Epochs = 1 << 20
		c.Events.Start = func(train.StartInfo) { fmt.Println("started") }
		more = append(more, Signals())
	}
	return Run(ctx, c, append(more, Timeout(20*time.Second))...)
}

// processes are the program in one process a rank, with the variables of torchrun.
type processes struct {
	all   []*exec.Cmd
	outs  []bytes.Buffer
	began chan struct{} // closed when rank 0 has something to say
}

// teller closes a channel at the first word.
type teller struct {
	out  *bytes.Buffer
	once sync.Once
	told chan struct{}
}

func (w *teller) Write(p []byte) (int, error) {
	w.once.Do(func() { close(w.told) })
	return w.out.Write(p)
}

func (p *processes) start(t *testing.T, how string, n int, env func(rank int) []string) {
	t.Helper()
	p.outs, p.began = make([]bytes.Buffer, n), make(chan struct{})
	home := t.TempDir()
	for rank := range n {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(append(os.Environ(), envProgram+"="+how, "HOME="+home, "XDG_CONFIG_HOME="+home), env(rank)...)
		cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &p.outs[rank], &p.outs[rank], time.Second
		if rank == 0 {
			both := &teller{out: &p.outs[0], told: p.began}
			cmd.Stdout, cmd.Stderr = both, both
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		p.all = append(p.all, cmd)
	}
}

// wait returns the exit codes.
func (p *processes) wait() []int {
	codes := make([]int, len(p.all))
	var all sync.WaitGroup
	for i, cmd := range p.all {
		all.Go(func() {
			cmd.Wait()
			codes[i] = cmd.ProcessState.ExitCode()
		})
	}
	all.Wait()
	return codes
}

func (p *processes) text() string {
	var b strings.Builder
	for r := range p.outs {
		fmt.Fprintf(&b, "process %d: %s", r, p.outs[r].Bytes())
	}
	return b.String()
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func torchrun(n, port int) func(int) []string {
	return func(rank int) []string {
		return []string{fmt.Sprintf("RANK=%d", rank), fmt.Sprintf("WORLD_SIZE=%d", n), "MASTER_ADDR=127.0.0.1", fmt.Sprintf("MASTER_PORT=%d", port)}
	}
}

// One program has the same weights alone, on goroutines, and as the processes of another launcher.
func TestRun(t *testing.T) {
	one, err := program(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	three, err := program(t.Context(), "", Workers(3))
	if err != nil {
		t.Fatal(err)
	}
	if one.Weights != three.Weights || one.Workers != 1 || three.Workers != 3 {
		t.Errorf("%d and %d workers: %s, %s", one.Workers, three.Workers, one.Weights, three.Weights)
	}
	var p processes
	p.start(t, "trains", 3, torchrun(3, freePort(t)))
	for rank, code := range p.wait() {
		if got, want := p.outs[rank].String(), fmt.Sprintf("rank %d of 3 %s\n", rank, one.Weights); code != 0 || got != want {
			t.Errorf("process %d: exit code %d, got %q, want %q", rank, code, got, want)
		}
	}
}

// Programs that a launcher of ours starts, with the environment that it gives them; the run ends with a report.
func TestLaunched(t *testing.T) {
	one, err := program(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	run, c, news := launch(t, cluster.Run{Job: Program, Local: 2})
	var p processes
	p.start(t, "trains", 2, func(rank int) []string {
		return append(run, fmt.Sprintf("%s=%d", cluster.EnvRank, rank), cluster.EnvID+"="+cluster.NewID())
	})
	if codes := p.wait(); codes[0] != 0 || codes[1] != 0 || strings.Count(p.text(), one.Weights) != 2 {
		t.Errorf("exit codes %d\n%s", codes, p.text())
	}
	for n := range news {
		if n.Report != nil {
			if !bytes.Contains(n.Report, []byte(one.Weights)) {
				t.Errorf("the launcher hears %s", n.Report)
			}
			break
		}
	}
	c.Close()

	// A run of another kind is not taken part in.
	run, _, _ = launch(t, cluster.Run{Job: []byte("model: mlp:8\n"), Local: 1})
	var other processes
	other.start(t, "trains", 1, func(int) []string { return run })
	if code := other.wait()[0]; code != 1 || !strings.Contains(other.text(), "covey join") {
		t.Errorf("exit code %d\n%s", code, other.text())
	}
}

// launch makes a run and its meeting place, and returns the environment of who is to join.
func launch(t *testing.T, run cluster.Run) (env []string, c *cluster.Coordinator, news chan cluster.News) {
	t.Helper()
	token := cluster.NewToken()
	s, err := cluster.Serve(cluster.ServerConfig{Listen: "127.0.0.1:0", Token: token})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	clock := comm.RealClock()
	ctx, done := clock.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(done)
	store, err := cluster.Create(ctx, cluster.Access{Servers: []string{s.Addr()}, Token: token}, "test", clock)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	news = make(chan cluster.News, 1000)
	if c, err = cluster.Coordinate(ctx, store, clock, func(n cluster.News) { news <- n }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	run.Orphan, run.Limits = time.Minute, cluster.Limits{Min: max(1, run.Local), Max: max(1, run.Local), Meet: time.Minute, Wait: time.Minute, Patience: time.Minute}
	if err := c.Start(ctx, run, max(1, run.Local)); err != nil {
		t.Fatal(err)
	}
	return []string{EnvJoin + "=" + s.Addr(), EnvRun + "=test", cluster.EnvToken + "=" + token}, c, news
}

// When one cannot begin, the others do not wait for it until their patience ends.
func TestRunFails(t *testing.T) {
	var p processes
	p.start(t, "fails on 2", 3, torchrun(3, freePort(t)))
	began := time.Now()
	codes := p.wait()
	if codes[2] != 2 || codes[0] == 0 || codes[1] == 0 || !strings.Contains(p.outs[2].String(), "batch") {
		t.Errorf("exit codes %d\n%s", codes, p.text())
	}
	if took := time.Since(began); took > startUp/2 {
		t.Errorf("it took %v", took)
	}
}

// A signal to one ends training for all, after a step.
func TestRunStops(t *testing.T) {
	var p processes
	p.start(t, "goes on", 2, torchrun(2, freePort(t)))
	select {
	case <-p.began:
	case <-time.After(time.Minute):
		t.Fatal("it did not begin")
	}
	if err := p.all[1].Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	for rank, code := range p.wait() {
		if code != 130 {
			t.Errorf("process %d: exit code %d\n%s", rank, code, p.text())
		}
	}
}

// A worker whose host is about to be taken leaves, and the others go on without it.
func TestTakenHostIsLeft(t *testing.T) {
	var p processes
	join := torchrun(2, freePort(t))
	p.start(t, "goes on without", 2, func(rank int) []string {
		if rank == 0 {
			return join(rank)
		}
		service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			select {
			case <-p.began:
				fmt.Fprintln(w, "now")
			case <-r.Context().Done():
			}
		}))
		t.Cleanup(service.Close)
		return append(join(rank), EnvSpot+"="+service.URL)
	})
	p.all[1].Wait()
	if code := p.all[1].ProcessState.ExitCode(); code != 0 || !strings.Contains(p.outs[1].String(), ErrLeft.Error()) {
		t.Errorf("exit code %d\n%s", code, p.outs[1].String())
	}
	if err := p.all[0].Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("the other one: %v\n%s", err, p.outs[0].String())
	}
	p.all[0].Process.Kill()
	p.all[0].Wait()
}

// Who waits for a seat and is told to leave leaves, at once: with a seat it would stop those who train.
func TestLeavesWhileWaiting(t *testing.T) {
	env, c, _ := launch(t, cluster.Run{Job: Program, Local: 2, Elastic: true})
	said := map[string]string{}
	for _, v := range env {
		name, text, _ := strings.Cut(v, "=")
		said[name] = text
	}
	ctx, done := comm.RealClock().WithTimeout(t.Context(), time.Minute)
	defer done()
	store, err := cluster.Open(ctx, cluster.Access{Servers: []string{said[EnvJoin]}, Token: said[cluster.EnvToken]}, said[EnvRun], comm.RealClock())
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	m, err := Join(ctx, store, Joining{Rank: -1, Shm: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	ended := make(chan error, 1)
	go func() {
		_, err := m.Train(ctx, train.Config{})
		ended <- err
	}()
	for !m.waiting.Load() || !slices.ContainsFunc(c.Members(), func(m cluster.Member) bool { return m.State == cluster.Ready }) {
		if err := comm.RealClock().Sleep(ctx, 10*time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	m.signal(ctx, false, func(error) {})
	if err := <-ended; !errors.Is(err, ErrLeft) {
		t.Errorf("it ended with %v", err)
	}
}

// What a launcher says must be whole.
func TestEnvironment(t *testing.T) {
	for name, env := range map[string]map[string]string{
		"COVEY_RANK":         {EnvJoin: "127.0.0.1:1", cluster.EnvRank: "x"},
		"COVEY_SHM":          {EnvJoin: "127.0.0.1:1", cluster.EnvShm: "-3"},
		"expected HOST:PORT": {EnvJoin: " , "},
		EnvSpot:              {EnvSpot: "awz"},
		"WORLD_SIZE":         {"RANK": "5", "WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "1"},
	} {
		t.Run(name, func(t *testing.T) {
			for k, v := range env {
				t.Setenv(k, v)
			}
			if _, err := program(t.Context(), ""); err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestMeetAt(t *testing.T) {
	for _, c := range []struct {
		seen, host   string
		certified    bool
		listen, told string
	}{
		{"10.0.0.1", "", true, "10.0.0.1", ""},
		{"10.0.0.1", "node1", true, "10.0.0.1", "node1"},
		{"127.0.0.1", "node1", true, "", "node1"},
		{"::1", "10.0.0.1", true, "", "10.0.0.1"},
		{"127.0.0.1", "node1", false, "127.0.0.1", ""},
		{"127.0.0.1", "127.0.0.1", true, "127.0.0.1", ""},
	} {
		if listen, told := meetAt(c.seen, c.host, c.certified); listen != c.listen || told != c.told {
			t.Errorf("%+v: listens at %q and tells %q", c, listen, told)
		}
	}
}

func TestExitCode(t *testing.T) {
	for want, errs := range map[int][]error{
		0:   {nil, ErrLeft, cluster.ErrSpare},
		1:   {errors.New("anything")},
		2:   {&train.ConfigError{Key: "batch", Err: errors.New("bad")}},
		3:   {&data.Error{}},
		4:   {&comm.PeerError{}, &cluster.TooFewError{}, &cluster.OrphanedError{}},
		130: {train.ErrStopped, &InterruptedError{errors.New("told")}, cluster.ErrCalledOff},
	} {
		for _, err := range errs {
			if err != nil && want != 0 {
				err = fmt.Errorf("while training: %w", err)
			}
			if got := ExitCode(err); got != want {
				t.Errorf("%v: %d, want %d", err, got, want)
			}
		}
	}
}
