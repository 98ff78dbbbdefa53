package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/covey-ml/covey/cluster"
	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/ops"
	"github.com/covey-ml/covey/train"
)

// Two workers that show their numbers, and what covey top --once makes of them.
func TestTopAsksWorkers(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(secret, []byte("correct-horse-battery\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var addrs []string
	for r := range 2 {
		m := ops.NewMeter("runs/digits", comm.RealClock(), ops.Limits{})
		m.Sit(ops.Seat{Generation: 3, Rank: r, Workers: 2})
		e := m.Events(train.Events{})
		e.Start(train.StartInfo{Step: 1200, Steps: 4000})
		e.Step(train.StepInfo{Step: 1201 + r, Epoch: 2, Samples: 64, Loss: 0.25})
		e.Checkpoint(train.CheckpointInfo{Step: 1200, Err: errors.New("\x1b[2Jdisk full")})
		flags := &opsFlags{addr: "127.0.0.1:0", token: secret}
		s, err := flags.serve(t.Context(), m, nil, r, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		addrs = append(addrs, s.Addr())
	}
	look := func(args ...string) (string, error) {
		var out strings.Builder
		c := topCommand()
		c.SetArgs(args)
		c.SetOut(&out)
		c.SetErr(&out)
		c.SilenceErrors, c.SilenceUsage = true, true
		err := c.ExecuteContext(t.Context())
		return out.String(), err
	}
	text, err := look("--ops", strings.Join(addrs, ","), "--ops-token", secret, "--once")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"runs/digits · generation 3 · 2 workers\n", "step 1,202 of 4,000 · epoch 2", "loss 0.25", addrs[0], addrs[1], "training  1,201",
		"the checkpoint of step 1200 was not saved: ?[2Jdisk full"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	// One that is not there is shown as such; when none is there, that is an error.
	if text, err := look("--ops", addrs[0]+",127.0.0.1:1", "--ops-token", secret); err != nil || !strings.Contains(text, "no answer") {
		t.Errorf("%v\n%s", err, text)
	}
	for args, want := range map[string]string{
		"--ops 127.0.0.1:1": "no worker answers: 127.0.0.1:1: connection refused",
		"--ops " + addrs[0]: "it does not know our token",
		"--ops ftp://x":     "expected a URL or HOST:PORT",
		"--ops https://x":   "https needs this host's certificates",
		"":                  "name a run folder",
		"--ops " + addrs[0] + " --ops-token /no/such":            "no such file",
		"--ops http://" + addrs[0] + "/no --ops-token " + secret: "it answers 404",
	} {
		if text, err := look(strings.Fields(args)...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("covey top %s: %v, expected %q\n%s", args, err, want, text)
		}
	}
}

// A run of two workers on a server of its own, one of which dies, and what covey top makes of it.
func TestTopAttendsRun(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	clock, token := comm.RealClock(), cluster.NewToken()
	server, err := cluster.Serve(cluster.ServerConfig{Listen: "127.0.0.1:0", Token: token, Warn: func(text string) { t.Log(text) }})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	access := cluster.Access{Servers: []string{server.Addr()}, Token: token}
	store, err := cluster.Create(ctx, access, "digits-1", clock)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	coordinator, err := cluster.Coordinate(ctx, store, clock, func(cluster.News) {})
	if err != nil {
		t.Fatal(err)
	}
	defer coordinator.Close()
	run := cluster.Run{Local: 2, Limits: cluster.Limits{Min: 1, Max: 2, Meet: time.Minute, Wait: time.Minute, Patience: time.Minute}, Elastic: true, Orphan: time.Minute}
	if err := coordinator.Start(ctx, run, 2); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	met := make(chan struct{}, 2)
	for r := range 2 {
		m := ops.NewMeter("runs/digits", clock, ops.Limits{})
		all.Go(func() {
			s, err := cluster.Open(ctx, access, "digits-1", clock)
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Close()
			w, err := cluster.Join(ctx, s, cluster.Joining{Want: r}, clock)
			if err != nil {
				t.Error(err)
				return
			}
			defer w.Close()
			g, err := w.Next(ctx, fmt.Sprintf("127.0.0.1:%d", 1+r), 0, nil)
			if err != nil {
				t.Error(err)
				return
			}
			m.Sit(ops.Seat{Generation: g.Number, Rank: g.Rank(w.ID), Workers: 2})
			e := m.Events(train.Events{})
			e.Start(train.StartInfo{Steps: 4000})
			e.Step(train.StepInfo{Step: 41, Epoch: 2, Samples: 64, Loss: 0.25})
			met <- struct{}{}
			m.Tell(ctx, clock, func(s ops.Status) { w.Event(map[string]any{"status": s}) })
		})
	}
	for range 2 {
		select {
		case <-met:
		case <-ctx.Done():
			t.Fatal("the workers have not met")
		}
	}
	folder := filepath.Join(t.TempDir(), "digits")
	if err := os.Mkdir(folder, 0o777); err != nil {
		t.Fatal(err)
	}
	o := &topOptions{}
	for where, want := range map[string]string{folder: "not the folder of a run that is under way", folder[:len(folder)-1]: "did you mean " + folder, "nothing-like-it": "neither a run folder nor"} {
		if _, err := o.open(ctx, where); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, expected %q", where, err, want)
		}
	}
	if err := (meeting{Servers: access.Servers, Token: token, Run: "digits-1"}).save(folder); err != nil {
		t.Fatal(err)
	}
	seen, err := o.open(ctx, folder)
	if err != nil {
		t.Fatal(err)
	}
	defer seen.Close()
	v := &topView{began: time.Now()}
	if err := attendTop(ctx, seen, true, time.Minute, v.tell); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := v.print(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"runs/digits · generation 1 · 2 workers\n", "step 41 of 4,000", "   0  ", "   1  ", "process", "generation 1 of 2 workers: "} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in\n%s", want, out.String())
		}
	}
}

