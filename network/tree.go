package network

import (
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/covey-ml/covey/spec"
)

// maxHosts bounds the hosts of a network, and its zones.
const maxHosts = 1_000_000

// tree is a tree of zones. Its nodes are the hosts, by their numbers, and after them the zones, the core first.
type tree struct {
	parent   []int32 // a zone's node; the core has none
	up, down []int32 // the links between a node and its parent; -1: none
	depth    []uint8
	direct   map[[2]int32]int32 // links between two nodes of one zone
}

// path goes up from one end and down to the other. Both meet in the lowest zone that holds both; a and b are the ends'
// ancestors just below it (or the ends themselves).
func (t *tree) path(dst []int, from, to int) []int {
	a, b := int32(from), int32(to)
	for t.depth[a] > t.depth[b] {
		a = t.parent[a]
	}
	for t.depth[b] > t.depth[a] {
		b = t.parent[b]
	}
	for t.parent[a] != t.parent[b] {
		a, b = t.parent[a], t.parent[b]
	}
	for x := int32(from); x != a; x = t.parent[x] {
		dst = append(dst, int(t.up[x]))
	}
	if l, ok := t.direct[[2]int32{a, b}]; ok {
		dst = append(dst, int(l))
	} else {
		dst = append(dst, int(t.up[a]), int(t.down[b]))
	}
	mark := len(dst)
	for x := int32(to); x != b; x = t.parent[x] {
		dst = append(dst, int(t.down[x]))
	}
	slices.Reverse(dst[mark:])
	return dst
}

// builder turns a plan into a network. It remembers the first thing that is wrong.
type builder struct {
	n     *Network
	t     *tree
	err   error
	seen  map[string]int32 // nodes by name
	next  map[string]int   // the next number of what is counted, by name
	names []string         // of zones, the core first
	where []string         // of nodes: the place of their entry in the file
	rows  map[string]int   // by the same place
	used  map[string]bool  // patterns of slow-downs that meant a host
	hosts int
}

// build makes the network of zones, or of a torus, that a plan describes.
func build(p *plan) (*Network, error) {
	zones, hosts := p.top.size()
	if p.torus != nil {
		hosts = p.torus.size()
	}
	switch {
	case hosts == 0:
		return nil, &Error{Where: p.file, Err: errors.New("a network without hosts: expected hosts, zones or torus")}
	case hosts > maxHosts || zones > maxHosts:
		return nil, &Error{Where: p.file, Err: fmt.Errorf("over %d hosts or zones", maxHosts)}
	}
	n := &Network{Name: p.name, Messages: p.messages, Hosts: make([]Host, 0, hosts), loop: make([]int32, 0, hosts), zones: zones - 1}
	b := &builder{n: n, seen: make(map[string]int32, hosts+zones), next: map[string]int{},
		rows: map[string]int{}, used: map[string]bool{}, hosts: hosts}
	if p.torus != nil {
		b.torus(p.torus)
	} else {
		b.tree(p, hosts, zones)
	}
	for _, s := range p.slow {
		if b.err == nil && !b.used[s.hosts] {
			b.fail(s.where, "slow: %w", b.unknown("host", s.hosts, hosts))
		}
	}
	b.dashes(p.file)
	if b.err != nil {
		return nil, b.err
	}
	return n, nil
}

func (b *builder) fail(where, format string, args ...any) {
	if b.err == nil {
		b.err = &Error{Where: where, Err: fmt.Errorf(format, args...)}
	}
}

func (b *builder) tree(p *plan, hosts, zones int) {
	nodes := hosts + zones
	b.t = &tree{parent: make([]int32, nodes), up: make([]int32, nodes), down: make([]int32, nodes), depth: make([]uint8, nodes)}
	b.where = make([]string, nodes)
	b.n.routes = b.t
	b.n.Links = make([]Link, 0, 2*(nodes-1)) // more only where workers share a host
	core := hosts
	b.t.parent[core], b.t.up[core], b.t.down[core] = -1, -1, -1
	b.names = append(b.names, p.core)
	b.seen[p.core] = int32(core)
	b.where[core] = p.file
	b.fill(&p.top, core, 0, false)
	if b.err != nil {
		return
	}
	for i := range p.links {
		b.join(&p.links[i], hosts)
	}
	b.reach(hosts)
}

