package sim

import (
	"context"

	"github.com/covey-ml/covey/comm"
)

// pools keep what is used up and made again.
type pools struct{ tasks []*task }

func (p *pools) task() *task {
	if k := len(p.tasks); k > 0 {
		t := p.tasks[k-1]
		p.tasks = p.tasks[:k-1]
		return t
	}
	t := &task{}
	t.end = newEvent(t)
	return t
}

func (p *pools) giveTask(t *task) {
	t.n, t.p, t.m = nil, nil, nil
	p.tasks = append(p.tasks, t)
}

// costs are what messages cost, in the terms by which comm chooses algorithms: a round between two workers of one host, if
// there are such, else between the first two hosts, and between hosts.
func (w *World) costs() comm.Costs {
	n := w.nodes[0]
	h := &w.hosts[n.host]
	c := &w.c.Network.Messages
	each := (c.Send + c.Receive).Seconds()
	wires := func(to *node) (alpha, beta float64) {
		alpha, beta = 2*each, max(c.SendByte, c.ReceiveByte)
		slowest := 0.0
		for _, l := range w.c.Network.Path(nil, n.host, to.host) {
			alpha += w.c.Network.Links[l].Latency.Seconds()
			slowest = max(slowest, c.Wire/w.c.Network.Links[l].Bandwidth)
		}
		return alpha, max(beta, slowest)
	}
	costs := comm.Costs{Name: "sim", Message: each / 2, Gamma: 3 / h.machine.Memory}
	last := w.nodes[len(w.nodes)-1]
	near := w.nodes[min(1, len(w.nodes)-1)]
	costs.Alpha, costs.Beta = wires(near)
	if last.host != n.host {
		alpha, beta := wires(last)
		if near.host == n.host {
			costs.Far = comm.Wires{Alpha: alpha, Beta: beta}
		} else {
			costs.Alpha, costs.Beta = alpha, 0 // a byte crosses one link, and that is Far's
			costs.Far = comm.Wires{Alpha: alpha, Beta: beta}
		}
	}
	return costs
}

func contextCause(p *proc) error { return context.Cause(p.ctx) }
