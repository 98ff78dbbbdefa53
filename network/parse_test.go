package network

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestParseMachine(t *testing.T) {
	n := parse(t, `
name: all there is to say
machine:
  cores: 4
  flops: 2.5TFLOP/s
  memory: 12.5GB/s
  memory-all: 30GB/s
  cache: 32MiB
  ram: 16GiB
  speed: {uniform: [0.8, 1.2]}
  tail: {probability: 1%, shape: 1.5, most: 20}
  slow:
    - {factor: 3, from: 10s, to: 1m30s, hosts: "h[13]"}
    - {factor: 1.5, from: 60s}
messages: {send: 2us, receive: 3us, send-byte: 0.25ns, receive_byte: 1ns, wire: 1.5}
hosts: {count: 5, uplink: {bandwidth: 8kbit/s}, machine: {speed: "lognormal:0.25"}}
`)
	both := []Slow{{Factor: 3, From: 10 * time.Second, To: 90 * time.Second, Hosts: "h[13]"}, {Factor: 1.5, From: time.Minute}}
	for i, h := range n.Hosts {
		want := Machine{Cores: 4, FLOPS: 2.5e12, Memory: 12.5e9, MemoryAll: 30e9, Cache: 32 << 20, RAM: 16 << 30,
			Speed: Spread{Kind: "lognormal", Sigma: 0.25}, Tail: Tail{0.01, 1.5, 20}, Slow: both[1:], typical: typicalLoopback}
		if i == 1 || i == 3 {
			want.Slow = both
		}
		if !reflect.DeepEqual(h.Machine, want) {
			t.Errorf("%s: %+v\nwant %+v", h.Name, h.Machine, want)
		}
	}
	if want := (Messages{2 * time.Microsecond, 3 * time.Microsecond, 0.25e-9, 1e-9, 1.5}); n.Messages != want {
		t.Errorf("%+v", n.Messages)
	}
	if n.Links[0].Bandwidth != 1000 {
		t.Errorf("8kbit/s are %v bytes a second", n.Links[0].Bandwidth)
	}
}

