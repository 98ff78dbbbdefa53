package plan

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/network"
)

func measured() *Probe {
	r := func(x float64) Reading { return Reading{x, x / 2, 2 * x, 9} }
	return &Probe{Version: ProbeVersion, Made: "2026-11-28T08:00:00Z", System: "linux/amd64, kernels avx2", Cores: 2, Cache: 32 << 20, RAM: 8 << 30,
		Model: "mlp:128,64", Batch: 128, FLOPS: r(60e9), FLOPSAll: r(100e9), InCache: r(90e9), Memory: r(10e9), MemoryAll: r(15e9),
		Transports: map[string]Transport{"inproc": {Alpha: r(3e-7), Message: r(2e-7), Beta: r(4e-11), Gamma: r(2e-11)},
			"tcp": {Alpha: r(1.4e-5), Message: r(4e-6), Beta: r(4e-10), Gamma: r(2e-11), Send: 3e-6, Receive: 5e-6, SendByte: 1e-10, ReceiveByte: 2e-10}}}
}

func TestProbeFile(t *testing.T) {
	p := measured()
	path := filepath.Join(t.TempDir(), "probe.json")
	if err := p.Save(path); err != nil {
		t.Fatal(err)
	}
	got, err := LoadProbe(path)
	if err != nil || !reflect.DeepEqual(p, got) {
		t.Fatalf("%+v\nis read back as\n%+v, error %v", p, got, err)
	}
	c, ok := got.Costs("tcp")
	if !ok || c.Alpha != 1.4e-5 || c.Beta != 4e-10 || c.BetaBeyond != 4e-10*(comm.TCPCosts.BetaBeyond/comm.TCPCosts.Beta) {
		// the order of the product is Measured's own
		if want := comm.TCPCosts.Measured(1.4e-5, 4e-6, 4e-10, 2e-11); c != want {
			t.Errorf("costs of tcp are %+v, %v", c, ok)
		}
	}
	if _, ok := got.Costs("shm"); ok {
		t.Error("there are costs of shm, which was not measured")
	}
	if m := got.Machine(); m.Cores != 2 || m.FLOPS != 50e9 || m.Memory != 10e9 || m.MemoryAll != 15e9 || m.Cache != 32<<20 || m.RAM != 8<<30 {
		t.Errorf("the machine is %+v", m)
	}
	n, err := network.New("gigabit", 2)
	if err != nil {
		t.Fatal(err)
	}
	wire := n.Messages.Wire
	got.Calibrate(n)
	if m := n.Messages; m.Send != 3*time.Microsecond || m.ReceiveByte != 2e-10 || m.Wire != wire || n.Hosts[1].Machine.FLOPS != 50e9 {
		t.Errorf("calibrated, messages are %+v, a host %+v", m, n.Hosts[1].Machine)
	}
	n, err = network.Parse("n", []byte("messages: {send: 1us}\nmachine: {flops: 1GFLOP/s}\nhosts: {name: h, count: 2, uplink: {bandwidth: 1Gbit/s}}\n"))
	if err != nil {
		t.Fatal(err)
	}
	got.Calibrate(n)
	if n.Messages.Send != time.Microsecond || n.Hosts[0].Machine.FLOPS != 1e9 || n.Hosts[0].Machine.Memory != 10e9 {
		t.Errorf("what the description says is not kept: %+v, %+v", n.Messages, n.Hosts[0].Machine)
	}
}

