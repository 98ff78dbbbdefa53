package sim

import (
	"math"
	"time"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/network"
	"github.com/covey-ml/covey/rng"
)

// message is one from its Send on. Its sender's processor works on it, then it is offered to the receiver: where nobody
// asks for it and the pair has its buffers full, it waits at the sender. Then it crosses the links, after those that
// its pair sent before; its last byte takes the latency, and the receiver's processor works on it.
type message struct {
	from, to *node
	tag      comm.Tag
	n        int
	data     []byte // its bytes, until somebody has asked for it: the sender's while it is pending, then its own
	state    state
	waste    bool     // nobody will ask for it
	rec      *receipt // that it is on its way to
	p        *proc    // who is in Send
	gen      uint64
	order    uint64 // of sending, in its world
	arrival  uint64 // of arriving
	arrive   event
}

type state uint8

const (
	sending state = iota // by the sender's processor
	pending              // at the sender until somebody asks for it
	moving
	here
	withdrawn
)

// buffers is how much of what one worker sends to another may be on its way, or there, before anybody asks for it: what
// Linux gives the sending socket of a connection at most.
const buffers = 4 << 20

// counts is what a message counts against buffers.
func (m *message) counts() int { return max(m.n, comm.MinMessage) }

// pair is what one worker sends to another.
type pair struct {
	from, to *node
	fifo     []*message // admitted and not across, in order; the first is on the links
	pending  []*message
	unasked  int // bytes of admitted messages that nobody has asked for
	flow     activity
	path     []*resource
	links    []int
	latency  time.Duration
	slowest  float64       // bytes a second of the slowest link
	last     time.Duration // when the newest one that is across arrives
}

func (n *node) pairTo(to *node) *pair {
	p := n.pairs[to.rank]
	if p != nil {
		return p
	}
	p = &pair{from: n, to: to, slowest: math.Inf(1)}
	p.flow.end = newEvent(p)
	if n != to {
		p.links = n.w.c.Network.Path(nil, n.host, to.host)
	}
	for i, l := range p.links {
		p.latency += n.w.c.Network.Links[l].Latency
		p.slowest = min(p.slowest, n.w.links[l].cap)
		twice := false
		for _, k := range p.links[:i] {
			twice = twice || k == l
		}
		if !twice {
			p.path = append(p.path, &n.w.links[l])
		}
	}
	n.pairs[to.rank] = p
	return p
}

func throughput(l network.Link) float64 { return l.Bandwidth }

func (w *World) newMessage(from, to *node, tag comm.Tag, p []byte) *message {
	m := &message{from: from, to: to, tag: tag, n: len(p), data: p}
	if w.c.Hollow {
		m.data = nil
	}
	m.arrive = newEvent(m)
	return m
}

// processing is what a message costs a processor, in seconds.
func (w *World) processing(n *node, each time.Duration, byByte float64, size int) work {
	return work{flops: (each.Seconds() + float64(byByte*float64(size))) / w.hosts[n.host].speed}
}

// send is the beginning of a message: its sender's processor works on it.
func (w *World) send(m *message) {
	w.seq++
	m.order = w.seq
	c := &w.c.Network.Messages
	k := w.processing(m.from, c.Send, c.SendByte, m.n)
	if k.flops <= 0 || m.from == m.to {
		w.offer(m)
		return
	}
	t := w.free.task()
	t.n, t.m, t.taken = m.from, m, false
	w.compute(t, k)
}