// What a run's launcher hears, as covey top takes it.
func TestNewsOfARun(t *testing.T) {
	var v topView
	ended := 0
	a := &attending{tell: v.tell, names: map[string]string{}, silent: map[string]bool{}, end: func() { ended++ }}
	seat := func(id string) cluster.Seat { return cluster.Seat{ID: id, Name: "node-" + id} }
	say := func(id, event string) { a.hear(cluster.News{Event: &cluster.Said{ID: id, Event: []byte(event)}}) }
	for _, id := range []string{"a", "b", "c"} {
		a.hear(cluster.News{Joined: &cluster.Member{ID: id, Name: "node-" + id}})
	}
	a.hear(cluster.News{Formed: &cluster.Generation{Number: 1, Seats: []cluster.Seat{seat("a"), seat("b"), seat("c")}, Why: "all are there"}})
	say("a", `{"status":{"state":"training","rank":0,"workers":3,"generation":1,"step":7,"steps":9}}`)
	say("b", `{"status":{"state":"training","rank":-5}}`) // which no worker says
	say("b", `{"step":{"Step":3}}`)
	say("b", `no JSON`)
	a.hear(cluster.News{Ended: &cluster.Member{ID: "b", Error: "killed by signal 9", Code: 1}})
	a.hear(cluster.News{Ended: &cluster.Member{ID: "c"}})
	a.hear(cluster.News{Formed: &cluster.Generation{Number: 2, Seats: []cluster.Seat{seat("a")}, Why: "b is gone", Gone: []cluster.Loss{{ID: "b", How: "connection reset"}}}})
	if ended != 0 {
		t.Error("it ends before the run")
	}
	a.hear(cluster.News{Report: []byte(`{"stopped":true}`)})
	a.hear(cluster.News{Report: []byte(`{"stopped":true}`)})
	var out strings.Builder
	if err := v.print(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"generation 2 · 1 worker · the run was stopped", "step 7 of 9", "node-b  ended", "node-c  done", "rank 1 (node-b): killed by signal 9",
		"generation 2 of 1 worker: b is gone", "node-b: connection reset"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in\n%s", want, out.String())
		}
	}
	if ended != 1 {
		t.Errorf("it ended %d times", ended)
	}
}

func TestPortsOfOneHost(t *testing.T) {
	for _, c := range []struct {
		addr string
		n    int
		want string
	}{
		{"127.0.0.1:9090", 0, "127.0.0.1:9090"}, {":9090", 3, ":9093"}, {"[::1]:9090", 1, "[::1]:9091"}, {"h:0", 5, "h:0"},
		{"h", 0, "!expected HOST:PORT"}, {"h:x", 0, "!expected HOST:PORT"}, {"h:65535", 1, "!begin lower"}, {"h:70000", 0, "!up to 65535"},
	} {
		got, err := nthPort(c.addr, c.n)
		if bad, wrong := strings.CutPrefix(c.want, "!"); wrong {
			if err == nil || !strings.Contains(err.Error(), bad) {
				t.Errorf("%s, worker %d: %v, expected %q", c.addr, c.n, err, bad)
			}
		} else if err != nil || got != c.want {
			t.Errorf("%s, worker %d: %q, %v", c.addr, c.n, got, err)
		}
	}
}

func TestQuitKeys(t *testing.T) {
	quits := 0
	quitKeys(strings.NewReader("xyq"), func() { quits++ })
	quitKeys(strings.NewReader("\x03more"), func() { quits++ })
	quitKeys(strings.NewReader(""), func() { quits++ })
	if quits != 3 {
		t.Errorf("%d of 3", quits)
	}
}

func TestLogIsOffUnlessAskedFor(t *testing.T) {
	var b strings.Builder
	log, _, err := (&opsFlags{}).logger(&b, "r")
	if err != nil {
		t.Fatal(err)
	}
	log.Error("x")
	if b.Len() > 0 {
		t.Errorf("it says %s", b.String())
	}
	if _, _, err := (&opsFlags{level: "debug"}).logger(&b, "r"); exitCode(err) != exitUsage {
		t.Errorf("a level without a log: %v", err)
	}
	if _, _, err := (&opsFlags{log: "jason"}).logger(&b, "r"); exitCode(err) != exitUsage || !strings.Contains(err.Error(), `"json"`) {
		t.Errorf("no such format: %v", err)
	}
}
