package network

import (
	"fmt"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"
)

func TestPresetsHoldTheWorkers(t *testing.T) {
	for _, p := range Presets() {
		for _, workers := range []int{1, 64, 1000, 100000} {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			n, err := New(p.Name, workers)
			if err != nil {
				t.Fatalf("%s for %d: %v", p.Name, workers, err)
			}
			runtime.ReadMemStats(&after)
			if each := (after.TotalAlloc - before.TotalAlloc) / uint64(workers); workers == 100000 && each > 2500 {
				t.Errorf("%s: %d bytes a worker", p.Name, each)
			}
			at, err := n.Place(workers)
			if err != nil || len(at) != workers {
				t.Fatalf("%s for %d: %v", p.Name, workers, err)
			}
			if spare := n.Workers() - workers; spare > max(128, workers) {
				t.Errorf("%s for %d: %d places too many", p.Name, workers, spare)
			}
			var buf [1024]int
			for i := range 100 {
				from, to := at[i*7919%workers], at[(workers-1)*i/100]
				for _, l := range n.Path(buf[:0], from, to) {
					if n.Links[l].Bandwidth <= 0 || n.Links[l].Latency <= 0 {
						t.Fatalf("%s: %+v", p.Name, n.Links[l])
					}
				}
			}
		}
	}
}

// A preset is a file, and what the file says is what the preset is.
func TestPresetsAreFiles(t *testing.T) {
	for _, p := range Presets() {
		n, err := New(p.Name, 5)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Parse(p.Name, n.YAML())
		if err != nil || !reflect.DeepEqual(n, again) {
			t.Errorf("%s: %v\n%v\n%v", p.Name, err, n, again)
		}
	}
}

func oneWay(n *Network, from, to int) (d time.Duration, least float64) {
	for _, l := range n.Path(nil, from, to) {
		d += n.Links[l].Latency
		if least == 0 || n.Links[l].Bandwidth < least {
			least = n.Links[l].Bandwidth
		}
	}
	return d, least
}

func TestPresetParameters(t *testing.T) {
	for _, c := range []struct {
		choice       string
		workers      int
		hosts, links int
		latency      time.Duration // from the first host to the last
		bandwidth    float64       // bits a second
	}{
		{"machine:4", 16, 1, 1, loopbackLatency, 80e9},
		{"gigabit:workers=4", 10, 3, 9, 60 * time.Microsecond, 1e9},
		{"10gigabit", 10, 10, 20, 10 * time.Microsecond, 10e9},
		{"100gigabit:rate=200Gbit/s", 2, 2, 4, 3 * time.Microsecond, 200e9},
		{"fattree", 256, 256, 2*(256+16) + 4, 12 * time.Microsecond, 25e9},
		{"fattree:hosts=16,over=32", 256, 256, 2*(256+16) + 4, 12 * time.Microsecond, 12.5e9},
		{"torus", 64, 64, 256, 2 * time.Microsecond, 100e9},
		{"torus:rows=2,cols=5", 10, 10, 30, 2 * time.Microsecond, 100e9},
		{"torus:cols=8", 30, 32, 128, 2 * time.Microsecond, 100e9},
		{"regions", 20, 20, 44, 30 * time.Millisecond, 1e9},
		{"regions:regions=3,rtt=90ms,between=500Mbit/s", 20, 21, 48, 45 * time.Millisecond, 500e6},
		{"home", 3, 3, 6, 16 * time.Millisecond, 20e6},
		{"home:up=10Mbit/s,latency=1ms", 3, 3, 6, 2 * time.Millisecond, 10e6},
		{"mobile", 3, 3, 6, 50 * time.Millisecond, 10e6},
	} {
		n, err := New(c.choice, c.workers)
		if err != nil {
			t.Errorf("%s: %v", c.choice, err)
			continue
		}
		latency, least := oneWay(n, 0, len(n.Hosts)-1)
		if len(n.Hosts) != c.hosts || len(n.Links) != c.links || latency != c.latency || least*8 != c.bandwidth {
			t.Errorf("%s: %d hosts, %d links, %v, %v bit/s, want %+v", c.choice, len(n.Hosts), len(n.Links), latency, least*8, c)
		}
	}
	n, err := New("gigabit:cores=2,flops=5GFLOP/s,memory=3GB/s,spread=0.5", 2)
	if m := n.Hosts[1].Machine; err != nil || m.Cores != 2 || m.FLOPS != 5e9 || m.Memory != 3e9 || m.Speed != (Spread{Kind: "lognormal", Sigma: 0.5}) {
		t.Errorf("%+v, %v", m, err)
	}
}

