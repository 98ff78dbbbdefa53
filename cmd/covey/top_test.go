package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

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
		"":                  "name workers with --ops",
		"--ops " + addrs[0] + " --ops-token /no/such":            "no such file",
		"--ops http://" + addrs[0] + "/no --ops-token " + secret: "it answers 404",
	} {
		if text, err := look(strings.Fields(args)...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("covey top %s: %v, expected %q\n%s", args, err, want, text)
		}
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
