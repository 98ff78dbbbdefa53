package faulty

import (
	"context"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/fault"
	"github.com/covey-ml/covey/rng"
)

// line keeps the messages to one peer back for as long as faults say. Messages wait to be launched, one after the other as
// their bits pass, then fly for as long as the delay is, and land in the group inside.
type line struct {
	g    *group
	to   comm.Rank
	news comm.Event // raised when there is something for run to see to

	mu     sync.Mutex
	room   chan struct{} // closed when some of it has come free
	ground []message     // taken and not launched, oldest first
	flying []message
	held   int           // bytes of both, and of the one that is being sent
	left   int           // messages of these that no Send waits for
	landed time.Duration // when the last one that was launched lands
	free   time.Duration // when the bits of the last one that was launched have passed
	order  uint64        // of messages launched
	err    error         // why one could not be sent: nothing is sent after it
}

type message struct {
	tag comm.Tag
	p   []byte
	at  time.Duration // when it lands
	// Of a message that no line has room for: its Send, which waits until it has landed.
	ctx  context.Context
	done chan error
}

const (
	roomBytes = 4 << 20 // how much a line holds of what Send has left behind
	packet    = 1448    // the payload of an Ethernet frame that carries TCP
	// retransmission is the least retransmission timeout of Linux.
	retransmission = 200 * time.Millisecond
)

// stretch makes the lines to the peers that some fault may keep messages from.
func (g *group) stretch() {
	for r := range g.lines {
		to := comm.Rank(r)
		if to == g.Rank() {
			continue
		}
		any := false
		for _, f := range g.c.Script {
			any = any || f.Kind.OnLink() && g.links[f.Link].joins(g.Rank(), to) || f.Kind == fault.Partition && concerns(f, g.Rank()) && concerns(f, to)
		}
		if !any {
			continue
		}
		l := &line{g: g, to: to, news: g.Group.Clock().Event(), room: make(chan struct{})}
		g.lines[r] = l
		g.helper.Add(1)
		g.Group.Clock().Go(l.run)
	}
}

// drain waits until what Send has left behind has been sent, or will not be.
func (g *group) drain() {
	ctx, cancel := g.Group.Clock().WithTimeout(g.ctx, g.c.Timeout)
	defer cancel()
	for _, l := range g.lines {
		if l == nil {
			continue
		}
		for {
			l.mu.Lock()
			room, over := l.room, l.left == 0 || g.Poisoned() != nil // nobody waits for it any more
			l.mu.Unlock()
			if over {
				break
			}
			select {
			case <-room:
				continue
			case <-ctx.Done():
			}
			break
		}
	}
}

// send is Send of the group. It waits while the line is full, and for the landing of a message that the line has no room
// for.
func (l *line) send(ctx context.Context, tag comm.Tag, p []byte) error {
	m := message{tag: tag, p: p, ctx: ctx}
	var soon context.Context // ctx with the group's timeout, once it has to wait
	var late <-chan struct{}
	for {
		if ctx.Err() != nil {
			return l.failed(tag, p, context.Cause(ctx))
		}
		if soon != nil && soon.Err() != nil {
			return l.failed(tag, p, comm.ErrTimeout)
		}
		room, err := l.take(&m)
		if room == nil && (err != nil || m.done == nil) {
			return err
		}
		if soon == nil {
			var cancel context.CancelFunc
			soon, cancel = l.g.Group.Clock().WithTimeout(ctx, l.g.c.Timeout)
			defer cancel()
			late = soon.Done()
		}
		for room == nil { // it is in the line
			select {
			case err := <-m.done:
				return err
			case <-l.g.ctx.Done():
				err = comm.ErrClosed
			case <-late:
				err = l.failed(tag, p, comm.ErrTimeout)
				if ctx.Err() != nil {
					err = l.failed(tag, p, context.Cause(ctx))
				}
			}
			if l.withdraw(m) {
				return err
			}
			late = nil // it is being sent, and the group inside sees to it that this ends
			if l.g.ctx.Err() != nil {
				return <-m.done
			}
		}
		select {
		case <-room:
		case <-l.g.ctx.Done():
		case <-late:
		}
	}
}

func (l *line) failed(tag comm.Tag, p []byte, cause error) error {
	return &comm.PeerError{Rank: l.to, Op: tag.Op(), Step: -1, Missing: int64(len(p)), Cause: cause}
}

// take takes a message into the line. Where there is no room it returns what is closed when there may be.
func (l *line) take(m *message) (room chan struct{}, err error) {
	g := l.g
	if e := g.Poisoned(); e != nil && m.tag.Collective() {
		return nil, e
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return nil, comm.ErrClosed
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.err != nil:
		return nil, l.err
	case l.held > 0 && l.held+m.counts() > roomBytes:
		return l.room, nil
	case m.counts() > roomBytes:
		m.done = make(chan error, 1)
	default:
		m.p = append([]byte(nil), m.p...)
		l.left++
	}
	l.ground = append(l.ground, *m)
	l.held += m.counts()
	l.launch(g.now()) // at once: no partition that begins later holds it up
	l.news.Set()
	return nil, nil
}

// counts is what a message counts as against the room.
func (m *message) counts() int { return max(len(m.p), comm.MinMessage) }

