// Package network describes the world that a simulated run takes place in: hosts, their machines, and the links between
// them. It knows no time and simulates nothing; comm/sim does.
//
// A network is a preset sized for the workers of a job, or a file:
//
//	n, err := network.New("gigabit:workers=4", 1000) // or network.New("wan.yaml", 1000)
//	hosts, err := n.Place(1000)                      // the host of each worker
//	links = n.Path(links[:0], hosts[3], hosts[700])  // the links that a message from worker 3 to worker 700 crosses
//
// # The file
//
// A network is a tree. At its top is the core, a switch that never limits anybody. Below it are hosts and zones (regions,
// racks), in zones are hosts and zones again, and each has an uplink to what it is in. A message goes up to the lowest
// zone that holds both ends, and down again, so hosts of one rack share the rack's uplink only when they talk to others.
//
//	name: two racks
//	machine: {cores: 8, flops: 60GFLOP/s, memory: 10GB/s}
//	zones:
//	  - name: rack
//	    count: 2                 # rack0 and rack1
//	    uplink: {bandwidth: 10Gbit/s, latency: 20us}
//	    hosts: {name: h, count: 20, workers: 2, uplink: {bandwidth: 1Gbit/s, latency: 30us, loss: 0.01%}} # h0 to h39
//
// The keys are:
//
//	name, core          what the network and its top are called (core: core)
//	machine             what hosts are, unless they or their zone say otherwise, key by key:
//	    cores           that the workers of the host share
//	    flops           of one core on matrix products, as 60GFLOP/s
//	    memory          bytes a second that one core streams, as 10GB/s; memory_all: all cores together
//	    cache, ram      bytes, as 16MiB
//	    speed           how hosts differ: none, uniform:0.8,1.2 (quoted inside braces) or lognormal:0.3
//	    slow            a list of {factor, from, to, hosts}: hosts (a pattern, as h1*) are slower by the factor for a while
//	    tail            {probability, shape, most}: some computations are slower, by a Pareto-distributed factor
//	hosts               one {name, count, workers, machine, uplink, loopback}, or a list of them
//	zones               a list of {name, count, machine, uplink, hosts, zones}
//	links               a list of {between: [a, b], ...}: two neighbours in one zone that have a link of their own
//	torus               {dims, name, workers, machine, link, loopback}, instead of hosts and zones
//	messages            what a message costs processors and wire: {send, receive, send_byte, receive_byte, wire}
//
// An uplink, loopback or link is {bandwidth, latency, jitter, loss, duplex}; an uplink may have up and down instead of
// bandwidth. Full duplex, the default, is two links, one a direction; half is one that both directions share. What has a
// count, or is inside something that has, is numbered from 0 through the whole file.
//
// Figures of the machine that nobody wrote are typical ones, until Calibrate puts measured ones in their place.
package network

import (
	"fmt"
	"slices"
	"time"

	"github.com/covey-ml/covey/spec"
)

// Network is hosts and what connects them. It is read-only after it is made (and calibrated), and then safe for
// concurrent use.
type Network struct {
	Name     string
	Hosts    []Host
	Links    []Link // a full-duplex link is two of them, one a direction; a half-duplex one is one, which both directions share
	Messages Messages

	loop   []int32 // of each host, the link that its own workers talk through; -1: none
	routes routes
	zones  int
	rows   []row // what String prints
	text   []byte
}

// Host is a machine on the network.
type Host struct {
	Name    string
	Zone    string // the zone that it is in, "" for the core
	Machine Machine
	Workers int // most workers placed here
}

// Machine is what computes on a host. Cores, FLOPS and Memory are positive.
type Machine struct {
	Cores     int     // that workers of the host share
	FLOPS     float64 // a second, of one core, on matrix products
	Memory    float64 // bytes a second that one core streams
	MemoryAll float64 // bytes a second that all cores together stream; 0: Cores * Memory
	Cache     int     // bytes of the last-level cache that the workers of the host share; 0: no such bound
	RAM       int64   // bytes; 0: unknown
	Speed     Spread  // how hosts differ: a factor on FLOPS, Memory and MemoryAll, drawn by host
	Slow      []Slow  // of this host, by schedule; shared between hosts
	Tail      Tail    // of single computations

	typical uint8 // the figures that nobody wrote
}

// Bits of Machine.typical.
const (
	typicalFLOPS = 1 << iota
	typicalMemory
	typicalMemoryAll
	typicalCache
	typicalLoopback // the host's loopback runs at its Memory
)

// typicalMachine is a core of a present-day x86 server or desktop (AVX2, two channels of DDR4), in round numbers: 60
// GFLOP/s is what the kernels of package vec reach on a layer, not what the processor could.
var typicalMachine = Machine{Cores: 8, FLOPS: 60e9, Memory: 10e9, MemoryAll: 40e9, Cache: 16 << 20,
	typical: typicalFLOPS | typicalMemory | typicalMemoryAll | typicalCache | typicalLoopback}