func TestParsePrintParse(t *testing.T) {
	for _, text := range []string{deep, "torus: {dims: [2, 3], link: {bandwidth: 1GB/s}}"} {
		n := parse(t, text)
		if again := parse(t, string(n.YAML())); !reflect.DeepEqual(n, again) {
			t.Errorf("%v\n\n%v", n, again)
		}
	}
	got := parse(t, deep).String()
	want := `test.yaml: 33 hosts for 57 workers, 8 zones, 100 links
  1 host    lone                1 worker: 8 cores of 60GFLOP/s, 10GB/s (all 40GB/s), cache 16MiB  8Mbit/s, 0s
  2 zones   region0 to region1  1Gbit/s up, 2Gbit/s down, 10ms
  2 hosts   gate0 to gate1      1 worker: 8 cores of 60GFLOP/s, 10GB/s (all 40GB/s), cache 16MiB  1Gbit/s, 0s
  6 zones   rack0 to rack5      10Gbit/s half duplex, 20µs
  24 hosts  h0 to h23           2 workers: 8 cores of 60GFLOP/s, 10GB/s (all 40GB/s), cache 16MiB  1Gbit/s, 30µs to 35µs, loss 0.01%
  6 hosts   big0 to big5        1 worker: 64 cores of 60GFLOP/s, 10GB/s (all 40GB/s), cache 16MiB  10Gbit/s, 0s
  a message takes 5µs of its sender and 5µs of its receiver, a byte 0.2ns and 0.2ns, and 1.062 bytes on the wire
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

const rate = "uplink: {bandwidth: 1Gbit/s}"

func TestParseErrors(t *testing.T) {
	for text, want := range map[string]string{
		// words and places
		"hosts: {count: 2, uplnk: {}}":                            `1:19: unknown key of hosts "uplnk": did you mean "uplink"?`,
		"hosts: {count: 2}\nmachin: {cores: 2}":                   `2:1: unknown key of a network "machin": did you mean "machine"?`,
		"machine:\n  cors: 2":                                     `2:3: unknown key of machine "cors": did you mean "cores"?`,
		"zones:\n  - name: a\n    hots: {count: 1}":               `3:5: unknown key of a zone "hots": did you mean "hosts"?`,
		"hosts: {count: 2, count: 3}":                             `1:19: `,
		"hosts: {uplink: {bandwidth: 1Gbit/s, duplex: hlaf}}":     `1:46: duplex: unknown duplex "hlaf": did you mean "half"?`,
		"hosts: {machine: {speed: normal}}":                       `1:26: speed: unknown spread "normal": did you mean "lognormal"?`,
		"hosts: {machine: {speed: {uniform: [2, 1]}}}":            `1:26: speed: "uniform:2,1": expected two factors above 0, the lower first`,
		"hosts: {machine: {speed: {}}}":                           `1:26: speed: expected one spread, as in lognormal:0.3`,
		"hosts: {machine: {slow: {factor: 2, hosts: 'hh7'}}}":     `1:44: slow: there is no host "hh7", as there is "h"`,
		"hosts: {machine: {slow: {factor: 2, hosts: '[h'}}}":      `1:44: hosts: "[h" is not a pattern of host names such as h1*`,
		"hosts: {machine: {slow: {from: 2s}}}":                    `1:25: slow: expected a factor`,
		"hosts: {machine: {slow: {factor: 2, from: 9s, to: 9s}}}": `1:51: to: 9s is not after from, 9s`,
		"hosts: {machine: {tail: {shape: 2}}}":                    `1:25: tail: expected a probability`,
		"hosts: {machine: {tail: {probability: 1%, most: 0.5}}}":  `1:49: most: 0.5 is below 1`,
		"hosts: {name: 'a b'}":                                    `1:15: name: "a b" is not a name: leave out ' '`,
		"hosts: {name: ''}":                                       `1:15: name: "" is not a name of 1 to 64 characters`,
		"hosts: {count: two}":                                     `1:16: count: "two" is not a whole number`,
		"hosts: {count: 0}":                                       `1:16: count: 0 is not from 1 to 1000000`,
		"hosts: {count: 1000001}":                                 `1:16: count: 1000001 is not from 1 to 1000000`,
		"messages: {send: 2m}":                                    `1:18: send: 2m is over 1m`,
		// units
		"hosts: {uplink: {bandwidth: 100}}":                      `1:29: bandwidth: 100 has no unit, expected a bandwidth such as 100Mbit/s`,
		"hosts: {uplink: {bandwidth: 100Mbps}}":                  `1:29: bandwidth: unknown unit of a bandwidth "Mbps": did you mean "Mbit/s"?`,
		"hosts: {uplink: {bandwidth: 100mbit/s}}":                `1:29: bandwidth: unknown unit of a bandwidth "mbit/s": did you mean "Mbit/s"?`,
		"hosts: {uplink: {bandwidth: fast}}":                     `1:29: bandwidth: "fast" is not a bandwidth such as 100Mbit/s`,
		"hosts: {uplink: {bandwidth: 1Gbit/s, latency: 5}}":      `1:47: latency: 5 has no unit, expected a time such as 50us`,
		"hosts: {uplink: {bandwidth: 1Gbit/s, latency: 5msec}}":  `1:47: latency: unknown unit of a time "msec": did you mean "ms"?`,
		"hosts: {uplink: {bandwidth: 1Gbit/s, latency: -5ms}}":   `1:47: latency: -5ms is negative, expected a time such as 50us`,
		"hosts: {uplink: {bandwidth: 1Gbit/s, latency: 99999h}}": `1:47: latency: 99999h is over 10000h0m0s`,
		"machine: {flops: 60GFLOPS}":                             `1:18: flops: unknown unit of a speed "GFLOPS": did you mean "GFLOP/s"?`,
		"machine: {ram: 16GB}":                                   `1:16: ram: "16GB" is not a size such as 65536, 64KiB or 1MiB`,
		// what cannot be
		"hosts: {uplink: {bandwidth: 0Mbit/s}}":                              `1:29: bandwidth: 0Mbit/s is nothing, expected a bandwidth such as 100Mbit/s`,
		"hosts: {uplink: {bandwidth: -1Mbit/s}}":                             `1:29: bandwidth: -1Mbit/s is negative, expected a bandwidth such as 100Mbit/s`,
		"hosts: {uplink: {latency: 1ms}}":                                    `1:17: uplink: expected its bandwidth, as in {bandwidth: 1Gbit/s, latency: 50us}`,
		"hosts: {uplink: {up: 1MB/s}}":                                       `1:17: uplink: expected its bandwidth`,
		"hosts: {uplink: {up: 1MB/s, down: 1MB/s, bandwidth: 1MB/s}}":        `1:17: uplink: bandwidth, up and down: one of them is too many`,
		"hosts: {uplink: {up: 1MB/s, down: 2MB/s, duplex: half}}":            `1:17: uplink: a half-duplex link has one bandwidth`,
		"hosts: {uplink: {bandwidth: 1MB/s, loss: 1}}":                       `1:42: loss: 1 is not a probability from 0 up to, but not, 1`,
		"hosts: {uplink: {bandwidth: 1MB/s, loss: -0.1}}":                    `1:42: loss: -0.1 is not a probability`,
		"hosts: {uplink: {bandwidth: 1MB/s, loss: 120%}}":                    `1:42: loss: 120% is not a probability`,
		"hosts: {uplink: {bandwidth: 1MB/s, loss: some}}":                    `1:42: loss: "some" is not a probability such as 0.01%`,
		"hosts:\n  - {name: a, " + rate + "}\n  - {name: a, " + rate + "}":   `3:5: the name "a" stands twice`,
		"hosts:\n  - {name: h1, " + rate + "}\n  - {count: 2, " + rate + "}": `3:5: the name "h1" stands twice`,
		"hosts: {name: core, " + rate + "}":                                  `1:8: the name "core" stands twice`,
		"zones:\n  - {name: c, " + rate + ", hosts: {name: a-b, " + rate + "}}\n  - {name: b-c, " + rate + ", hosts: {name: a, " + rate + "}}": `: two links would be called "a-b-c"`,
		// unreachable hosts
		"hosts:\n  - {name: a, " + rate + "}\n  - name: b": `3:5: b cannot reach a: give it an uplink (or the two a link between them)`,
		"hosts: {count: 3}": `1:8: h0 cannot reach h1: give it an uplink`,
		"zones:\n  - {name: z, " + rate + ", hosts: {name: a}}\n  - {name: y, " + rate + ", hosts: {name: b, " + rate + "}}": `2:52: a cannot reach hosts outside z: give it an uplink`,
		"zones:\n  - {name: z, count: 2, hosts: {" + rate + "}}":                                                             `2:5: z0 cannot reach z1: give it an uplink`,
		"zones:\n  - {name: z, " + rate + "}":                                                                                `2:5: zone z has no hosts`,
		// links
		"hosts: {count: 2, " + rate + "}\nlinks:\n  - {between: [h0, h2], bandwidth: 1MB/s}":                                                                `3:5: between: there is no host or zone "h2": did you mean "h0"?`,
		"hosts: {count: 2, " + rate + "}\nlinks:\n  - {between: [h0, h0], bandwidth: 1MB/s}":                                                                `3:5: between: h0 would be joined to itself`,
		"hosts: {count: 2, " + rate + "}\nlinks:\n  - {between: [h0, core], bandwidth: 1MB/s}":                                                              `3:5: between: core is the core, to which uplinks lead`,
		"hosts: {count: 2, " + rate + "}\nlinks:\n  - {between: [h0], bandwidth: 1MB/s}":                                                                    `3:5: links: expected two neighbours`,
		"hosts: {count: 2, " + rate + "}\nlinks:\n  - {between: [h0, h1]}":                                                                                  `3:5: links: expected its bandwidth`,
		"hosts: {count: 2, " + rate + "}\nlinks:\n  - {between: [h0, h1], bandwidth: 1MB/s}\n  - {between: [h1, h0], bandwidth: 1MB/s}":                     `4:5: between: h1 and h0 are joined twice`,
		"hosts: {count: 2, " + rate + "}\nzones: {name: z, " + rate + ", hosts: {name: x, " + rate + "}}\nlinks:\n  - {between: [h0, x], bandwidth: 1MB/s}": `4:5: between: h0 is in core and x in z: only neighbours`,
		// torus
		"torus: {dims: [2, 2]}":                                   `1:8: torus: expected a link`,
		"torus: {link: {bandwidth: 1MB/s}}":                       `1:8: torus: expected dims`,
		"torus: {dims: [0], link: {bandwidth: 1MB/s}}":            `1:16: dims: 0 is not from 1`,
		"torus: {dims: [2], link: {bandwidth: 1MB/s}}\nhosts: {}": `2:8: hosts: a torus has its own hosts`,
		"torus: {dims: [1000, 1001], link: {bandwidth: 1MB/s}}":   `: over 1000000 hosts or zones`,
		// sizes and shapes of the file
		"zones: {count: 1000000, " + rate + ", hosts: {count: 1000000, " + rate + "}}": `: over 1000000 hosts or zones`,
		"name: x":                         `: a network without hosts`,
		"":                                `: the file is empty`,
		"# only this":                     `: the file is empty`,
		"- a":                             `1:1: a network: expected keys (name, core`,
		"hosts: 3":                        `1:8: hosts: expected keys`,
		"hosts: {count: [1]}":             `1:16: count: takes one value`,
		"hosts: {count: }":                `1:9: count has no value`,
		"hosts: [":                        `1:8: `,
		"hosts: {count:, name: x}":        `1:9: count has no value`,
		"hosts:\n# none\nname: x":         `1:1: hosts has no value`,
		"hosts:\n-\n- {name: x}":          `2:1: - has no value`,
		"name: x\nhosts:":                 `2:8: hosts: expected keys`,
		"hosts: {name: !!str x}":          `1:15: anchors, aliases and tags are not read here`,
		"hosts:\n\tcount: 2":              `2:1: the line begins with a tab`,
		"hosts: {}\n---\nhosts: {}":       `3:1: a second document begins here`,
		"hosts: {name: &a x}":             `1:15: anchors, aliases and tags are not read here`,
		"\x00":                            `: not a network file: not text in UTF-8`,
		"x: \xff":                         `: not a network file: not text in UTF-8`,
		strings.Repeat("[", 1<<17):        `1:65: nested more than 64 deep`,
		strings.Repeat("- ", 1<<16):       `1:129: nested more than 64 deep`,
		strings.Repeat("#", 1<<20) + "\n": `: not a network file: over 1048576 bytes`,
		"machine: {slow: [" + strings.Repeat("{factor: 2},", 101) + "]}": `1:1218: slow: over 100 slow-downs`,
		nested(20): `18:35: zones: zones are nested more than 16 deep`,
	} {
		_, err := Parse("f.yaml", []byte(text))
		want = "f.yaml:" + strings.TrimPrefix(want, ":")
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%.200q\n got %v\nwant %s", text, err, want)
		}
		var e *Error
		if !errors.As(err, &e) {
			t.Errorf("%.200q: not an *Error: %T", text, err)
		}
	}
}

func nested(depth int) string {
	var s strings.Builder
	for i := range depth {
		s.WriteString(strings.Repeat("  ", i) + "zones:\n")
	}
	return s.String()
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "wan.yaml")
	if err := os.WriteFile(file, []byte("\ufeff"+deep), 0o600); err != nil {
		t.Fatal(err)
	}
	n, err := New(file, 4)
	if err != nil || len(n.Hosts) != 33 || n.Name != file {
		t.Fatal(n, err)
	}
	if _, err := Load(filepath.Join(dir, "wna.yaml")); err == nil || !strings.Contains(err.Error(), "did you mean "+file) {
		t.Error(err)
	}
	if _, err := Load(dir); err == nil || !strings.Contains(err.Error(), "is a folder") {
		t.Error(err)
	}
	if err := os.WriteFile(file, slices.Repeat([]byte("#"), maxFile+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(file); err == nil || !strings.Contains(err.Error(), "over 1048576 bytes") {
		t.Error(err)
	}
}

// What a file could hold by accident or by malice gives an error, or a network whose hosts all reach each other and whose
// file parses back to it.
func FuzzParse(f *testing.F) {
	f.Add([]byte(deep))
	f.Add([]byte("torus: {dims: [2, 3], link: {bandwidth: 1GB/s}}"))
	for i := range presets {
		if n, err := New(presets[i].Name, 3); err == nil {
			f.Add(n.YAML())
		}
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		n, err := Parse("f.yaml", text)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "f.yaml") {
				t.Fatal(err)
			}
			return
		}
		last := len(n.Hosts) - 1
		for _, pair := range [][2]int{{0, last}, {last, 0}, {last / 2, last}, {last / 2, last / 2}} {
			for _, l := range n.Path(nil, pair[0], pair[1]) {
				if n.Links[l].Bandwidth <= 0 {
					t.Fatalf("%+v", n.Links[l])
				}
			}
		}
		for _, h := range n.Hosts {
			if m := h.Machine; h.Workers < 1 || m.Cores < 1 || m.FLOPS <= 0 || m.Memory <= 0 {
				t.Fatalf("%+v", h)
			}
		}
		if again, err := Parse("f.yaml", n.YAML()); err != nil || again.String() != n.String() {
			t.Fatalf("%v\n%v\n%v", err, n, again)
		}
	})
}
