package network

import (
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// plan is a file as it was read: every entry once, whatever its count.
type plan struct {
	file, name, core string
	messages         Messages
	top              zonePlan
	links            []crossPlan
	torus            *torusPlan
	slow             []slowPlan
}

type zonePlan struct {
	where, name string
	count       int // 0: one, without a number
	uplink      *linkPlan
	hosts       []hostPlan
	zones       []zonePlan
}

type hostPlan struct {
	where, name      string
	count            int
	workers          int
	machine          Machine
	uplink, loopback *linkPlan
}

type linkPlan struct {
	up, down        float64 // bytes a second
	latency, jitter time.Duration
	loss            float64
	half            bool
}

type crossPlan struct {
	where   string
	between [2]string
	link    linkPlan
}

type torusPlan struct {
	where string
	dims  []int
	host  hostPlan
	link  linkPlan
}

type slowPlan struct{ where, hosts string }

// loopbackLatency is of a message inside a host, beside what it costs the processors: a wake-up.
const loopbackLatency = 2 * time.Microsecond

func (l *linkPlan) link(name string, bandwidth float64) Link {
	return Link{Name: name, Latency: l.latency, Jitter: l.jitter, Bandwidth: bandwidth, Loss: l.loss}
}

// size counts zones, this one included, and hosts, up to where there are too many.
func (z *zonePlan) size() (zones, hosts int) {
	zones = 1
	for i := range z.hosts {
		hosts = min(hosts+max(z.hosts[i].count, 1), maxHosts+1)
	}
	for i := range z.zones {
		a, b := z.zones[i].size()
		k := max(z.zones[i].count, 1)
		zones, hosts = min(zones+a*k, maxHosts+1), min(hosts+b*k, maxHosts+1)
	}
	return zones, hosts
}

func (t *torusPlan) size() int {
	n := 1
	for _, d := range t.dims {
		n = min(n*d, maxHosts+1)
	}
	return n
}

// network reads the top of a file.
func (r *reader) network(doc ast.Node) *plan {
	p := &plan{file: r.file, name: r.file, core: "core", messages: typicalMessages}
	f := r.fields(value{"a network", doc}, "name", "core", "machine", "hosts", "zones", "links", "torus", "messages")
	take(r, f["name"], &p.name, parseTitle)
	take(r, f["core"], &p.core, parseName)
	m := r.machine(f["machine"], typicalMachine)
	r.messages(f["messages"], &p.messages)
	if t := f["torus"]; t.node != nil {
		for _, key := range []string{"hosts", "zones", "links", "core"} {
			if v := f[key]; v.node != nil {
				r.wrong(v, "a torus has its own hosts and links: leave this out, or the torus")
			}
		}
		p.torus = r.torus(t, m)
	}
	p.top = zonePlan{where: r.file, hosts: r.hosts(f["hosts"], m), zones: r.zones(f["zones"], m, 1)}
	for _, v := range r.list(f["links"]) {
		p.links = append(p.links, r.cross(v))
	}
	p.slow = r.slow
	return p
}

func (r *reader) zones(v value, m Machine, depth int) []zonePlan {
	var out []zonePlan
	for _, e := range r.list(v) {
		z := zonePlan{where: r.at(first(e.node)), name: "zone"}
		if depth > maxDepth {
			r.wrong(e, "zones are nested more than %d deep", maxDepth)
		}
		f := r.fields(value{"a zone", e.node}, "name", "count", "machine", "uplink", "hosts", "zones")
		if r.err != nil {
			return nil
		}
		take(r, f["name"], &z.name, parseName)
		take(r, f["count"], &z.count, parseCount)
		m := r.machine(f["machine"], m)
		z.uplink = r.uplink(f["uplink"])
		z.hosts = r.hosts(f["hosts"], m)
		z.zones = r.zones(f["zones"], m, depth+1)
		if len(z.hosts) == 0 && len(z.zones) == 0 {
			r.fail(first(e.node), "zone %s has no hosts: expected hosts or zones in it", z.name)
		}
		out = append(out, z)
	}
	return out
}

func (r *reader) hosts(v value, m Machine) []hostPlan {
	var out []hostPlan
	for _, e := range r.list(v) {
		f := r.fields(value{"hosts", e.node}, "name", "count", "workers", "machine", "uplink", "loopback")
		if r.err != nil {
			return nil
		}
		h := r.host(first(e.node), f, m)
		take(r, f["count"], &h.count, parseCount)
		h.uplink = r.uplink(f["uplink"])
		out = append(out, h)
	}
	return out
}

func (r *reader) torus(v value, m Machine) *torusPlan {
	f := r.fields(v, "dims", "name", "workers", "machine", "link", "loopback")
	if r.err != nil {
		return nil
	}
	t := &torusPlan{where: r.at(first(v.node)), host: r.host(first(v.node), f, m)}
	for _, d := range r.list(f["dims"]) {
		n := 1
		take(r, d, &n, parseCount)
		t.dims = append(t.dims, n)
	}
	if len(t.dims) == 0 || len(t.dims) > maxDims {
		r.wrong(v, "expected dims, the hosts in each of 1 to %d dimensions, as in dims: [4, 8]", maxDims)
	}
	if l := r.link(f["link"], "bandwidth", "latency", "jitter", "loss", "duplex"); l != nil {
		t.link = *l
	} else {
		r.wrong(v, "expected a link, of each host to its neighbours, as in link: {bandwidth: 10Gbit/s}")
	}
	return t
}

func (r *reader) uplink(v value) *linkPlan {
	return r.link(v, "bandwidth", "up", "down", "latency", "jitter", "loss", "duplex")
}

// link reads a link, of which some keys make sense, or returns nil when the key is not there.
func (r *reader) link(v value, keys ...string) *linkPlan {
	if v.node == nil {
		return nil
	}
	f, l := r.fields(v, keys...), &linkPlan{}
	both := take(r, f["bandwidth"], &l.up, parseBandwidth)
	l.down = l.up
	up, down := take(r, f["up"], &l.up, parseBandwidth), take(r, f["down"], &l.down, parseBandwidth)
	take(r, f["latency"], &l.latency, parseTime)
	take(r, f["jitter"], &l.jitter, parseTime)
	take(r, f["loss"], &l.loss, parseShare)
	take(r, f["duplex"], &l.half, parseDuplex)
	switch {
	case !both && (!up || !down):
		r.wrong(v, "expected its bandwidth, as in {bandwidth: 1Gbit/s, latency: 50us}")
	case both && up && down:
		r.wrong(v, "bandwidth, up and down: one of them is too many")
	case l.half && (up || down):
		r.wrong(v, "a half-duplex link has one bandwidth, not up and down")
	}
	return l
}

func (r *reader) cross(v value) crossPlan {
	c := crossPlan{where: r.at(first(v.node))}
	f := r.fields(value{"links", v.node}, "between", "bandwidth", "latency", "jitter", "loss", "duplex")
	ends := r.list(f["between"])
	if len(ends) != 2 {
		r.fail(first(v.node), "links: expected two neighbours, as in between: [region0, region1]")
		return c
	}
	for i, e := range ends {
		take(r, e, &c.between[i], parseName)
	}
	if l := r.link(v, "between", "bandwidth", "latency", "jitter", "loss", "duplex"); l != nil {
		c.link = *l
	}
	return c
}

func (r *reader) messages(v value, m *Messages) {
	if v.node == nil {
		return
	}
	f := r.fields(v, "send", "receive", "send_byte", "receive_byte", "wire")
	take(r, f["send"], &m.Send, parseMessageTime)
	take(r, f["receive"], &m.Receive, parseMessageTime)
	take(r, f["send_byte"], &m.SendByte, parseSeconds)
	take(r, f["receive_byte"], &m.ReceiveByte, parseSeconds)
	take(r, f["wire"], &m.Wire, parseBound)
}

// machine reads what differs from the machine that is inherited.
func (r *reader) machine(v value, m Machine) Machine {
	if v.node == nil {
		return m
	}
	f := r.fields(v, "cores", "flops", "memory", "memory_all", "cache", "ram", "speed", "slow", "tail")
	take(r, f["cores"], &m.Cores, parseCount)
	if take(r, f["flops"], &m.FLOPS, parseFLOPS) {
		m.typical &^= typicalFLOPS
	}
	if take(r, f["memory"], &m.Memory, parseBandwidth) { // what its cores together do is no longer typical either
		m.typical &^= typicalMemory | typicalMemoryAll
		m.MemoryAll = 0
	}
	if take(r, f["memory_all"], &m.MemoryAll, parseBandwidth) {
		m.typical &^= typicalMemoryAll
	}
	var size int64
	if take(r, f["cache"], &size, parseSize) {
		m.Cache = int(size)
		m.typical &^= typicalCache
	}
	take(r, f["ram"], &m.RAM, parseSize)
	r.speed(f["speed"], &m.Speed)
	if s := f["slow"]; s.node != nil {
		m.Slow = nil
		for _, e := range r.list(s) {
			if r.slows++; r.slows > maxSlow {
				r.wrong(e, "over %d slow-downs", maxSlow)
				break
			}
			m.Slow = append(m.Slow, r.slowDown(e))
		}
	}
	if t := f["tail"]; t.node != nil {
		m.Tail = r.tail(t)
	}
	return m
}

// speed reads uniform:0.8,1.2 or {uniform: [0.8, 1.2]}.
func (r *reader) speed(v value, to *Spread) {
	switch v.node.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
	default:
		take(r, v, to, ParseSpread)
		return
	}
	f := r.fields(v, "uniform", "lognormal")
	if len(f) != 1 {
		r.wrong(v, "expected one spread, as in lognormal:0.3")
		return
	}
	for name, args := range f {
		var words []string
		for _, a := range r.list(args) {
			if s, ok := r.text(a); ok {
				words = append(words, s)
			}
		}
		s, err := ParseSpread(name + ":" + strings.Join(words, ","))
		if err != nil {
			r.wrong(v, "%w", err)
		}
		*to = s
	}
}