// Files that hold no measurement are refused, with the place and what was meant.
func TestHostileProbeFiles(t *testing.T) {
	good, err := measured().Bytes()
	if err != nil {
		t.Fatal(err)
	}
	change := func(from, to string) string {
		if !strings.Contains(string(good), from) {
			t.Fatalf("%q is not in the file:\n%s", from, good)
		}
		return strings.Replace(string(good), from, to, 1)
	}
	for text, words := range map[string]string{
		"":                                     "f:1: not a measurement: EOF",
		"\x00":                                 "f:1: not a measurement",
		"[1]":                                  "f:1: the file is a array",
		"{":                                    "f:1: not a measurement: unexpected EOF",
		strings.Repeat("[", mostProbe):         "f:1: ",
		strings.Repeat(" ", mostProbe+1):       "not a measurement: over 65536 bytes",
		string(good) + "{}":                    "more follows behind the measurement",
		change(`"version": 1`, `"version": 7`): "version is 7, expected 1: measure again",
		change(`"cores": 2`, `"corse": 2`):     `f:5: unknown key "corse": did you mean "cores"?`,
		change(`"cores": 2`, `"cores": "x"`):   "f:5: cores is a string, expected a int",
		change(`"cores": 2`, `"cores": 0`):     "cores is 0",
		change(`"tcp":`, `"tpc":`):             `unknown transport "tpc": did you mean "tcp"?`,
		change(`"median": 60000000000`, `"median": -1`):    "flops: median is -1",
		change(`"median": 60000000000`, `"median": 1e999`): "f:",
		change(`"median": 60000000000`, `"median": 1e12`):  "flops: the median 1e+12 is not from least",
		change(`"repeats": 9`, `"repeats": 0`):             "repeats is 0",
		change(`"send": 0.000003`, `"send": -1`):           "processor time",
	} {
		_, err := ParseProbe("f", []byte(text))
		var bad *ProbeError
		if !errors.As(err, &bad) || !strings.Contains(err.Error(), words) {
			t.Errorf("%.60q: error %v, expected %q", text, err, words)
		}
	}
	dir := t.TempDir()
	os.WriteFile(filepath.Join(dir, "probe.json"), good, 0o666)
	for path, words := range map[string]string{dir: "is a folder", filepath.Join(dir, "prob.json"): "did you mean", filepath.Join(t.TempDir(), "x"): "covey probe makes one"} {
		if _, err := LoadProbe(path); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: error %v, expected %q", path, err, words)
		}
	}
}

func FuzzProbe(f *testing.F) {
	good, err := measured().Bytes()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"version": 1, "cores": [1`))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := ParseProbe("f", text)
		if err != nil {
			var bad *ProbeError
			if !errors.As(err, &bad) {
				t.Fatalf("error %v of type %T", err, err)
			}
			return
		}
		b, err := p.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		if again, err := ParseProbe("f", b); err != nil || !reflect.DeepEqual(p, again) {
			t.Fatalf("%+v\nis read back as\n%+v, error %v", p, again, err)
		}
	})
}

// What costs say as text is read back as the same costs.
func TestCostsAsText(t *testing.T) {
	c, ok := measured().Costs("tcp")
	if !ok {
		t.Fatal("no tcp")
	}
	got, err := comm.TCPCosts.With(c.Text())
	if err != nil || got != c {
		t.Errorf("%s is read back as %+v, error %v, expected %+v", c.Text(), got, err, c)
	}
	for text, words := range map[string]string{"measurd:alpha=1": `did you mean "measured"`, "measured:alpha=0": "alpha is 0", "measured:beta=-1": "a price of -1",
		"measured:alfa=1": `did you mean "alpha"`, "measured:alpha=x": "expected a number"} {
		if _, err := comm.TCPCosts.With(text); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: error %v, expected %q", text, err, words)
		}
	}
}

// A glance at this machine: every number is there and is one that a file may hold.
func TestGlance(t *testing.T) {
	c, _ := conf(t, "workers=2")
	e := Effort{Repeats: 1, Block: time.Millisecond}
	p, err := e.Machine(context.Background(), c.Model, c.Train, 10)
	if err != nil {
		t.Fatal(err)
	}
	p.Made, p.Model = "now", "mlp:20"
	err = Goroutines(time.Minute)(context.Background(), 2, func(ctx context.Context, g comm.Group) error {
		used := time.Duration(0)
		m, err := e.Messages(ctx, g, func() time.Duration { used += time.Millisecond; return used })
		if g.Rank() == 0 {
			p.Transports["inproc"] = m
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	b, err := p.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseProbe("f", b); err != nil {
		t.Errorf("%v in\n%s", err, b)
	}
	if m := p.Transports["inproc"]; m.Send == 0 || m.Receive == 0 { // a tick of the clock for each stream
		t.Errorf("messages cost %+v", m)
	}
	if !(p.FLOPS.Median > 0 && p.FLOPSAll.Median > 0) { // which is more is the machine's business: others may be at work on it
		t.Errorf("%v FLOP/s on one core, and %v on %d", p.FLOPS, p.FLOPSAll, p.Cores)
	}
}