// withdraw takes a message whose Send gives up out of the line, unless it is being sent.
func (l *line) withdraw(m message) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, queue := range []*[]message{&l.ground, &l.flying} {
		for i := range *queue {
			if (*queue)[i].done == m.done {
				*queue = slices.Delete(*queue, i, i+1)
				l.freed(m)
				return true
			}
		}
	}
	return false
}

// freed tells those who wait that a message has gone. The line's lock is held.
func (l *line) freed(m message) {
	l.held -= m.counts()
	if m.done == nil {
		l.left--
	}
	close(l.room)
	l.room = make(chan struct{})
}

// run launches and lands messages until the group is closed.
func (l *line) run() {
	g := l.g
	clock := g.Group.Clock()
	defer g.helper.Done()
	for g.ctx.Err() == nil {
		wait, m := l.turn()
		if m != nil {
			l.land(*m)
			continue
		}
		ctx, cancel := g.ctx, func() {}
		if wait >= 0 {
			ctx, cancel = clock.WithTimeout(ctx, wait)
		}
		l.news.Wait(ctx) // whichever it was that ended it
		cancel()
	}
}

// turn launches what may go and returns a message that has landed, or how long there is nothing to do: negative is until
// something changes.
func (l *line) turn() (wait time.Duration, landed *message) {
	g := l.g
	g.mu.Lock()
	defer g.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	now := g.now()
	cut := l.launch(now)
	wait = -1
	if len(l.flying) > 0 {
		if l.flying[0].at <= now {
			m := l.flying[0]
			l.flying = l.flying[1:]
			return 0, &m
		}
		wait = l.flying[0].at - now
	}
	if len(l.ground) > 0 && !cut && (wait < 0 || l.free-now < wait) {
		wait = l.free - now
	}
	return wait, nil
}

// launch lets the messages fly that may, and tells whether a partition keeps the others back. The locks of group and line
// are held.
func (l *line) launch(now time.Duration) (cut bool) {
	cut = l.g.state.Cut(int(l.g.Rank()), int(l.to))
	for len(l.ground) > 0 && !cut && l.free <= now {
		m := l.ground[0]
		l.ground = l.ground[1:]
		l.aim(&m, now)
		l.flying = append(l.flying, m)
	}
	return cut
}

// aim finds out when a message lands. Its losses are those of comm/sim: a packet that is lost is sent again, which
// its sender sees after a round trip, or, for the last one, after the retransmission timeout; and what a connection
// carries under loss is at most what Mathis et al. (The macroscopic behavior of the TCP congestion avoidance algorithm,
// 1997, equation 3) say. Of the round trip only the part is known that faults make.
func (l *line) aim(m *message, now time.Duration) {
	g := l.g
	shape := g.state.Shape(func(name string) bool { return g.links[name].joins(g.Rank(), l.to) })
	size := float64(len(m.p) + g.Overhead(len(m.p)))
	rate := math.Inf(1)
	if shape.Limit > 0 {
		rate = shape.Limit
	}
	l.order++
	if shape.Drop > 0 {
		lost, wait := l.lost(int(size), shape)
		size += float64(lost) * packet
		trip := max(2*shape.Delay.Seconds(), 100e-6)
		rate = min(rate, packet/trip*math.Sqrt(1.5/shape.Drop))
		l.landed = max(l.landed, now) + wait
	}
	l.free = now
	if !math.IsInf(rate, 1) {
		l.free += time.Duration(size / rate * 1e9)
	}
	l.landed = max(l.landed, l.free+shape.Delay)
	m.at = l.landed
}

// lost draws how many packets of a message have to be sent again, and how long that holds up what comes after it.
func (l *line) lost(size int, s fault.Shape) (lost int, wait time.Duration) {
	draw := func(i uint64) float64 {
		return float64(rng.Key(l.g.c.Seed, "loss", uint64(l.g.Rank()), uint64(l.to), l.order, i)>>11) / (1 << 53)
	}
	packets := (size + packet - 1) / packet
	if packets <= 256 {
		for i := range packets {
			if draw(uint64(i)) < s.Drop {
				lost++
			}
		}
	} else {
		mean := float64(float64(packets) * s.Drop)
		sum := -6.0
		for i := range 12 { // nearly normal
			sum += draw(uint64(i))
		}
		lost = max(0, int(math.Round(mean+float64(math.Sqrt(mean)*sum))))
	}
	if lost > 0 {
		wait = 2 * s.Delay
		if draw(1<<32) < s.Drop {
			wait = max(wait, retransmission)
		}
	}
	return lost, wait
}

// land sends a message for good.
func (l *line) land(m message) {
	g := l.g
	ctx := g.ctx
	if m.done != nil {
		ctx = m.ctx
	}
	err := g.Group.Send(ctx, l.to, m.tag, m.p)
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case m.done != nil:
		m.done <- err
	case err != nil && g.Poisoned() == nil: // what comes after it would be taken for it
		l.err = err
		for _, m := range append(l.ground, l.flying...) {
			if m.done != nil {
				m.done <- err
			}
		}
		l.ground, l.flying = nil, nil
		l.held, l.left = m.counts(), 1
	}
	l.freed(m)
}
