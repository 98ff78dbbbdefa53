//go:build integration

package integration

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"
)

// freeAddrs are addresses of loopback that nobody listens on.
func freeAddrs(t *testing.T, n int) (all []string) {
	t.Helper()
	for range n {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		all = append(all, ln.Addr().String())
	}
	return all
}

// tokenKey is the key pair that a run's token stands for.
func tokenKey(t *testing.T, token string) nkeys.KeyPair {
	t.Helper()
	seed := sha256.Sum256([]byte("covey run token\x00" + token))
	raw, err := nkeys.EncodeSeed(nkeys.PrefixByteUser, seed[:])
	if err != nil {
		t.Fatal(err)
	}
	k, err := nkeys.FromSeed(raw)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// node is one server of a cluster of three.
type node struct {
	name, addr string
	args       []string
	log        string
	cmd        *exec.Cmd
}

const clusterToken = "the-token-of-a-test"

func (n *node) start(t *testing.T) {
	t.Helper()
	f, err := os.OpenFile(n.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o666)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n.cmd = exec.Command(n.args[0], n.args[1:]...)
	n.cmd.Env = append(os.Environ(), "COVEY_TOKEN="+clusterToken)
	n.cmd.Stdout, n.cmd.Stderr = f, f
	if err := n.cmd.Start(); err != nil {
		t.Fatalf("%v: integration/setup.sh installs what is missing", err)
	}
}

// kill ends a server as a power cut does.
func (n *node) kill() {
	if n.cmd != nil {
		n.cmd.Process.Kill()
		n.cmd.Wait()
		n.cmd = nil
	}
}

// servers starts three, each by the command that command makes, at the first three of six addresses for those who use them and at
// the others for each other.
func servers(t *testing.T, at []string, command func(dir, name, addr, route string, peers []string) []string) []*node {
	t.Helper()
	dir := t.TempDir()
	var all []*node
	for i, name := range []string{"a", "b", "c"} {
		var peers []string
		for k := range 3 {
			if k != i {
				peers = append(peers, at[3+k])
			}
		}
		n := &node{name: name, addr: at[i], log: filepath.Join(dir, name+".log"), args: command(dir, name, at[i], at[3+i], peers)}
		all = append(all, n)
		n.start(t)
		t.Cleanup(func() {
			n.kill()
			if t.Failed() {
				b, _ := os.ReadFile(n.log)
				t.Logf("server %s:\n%s", name, b)
			}
		})
	}
	return all
}

// coveyServe is the command line of a server that is ours.
func coveyServe(dir, name, addr, route string, peers []string) []string {
	return []string{covey, "serve", "--name", name, "--listen", addr, "--route", route, "--peers", strings.Join(peers, ","), "--dir", filepath.Join(dir, name)}
}

// addrsOf is where they are, for --nats.
func addrsOf(nodes []*node) string {
	var at []string
	for _, n := range nodes {
		at = append(at, n.addr)
	}
	return strings.Join(at, ",")
}

// bucketOf waits until the one run that servers keep has a leader and as many replicas up to date as it should, and returns the
// leader's name.
func bucketOf(t *testing.T, nodes []*node, current int) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var urls []string
	for _, n := range nodes {
		if n.cmd != nil {
			urls = append(urls, "nats://"+n.addr)
		}
	}
	key := tokenKey(t, clusterToken)
	public, err := key.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	said := "nothing"
	for ; ctx.Err() == nil; time.Sleep(50 * time.Millisecond) {
		nc, err := nats.Connect(strings.Join(urls, ","), nats.Nkey(public, key.Sign), nats.Timeout(2*time.Second))
		if err != nil {
			said = err.Error()
			continue
		}
		leader, n := "", 0
		if js, err := jetstream.New(nc); err == nil {
			short, done := context.WithTimeout(ctx, 2*time.Second)
			list := js.ListStreams(short)
			for s := range list.Info() {
				if leader = s.Cluster.Leader; leader != "" {
					n = 1
				}
				for _, r := range s.Cluster.Replicas {
					if r.Current && !r.Offline {
						n++
					}
				}
			}
			said = fmt.Sprintf("leader %q, %d servers up to date, %v", leader, n, list.Err())
			done()
		}
		nc.Close()
		if leader != "" && n >= current {
			return leader
		}
	}
	t.Fatalf("no leader with %d servers up to date in a minute: %s", current, said)
	return ""
}

// until waits for what a run comes to.
func (r *run) until(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !f(); time.Sleep(10 * time.Millisecond) {
		if text := r.progress(); strings.Contains(text, "covey train:") {
			t.Fatalf("%s: the run is over:\n%s", what, text)
		}
		if time.Now().After(end) {
			t.Fatalf("%s: not in a minute:\n%s", what, r.progress())
		}
	}
}

func (r *run) says(text string) func() bool {
	return func() bool { return strings.Contains(r.progress(), text) }
}

// A run that three servers keep outlives any one of them, and trains on, with nobody to replace, while only one is left.
func TestThreeServers(t *testing.T) {
	trainOnThree(t, servers(t, freeAddrs(t, 6), coveyServe))
}

