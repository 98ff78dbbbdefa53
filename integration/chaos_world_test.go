//go:build integration

package integration

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// world is where a run's processes live, and what can happen there.
type world struct {
	name   string
	events []string // drawn from
	fresh  []string // flags of a run's first launcher
	joins  []int    // hosts on each of which a worker joins by hand at the start
	nodes  []*node  // NATS servers; nil: there is one inside the launcher
	net    *network // the hosts; nil: there is this one
}

// chaosWorlds make a world for a run. Seeds go through them in turn.
var chaosWorlds = []func(*testing.T) *world{
	func(*testing.T) *world {
		return &world{name: "one host", events: []string{kill, kill, freeze, enter, leave, relaunch}}
	},
	func(t *testing.T) *world {
		w := &world{name: "three NATS servers", events: []string{kill, kill, freeze, enter, leave, relaunch, topple, topple}, nodes: servers(t, freeAddrs(t, 6), coveyServe)}
		w.fresh = []string{"--nats", addrsOf(w.nodes)}
		return w
	},
	func(t *testing.T) *world {
		w := &world{name: "five hosts", events: []string{kill, kill, freeze, enter, leave, relaunch, cut, cut}, net: newNetwork(t, 5), joins: []int{1, 2}}
		w.fresh = []string{"--listen", w.net.addr(0) + ":7443", "--join", "2"}
		return w
	},
}

// hosts is how many there are.
func (w *world) hosts() int {
	if w.net == nil {
		return 1
	}
	return len(w.net.hosts)
}

// covey is a command of ours on a host.
func (w *world) covey(host int, args ...string) *exec.Cmd {
	args = append([]string{covey}, args...)
	if w.net != nil {
		args = w.net.on(host, append(args, w.net.credentials(host)...)...)
	}
	cmd := exec.Command(args[0], args[1:]...)
	if cmd.Env = os.Environ(); w.nodes != nil {
		cmd.Env = append(cmd.Env, "COVEY_TOKEN="+clusterToken)
	}
	return cmd
}

// process is one that was started for a run.
type process struct {
	*exec.Cmd
	host  int
	ended chan struct{} // closed when it has, and Cmd knows how
}

// alive tells whether it has not ended.
func (p *process) alive() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// rig is a run under way in a world, with everything that was started for it. One goroutine uses it.
type rig struct {
	t        *testing.T
	w        *world
	folder   string // the run's; what its processes say is beside it
	launcher *process
	joined   []*process
	away     map[int]bool // process numbers of workers that may lack the run's state: they stood still, or were out of reach
	frozen   map[int]bool // process numbers of those that stand still
	out      map[int]bool // hosts that do not reach the run's server
	later    []deferred
}

// deferred is something that is to be done at a time.
type deferred struct {
	at time.Time
	do func()
}

func newRig(t *testing.T, w *world) *rig {
	r := &rig{t: t, w: w, folder: filepath.Join(t.TempDir(), "run"), away: map[int]bool{}, frozen: map[int]bool{}, out: map[int]bool{}}
	t.Cleanup(func() {
		for _, m := range r.workers() {
			if runs(m.pid) {
				syscall.Kill(m.pid, syscall.SIGKILL)
			}
		}
		for _, p := range append(r.joined, r.launcher) {
			if p != nil {
				p.Process.Kill()
				<-p.ended
			}
		}
	})
	return r
}

// start runs a command of ours on a host. What it says goes to a file of that host: launchers and those whom they started, or joined by hand.
func (r *rig) start(host int, by string, cmd *exec.Cmd) *process {
	r.t.Helper()
	f, err := os.OpenFile(r.saidFile(host, by), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o666)
	if err != nil {
		r.t.Fatal(err)
	}
	defer f.Close()
	cmd.Dir, cmd.Stderr = filepath.Dir(r.folder), f
	p := &process{cmd, host, make(chan struct{})}
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	go func() {
		cmd.Wait()
		close(p.ended)
	}()
	return p
}

// begin starts the run, with those who join it by hand.
func (r *rig) begin(args ...string) {
	r.t.Helper()
	r.launch(append(args, r.w.fresh...)...)
	for end := time.Now().Add(time.Minute); len(r.w.joins) > 0; r.pass(5 * time.Millisecond) {
		if _, err := r.meeting(); err == nil {
			break
		}
		if !r.launcher.alive() || time.Now().After(end) {
			r.t.Fatalf("the run has no meeting place:\n%s", r.said(0))
		}
	}
	for _, h := range r.w.joins {
		r.join(h)
	}
}

// launch runs a launcher, on the first host.
func (r *rig) launch(args ...string) {
	r.t.Helper()
	r.launcher = r.start(0, byLauncher, r.w.covey(0, append(args, "--log", "json")...))
}

// meeting is where the workers of a run meet, as its folder says.
func (r *rig) meeting() (at struct {
	Servers    []string
	Run, Token string
}, err error) {
	b, err := os.ReadFile(filepath.Join(r.folder, "meeting.json"))
	if err == nil {
		err = json.Unmarshal(b, &at)
	}
	return at, err
}