// Link carries messages one way, or both where it is half duplex.
type Link struct {
	Name      string        // "a-b": from a to b; a half-duplex one is named upwards
	Latency   time.Duration // of a message's first byte
	Jitter    time.Duration // the most that a message is later than Latency says: from nothing to this, all alike
	Bandwidth float64       // bytes a second, on the wire
	Loss      float64       // probability that a packet is lost, from 0 up to but not 1
}

// Messages is what a message costs beside the links.
type Messages struct {
	Send, Receive         time.Duration // processor time of one message at each end
	SendByte, ReceiveByte float64       // seconds of processor time a byte at each end
	Wire                  float64       // bytes on the wire for each byte of payload and header
}

// typicalMessages is TCP through a kernel: a few microseconds a message and one copy a byte at each end. A full Ethernet
// frame is 1538 bytes on the wire, gap and preamble included, for 1448 bytes that the program sent: 1.062.
var typicalMessages = Messages{Send: 5 * time.Microsecond, Receive: 5 * time.Microsecond, SendByte: 0.2e-9, ReceiveByte: 0.2e-9, Wire: 1.062}

// routes finds the links between two hosts, which differ.
type routes interface {
	path(dst []int, from, to int) []int
}

// Path appends the numbers of the links that a message from one host to another crosses, in order. Inside a host that is
// its loopback, or nothing where one worker is alone. It allocates nothing when dst has room, and takes time by the depth
// of the tree or the way around the torus.
func (n *Network) Path(dst []int, from, to int) []int {
	if from == to {
		if l := n.loop[from]; l >= 0 {
			dst = append(dst, int(l))
		}
		return dst
	}
	return n.routes.path(dst, from, to)
}

// Place returns the host of each worker: hosts are filled in order. The error says how many workers fit.
func (n *Network) Place(workers int) ([]int, error) {
	if fit := n.Workers(); workers > fit {
		return nil, &Error{Where: n.Name, Err: fmt.Errorf("%d workers do not fit: its %d hosts take %d", workers, len(n.Hosts), fit)}
	}
	at := make([]int, 0, workers)
	for h := range n.Hosts {
		for range n.Hosts[h].Workers {
			if len(at) == workers {
				return at, nil
			}
			at = append(at, h)
		}
	}
	return at, nil
}

// Workers is how many workers fit on all hosts.
func (n *Network) Workers() int {
	fit := 0
	for h := range n.Hosts {
		fit += n.Hosts[h].Workers
	}
	return fit
}

// Find returns the numbers of the links that are called "a-b", in both directions, whichever end is named first. The
// error names the nearest.
func (n *Network) Find(link string) ([]int, error) {
	names := []string{link}
	for i := range len(link) { // the ends' own names may hold a dash
		if link[i] == '-' {
			names = append(names, link[i+1:]+"-"+link[:i])
		}
	}
	var found []int
	for i := range n.Links {
		if slices.Contains(names, n.Links[i].Name) {
			found = append(found, i)
		}
	}
	if found != nil {
		return found, nil
	}
	all := make([]string, len(n.Links))
	for i := range n.Links {
		all[i] = n.Links[i].Name
	}
	if near := spec.Nearest(link, all); near != "" {
		return nil, fmt.Errorf("%s has no link %q: did you mean %q?", n.Name, link, near)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s has no link %q: it has no links", n.Name, link)
	}
	return nil, fmt.Errorf("%s has no link %q: links are called as %q is", n.Name, link, all[0])
}

// Calibrate puts the FLOPS, Memory, MemoryAll and Cache that were measured on a machine in the place of the typical
// figures that hosts have where the description says nothing. MemoryAll grows with the cores. Call it before the network
// is used.
func (n *Network) Calibrate(measured Machine) {
	for i := range n.Hosts {
		m := &n.Hosts[i].Machine
		if m.typical&typicalFLOPS != 0 {
			m.FLOPS = measured.FLOPS
		}
		if m.typical&typicalCache != 0 {
			m.Cache = measured.Cache
		}
		if m.typical&typicalMemoryAll != 0 {
			m.MemoryAll = measured.MemoryAll * float64(m.Cores) / float64(max(measured.Cores, 1))
		}
		if m.typical&typicalMemory != 0 {
			m.Memory = measured.Memory
			if l := n.loop[i]; l >= 0 && m.typical&typicalLoopback != 0 {
				n.Links[l].Bandwidth = m.Memory
			}
		}
	}
}

// CalibrateMessages does the same with what messages cost processors.
func (n *Network) CalibrateMessages(measured Messages) {
	if n.Messages == typicalMessages {
		measured.Wire = n.Messages.Wire
		n.Messages = measured
	}
}

// YAML is the file that the network was read from; a preset is one, too. Parse makes the same network of it, but for
// what Calibrate and CalibrateMessages did.
func (n *Network) YAML() []byte { return slices.Clone(n.text) }

// Error is something wrong with a description.
type Error struct {
	Where string // file:line:column, or the choice
	Err   error
}

func (e *Error) Error() string {
	if e.Where == "" {
		return e.Err.Error()
	}
	return e.Where + ": " + e.Err.Error()
}

// Unwrap returns what is wrong.
func (e *Error) Unwrap() error { return e.Err }