// So it does on NATS servers as their makers build them.
func TestThreeStockServers(t *testing.T) {
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(cache, "covey-tools", "nats-server")
	public, err := tokenKey(t, clusterToken).PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	trainOnThree(t, servers(t, freeAddrs(t, 6), func(dir, name, addr, route string, peers []string) []string {
		conf := fmt.Sprintf("server_name: %s\nlisten: %q\njetstream { store_dir: %q }\nauthorization { users: [ { nkey: %s } ] }\n"+
			"cluster { name: covey, listen: %q, routes: [ %s ] }\n", name, addr, filepath.Join(dir, name), public, route,
			"nats://"+strings.Join(append(peers, route), ", nats://"))
		file := filepath.Join(dir, name+".conf")
		if err := os.WriteFile(file, []byte(conf), 0o666); err != nil {
			t.Fatal(err)
		}
		return []string{binary, "-c", file}
	}))
}

func trainOnThree(t *testing.T, nodes []*node) {
	job := []string{"--data", "digits:train=2000,test=100", "--model", "mlp:64", "--microshards", "8", "--timeout", "5s"}
	r := command(t, append([]string{"train", "--json", "--workers", "4", "--min-workers", "2", "--restarts", "8", "--transport", "tcp", "--run", "r",
		"--epochs", "1000000", "--nats", addrsOf(nodes)}, job...)...)
	r.Env = append(os.Environ(), "COVEY_TOKEN="+clusterToken)
	began := time.Now()
	r.start(t)
	steps := func() int { return lastStep(filepath.Join(r.dir, "r")) }
	goesOn := func(when string) {
		t.Helper()
		from := steps()
		r.until(t, "30 steps "+when, func() bool { return steps() >= from+30 })
	}
	replaced := func(when string) {
		t.Helper()
		before := strings.Count(r.progress(), "generation ")
		// One that was started first or in another's place: any that lives.
		pids := livingOf(r)
		if len(pids) < 3 {
			t.Fatalf("%d workers %s:\n%s", len(pids), when, r.progress())
		}
		syscall.Kill(pids[len(pids)-1], syscall.SIGKILL)
		// Not which: who watches through a server that was killed may hear of the next but one first.
		r.until(t, "another generation "+when, func() bool { return strings.Count(r.progress(), "generation ") > before })
	}
	byName := func(name string, is bool) *node {
		for _, n := range nodes {
			if (n.name == name) == is {
				return n
			}
		}
		return nil
	}
	goesOn("with three servers")

	leader := bucketOf(t, nodes, 3)
	follower := byName(leader, false)
	follower.kill()
	replaced("without a follower")
	goesOn("without a follower")
	follower.start(t)

	leader = bucketOf(t, nodes, 3)
	byName(leader, true).kill()
	if next := bucketOf(t, nodes, 2); next == leader {
		t.Fatalf("%s leads, and was killed", next)
	}
	before := strings.Count(r.progress(), "generation ")
	pids := livingOf(r)
	syscall.Kill(pids[0], syscall.SIGKILL)
	r.until(t, "another generation without the leader", func() bool { return strings.Count(r.progress(), "generation ") > before })
	goesOn("without the leader")
	byName(leader, true).start(t)
	bucketOf(t, nodes, 3)

	nodes[0].kill()
	nodes[1].kill()
	goesOn("with one server of three")
	before = strings.Count(r.progress(), "generation ")
	syscall.Kill(livingOf(r)[0], syscall.SIGKILL)
	time.Sleep(3 * time.Second) // several times what a generation takes: what is tested is that nothing happens
	if now := strings.Count(r.progress(), "generation "); now != before {
		t.Errorf("a generation was formed with one server of three:\n%s", r.progress())
	}
	nodes[0].start(t)
	nodes[1].start(t)
	r.until(t, "another generation with all servers", func() bool { return strings.Count(r.progress(), "generation ") > before })
	goesOn("with all servers")
	bucketOf(t, nodes, 3) // who interrupts a run whose servers look for a leader may get no report of it
	t.Logf("%v with faults, %d steps", time.Since(began).Round(time.Second), steps())
	r.Process.Signal(os.Interrupt) // at whatever step that is
	if c := r.code(t); c != 130 {
		t.Fatalf("exit code %d\n%s", c, r.progress())
	}
	var got result
	if err := json.Unmarshal(r.out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	calm := train(t, append(job, "--workers", "2", "--transport", "inproc", "--steps", strconv.Itoa(got.Steps))...)
	if got.Weights != calm.Weights || got.Steps != calm.Steps {
		t.Errorf("%d steps to weights %.12s; the calm run: %d, %.12s\n%s", got.Steps, got.Weights, calm.Steps, calm.Weights, r.progress())
	}
}

// livingOf lists a run's workers of this host that are there, the first started first.
func livingOf(r *run) (pids []int) {
	for line := range bytes.Lines([]byte(r.progress())) {
		var rank, pid int
		if k, _ := fmt.Sscanf(string(line), "worker %d is process %d", &rank, &pid); k == 2 && alive(pid) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// lastStep is how far a run has come, by its metrics.
func lastStep(folder string) (step int) {
	f, err := os.Open(filepath.Join(folder, "metrics.jsonl"))
	if err != nil {
		return 0
	}
	defer f.Close()
	if st, err := f.Stat(); err == nil && st.Size() > 4096 {
		f.Seek(-4096, io.SeekEnd)
	}
	for in := bufio.NewScanner(f); in.Scan(); {
		var line struct{ Step int }
		if json.Unmarshal(in.Bytes(), &line) == nil {
			step = max(step, line.Step)
		}
	}
	return step
}
