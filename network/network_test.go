package network

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// names are a path's links, by name.
func names(n *Network, from, to int) []string {
	var out []string
	for _, l := range n.Path(nil, from, to) {
		out = append(out, n.Links[l].Name)
	}
	return out
}

func parse(t testing.TB, text string) *Network {
	t.Helper()
	n, err := Parse("test.yaml", []byte(text))
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	return n
}

const deep = `
core: top
zones:
  - name: region
    count: 2
    uplink: {up: 1Gbit/s, down: 2Gbit/s, latency: 10ms}
    hosts: {name: gate, uplink: {bandwidth: 1Gbit/s}}
    zones:
      - name: rack
        count: 3
        uplink: {bandwidth: 10Gbit/s, latency: 20us, duplex: half}
        hosts:
          - {name: h, count: 4, workers: 2, uplink: {bandwidth: 1Gbit/s, latency: 30us, jitter: 5us, loss: 0.01%}}
          - {name: big, machine: {cores: 64}, uplink: {bandwidth: 10Gbit/s}}
hosts: {name: lone, uplink: {bandwidth: 1MB/s}}
`

func TestPathGoesByTheLowestCommonZone(t *testing.T) {
	n := parse(t, deep)
	at := map[string]int{}
	for i, h := range n.Hosts {
		at[h.Name] = i
	}
	for pair, want := range map[string]string{
		"h0 h0":      "h0-h0",
		"big0 big0":  "",
		"h0 h3":      "h0-rack0 rack0-h3",
		"h0 big0":    "h0-rack0 rack0-big0",
		"h0 h4":      "h0-rack0 rack0-region0 rack1-region0 rack1-h4", // half duplex: one link for both directions
		"gate0 h0":   "gate0-region0 rack0-region0 rack0-h0",
		"h0 gate0":   "h0-rack0 rack0-region0 region0-gate0",
		"h0 h12":     "h0-rack0 rack0-region0 region0-top top-region1 rack3-region1 rack3-h12",
		"lone h12":   "lone-top top-region1 rack3-region1 rack3-h12",
		"big5 lone":  "big5-rack5 rack5-region1 region1-top top-lone",
		"gate0 lone": "gate0-region0 region0-top top-lone",
	} {
		from, to, _ := strings.Cut(pair, " ")
		if got := strings.Join(names(n, at[from], at[to]), " "); got != want {
			t.Errorf("%s: %s, want %s", pair, got, want)
		}
	}
	if h := n.Hosts[at["h12"]]; h.Zone != "rack3" || h.Workers != 2 || n.Hosts[at["lone"]].Zone != "" || n.Hosts[at["big5"]].Machine.Cores != 64 {
		t.Errorf("%+v", h)
	}
	for name, want := range map[string]Link{
		"region0-top":   {Latency: 10 * time.Millisecond, Bandwidth: 1e9 / 8},
		"top-region0":   {Latency: 10 * time.Millisecond, Bandwidth: 2e9 / 8},
		"rack5-region1": {Latency: 20 * time.Microsecond, Bandwidth: 10e9 / 8},
		"rack5-h20":     {Latency: 30 * time.Microsecond, Jitter: 5 * time.Microsecond, Bandwidth: 1e9 / 8, Loss: 0.0001},
		"h7-h7":         {Latency: loopbackLatency, Bandwidth: typicalMachine.Memory},
	} {
		i := slices.IndexFunc(n.Links, func(l Link) bool { return l.Name == name })
		if i < 0 {
			t.Errorf("no link %s", name)
			continue
		}
		if want.Name = name; n.Links[i] != want {
			t.Errorf("%+v, want %+v", n.Links[i], want)
		}
	}
}