// offer gives a message to whom has asked for it, or finds it a place where it can wait.
func (w *World) offer(m *message) {
	n, to := m.from, m.to
	if m.state == withdrawn || n.dead {
		return
	}
	if err := n.lost(to); err != nil {
		m.state = withdrawn
		n.wake(m.p, err)
		return
	}
	if to.left != nil || to.closed || to.poison != nil && m.tag.Collective() { // the news has not come here yet
		m.waste, m.data = true, nil
		w.admit(m)
		return
	}
	q := to.box(n.rank, m.tag)
	for len(q.posts) > 0 && len(q.msgs) == 0 {
		r := q.posts[0]
		q.posts = pop(q.posts)
		to.posted--
		if m.n > len(r.p) {
			r.finish(n.rank, 0, &comm.SizeError{From: n.rank, Need: m.n, Have: len(r.p)})
			continue
		}
		copy(r.p, m.data)
		m.data = nil
		to.bind(m, r)
		w.admit(m)
		return
	}
	q.msgs = append(q.msgs, m)
	p := n.pairTo(to)
	if p.unasked+m.counts() <= buffers {
		w.stow(p, m)
		return
	}
	m.state = pending
	p.pending = append(p.pending, m)
	n.limit(m.p, w.c.Timeout)
	if rs := to.any[m.tag]; len(rs) > 0 && q.msgs[0] == m {
		r := rs[0]
		to.any[m.tag] = pop(rs)
		to.take(q, r)
	}
}

// stow lets a message that nobody has asked for go on its way.
func (w *World) stow(p *pair, m *message) {
	p.unasked += m.counts()
	m.data = append([]byte(nil), m.data...)
	w.admit(m)
}

// admit lets a message go on its way, and its sender go on.
func (w *World) admit(m *message) {
	m.state = moving
	w.messages++
	w.bytes += int64(m.n + HeaderBytes)
	m.from.wake(m.p, nil)
	p := m.from.pairTo(m.to)
	p.fifo = append(p.fifo, m)
	if len(p.fifo) == 1 {
		w.launch(p)
	}
}

// claimed lets a message that waited for somebody to ask for it go on its way.
func (w *World) claimed(m *message) {
	if m.state != pending {
		return
	}
	p := m.from.pairTo(m.to)
	p.pending = remove(p.pending, m)
	w.admit(m)
}

// asked says that bytes of a pair were asked for, so that others may follow.
func (w *World) asked(p *pair, bytes int) {
	p.unasked -= bytes
	for i := 0; i < len(p.pending); i++ {
		m := p.pending[i]
		if p.unasked+m.counts() > buffers {
			if i > 0 || p.unasked > 0 {
				return
			}
			continue
		}
		if m.rec != nil { // it is about to be claimed
			continue
		}
		p.pending = remove(p.pending, m)
		w.stow(p, m)
		i--
	}
}

// abandon ends a Send that its caller gives up, if the message has not gone on its way.
func (w *World) abandon(m *message, cause error) {
	n := m.from
	switch {
	case m.state == sending:
	case m.state == pending && m.rec == nil:
		q := m.to.box(n.rank, m.tag)
		q.msgs = remove(q.msgs, m)
		p := n.pairTo(m.to)
		p.pending = remove(p.pending, m)
	default:
		return
	}
	m.state, m.data = withdrawn, nil
	if m.p.gen == m.gen {
		n.wake(m.p, cause)
	}
}

// packet is the payload of an Ethernet frame that carries TCP, and small the size to which a message is not worth sharing
// links for.
const (
	packet = 1448
	small  = 2 * packet
)

// launch puts the first message of a pair on the links.
func (w *World) launch(p *pair) {
	m := p.fifo[0]
	size := float64(float64(m.n+HeaderBytes) * w.c.Network.Messages.Wire)
	f := &p.flow
	f.most = p.slowest
	if loss := w.lossOf(p); loss > 0 {
		lost := w.lostPackets(m, loss)
		size += float64(lost) * packet
		f.most = min(f.most, w.underLoss(p, loss))
	}
	if w.faults.cut(w, p) {
		f.most = 0
	}
	f.left = size
	f.uses = f.uses[:0]
	if size > small {
		f.uses = append(f.uses, p.path...)
	}
	if p.from == p.to || math.IsInf(f.most, 1) {
		f.left, f.most, f.uses = 0, 1, f.uses[:0]
	}
	w.begin(f)
}

// happen is the last byte of the first message leaving the slowest link.
func (p *pair) happen(w *World) {
	w.finish(&p.flow)
	m := p.fifo[0]
	p.fifo = pop(p.fifo)
	at := w.now + p.latency + w.jitter(p, m) + w.faults.delay(w, p)
	p.last = max(p.last, at)
	w.set(&m.arrive, p.last)
	if len(p.fifo) > 0 {
		w.launch(p)
	}
}