// fill makes the hosts and zones inside a zone. Inside what is counted, everything is numbered.
func (b *builder) fill(z *zonePlan, at, depth int, numbered bool) {
	for i := range z.hosts {
		h := &z.hosts[i]
		for range max(h.count, 1) {
			if b.err != nil {
				return
			}
			b.host(h, at, depth, numbered || h.count > 0)
		}
	}
	for i := range z.zones {
		c := &z.zones[i]
		for range max(c.count, 1) {
			if b.err != nil {
				return
			}
			node := b.zone(c, at, depth, numbered || c.count > 0)
			b.fill(c, node, depth+1, numbered || c.count > 0)
		}
	}
}

func (b *builder) host(h *hostPlan, at, depth int, numbered bool) {
	zone := ""
	if depth > 0 {
		zone = b.zoneName(at)
	}
	node := b.place(h, zone, numbered)
	b.node(node, at, depth, h.where)
	b.uplink(h.uplink, node, b.n.Hosts[node].Name, b.zoneName(at))
}

// place makes a host, which is not connected yet, and returns its number.
func (b *builder) place(h *hostPlan, zone string, numbered bool) int {
	node := len(b.n.Hosts)
	name := b.name(h.name, numbered, node, h.where)
	m := h.machine
	m.Slow = b.slow(m.Slow, name)
	b.n.Hosts = append(b.n.Hosts, Host{Name: name, Zone: zone, Machine: m, Workers: h.workers})
	loop := int32(-1)
	if h.workers > 1 || h.loopback != nil {
		l := Link{Name: name + "-" + name, Latency: loopbackLatency, Bandwidth: m.Memory}
		if h.loopback != nil {
			l = h.loopback.link(l.Name, h.loopback.up)
			b.n.Hosts[node].Machine.typical &^= typicalLoopback
		}
		loop = int32(len(b.n.Links))
		b.n.Links = append(b.n.Links, l)
	}
	b.n.loop = append(b.n.loop, loop)
	b.row("host", h.where, name, h.workers, &h.machine, h.uplink)
	return node
}

// slow keeps the slow-downs that mean a host, in the slice of the host before it where that has the same.
func (b *builder) slow(all []Slow, host string) []Slow {
	var mine []Slow
	for _, s := range all {
		if s.applies(host) {
			b.used[s.Hosts] = true
			mine = append(mine, s)
		}
	}
	if k := len(b.n.Hosts); k > 0 && slices.Equal(mine, b.n.Hosts[k-1].Machine.Slow) {
		return b.n.Hosts[k-1].Machine.Slow
	}
	return mine
}

func (b *builder) zone(z *zonePlan, at, depth int, numbered bool) int {
	node := b.hosts + len(b.names)
	name := b.name(z.name, numbered, node, z.where)
	b.names = append(b.names, name)
	b.node(node, at, depth, z.where)
	b.uplink(z.uplink, node, name, b.zoneName(at))
	b.row("zone", z.where, name, 0, nil, z.uplink)
	return node
}

func (b *builder) zoneName(node int) string { return b.names[node-b.hosts] }

func (b *builder) nodeName(node int32) string {
	if int(node) < len(b.n.Hosts) {
		return b.n.Hosts[node].Name
	}
	return b.zoneName(int(node))
}

func (b *builder) node(node, at, depth int, where string) {
	b.t.parent[node], b.t.depth[node], b.where[node] = int32(at), uint8(depth+1), where
}

// name gives a node its name, which no other has.
func (b *builder) name(name string, numbered bool, node int, where string) string {
	if numbered {
		k := b.next[name]
		b.next[name] = k + 1
		name += strconv.Itoa(k)
	}
	if _, twice := b.seen[name]; twice {
		b.fail(where, "the name %q stands twice: what is counted is numbered from 0, so give one of them another name", name)
	}
	b.seen[name] = int32(node)
	return name
}

// uplink joins a node to its zone.
func (b *builder) uplink(l *linkPlan, node int, name, zone string) {
	b.t.up[node], b.t.down[node] = -1, -1
	if l != nil {
		b.t.up[node], b.t.down[node] = b.pair(l, name, zone)
	}
}

// pair makes the link from a to b and the one from b to a, which are the same one when it is half duplex.
func (b *builder) pair(l *linkPlan, from, to string) (up, down int32) {
	up = int32(len(b.n.Links))
	b.n.Links = append(b.n.Links, l.link(from+"-"+to, l.up))
	if l.half {
		return up, up
	}
	b.n.Links = append(b.n.Links, l.link(to+"-"+from, l.down))
	return up, up + 1
}