// Paths there and back go over the same ends, in the opposite order, and never over a link twice unless it is half duplex.
func TestPathsAreSymmetric(t *testing.T) {
	for _, text := range []string{deep, "torus: {dims: [5], link: {bandwidth: 1GB/s}}", "torus: {dims: [1, 7], link: {bandwidth: 1GB/s, duplex: half}}"} {
		n := parse(t, text)
		for a := range n.Hosts {
			for b := range n.Hosts {
				there, back := n.Path(nil, a, b), n.Path(nil, b, a)
				if len(there) != len(back) {
					t.Fatalf("%s to %s: %v, back %v", n.Hosts[a].Name, n.Hosts[b].Name, names(n, a, b), names(n, b, a))
				}
				for i, l := range there {
					if a != b && slices.Contains(there[:i], l) {
						t.Fatalf("%s to %s: %v", n.Hosts[a].Name, n.Hosts[b].Name, names(n, a, b))
					}
					x, y, _ := strings.Cut(n.Links[l].Name, "-")
					r := n.Links[back[len(back)-1-i]].Name
					if r != n.Links[l].Name && r != y+"-"+x {
						t.Fatalf("%s to %s: %v, back %v", n.Hosts[a].Name, n.Hosts[b].Name, names(n, a, b), names(n, b, a))
					}
				}
			}
		}
	}
}

func TestLinksBetweenNeighbours(t *testing.T) {
	n := parse(t, `
zones:
  - {name: us, uplink: {bandwidth: 1Gbit/s}, hosts: {name: u, count: 2, uplink: {bandwidth: 1Gbit/s}}}
  - {name: eu, uplink: {bandwidth: 1Gbit/s}, hosts: {name: e, count: 2, uplink: {bandwidth: 1Gbit/s}}}
  - {name: ap, hosts: {name: a, count: 2, uplink: {bandwidth: 1Gbit/s}}}
links:
  - {between: [us, eu], bandwidth: 5Gbit/s, latency: 40ms}
  - {between: [ap, us], bandwidth: 2Gbit/s, latency: 70ms, duplex: half}
  - {between: [ap, eu], bandwidth: 2Gbit/s, latency: 90ms}
`)
	for _, c := range []struct {
		from, to int
		want     string
	}{{0, 3, "u0-us us-eu eu-e1"}, {3, 0, "e1-eu eu-us us-u0"}, {0, 4, "u0-us ap-us ap-a0"}, {4, 0, "a0-ap ap-us us-u0"}, {5, 2, "a1-ap ap-eu eu-e0"}} {
		if got := strings.Join(names(n, c.from, c.to), " "); got != c.want {
			t.Errorf("%d to %d: %s, want %s", c.from, c.to, got, c.want)
		}
	}
}

// In a torus every path is a walk to the other end, as short as the distance around.
func TestTorusPathsAreShortest(t *testing.T) {
	for _, dims := range [][]int{{1}, {2}, {5}, {2, 2}, {4, 8}, {3, 1, 4}, {2, 3, 4}} {
		for _, duplex := range []string{"full", "half"} {
			n := parse(t, fmt.Sprintf("torus: {dims: [%s], link: {bandwidth: 1GB/s, duplex: %s}}", strings.Trim(strings.Join(strings.Fields(fmt.Sprint(dims)), ","), "[]"), duplex))
			count := 0
			used := map[int]bool{}
			for a := range n.Hosts {
				for b := range n.Hosts {
					dist, x, y := 0, a, b
					for i := len(dims) - 1; i >= 0; i-- {
						d := (x%dims[i] - y%dims[i] + dims[i]) % dims[i]
						dist += min(d, dims[i]-d)
						x, y = x/dims[i], y/dims[i]
					}
					path := n.Path(nil, a, b)
					at := n.Hosts[a].Name
					for _, l := range path {
						used[l] = true
						p, q, _ := strings.Cut(n.Links[l].Name, "-")
						switch {
						case p == at:
							at = q
						case q == at && duplex == "half":
							at = p
						default:
							t.Fatalf("%v: %d to %d: link %s from %s", dims, a, b, n.Links[l].Name, at)
						}
					}
					if at != n.Hosts[b].Name || len(path) != dist {
						t.Fatalf("%v: %d to %d is %v, distance %d", dims, a, b, names(n, a, b), dist)
					}
				}
			}
			for _, d := range dims { // neighbours
				edges := len(n.Hosts)
				if d == 2 {
					edges /= 2
				} else if d == 1 {
					edges = 0
				}
				count += edges
			}
			if duplex == "full" {
				count *= 2
			}
			if len(n.Links) != count || len(used) != count {
				t.Errorf("%v %s: %d links, %d of them used, want %d", dims, duplex, len(n.Links), len(used), count)
			}
		}
	}
}