// happen is the arrival of the last byte: the receiver's processor works on the message.
func (m *message) happen(w *World) {
	c := &w.c.Network.Messages
	k := w.processing(m.to, c.Receive, c.ReceiveByte, m.n)
	if k.flops <= 0 || m.from == m.to || m.to.dead {
		m.to.deliver(m)
		return
	}
	t := w.free.task()
	t.n, t.m, t.taken = m.to, m, true
	w.compute(t, k)
}

// moves tells whether a message gets nearer.
func (w *World) moves(m *message) bool {
	return m.state == moving && !w.faults.cut(w, m.from.pairTo(m.to)) && !m.from.frozen && !m.to.frozen
}

// jitter draws how much longer than the latency a message takes.
func (w *World) jitter(p *pair, m *message) (d time.Duration) {
	for _, l := range p.links {
		if j := w.c.Network.Links[l].Jitter; j > 0 {
			u := float64(rng.Key(w.c.Seed, "jitter", uint64(l), m.order)>>11) / (1 << 53)
			d += time.Duration(float64(float64(j) * u))
		}
	}
	return d
}

// lossOf is the probability that a packet of the pair does not arrive.
func (w *World) lossOf(p *pair) float64 {
	there := 1.0
	for _, l := range p.links {
		there *= 1 - w.c.Network.Links[l].Loss
		there *= 1 - w.faults.loss(l)
	}
	return 1 - there
}

// lostPackets draws how many packets of a message have to be sent again, and holds up those after it for as long as
// that takes the sender to see: a round trip, or, for the last packet, the least retransmission timeout of Linux.
func (w *World) lostPackets(m *message, loss float64) int {
	packets := (m.n + HeaderBytes + packet - 1) / packet
	lost := 0
	if packets <= 256 {
		for i := range packets {
			if w.draw(m.order, uint64(i)) < loss {
				lost++
			}
		}
	} else {
		mean := float64(float64(packets) * loss)
		sum := -6.0
		for i := range 12 { // nearly normal
			sum += w.draw(m.order, uint64(i))
		}
		lost = max(0, int(math.Round(mean+float64(math.Sqrt(mean)*sum))))
	}
	if lost > 0 {
		p := m.from.pairTo(m.to)
		wait := 2 * p.latency
		if w.draw(m.order, 1<<32) < loss {
			wait = max(wait, 200*time.Millisecond)
		}
		p.last = max(p.last, w.now) + wait
	}
	return lost
}

func (w *World) draw(order, i uint64) float64 {
	return float64(rng.Key(w.c.Seed, "loss", order, i)>>11) / (1 << 53)
}

// underLoss is the most that a TCP connection carries when packets are lost, in bytes a second (Mathis, Semke, Mahdavi
// and Ott, The macroscopic behavior of the TCP congestion avoidance algorithm, 1997, equation 3, with C = sqrt(3/2)).
func (w *World) underLoss(p *pair, loss float64) float64 {
	trip := max(2*(p.latency+w.faults.delay(w, p)).Seconds(), 100e-6)
	return packet / trip * math.Sqrt(1.5/loss)
}

// lost says why a peer is gone, nil while n does not know that it is. It only reads what belongs to others.
func (n *node) lost(to *node) error {
	if to.left == nil || to == n {
		return nil
	}
	var last, latency time.Duration
	if p := to.pairs[n.rank]; p != nil {
		if len(p.fifo) > 0 {
			return nil
		}
		last, latency = p.last, p.latency
	} else {
		latency = n.w.latency(to.host, n.host)
	}
	if n.w.now < max(last, to.goneAt+latency) {
		return nil
	}
	return to.left
}

// latency is that of the way between two hosts.
func (w *World) latency(from, to int) (d time.Duration) {
	for _, l := range w.c.Network.Path(nil, from, to) {
		d += w.c.Network.Links[l].Latency
	}
	return d
}
