package network

import (
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/covey-ml/covey/spec"
)

// Preset is a kind of network that New makes in any size.
type Preset struct {
	Name       string
	Text       string // one line on what it is
	Parameters []Parameter

	file string // with $parameter, and what size computes
	size func(p parameters, hosts int) error
}

// Parameter is what can be said about a preset, as in gigabit:workers=4. The unnamed values come in the same order.
type Parameter struct{ Name, Default, Text string }

// parameters are the values of a preset, as written.
type parameters map[string]string

func (p parameters) int(name string) int {
	n, _ := strconv.Atoi(p[name])
	return n
}

func (p parameters) set(name string, n int) { p[name] = strconv.Itoa(n) }

// Presets lists the presets.
func Presets() []Preset { return slices.Clone(presets) }

// Figures below are typical ones in round numbers, and say so; what matters, measure, and write a file.

var (
	perHost = Parameter{"workers", "1", "workers a host"}
	cores   = Parameter{"cores", "8", "cores a host"}
	flop    = Parameter{"flops", "", "speed of a core (default: measured, or 60GFLOP/s)"}
	memory  = Parameter{"memory", "", "memory bandwidth of a core (default: measured, or 10GB/s)"}
	spread  = Parameter{"spread", "0", "how hosts' speeds differ: sigma of a log-normal factor"}
)

// oneSwitch is a data centre whose switch carries all ports at full speed.
const oneSwitch = `name: $name
core: switch
machine: {$machine}
hosts: {name: h, count: $hosts, workers: $workers, uplink: {bandwidth: $rate, latency: $latency}}
`

