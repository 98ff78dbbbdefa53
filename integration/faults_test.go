//go:build integration

package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/comm/tcp"
	"github.com/covey-ml/covey/job"
	training "github.com/covey-ml/covey/train"
)

// faultJob is the job that networks with faults are asked to train.
const faultJob = `
data: digits:train=300,test=100
model: mlp:8
batch: 60
workers: 3
epochs: 4
timeout: 2s
`

// simulated runs the job on the simulator under a script. It returns the report, or what the error says.
func simulated(t *testing.T, script string) (r result, said string) {
	t.Helper()
	c := command(t, "sim", "job.yaml", "--faults", "f.txt", "--json", "--quiet")
	for name, text := range map[string]string{"job.yaml": faultJob, "f.txt": script} {
		if err := os.WriteFile(filepath.Join(c.dir, name), []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	switch code := c.code(t); code {
	case 0:
		if err := json.Unmarshal(c.out.Bytes(), &r); err != nil {
			t.Fatal(err)
		}
		said = c.out.String()
	case 4:
		said = c.err.String()
	default:
		t.Fatalf("covey sim under %q: exit code %d\n%s", script, code, c.err.String())
	}
	if strings.Contains(said, "did not fire") || strings.Contains(said, `"fired":0`) {
		t.Fatalf("the simulator under %q: %s", script, said)
	}
	return r, said
}

// proxy is a toxiproxy between two workers.
type proxy struct {
	api    string
	client http.Client
}

// startProxy runs toxiproxy-server, which make integration installs.
func startProxy(t *testing.T) *proxy {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	host, port, _ := net.SplitHostPort(free.Addr().String())
	free.Close()
	var out bytes.Buffer
	server := exec.Command(filepath.Join(cache, "covey-tools", "toxiproxy-server"), "-host", host, "-port", port)
	server.Stdout, server.Stderr = &out, &out
	if err := server.Start(); err != nil {
		t.Fatalf("%v: integration/setup.sh installs it", err)
	}
	t.Cleanup(func() { server.Process.Kill(); server.Wait() })
	p := &proxy{api: "http://" + net.JoinHostPort(host, port), client: http.Client{Timeout: 10 * time.Second}}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if r, err := p.client.Get(p.api + "/version"); err == nil {
			r.Body.Close()
			return p
		}
		if time.Now().After(deadline) {
			t.Fatalf("toxiproxy does not answer:\n%s", out.String())
		}
	}
}

func (p *proxy) post(path string, v, answer any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	r, err := p.client.Post(p.api+path, "application/json", bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err == nil && r.StatusCode/100 != 2 {
		err = fmt.Errorf("toxiproxy: %s: %s", r.Status, text)
	}
	if err == nil && answer != nil {
		err = json.Unmarshal(text, answer)
	}
	return err
}

// toxic is what happens to the bytes of a proxy, in both directions.
func (p *proxy) toxic(name, kind string, attributes map[string]any) error {
	var errs []error
	for _, stream := range []string{"upstream", "downstream"} {
		errs = append(errs, p.post("/proxies/"+name+"/toxics", map[string]any{"type": kind, "stream": stream, "attributes": attributes}, nil))
	}
	return errors.Join(errs...)
}

// trainThrough trains the job on three workers with sockets, of which rank 1 reaches rank 0 through a proxy. at is called
// after each step of rank 0. It returns each rank's report and error.
func trainThrough(t *testing.T, p *proxy, at func(step int)) ([]*training.Report, []error) {
	t.Helper()
	ctx := context.Background()
	j, err := job.Parse("job.yaml", []byte(faultJob))
	if err == nil {
		err = j.Fill()
	}
	if err != nil {
		t.Fatal(err)
	}
	tr, test, err := j.Open(ctx)
	if err != nil {
		t.Fatal(err)
	}
	doors := make([]*tcp.Listener, j.Workers)
	addrs := make([]string, j.Workers)
	for r := range doors {
		if doors[r], err = tcp.Listen(ctx, "127.0.0.1:0", nil); err != nil {
			t.Fatal(err)
		}
		defer doors[r].Close()
		addrs[r] = doors[r].Addr()
	}
	var made struct{ Listen string }
	if err := p.post("/proxies", map[string]any{"name": "link", "listen": "127.0.0.1:0", "upstream": addrs[0], "enabled": true}, &made); err != nil {
		t.Fatal(err)
	}
	reports, errs := make([]*training.Report, j.Workers), make([]error, j.Workers)
	var wg sync.WaitGroup
	for r := range doors {
		conf, err := j.Build(tr, test)
		if err != nil {
			t.Fatal(err)
		}
		mine := slices.Clone(addrs)
		if r == 1 { // the higher rank dials
			mine[0] = made.Listen
		}
		if r == 0 {
			conf.Events.Step = func(i training.StepInfo) { at(i.Step) }
		}
		wg.Go(func() {
			g, err := doors[r].Connect(ctx, comm.Rank(r), mine, tcp.Config{Secret: []byte("of a test, thirty-two bytes long"), Timeout: j.Timeout, Setup: time.Minute})
			if err != nil {
				errs[r] = err
				return
			}
			defer g.Close()
			reports[r], errs[r] = training.Run(ctx, g, conf)
		})
	}
	wg.Wait()
	return reports, errs
}

// A slow link, as toxiproxy makes it, costs time and no bit: what the simulator says of the same delay.
func TestProxyDelay(t *testing.T) {
	want, _ := simulated(t, "delay 20ms on link 1-*")
	p := startProxy(t)
	steps := 0
	reports, errs := trainThrough(t, p, func(step int) {
		steps = step
		if step == 1 {
			if err := p.toxic("link", "latency", map[string]any{"latency": 20}); err != nil {
				t.Error(err)
			}
		}
	})
	for r, rep := range reports {
		switch {
		case errs[r] != nil:
			t.Errorf("rank %d: %v", r, errs[r])
		case rep.Weights != want.Weights:
			t.Errorf("rank %d: weights %.12s, the simulator's %.12s", r, rep.Weights, want.Weights)
		case rep.Wall < float64(steps-1)*0.02:
			t.Errorf("rank %d: %d steps over a link with 20 ms of latency took %v s", r, steps, rep.Wall)
		}
	}
}

var failed = regexp.MustCompile(`rank (\d) failed in ([a-z-]+) at step (\d+), \d+ bytes missing: timed out`)

// A link on which nothing passes any more, with its connections up, as toxiproxy makes it, ends the run as a partition ends the
// simulated one: about that step, by the timeout, with the name of one of the two at its ends.
func TestProxyCut(t *testing.T) {
	_, said := simulated(t, "partition 0 1 at step 7")
	want := failed.FindStringSubmatch(said)
	if want == nil || want[1] != "0" && want[1] != "1" {
		t.Fatalf("the simulator: %s", said)
	}
	p := startProxy(t)
	_, errs := trainThrough(t, p, func(step int) {
		if step == 6 { // not the end of an epoch
			if err := p.toxic("link", "timeout", map[string]any{"timeout": 0}); err != nil {
				t.Error(err)
			}
		}
	})
	for r, err := range errs {
		var pe *comm.PeerError
		if !errors.As(err, &pe) || !errors.Is(err, comm.ErrTimeout) && !strings.Contains(err.Error(), "timed out") {
			t.Errorf("rank %d: %v; the simulator: %s", r, err, want[0])
			continue
		}
		// Rank 1 may be a message ahead, or the cut catch what it still has to say of the step before.
		step, _ := strconv.Atoi(want[3])
		if pe.Rank != 0 && pe.Rank != 1 || pe.Op.String() != want[2] || pe.Step < step-1 || pe.Step > step+1 {
			t.Errorf("rank %d: %v; the simulator: %s", r, err, want[0])
		}
	}
}

// Packets that are lost below the sockets, as an nftables rule loses them, cost time and no bit, as the simulator and
// covey train --faults say of the same loss.
func TestLostPackets(t *testing.T) {
	const script = "drop 3% on link 2-*\n"
	want, _ := simulated(t, script)
	ns, _ := joined(t, "1gbit", "64kb")
	must(t, "ip", "netns", "exec", ns, "nft", "add table inet covey; add chain inet covey in { type filter hook input priority 0; };"+
		" add rule inet covey in meta l4proto tcp numgen random mod 100 < 3 counter drop")
	dir := t.TempDir()
	certs := filepath.Join(dir, "certs")
	must(t, covey, "ca", "init", certs)
	must(t, covey, "ca", "issue", certs, "near", nearHost)
	must(t, covey, "ca", "issue", certs, "far", farHost)
	r := command(t, "train", "job.yaml", "--transport", "tcp", "--timeout", "1m", "--join", "1", "--listen", nearHost+":7460", "--tls", certs, "--node", "near", "--json")
	if err := os.WriteFile(filepath.Join(r.dir, "job.yaml"), []byte(faultJob), 0o666); err != nil {
		t.Fatal(err)
	}
	r.start(t)
	r.pids(t, 2, "waiting for 1 worker")
	must(t, "ip", "netns", "exec", ns, covey, "join", nearHost+":7460", "--tls", certs, "--node", "far")
	if c := r.code(t); c != 0 {
		t.Fatalf("exit code %d\n%s", c, r.progress())
	}
	var got result
	if err := json.Unmarshal(r.out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if got.Weights != want.Weights {
		t.Errorf("with packets lost: weights %.12s, the simulator's %.12s", got.Weights, want.Weights)
	}
	rules := must(t, "ip", "netns", "exec", ns, "nft", "list", "ruleset")
	m := regexp.MustCompile(`counter packets (\d+) `).FindStringSubmatch(rules)
	if m == nil || m[1] == "0" {
		t.Errorf("no packet was lost:\n%s", rules)
	} else {
		t.Logf("%s packets were lost", m[1])
	}
	c := command(t, "train", "job.yaml", "--transport", "tcp", "--faults", "f.txt", "--json", "--quiet")
	for name, text := range map[string]string{"job.yaml": faultJob, "f.txt": script} {
		if err := os.WriteFile(filepath.Join(c.dir, name), []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	if code := c.code(t); code != 0 {
		t.Fatalf("--faults: exit code %d\n%s", code, c.err.String())
	}
	if err := json.Unmarshal(c.out.Bytes(), &got); err != nil || got.Weights != want.Weights || strings.Contains(c.out.String(), `"fired":0`) {
		t.Errorf("--faults: %v, weights %.12s, the simulator's %.12s: %s", err, got.Weights, want.Weights, c.out.String())
	}
}