// join makes a link between two neighbours.
func (b *builder) join(l *crossPlan, hosts int) {
	var ends [2]int32
	for i, name := range l.between {
		node, ok := b.seen[name]
		if !ok {
			b.fail(l.where, "between: %w", b.unknown("host or zone", name, len(b.t.parent)))
			return
		}
		ends[i] = node
	}
	x, y := ends[0], ends[1]
	core := int32(hosts)
	switch {
	case x == y:
		b.fail(l.where, "between: %s would be joined to itself", l.between[0])
	case x == core || y == core:
		b.fail(l.where, "between: %s is the core, to which uplinks lead", b.names[0])
	case b.t.parent[x] != b.t.parent[y]:
		b.fail(l.where, "between: %s is in %s and %s in %s: only neighbours in one zone have a link of their own",
			l.between[0], b.nodeName(b.t.parent[x]), l.between[1], b.nodeName(b.t.parent[y]))
	}
	if b.err != nil {
		return
	}
	if b.t.direct == nil {
		b.t.direct = map[[2]int32]int32{}
	}
	if _, twice := b.t.direct[[2]int32{x, y}]; twice {
		b.fail(l.where, "between: %s and %s are joined twice", l.between[0], l.between[1])
		return
	}
	b.t.direct[[2]int32{x, y}], b.t.direct[[2]int32{y, x}] = b.pair(&l.link, l.between[0], l.between[1])
	b.row("link", l.where, l.between[0]+" "+l.between[1], 0, nil, &l.link)
}

// unknown is the error about a name that none of the first nodes has.
func (b *builder) unknown(what, name string, nodes int) error {
	names := make([]string, nodes)
	for i := range names {
		names[i] = b.nodeName(int32(i))
	}
	if near := spec.Nearest(name, names); near != "" {
		return fmt.Errorf("there is no %s %q: did you mean %q?", what, name, near)
	}
	return fmt.Errorf("there is no %s %q, as there is %q", what, name, names[0])
}

// reach checks that every host can reach every other. A node without an uplink must have a link to each of its
// neighbours, and there must be no host outside its zone.
func (b *builder) reach(hosts int) {
	t, nodes := b.t, len(b.t.parent)
	inside := make([]int, nodes)
	for x := range nodes {
		if p := t.parent[x]; p >= 0 {
			inside[p]++
		}
	}
	own := map[int32]int{}
	for ends := range t.direct {
		own[ends[0]]++
	}
	whole := make([]bool, nodes) // zones outside which there is no host; a zone comes after the one that it is in
	for x := hosts; x < nodes; x++ {
		whole[x] = x == hosts || whole[t.parent[x]] && inside[t.parent[x]] == 1
	}
	for x := range nodes {
		p := t.parent[x]
		switch {
		case p < 0 || t.up[x] >= 0:
		case !whole[p]:
			b.fail(b.where[x], "%s cannot reach hosts outside %s: give it an uplink", b.nodeName(int32(x)), b.nodeName(p))
		case own[int32(x)] < inside[p]-1:
			b.fail(b.where[x], "%s cannot reach %s: give it an uplink (or the two a link between them)", b.nodeName(int32(x)), b.nodeName(b.apart(x)))
		}
		if b.err != nil {
			return
		}
	}
}

// apart finds a neighbour to which a node has no link.
func (b *builder) apart(x int) int32 {
	for y := range b.t.parent {
		if _, joined := b.t.direct[[2]int32{int32(x), int32(y)}]; y != x && b.t.parent[y] == b.t.parent[x] && !joined {
			return int32(y)
		}
	}
	panic(fmt.Sprintf("network: node %d is joined to all its neighbours", x))
}

// dashes checks that no two links have one name, which could be when the ends' names have dashes.
func (b *builder) dashes(file string) {
	dash := false
	for name := range b.seen {
		for i := range len(name) {
			dash = dash || name[i] == '-'
		}
	}
	if !dash {
		return
	}
	seen := make(map[string]bool, len(b.n.Links))
	for i := range b.n.Links {
		if name := b.n.Links[i].Name; seen[name] {
			b.fail(file, "two links would be called %q: leave dashes out of names", name)
		} else {
			seen[name] = true
		}
	}
}