func TestPresetErrors(t *testing.T) {
	for choice, want := range map[string]string{
		"gigabyte":                   `unknown network "gigabyte": did you mean "gigabit"?`,
		"zzzzzzzzz":                  `or a file such as wan.yaml`,
		"":                           `expected a name`,
		"no/such.yaml":               `no/such.yaml: there is no such network file`,
		"gigabit:worker=4":           `gigabit: unknown parameter "worker": did you mean "workers"?`,
		"gigabit:workers=0":          `gigabit: workers: 0 is not from 1 to 1000000`,
		"gigabit:rate=10Mbps":        `gigabit: rate: unknown unit of a bandwidth "Mbps": did you mean "Mbit/s"?`,
		"gigabit:rate=":              `gigabit: rate: "" is not a bandwidth such as`,
		"home:up=0Mbit/s":            `home: up: 0Mbit/s is nothing`,
		"home:loss=1":                `home: loss: 1 is not a probability`,
		"home:spread=-1":             `home: spread: "-1" is not a number from 0 to 3`,
		"torus:rows=2,cols=2":        `torus: 2 rows of 2 hosts do not hold 10: leave rows or cols out`,
		"regions:rtt=10us":           `regions: rtt is 10µs, but hosts' links alone take 20µs there and back`,
		"gigabit:1,1Gbit/s,1s,1,1,1": `gigabit: flops: 1 has no unit`,
	} {
		if _, err := New(choice, 10); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", choice, err, want)
		}
	}
	if _, err := New("gigabit", 0); err == nil || !strings.Contains(err.Error(), "expected at least 1") {
		t.Error(err)
	}
	if _, err := New("gigabit", 1000001); err == nil || !strings.Contains(err.Error(), "1000001 hosts for 1000001 workers") {
		t.Error(err)
	}
}

func BenchmarkNew(b *testing.B) {
	for _, choice := range []string{"home", "fattree", "torus"} {
		b.Run(choice, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if n, err := New(choice, 100000); err != nil || n.Workers() < 100000 {
					b.Fatal(err)
				}
			}
		})
	}
}

func Example() {
	n, err := Parse("racks.yaml", []byte(`
name: two racks
machine: {cores: 8, flops: 60GFLOP/s, memory: 10GB/s}
zones:
  - name: rack
    count: 2                 # rack0 and rack1
    uplink: {bandwidth: 10Gbit/s, latency: 20us}
    hosts: {name: h, count: 20, workers: 2, uplink: {bandwidth: 1Gbit/s, latency: 30us, loss: 0.01%}} # h0 to h39
`))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Print(n)
	hosts, _ := n.Place(50)
	for _, l := range n.Path(nil, hosts[0], hosts[49]) { // from the first worker to the last
		fmt.Println(n.Links[l].Name)
	}
	// Output:
	// two racks: 40 hosts for 80 workers, 2 zones, 124 links
	//   2 zones   rack0 to rack1  10Gbit/s, 20µs
	//   40 hosts  h0 to h39       2 workers: 8 cores of 60GFLOP/s, 10GB/s, cache 16MiB  1Gbit/s, 30µs, loss 0.01%
	//   a message takes 5µs of its sender and 5µs of its receiver, a byte 0.2ns and 0.2ns, and 1.062 bytes on the wire
	// h0-rack0
	// rack0-core
	// core-rack1
	// rack1-h24
}

func ExampleNew() {
	n, _ := New("home:up=10Mbit/s", 1000)
	from, to := 3, 700
	for _, l := range n.Path(nil, from, to) {
		fmt.Println(n.Links[l].Name, printBandwidth(n.Links[l].Bandwidth), n.Links[l].Latency)
	}
	// Output:
	// home3-internet 10Mbit/s 8ms
	// internet-home700 100Mbit/s 8ms
}

func ExampleNetwork_String() {
	n, _ := New("regions:workers=2", 1000)
	fmt.Print(n)
	// Output:
	// regions: 500 hosts for 1000 workers, 2 zones, 1504 links
	//   2 zones    region0 to region1  1Gbit/s, 14.995ms
	//   500 hosts  h0 to h499          2 workers: 8 cores of 60GFLOP/s, 10GB/s (all 40GB/s), cache 16MiB  10Gbit/s, 5µs
	//   a message takes 5µs of its sender and 5µs of its receiver, a byte 0.2ns and 0.2ns, and 1.062 bytes on the wire
}

func ExampleParse() {
	n, err := Parse("lab.yaml", []byte("hosts: {count: 8, uplink: {bandwidth: 100Mbps}}"))
	fmt.Println(n, err)
	// Output: <nil> lab.yaml:1:39: bandwidth: unknown unit of a bandwidth "Mbps": did you mean "Mbit/s"?
}