func (r *reader) slowDown(v value) Slow {
	s := Slow{}
	f := r.fields(value{"slow", v.node}, "factor", "from", "to", "hosts")
	if !take(r, f["factor"], &s.Factor, parseFactor) {
		r.wrong(v, "expected a factor, as in {factor: 3, from: 10s, to: 60s}")
	}
	take(r, f["from"], &s.From, parseTime)
	if take(r, f["to"], &s.To, parseTime) && s.To <= s.From {
		r.wrong(f["to"], "%v is not after from, %v", s.To, s.From)
	}
	if take(r, f["hosts"], &s.Hosts, parsePattern) {
		r.slow = append(r.slow, slowPlan{r.at(first(f["hosts"].node)), s.Hosts})
	}
	return s
}

func (r *reader) tail(v value) Tail {
	t := Tail{Shape: 2, Most: 100}
	f := r.fields(v, "probability", "shape", "most")
	if !take(r, f["probability"], &t.Probability, parseShare) {
		r.wrong(v, "expected a probability, as in {probability: 1%%, shape: 2, most: 20}")
	}
	take(r, f["shape"], &t.Shape, parseFactor)
	take(r, f["most"], &t.Most, parseBound)
	return t
}

// host reads what hosts of a list and those of a torus have in common.
func (r *reader) host(at *token.Token, f map[string]value, m Machine) hostPlan {
	h := hostPlan{where: r.at(at), name: "h", workers: 1}
	take(r, f["name"], &h.name, parseName)
	take(r, f["workers"], &h.workers, parseCount)
	h.machine = r.machine(f["machine"], m)
	h.loopback = r.link(f["loopback"], "bandwidth", "latency", "jitter", "loss")
	return h
}