var presets = []Preset{
	{
		// Processes of one machine meet in shared memory: a wake-up a message, and one copy at each end at the speed of a
		// core's memory.
		Name: "machine", Text: "one host that all workers share",
		Parameters: []Parameter{cores, flop, memory},
		file: `name: $name
machine: {$machine}
hosts: {name: machine, workers: $all}
messages: {send: 1us, receive: 1us, send_byte: 0.1ns, receive_byte: 0.1ns, wire: 1}
`,
	},
	// One way through two network cards and a store-and-forward switch: some 60 us with gigabit Ethernet, 10 us with 10
	// Gbit/s, and 3 us with 100 Gbit/s where the cards do the work (RDMA), which leaves processors little.
	{
		Name: "gigabit", Text: "a data centre with one switch, 1 Gbit/s a host",
		Parameters: []Parameter{perHost, {"rate", "1Gbit/s", "of a host's link"}, {"latency", "30us", "of a host's link"}, cores, flop, memory, spread},
		file:       oneSwitch,
	},
	{
		Name: "10gigabit", Text: "a data centre with one switch, 10 Gbit/s a host",
		Parameters: []Parameter{perHost, {"rate", "10Gbit/s", "of a host's link"}, {"latency", "5us", "of a host's link"}, cores, flop, memory, spread},
		file:       oneSwitch,
	},
	{
		Name: "100gigabit", Text: "a data centre with one switch, 100 Gbit/s a host, remote memory access",
		Parameters: []Parameter{perHost, {"rate", "100Gbit/s", "of a host's link"}, {"latency", "1500ns", "of a host's link"}, cores, flop, memory, spread},
		file: oneSwitch + `messages: {send: 1us, receive: 1us, send_byte: 0.01ns, receive_byte: 0.01ns, wire: 1.04}
`,
	},
	{
		// The uplinks of a rack are one link as wide as all of them: paths are perfectly balanced. Only racks are
		// oversubscribed, as is usual (2 to 5 in the data centres that vendors draw).
		Name: "fattree", Text: "racks in pods, whose uplinks are narrower than what is below them",
		Parameters: []Parameter{perHost, {"rate", "25Gbit/s", "of a host's link"}, {"over", "4", "oversubscription of a rack"},
			{"hosts", "16", "hosts a rack"}, {"racks", "8", "racks a pod"}, {"latency", "2us", "of each link"}, cores, flop, memory, spread},
		file: `name: $name
machine: {$machine}
zones:
  - name: pod
    count: $pods
    uplink: {bandwidth: $pod_rate, latency: $latency}
    zones:
      - name: rack
        count: $racks
        uplink: {bandwidth: $rack_rate, latency: $latency}
        hosts: {name: h, count: $hosts, workers: $workers, uplink: {bandwidth: $rate, latency: $latency}}
`,
		size: sizeFatTree,
	},
	{
		Name: "torus", Text: "a two-dimensional torus (default: rows are a power of two long)",
		Parameters: []Parameter{{"rows", "", "default: as many as are needed"}, {"cols", "", "hosts a row"}, perHost,
			{"rate", "100Gbit/s", "between neighbours, each way"}, {"latency", "1us", "between neighbours"}, cores, flop, memory, spread},
		file: `name: $name
machine: {$machine}
torus: {dims: [$rows, $cols], name: h, workers: $workers, link: {bandwidth: $rate, latency: $latency}}
`,
		size: sizeTorus,
	},
	{
		// 60 ms there and back is the distance from coast to coast of North America; Europe is 80 to 100 ms from its east.
		Name: "regions", Text: "data centres far apart",
		Parameters: []Parameter{{"regions", "2", "data centres"}, perHost, {"rtt", "60ms", "there and back between two regions"},
			{"between", "1Gbit/s", "of a region's uplink"}, {"rate", "10Gbit/s", "of a host's link"}, {"latency", "5us", "of a host's link"},
			{"loss", "0", "of packets between regions"}, cores, flop, memory, spread},
		file: `name: $name
core: wan
machine: {$machine}
zones:
  - name: region
    count: $regions
    uplink: {bandwidth: $between, latency: $quarter, loss: $loss}
    hosts: {name: h, count: $hosts, workers: $workers, uplink: {bandwidth: $rate, latency: $latency}}
`,
		size: sizeRegions,
	},
	{
		// A cable or VDSL line of today in many countries; two homes are some 20 ms apart one way. A desktop or laptop
		// computes, none like the other.
		Name: "home", Text: "homes behind the internet, with slow uplinks",
		Parameters: []Parameter{perHost, {"up", "20Mbit/s", "from a home"}, {"down", "100Mbit/s", "to a home"}, {"latency", "8ms", "of a home's link"},
			{"jitter", "4ms", "the most that a message is later"}, {"loss", "0.02%", "of packets"}, {"cores", "4", "cores a home"},
			{"flops", "30GFLOP/s", "speed of a core"}, {"memory", "8GB/s", "memory bandwidth of a core"}, {"spread", "0.3", spread.Text}},
		file: `name: $name
core: internet
machine: {$machine}
hosts: {name: home, count: $hosts, workers: $workers, uplink: {up: $up, down: $down, latency: $latency, jitter: $jitter, loss: $loss}}
`,
	},
	{
		// What a phone sees under load in a 4G cell: some 10 Mbit/s up and 30 down, 50 ms to a server and back, more when the
		// cell is busy. (5G in the middle band: up=50Mbit/s,down=300Mbit/s,latency=10ms,jitter=10ms.) It gets warm and does other
		// things, so its speed has a heavy tail.
		Name: "mobile", Text: "phones in 4G or 5G cells, which are late, lose packets and slow down at times",
		Parameters: []Parameter{perHost, {"up", "10Mbit/s", "from a phone"}, {"down", "30Mbit/s", "to a phone"}, {"latency", "25ms", "of a phone's link"},
			{"jitter", "30ms", "the most that a message is later"}, {"loss", "0.5%", "of packets"}, {"cores", "4", "cores a phone"},
			{"flops", "8GFLOP/s", "speed of a core"}, {"memory", "4GB/s", "memory bandwidth of a core"}, {"spread", "0.5", spread.Text},
			{"tail", "2%", "of computations that are slowed"}},
		file: `name: $name
core: internet
machine: {$machine, tail: {probability: $tail, shape: 1.5, most: 20}}
hosts: {name: phone, count: $hosts, workers: $workers, uplink: {up: $up, down: $down, latency: $latency, jitter: $jitter, loss: $loss}}
`,
	},
}

// sizeFatTree finds how many pods hold the hosts, and how wide their uplinks are.
func sizeFatTree(p parameters, hosts int) error {
	p.set("pods", ceil(hosts, p.int("hosts")*p.int("racks")))
	rate, err := parseBandwidth(p["rate"])
	if err != nil {
		return err
	}
	over, err := parseFactor(p["over"])
	if err != nil {
		return err
	}
	rack := rate * float64(p.int("hosts")) / over
	p["rack_rate"] = exact(rack)
	p["pod_rate"] = exact(rack * float64(p.int("racks")))
	return nil
}

func exact(bandwidth float64) string { return strconv.FormatFloat(bandwidth, 'f', -1, 64) + "B/s" }

