package network

import (
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/covey-ml/covey/spec"
)

// row is one line of the table: an entry of the file, and what was made of it.
type row struct {
	kind, first, last string
	count, workers    int
	machine, link     string
}

// row counts what is made of the entry that stands somewhere in the file.
func (b *builder) row(kind, where, name string, workers int, m *Machine, l *linkPlan) {
	i, ok := b.rows[where]
	if !ok {
		i = len(b.n.rows)
		b.rows[where] = i
		r := row{kind: kind, first: name, workers: workers}
		if m != nil {
			r.machine = m.print()
		}
		if l != nil {
			r.link = l.print()
		}
		b.n.rows = append(b.n.rows, r)
	}
	b.n.rows[i].last = name
	b.n.rows[i].count++
}

// String is a table for people: one line for each entry of the file.
func (n *Network) String() string {
	var s strings.Builder
	fmt.Fprintf(&s, "%s: %s for %s, %s, %s\n", n.Name, many(len(n.Hosts), "host"), many(n.Workers(), "worker"), many(n.zones, "zone"), many(len(n.Links), "link"))
	w := tabwriter.NewWriter(&s, 0, 0, 2, ' ', 0)
	for _, r := range n.rows {
		name := r.first
		if r.last != r.first {
			name += " to " + r.last
		}
		parts := []string{"  " + many(r.count, r.kind), name}
		if r.kind == "host" {
			parts = append(parts, many(r.workers, "worker")+": "+r.machine)
		}
		if r.link != "" {
			parts = append(parts, r.link)
		}
		fmt.Fprintln(w, strings.Join(parts, "\t"))
	}
	w.Flush()
	m := n.Messages
	fmt.Fprintf(&s, "  a message takes %v of its sender and %v of its receiver, a byte %.3gns and %.3gns, and %.4g bytes on the wire\n",
		m.Send, m.Receive, m.SendByte*1e9, m.ReceiveByte*1e9, m.Wire)
	return s.String()
}

func many(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func (m *Machine) print() string {
	parts := []string{many(m.Cores, "core") + " of " + printFLOPS(m.FLOPS), printMemory(m.Memory)}
	if m.MemoryAll > 0 {
		parts[1] += " (all " + printMemory(m.MemoryAll) + ")"
	}
	if m.Cache > 0 {
		parts = append(parts, "cache "+spec.Bytes(m.Cache).String())
	}
	if m.RAM > 0 {
		parts = append(parts, "ram "+spec.Bytes(m.RAM).String())
	}
	if m.Speed.Kind != "" {
		parts = append(parts, "speed "+m.Speed.String())
	}
	if len(m.Slow) > 0 {
		parts = append(parts, many(len(m.Slow), "slow-down"))
	}
	if t := m.Tail; t.Probability > 0 {
		parts = append(parts, fmt.Sprintf("tail %.3g%% shape %g up to x%g", 100*t.Probability, t.Shape, t.Most))
	}
	return strings.Join(parts, ", ")
}

func (l *linkPlan) print() string {
	s := printBandwidth(l.up)
	if l.down != l.up {
		s += " up, " + printBandwidth(l.down) + " down"
	}
	if l.half {
		s += " half duplex"
	}
	s += ", " + l.latency.String()
	if l.jitter > 0 {
		s += " to " + (l.latency + l.jitter).String()
	}
	if l.loss > 0 {
		s += fmt.Sprintf(", loss %.3g%%", 100*l.loss)
	}
	return s
}