func TestPathDoesNotAllocate(t *testing.T) {
	for _, choice := range []string{"fattree", "torus", "regions:workers=4"} {
		n, err := New(choice, 1000)
		if err != nil {
			t.Fatal(err)
		}
		var buf [64]int
		if a := testing.AllocsPerRun(10, func() {
			for h := range n.Hosts {
				n.Path(buf[:0], h, len(n.Hosts)-1)
			}
		}); a != 0 {
			t.Errorf("%s: %v allocations", choice, a)
		}
	}
}

func TestPlace(t *testing.T) {
	n := parse(t, "hosts: [{name: a, workers: 2, uplink: {bandwidth: 1GB/s}}, {name: b, uplink: {bandwidth: 1GB/s}}, {name: c, workers: 3, uplink: {bandwidth: 1GB/s}}]")
	all := []int{0, 0, 1, 2, 2, 2}
	for k := range 7 {
		got, err := n.Place(k)
		if err != nil || !slices.Equal(got, all[:k]) {
			t.Errorf("%d workers are on %v, %v", k, got, err)
		}
	}
	if _, err := n.Place(7); err == nil || err.Error() != "test.yaml: 7 workers do not fit: its 3 hosts take 6" {
		t.Error(err)
	}
}

func TestFind(t *testing.T) {
	n := parse(t, `
zones:
  - {name: rack-a, uplink: {bandwidth: 1GB/s}, hosts: {name: n-, count: 2, uplink: {bandwidth: 1GB/s, duplex: half}}}
  - {name: rack-b, uplink: {bandwidth: 1GB/s}, hosts: {name: m, workers: 2, uplink: {bandwidth: 1GB/s}}}
`)
	for link, want := range map[string][]string{
		"rack-a-core": {"rack-a-core", "core-rack-a"},
		"core-rack-a": {"rack-a-core", "core-rack-a"},
		"n-1-rack-a":  {"n-1-rack-a"},
		"rack-a-n-1":  {"n-1-rack-a"},
		"m-m":         {"m-m"},
	} {
		found, err := n.Find(link)
		var got []string
		for _, l := range found {
			got = append(got, n.Links[l].Name)
		}
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %v, %v", link, got, err)
		}
	}
	for link, want := range map[string]string{
		"rack-a-cor": `test.yaml has no link "rack-a-cor": did you mean "rack-a-core"?`,
		"zzzzzz":     `test.yaml has no link "zzzzzz": links are called as "rack-a-core" is`,
	} {
		if _, err := n.Find(link); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", link, err, want)
		}
	}
	alone := parse(t, "hosts: {name: a}")
	if _, err := alone.Find("a-core"); err == nil || !strings.Contains(err.Error(), "it has no links") {
		t.Error(err)
	}
}

// What nobody wrote is measured; what somebody wrote stays.
func TestCalibrate(t *testing.T) {
	n := parse(t, `
hosts:
  - {name: a, workers: 2, uplink: {bandwidth: 1GB/s}}
  - {name: b, workers: 2, machine: {cores: 2, flops: 5GFLOP/s, memory: 3GB/s, cache: 1MiB}, uplink: {bandwidth: 1GB/s}}
  - {name: c, workers: 2, loopback: {bandwidth: 2GB/s}, machine: {memory_all: 7GB/s}, uplink: {bandwidth: 1GB/s}}
`)
	n.Calibrate(Machine{Cores: 2, FLOPS: 80e9, Memory: 12e9, MemoryAll: 20e9, Cache: 33 << 20})
	for i, want := range []Machine{
		{Cores: 8, FLOPS: 80e9, Memory: 12e9, MemoryAll: 80e9, Cache: 33 << 20},
		{Cores: 2, FLOPS: 5e9, Memory: 3e9, Cache: 1 << 20},
		{Cores: 8, FLOPS: 80e9, Memory: 12e9, MemoryAll: 7e9, Cache: 33 << 20},
	} {
		got := n.Hosts[i].Machine
		got.typical = 0
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, want %+v", n.Hosts[i].Name, got, want)
		}
		l := n.Links[n.Path(nil, i, i)[0]]
		if want := []float64{12e9, 3e9, 2e9}[i]; l.Bandwidth != want {
			t.Errorf("%s: %v bytes a second, want %v", l.Name, l.Bandwidth, want)
		}
	}
}