// sizeTorus makes rows as long as there are rows, or up to twice, so that they are a power of two long.
func sizeTorus(p parameters, hosts int) error {
	rows, cols := p.int("rows"), p.int("cols")
	if cols == 0 {
		cols = 1
		for rows == 0 && cols*cols < hosts || rows > 0 && cols*rows < hosts {
			cols *= 2
		}
	}
	if rows == 0 {
		rows = ceil(hosts, cols)
	}
	if rows*cols < hosts {
		return fmt.Errorf("%d rows of %d hosts do not hold %d: leave rows or cols out", rows, cols, hosts)
	}
	p.set("rows", rows)
	p.set("cols", cols)
	return nil
}

// sizeRegions splits the hosts. A message from region to region crosses four links, two of them of hosts.
func sizeRegions(p parameters, hosts int) error {
	p.set("hosts", ceil(hosts, p.int("regions")))
	rtt, err := parseTime(p["rtt"])
	if err != nil {
		return err
	}
	host, err := parseTime(p["latency"])
	if err != nil {
		return err
	}
	if rtt < 4*host {
		return fmt.Errorf("rtt is %v, but hosts' links alone take %v there and back", rtt, 4*host)
	}
	p["quarter"] = (rtt/4 - host).String()
	return nil
}

// ceil is how many groups of some size hold n.
func ceil(n, by int) int { return (n + by - 1) / by }

// New makes a network for so many workers from a choice: a preset, with its parameters as in home:up=10Mbit/s, or a
// file, which has the size that it has (Place says whether the workers fit).
func New(choice string, workers int) (*Network, error) {
	if workers < 1 {
		return nil, &Error{Where: choice, Err: fmt.Errorf("a network for %d workers: expected at least 1", workers)}
	}
	s, err := spec.Parse(choice)
	if err != nil {
		return nil, &Error{Err: err}
	}
	var names []string
	for i := range presets {
		if presets[i].Name == s.Name {
			return presets[i].make(s, workers)
		}
		names = append(names, presets[i].Name)
	}
	if _, err := os.Stat(choice); err == nil || strings.ContainsAny(choice, `./\`) {
		return Load(choice)
	}
	return nil, &Error{Err: fmt.Errorf("%w, or a file such as wan.yaml", spec.OneOf("network", s.Name, names...))}
}

// make writes the preset's file and reads it.
func (p *Preset) make(s *spec.Spec, workers int) (*Network, error) {
	v := parameters{"name": p.Name}
	for _, a := range p.Parameters {
		v[a.Name] = s.Text(a.Name, a.Default)
		if v[a.Name] == "" && !s.Given(a.Name) { // the default is computed
			continue
		}
		if err := a.check(v[a.Name]); err != nil {
			return nil, &Error{Where: p.Name, Err: fmt.Errorf("%s: %w", a.Name, err)}
		}
	}
	if err := s.Done(); err != nil {
		return nil, &Error{Err: err}
	}
	hosts := ceil(workers, max(v.int("workers"), 1))
	if hosts > maxHosts {
		return nil, &Error{Where: p.Name, Err: fmt.Errorf("%d hosts for %d workers, more than the %d that a network holds", hosts, workers, maxHosts)}
	}
	v.set("all", workers)
	if v["hosts"] == "" {
		v.set("hosts", hosts)
	}
	v["machine"] = v.machine()
	if p.size != nil {
		if err := p.size(v, hosts); err != nil {
			return nil, &Error{Where: p.Name, Err: err}
		}
	}
	return Parse(p.Name, []byte(os.Expand(p.file, func(name string) string {
		text, ok := v[name]
		if !ok {
			panic("network: the preset " + p.Name + " has no value of " + name)
		}
		return text
	})))
}

// machine says of a machine what was said.
func (p parameters) machine() string {
	s := "cores: " + p["cores"]
	for _, key := range []string{"flops", "memory"} {
		if p[key] != "" {
			s += ", " + key + ": " + p[key]
		}
	}
	if x, err := strconv.ParseFloat(p["spread"], 64); err == nil && x > 0 {
		s += ", speed: lognormal:" + p["spread"]
	}
	return s
}

// check tells what is wrong with the text of a parameter.
func (a Parameter) check(text string) error {
	var err error
	switch a.Name {
	case "rate", "up", "down", "between", "memory":
		_, err = parseBandwidth(text)
	case "flops":
		_, err = parseFLOPS(text)
	case "latency", "jitter", "rtt":
		_, err = parseTime(text)
	case "loss", "tail":
		_, err = parseShare(text)
	case "over":
		_, err = parseFactor(text)
	case "spread":
		var x float64
		if x, err = strconv.ParseFloat(text, 64); err != nil || !(x >= 0 && x <= 3) || math.Signbit(x) {
			err = fmt.Errorf("%q is not a number from 0 to 3", text)
		}
	default:
		_, err = parseCount(text)
	}
	return err
}