// join starts a worker on a host as somebody with a shell there would.
func (r *rig) join(host int) {
	r.t.Helper()
	at, err := r.meeting()
	if err != nil {
		r.t.Logf("nobody can join: %v", err) // the run is over
		return
	}
	cmd := r.w.covey(host, "join", strings.Join(at.Servers, ","), "--run", at.Run, "--log", "json")
	cmd.Env = append(cmd.Env, "COVEY_TOKEN="+at.Token)
	r.joined = append(r.joined, r.start(host, byHand, cmd))
}

// How processes came.
const (
	byLauncher = "launched"
	byHand     = "joined"
)

func (r *rig) saidFile(host int, by string) string {
	return filepath.Join(filepath.Dir(r.folder), fmt.Sprintf("%s-on-%d", by, host))
}

// said is what the processes of a host have said.
func (r *rig) said(host int) string { return r.saidBy(host, byLauncher) + r.saidBy(host, byHand) }

func (r *rig) saidBy(host int, by string) string {
	b, err := os.ReadFile(r.saidFile(host, by))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		r.t.Fatal(err)
	}
	return string(b)
}

// all is what all have said, host by host, without the progress.
func (r *rig) all() string {
	var b strings.Builder
	for h := range r.w.hosts() {
		for line := range strings.Lines(r.said(h)) {
			if !strings.HasPrefix(line, "epoch") {
				fmt.Fprintf(&b, "host %d: %s", h, line)
			}
		}
	}
	return b.String()
}

// member is a worker's process.
type member struct {
	pid, host int
	// writes says that it was launched at the start, and has been there since: it can write the run folder, and knows the run's state.
	writes bool
}

var started = regexp.MustCompile(`(?m)^worker (\d+) is process (\d+)$`)

// workers lists all that ever were.
func (r *rig) workers() (all []member) {
	seen := map[string]bool{}
	for _, m := range started.FindAllStringSubmatch(r.said(0), -1) {
		pid, _ := strconv.Atoi(m[2])
		all = append(all, member{pid, 0, !seen[m[1]] && !r.away[pid]})
		seen[m[1]] = true
	}
	for _, p := range r.joined {
		all = append(all, member{p.Process.Pid, p.host, false})
	}
	return all
}

// living lists the workers that are there, do not stand still, and reach the run's server.
func (r *rig) living() (all []member) {
	for _, m := range r.workers() {
		if runs(m.pid) && !r.frozen[m.pid] && !r.out[m.host] {
			all = append(all, m)
		}
	}
	return all
}

// runs tells whether a process is there, is ours, and is no zombie. Numbers of processes come round again.
func runs(pid int) bool {
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	return err == nil && exe == covey
}

var formed = regexp.MustCompile(`(?m)^generation \d+: (\d+) worker`)

// size is how many workers the newest generation has that the launcher knows of; first is how many the run began with.
func (r *rig) size(first int) int {
	all := formed.FindAllStringSubmatch(r.said(0), -1)
	if len(all) == 0 {
		return first
	}
	n, _ := strconv.Atoi(all[len(all)-1][1])
	return n
}

// step is how far the run has come, by its metrics.
func (r *rig) step() int { return lastStep(r.folder) }

// pass lets some time go by, in which is done what is due.
func (r *rig) pass(d time.Duration) {
	var rest []deferred
	due := r.later
	r.later = nil
	for _, l := range due {
		if time.Now().Before(l.at) {
			rest = append(rest, l)
		} else {
			l.do()
		}
	}
	r.later = append(rest, r.later...)
	time.Sleep(d)
}

// after does something some time from now.
func (r *rig) after(d time.Duration, do func()) {
	r.later = append(r.later, deferred{time.Now().Add(d), do})
}

// until waits for something, and tells whether it came to be before a time.
func (r *rig) until(end time.Time, f func() bool) bool {
	for !f() {
		if time.Now().After(end) {
			return false
		}
		r.pass(2 * time.Millisecond)
	}
	return true
}

// stacks has the workers that are there say where they stand.
func (r *rig) stacks() {
	for _, m := range r.living() {
		syscall.Kill(m.pid, syscall.SIGQUIT)
	}
	time.Sleep(time.Second)
}

// leftovers waits until nothing is left of a run that is over, and says what is. Those who joined by hand have seconds to notice.
func (r *rig) leftovers() string {
	for _, l := range r.later { // who stands still, or is cut off, would not
		l.do()
	}
	r.later = nil
	var left []string
	r.until(time.Now().Add(20*time.Second), func() bool {
		left = nil
		for _, m := range r.workers() {
			if runs(m.pid) {
				left = append(left, fmt.Sprintf("process %d on host %d", m.pid, m.host))
			}
		}
		return len(left) == 0
	})
	for _, name := range []string{"meeting.json", "cluster"} {
		if _, err := os.Stat(filepath.Join(r.folder, name)); err == nil {
			left = append(left, name)
		}
	}
	shared, _ := filepath.Glob("/dev/shm/covey*")
	return strings.Join(append(left, shared...), ", ")
}
